//! The programs' side of a terminal as an open file.

use crate::Tty;
use crate::ioctl::Side;
use abi::Errno;
use ctx::{Ctx, Dst, Src, SysErr, SysResult};
use std::any::Any;
use std::sync::Arc;
use vfs::sigio::Watchers;
use vfs::{File, FileOps, OpenFlags, Written};
use wait::{Events, Queue};

/// An open description of a terminal.
#[derive(Debug)]
pub struct SlaveFile {
    tty: Arc<Tty>,
}

impl SlaveFile {
    /// Opens `tty`; a session leader may get it as its controlling terminal.
    ///
    /// # Errors
    /// `EIO` when it is hung up or still locked by its master, `EBUSY` when it is exclusive.
    pub fn open(cx: &dyn Ctx, tty: &Arc<Tty>, flags: OpenFlags) -> Result<Arc<SlaveFile>, SysErr> {
        {
            let mut s = tty.state.lock();
            if s.hung_up || s.locked {
                return Err(Errno::EIO.into());
            }
            if s.exclusive && !cx.creds().has(auth::Capability::SysAdmin) {
                return Err(Errno::EBUSY.into());
            }
            s.opens += 1;
            s.was_open = true;
        }
        let file = Arc::new(SlaveFile { tty: tty.clone() });
        if !flags.contains(OpenFlags::NOCTTY) {
            tty.adopt_on_open(cx);
        }
        Ok(file)
    }

    /// The terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }
}

impl Drop for SlaveFile {
    fn drop(&mut self) {
        let mut s = self.tty.state.lock();
        s.opens -= 1;
        let last = s.opens == 0;
        if last {
            s.exclusive = false;
        }
        drop(s);
        if last {
            self.tty.kick();
        }
    }
}

/// Opens /dev/tty: the caller's controlling terminal, `ENXIO` without one.
pub fn open_controlling(cx: &dyn Ctx) -> Result<Arc<dyn FileOps>, SysErr> {
    let terminal = cx
        .job()
        .and_then(|j| j.controlling_terminal())
        .ok_or(Errno::ENXIO)?;
    let tty = terminal
        .as_any()
        .downcast::<Tty>()
        .map_err(|_| Errno::ENXIO)?;
    Ok(SlaveFile::open(cx, &tty, OpenFlags::NOCTTY)?)
}

impl FileOps for SlaveFile {
    fn seekable(&self) -> bool {
        false
    }
    fn read(&self, cx: &dyn Ctx, file: &File, _offset: u64, dst: &mut Dst<'_>) -> SysResult {
        self.tty.read(cx, file.nonblocking(), dst)
    }
    fn write(
        &self,
        cx: &dyn Ctx,
        file: &File,
        _offset: u64,
        _append: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        let count = self.tty.write(cx, file.nonblocking(), src)?;
        Ok(Written { count, end: 0 })
    }
    fn ready(&self, _file: &File) -> Events {
        self.tty.ready()
    }
    fn queue(&self) -> Option<&Queue> {
        Some(&self.tty.queue)
    }
    fn watchers(&self) -> [Option<&Watchers>; 2] {
        [Some(&self.tty.watchers), None]
    }
    fn signals_to(&self, cx: &dyn Ctx) -> Option<i32> {
        let (session, foreground) = self.tty.foreground_group();
        match session {
            // No signals are named here that another kernel's group would get.
            Some(session) if cx.job()?.session().space != session.space => None,
            _ => Some(foreground),
        }
    }
    fn ioctl(&self, cx: &dyn Ctx, _file: &File, request: u32, arg: u64) -> SysResult<u64> {
        self.tty.ioctl(cx, Side::Slave, request, arg)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
