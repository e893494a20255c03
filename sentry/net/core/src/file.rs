//! A socket as an open file.

use crate::{Message, RecvFlags, SendFlags, Socket};
use abi::{Errno, libc};
use ctx::{Ctx, Dst, Src, SysResult, UserMemoryExt};
use std::any::Any;
use std::sync::Arc;
use sync::{Mutex, ranks};
use vfs::anon::anonymous_attr;
use vfs::sigio::Watchers;
use vfs::{Attr, File, FileOps, FileType, SetAttr, Written};
use wait::{Events, Queue};

/// The file operations of a socket.
pub struct SocketFile {
    socket: Arc<dyn Socket>,
    attr: Mutex<Attr, ranks::Leaf>,
}

impl SocketFile {
    /// Over `socket`, which is closed when this is dropped.
    pub fn new(cx: &dyn Ctx, socket: Arc<dyn Socket>) -> Arc<SocketFile> {
        let attr = Attr {
            dev: 8,
            ..anonymous_attr(cx, FileType::Socket, 0o777, socket.ino())
        };
        Arc::new(SocketFile {
            socket,
            attr: Mutex::new(attr),
        })
    }
}

/// The socket behind `file`; `ENOTSOCK` where there is none.
pub fn socket_of(file: &File) -> Result<&Arc<dyn Socket>, Errno> {
    file.ops()
        .as_any()
        .downcast_ref::<SocketFile>()
        .map(|f| &f.socket)
        .ok_or(Errno::ENOTSOCK)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.socket.close();
    }
}

impl FileOps for SocketFile {
    fn seekable(&self) -> bool {
        false
    }

    fn read(&self, cx: &dyn Ctx, file: &File, _offset: u64, dst: &mut Dst<'_>) -> SysResult {
        // Other than with recv(2), nothing is looked at.
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let flags = RecvFlags {
            nonblocking: file.nonblocking(),
            ..RecvFlags::default()
        };
        Ok(self.socket.recv(cx, flags, dst)?.count)
    }

    fn write(
        &self,
        cx: &dyn Ctx,
        file: &File,
        _offset: u64,
        _append: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        let flags = SendFlags {
            nonblocking: file.nonblocking(),
            ..SendFlags::default()
        };
        let count = self.socket.send(
            cx,
            Message {
                flags,
                ..Message::default()
            },
            src,
        )?;
        Ok(Written { count, end: 0 })
    }

    fn ready(&self, _file: &File) -> Events {
        self.socket.ready()
    }

    fn queue(&self) -> Option<&Queue> {
        Some(self.socket.queue())
    }

    fn watchers(&self) -> [Option<&Watchers>; 2] {
        [Some(self.socket.watchers()), None]
    }

    fn ioctl(&self, cx: &dyn Ctx, _file: &File, request: u32, arg: u64) -> SysResult<u64> {
        let pick: fn((usize, usize)) -> usize = match u64::from(request) {
            libc::FIONREAD => |q| q.0,
            libc::TIOCOUTQ => |q| q.1,
            _ => return Err(Errno::ENOTTY.into()),
        };
        let n = pick(self.socket.queued()?);
        cx.memory()
            .write_obj(arg, &i32::try_from(n).unwrap_or(i32::MAX))?;
        Ok(0)
    }

    fn anonymous_attr(&self, _cx: &dyn Ctx) -> Option<Attr> {
        Some(self.attr.lock().clone())
    }

    fn set_anonymous_attr(&self, set: &SetAttr) -> Result<(), Errno> {
        self.attr.lock().change(set);
        Ok(())
    }

    fn anonymous_name(&self) -> Option<Vec<u8>> {
        Some(format!("socket:[{}]", self.socket.ino()).into_bytes())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
