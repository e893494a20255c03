//! eventfd(2).

use abi::Errno;
use ctx::{Ctx, Dst, Restart, Src, SysErr, SysResult, wait_for};
use std::any::Any;
use std::sync::Arc;
use sync::{Mutex, ranks};
use vfs::{File, FileOps, OpenFlags, Written, would_block};
use wait::{Events, Queue};

/// The largest count; one more would stand for an overflow.
const MAX: u64 = u64::MAX - 1;

/// A counter that can be waited for.
pub struct EventFd {
    count: Mutex<u64, ranks::EventCount>,
    semaphore: bool,
    queue: Queue,
}

impl EventFd {
    /// A counter that starts at `count`; as a `semaphore` (`EFD_SEMAPHORE`) each read takes one.
    pub fn new(count: u64, semaphore: bool) -> Arc<EventFd> {
        Arc::new(EventFd {
            count: Mutex::new(count),
            semaphore,
            queue: Queue::new(),
        })
    }

    /// eventfd2(2). `flags` may hold `NONBLOCK`.
    pub fn open(cx: &dyn Ctx, count: u32, semaphore: bool, flags: OpenFlags) -> Arc<File> {
        let flags = (flags & OpenFlags::NONBLOCK) | OpenFlags::RDWR;
        File::anonymous(cx, EventFd::new(u64::from(count), semaphore), flags)
    }

    /// Adds to the counter from within the kernel; it stops at the largest count.
    pub fn signal(&self, n: u64) {
        let mut count = self.count.lock();
        *count = count.saturating_add(n).min(MAX);
        drop(count);
        self.queue.notify(Events::IN);
    }
}

impl FileOps for EventFd {
    fn seekable(&self) -> bool {
        false
    }

    fn stays_at_start(&self) -> bool {
        true
    }

    fn takes_async_writes(&self) -> bool {
        false
    }

    fn read(&self, cx: &dyn Ctx, file: &File, _offset: u64, dst: &mut Dst<'_>) -> SysResult {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let attempt = || {
            let mut count = self.count.lock();
            if *count == 0 {
                return if file.nonblocking() {
                    would_block()
                } else {
                    Ok(None)
                };
            }
            let taken = if self.semaphore { 1 } else { *count };
            *count -= taken;
            Ok(Some(taken))
        };
        let taken = wait_for(
            cx,
            &self.queue,
            Events::READABLE,
            None,
            Restart::Sys,
            attempt,
        )?;
        // eventfd(2) has no `POLLRDNORM` and `POLLWRNORM`.
        self.queue.notify(Events::OUT);
        if *self.count.lock() > 0 {
            // Another reader has something to take too.
            self.queue.notify(Events::IN);
        }
        put_u64(dst, taken.unwrap_or(0))
    }

    fn write(
        &self,
        cx: &dyn Ctx,
        file: &File,
        _: u64,
        _: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        // Since Linux 6.9, no more either.
        if src.remaining() != 8 {
            return Err(Errno::EINVAL.into());
        }
        let mut bytes = [0; 8];
        if src.take(&mut bytes)? < 8 {
            return Err(Errno::EFAULT.into());
        }
        let more = u64::from_ne_bytes(bytes);
        if more > MAX {
            return Err(Errno::EINVAL.into());
        }
        let attempt = || -> Result<Option<()>, SysErr> {
            let mut count = self.count.lock();
            if MAX - *count < more {
                return if file.nonblocking() {
                    would_block()
                } else {
                    Ok(None)
                };
            }
            *count += more;
            Ok(Some(()))
        };
        wait_for(
            cx,
            &self.queue,
            Events::WRITABLE,
            None,
            Restart::Sys,
            attempt,
        )?;
        if more > 0 {
            self.queue.notify(Events::IN);
        }
        Ok(Written { count: 8, end: 0 })
    }

    fn ready(&self, _file: &File) -> Events {
        let count = *self.count.lock();
        let mut ready = Events::empty();
        ready.set(Events::READABLE, count > 0);
        ready.set(Events::WRITABLE, count < MAX);
        ready & (Events::IN | Events::OUT)
    }

    fn queue(&self) -> Option<&Queue> {
        Some(&self.queue)
    }

    fn anonymous_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:[eventfd]".to_vec())
    }

    fn fdinfo(&self) -> String {
        format!("eventfd-count: {:16x}\n", *self.count.lock())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Puts a number where a read wants it: all of it, or `EFAULT`.
pub(crate) fn put_u64(dst: &mut Dst<'_>, n: u64) -> SysResult {
    if dst.put(&n.to_ne_bytes())? < 8 {
        return Err(Errno::EFAULT.into());
    }
    Ok(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctx::KernelCtx;
    use time::Clocks;

    fn read(cx: &KernelCtx, file: &File) -> Result<u64, Errno> {
        let mut buf = [0; 8];
        file.read(cx, &mut Dst::ours(&mut buf))
            .map_err(SysErr::errno)?;
        Ok(u64::from_ne_bytes(buf))
    }

    fn write(cx: &KernelCtx, file: &File, n: u64) -> Result<usize, Errno> {
        file.write(cx, &mut Src::ours(&n.to_ne_bytes()))
            .map_err(SysErr::errno)
    }

    #[test]
    fn a_counter_is_taken_whole_and_a_semaphore_by_one() {
        let cx = KernelCtx::new(Arc::new(Clocks::new()));
        let file = EventFd::open(&cx, 3, false, OpenFlags::NONBLOCK);
        assert_eq!(read(&cx, &file), Ok(3));
        assert_eq!(read(&cx, &file), Err(Errno::EAGAIN));
        write(&cx, &file, MAX).unwrap();
        assert_eq!(file.ready(), Events::IN);
        assert_eq!(write(&cx, &file, 1), Err(Errno::EAGAIN));
        assert_eq!(write(&cx, &file, u64::MAX), Err(Errno::EINVAL));

        let file = EventFd::open(&cx, 2, true, OpenFlags::NONBLOCK);
        assert_eq!((read(&cx, &file), read(&cx, &file)), (Ok(1), Ok(1)));
        assert_eq!(read(&cx, &file), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_blocked_reader_is_woken() {
        let clocks = Arc::new(Clocks::new());
        let cx = KernelCtx::new(clocks.clone());
        let file = EventFd::open(&cx, 0, false, OpenFlags::empty());
        let other = file.clone();
        let t = std::thread::spawn(move || {
            let cx = KernelCtx::new(clocks);
            read(&cx, &other)
        });
        write(&cx, &file, 7).unwrap();
        assert_eq!(t.join().unwrap(), Ok(7));
    }
}
