//! The master side of a pseudo-terminal pair.

use crate::ioctl::Side;
use crate::tty::OtherEnd;
use crate::{DevPts, SlaveFile, Tty};
use abi::Errno;
use ctx::{Ctx, Dst, Restart, Src, SysResult, wait_for};
use std::any::Any;
use std::sync::Arc;
use vfs::sigio::Watchers;
use vfs::{File, FileOps, FsCtx, OpenFlags, Written};
use wait::{Events, Queue};

const TIOCGPTPEER: u32 = 0x5441;

/// The queue on which the master's users wait, as the terminal sees it.
#[derive(Debug, Default)]
pub(crate) struct MasterEnd {
    pub(crate) queue: Arc<Queue>,
}

impl OtherEnd for MasterEnd {
    fn output_ready(&self, tty: &Tty) {
        let gone = {
            let s = tty.state.lock();
            s.was_open && s.opens == 0
        };
        let mut events = Events::READABLE | Events::WRITABLE | Events::PRI;
        if gone {
            events |= Events::HUP;
        }
        self.queue.notify(events);
    }
}

/// An open description of /dev/ptmx.
#[derive(Debug)]
pub(crate) struct MasterFile {
    tty: Arc<Tty>,
    queue: Arc<Queue>,
    instance: Arc<DevPts>,
}

impl MasterFile {
    pub(crate) fn new(tty: Arc<Tty>, queue: Arc<Queue>, instance: Arc<DevPts>) -> MasterFile {
        MasterFile {
            tty,
            queue,
            instance,
        }
    }

    /// Takes what there is for a read, with packet mode's leading byte.
    fn take(&self, max: usize) -> Option<Vec<u8>> {
        {
            let mut s = self.tty.state.lock();
            if let Some(packet) = s.packet {
                if packet != 0 {
                    s.packet = Some(0);
                    return Some(vec![packet]);
                }
                if s.output.bytes.is_empty() {
                    return None;
                }
                drop(s);
                let mut with_lead = vec![0];
                with_lead.extend(self.tty.take_output(max.saturating_sub(1)));
                return Some(with_lead);
            }
        }
        let data = self.tty.take_output(max);
        (!data.is_empty()).then_some(data)
    }

    fn peer_gone(&self) -> bool {
        let s = self.tty.state.lock();
        s.was_open && s.opens == 0
    }
}

impl Drop for MasterFile {
    fn drop(&mut self) {
        self.tty.hang_up();
        self.instance.remove(self.tty.index);
    }
}

impl FileOps for MasterFile {
    fn seekable(&self) -> bool {
        false
    }

    fn read(&self, cx: &dyn Ctx, file: &File, _offset: u64, dst: &mut Dst<'_>) -> SysResult {
        let max = dst.remaining();
        if max == 0 {
            return Ok(0);
        }
        let data = wait_for(
            cx,
            &self.queue,
            Events::READABLE,
            None,
            Restart::Sys,
            || {
                if let Some(data) = self.take(max) {
                    return Ok(Some(data));
                }
                if self.peer_gone() {
                    return Err(Errno::EIO.into());
                }
                if file.nonblocking() {
                    Err(Errno::EAGAIN.into())
                } else {
                    Ok(None)
                }
            },
        )?;
        Ok(dst.put(&data.unwrap_or_default())?)
    }

    fn write(
        &self,
        cx: &dyn Ctx,
        file: &File,
        _offset: u64,
        _append: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        let mut total = 0;
        let mut chunk = [0u8; 512];
        loop {
            let n = src.take(&mut chunk)?;
            if n == 0 {
                return Ok(Written {
                    count: total,
                    end: 0,
                });
            }
            let mut put = 0;
            while put < n {
                let step = wait_for(
                    cx,
                    &self.queue,
                    Events::WRITABLE,
                    None,
                    Restart::Sys,
                    || {
                        if self.peer_gone() {
                            return Err(Errno::EIO.into());
                        }
                        let took = self.tty.input(&chunk[put..n]);
                        put += took;
                        match took {
                            0 if file.nonblocking() => Err(Errno::EAGAIN.into()),
                            0 => Ok(None),
                            _ => Ok(Some(())),
                        }
                    },
                );
                match step {
                    Ok(_) => {}
                    Err(_) if total + put > 0 => {
                        return Ok(Written {
                            count: total + put,
                            end: 0,
                        });
                    }
                    Err(e) => return Err(e),
                }
            }
            total += n;
        }
    }

    fn ready(&self, _file: &File) -> Events {
        let mut e = Events::empty();
        let s = self.tty.state.lock();
        if s.was_open && s.opens == 0 {
            e |= Events::HUP;
        }
        let news = s.packet.is_some_and(|p| p != 0);
        if news {
            e |= Events::PRI | Events::READABLE;
        }
        if !s.output.bytes.is_empty() {
            e |= Events::READABLE;
        }
        drop(s);
        if self.tty.input_room() > 0 {
            e |= Events::WRITABLE;
        }
        e
    }

    fn queue(&self) -> Option<&Queue> {
        Some(&self.queue)
    }

    fn watchers(&self) -> [Option<&Watchers>; 2] {
        [Some(&self.tty.master_watchers), None]
    }

    fn signals_to(&self, _cx: &dyn Ctx) -> Option<i32> {
        Some(0)
    }

    fn ioctl(&self, cx: &dyn Ctx, _file: &File, request: u32, arg: u64) -> SysResult<u64> {
        self.tty.ioctl(cx, Side::Master, request, arg)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `TIOCGPTPEER` makes a descriptor, which file operations do not see: the ioctl(2) handler asks
/// here first. `None` when it is not that request on a master.
pub fn open_peer(
    cx: &dyn FsCtx,
    file: &File,
    request: u32,
    flags: OpenFlags,
) -> Option<SysResult<Arc<File>>> {
    let master = file.ops_as::<MasterFile>()?;
    if request != TIOCGPTPEER {
        return None;
    }
    let place = master.instance.place(cx, master.tty.index);
    let opened = place.map_err(Into::into).and_then(|place| {
        let slave = SlaveFile::open(cx, &master.tty, flags)?;
        Ok(File::new(slave, Some(place), flags, cx.creds()))
    });
    Some(opened)
}
