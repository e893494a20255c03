//! The ends of a pipe: open files.

use super::buffer::Kind;
use super::{CHUNK, FIONREAD, PIPE_BUF, Pipe};
use crate::sigio::Watchers;
use crate::{Attr, File, FileOps, OpenFlags, SetAttr, Written};
use abi::Errno;
use ctx::{Ctx, Dst, Restart, Src, SysErr, SysResult, UserMemoryExt, wait_for};
use std::any::Any;
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};
use wait::{Events, Queue};

/// One end of a pipe, or both (a FIFO opened for reading and writing).
pub(crate) struct PipeEnd {
    pub(super) pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// Openings for writing when this end was opened: no hang-up before another.
    writers_seen: u64,
}

impl PipeEnd {
    pub(super) fn attach(pipe: &Arc<Pipe>, flags: OpenFlags) -> Arc<PipeEnd> {
        let (reads, writes) = (flags.readable(), flags.writable());
        let mut state = pipe.state.lock();
        let writers_seen = if state.writers == 0 && pipe.is_fifo() {
            state.writer_count
        } else {
            u64::MAX
        };
        state.readers += u32::from(reads);
        state.reader_count += u64::from(reads);
        state.writers += u32::from(writes);
        state.writer_count += u64::from(writes);
        drop(state);
        // For those who wait in open.
        pipe.queue.notify_all(Events::READABLE | Events::WRITABLE);
        Arc::new(PipeEnd {
            pipe: pipe.clone(),
            reads,
            writes,
            writers_seen,
        })
    }

    /// As opening a FIFO does (fifo(7)).
    fn open(pipe: &Arc<Pipe>, cx: &dyn Ctx, flags: OpenFlags) -> Result<Arc<dyn FileOps>, SysErr> {
        let nonblocking = flags.contains(OpenFlags::NONBLOCK);
        let (reads, writes) = (flags.readable(), flags.writable());
        if !reads && !writes {
            return Err(Errno::EINVAL.into());
        }
        // A pipe without a name (through /proc/PID/fd) has met its other side already.
        if !pipe.is_fifo() {
            return Ok(PipeEnd::attach(pipe, flags));
        }
        if writes && !reads && nonblocking && pipe.state.lock().readers == 0 {
            return Err(Errno::ENXIO.into());
        }
        let (seen_readers, seen_writers) = {
            let s = pipe.state.lock();
            (s.reader_count, s.writer_count)
        };
        let end = PipeEnd::attach(pipe, flags);
        if reads && writes || nonblocking {
            return Ok(end);
        }
        let attempt = || {
            let s = pipe.state.lock();
            let met = if reads {
                s.writers > 0 || s.writer_count != seen_writers
            } else {
                s.readers > 0 || s.reader_count != seen_readers
            };
            Ok(met.then_some(()))
        };
        let both = Events::READABLE | Events::WRITABLE;
        wait_for(cx, &pipe.queue, both, None, Restart::Sys, attempt)?;
        // A wake-up that came to us while we still stood in the queue was a reader's or writer's.
        pipe.queue.notify(both);
        Ok(end)
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let mut state = self.pipe.state.lock();
        state.readers -= u32::from(self.reads);
        state.writers -= u32::from(self.writes);
        let (readers, writers) = (state.readers, state.writers);
        if readers == 0 && writers == 0 {
            // A FIFO may be opened again; what was in it is gone.
            state.clear();
        }
        drop(state);
        if self.writes && writers == 0 {
            self.pipe.queue.notify_all(Events::READABLE | Events::HUP);
        }
        if self.reads && readers == 0 {
            self.pipe.queue.notify_all(Events::WRITABLE | Events::ERR);
        }
        if (readers == 0) != (writers == 0) {
            self.pipe.tell_readers();
            self.pipe.tell_writers();
        }
    }
}

impl PipeEnd {
    fn read_some(&self, cx: &dyn Ctx, file: &File, dst: &mut Dst<'_>) -> SysResult {
        let mut total = 0;
        while dst.remaining() > 0 {
            // The first byte is waited for, what else is there is taken along.
            let nonblocking = total > 0 || file.nonblocking();
            let mut segment = match self.pipe.take_segment(cx, dst.remaining(), nonblocking) {
                Ok(Some(segment)) => segment,
                Ok(None) => break,
                Err(e) if total == 0 => return Err(e),
                Err(_) => break,
            };
            let bytes = segment.bytes.get(segment.start..).unwrap_or_default();
            let put = dst.put(bytes);
            let n = put.unwrap_or(0);
            segment.start += n;
            total += n;
            if segment.left() > 0 {
                self.pipe.state.lock().unpop(segment);
                if total == 0 {
                    return Err(put.err().unwrap_or(Errno::EFAULT).into());
                }
                break;
            }
            if segment.kind == Kind::Packet {
                break;
            }
        }
        Ok(total)
    }

    fn write_all(&self, cx: &dyn Ctx, file: &File, src: &mut Src<'_>) -> SysResult<Written> {
        let packet = file.flags().contains(OpenFlags::DIRECT);
        let chunk = if packet { PIPE_BUF } else { CHUNK };
        let nonblocking = file.nonblocking();
        let mut odd = src.remaining() % PIPE_BUF;
        let mut bytes = Vec::new();
        let mut total = 0;
        let result = loop {
            let filled = bytes.len();
            let want = src.remaining().min(chunk - filled);
            bytes.resize(filled + want, 0);
            let taken = src.take(&mut bytes[filled..]).unwrap_or(0);
            bytes.truncate(filled + taken);
            // A write ends where its memory does, before the page that could not be filled.
            let faulted = taken < want;
            if faulted && bytes.len() < PIPE_BUF {
                break Err(Errno::EFAULT.into());
            }
            if bytes.is_empty() {
                break Ok(());
            }
            let more = faulted || src.remaining() > 0;
            let added = if packet {
                self.pipe.add_packet(cx, &mut bytes, nonblocking)
            } else {
                self.pipe.add(cx, &mut bytes, &mut odd, !more, nonblocking)
            };
            match added {
                Ok(n) => total += n,
                Err(e) => break Err(e),
            }
        };
        match result {
            Err(e) if total == 0 => Err(e),
            _ => Ok(Written {
                count: total,
                end: 0,
            }),
        }
    }
}

impl FileOps for PipeEnd {
    fn seekable(&self) -> bool {
        false
    }

    fn read(&self, cx: &dyn Ctx, file: &File, _offset: u64, dst: &mut Dst<'_>) -> SysResult {
        if !self.reads {
            return Err(Errno::EBADF.into());
        }
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let result = self.read_some(cx, file, dst);
        // Each reading counts, one that found nothing, too; not one that was interrupted.
        if !matches!(result, Err(SysErr::Restart(_))) {
            self.pipe.tell_writers();
        }
        result
    }

    fn write(
        &self,
        cx: &dyn Ctx,
        file: &File,
        _: u64,
        _: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        if !self.writes {
            return Err(Errno::EBADF.into());
        }
        let any = src.remaining() > 0;
        let result = self.write_all(cx, file, src);
        if any {
            self.pipe.tell_readers();
        }
        result
    }

    fn ready(&self, _file: &File) -> Events {
        let state = self.pipe.state.lock();
        let mut ready = Events::empty();
        if self.reads {
            ready.set(Events::READABLE, state.len > 0);
            ready.set(
                Events::HUP,
                state.writers == 0 && state.writer_count != self.writers_seen,
            );
        }
        if self.writes {
            ready.set(Events::WRITABLE, state.writable());
            ready.set(Events::ERR, state.readers == 0);
        }
        ready
    }

    fn queue(&self) -> Option<&Queue> {
        Some(&self.pipe.queue)
    }

    fn watchers(&self) -> [Option<&Watchers>; 2] {
        [
            self.reads.then_some(&self.pipe.readers),
            self.writes.then_some(&self.pipe.writers),
        ]
    }

    fn ioctl(&self, cx: &dyn Ctx, _file: &File, request: u32, arg: u64) -> SysResult<u64> {
        if request != FIONREAD {
            return Err(Errno::ENOTTY.into());
        }
        let len = self.pipe.len().min(i32::MAX as usize) as i32;
        cx.memory().write_obj(arg, &len)?;
        Ok(0)
    }

    fn anonymous_attr(&self, _cx: &dyn Ctx) -> Option<Attr> {
        self.pipe.attr.as_ref().map(|a| a.lock().clone())
    }

    fn set_anonymous_attr(&self, set: &SetAttr) -> Result<(), Errno> {
        let attr = self.pipe.attr.as_ref().ok_or(Errno::EOPNOTSUPP)?;
        attr.lock().change(set);
        Ok(())
    }

    fn anonymous_name(&self) -> Option<Vec<u8>> {
        self.pipe
            .attr
            .as_ref()
            .map(|a| format!("pipe:[{}]", a.lock().ino).into_bytes())
    }

    fn reopen(&self, cx: &dyn Ctx, flags: OpenFlags) -> Result<Arc<dyn FileOps>, SysErr> {
        PipeEnd::open(&self.pipe, cx, flags)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What a FIFO's inode keeps: the pipe, while somebody has it open.
#[derive(Default)]
pub struct Fifo {
    pipe: Mutex<Weak<Pipe>, ranks::Leaf>,
}

impl std::fmt::Debug for Fifo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fifo")
    }
}

impl Fifo {
    /// A FIFO that nobody has open.
    pub fn new() -> Fifo {
        Fifo::default()
    }

    /// Opens it. Blocks until the other side is opened, as fifo(7) says.
    ///
    /// # Errors
    /// `ENXIO` for writing alone without blocking, where nobody reads.
    pub fn open(&self, cx: &dyn Ctx, flags: OpenFlags) -> Result<Arc<dyn FileOps>, SysErr> {
        let pipe = {
            let mut known = self.pipe.lock();
            match known.upgrade() {
                Some(pipe) => pipe,
                None => {
                    let pipe = Pipe::new(None);
                    *known = Arc::downgrade(&pipe);
                    pipe
                }
            }
        };
        PipeEnd::open(&pipe, cx, flags)
    }
}
