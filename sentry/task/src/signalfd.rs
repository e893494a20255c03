//! signalfd(2).

use crate::{Kernel, Task, TaskCx};
use abi::Errno;
use ctx::{Ctx, Dst, Restart, SysResult, wait_for};
use signal::{SigInfo, SigSet};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vfs::{Attr, File, FileOps, FileType, OpenFlags, anon, would_block};
use wait::{Events, Queue};
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// `struct signalfd_siginfo`.
#[derive(Clone, Copy, IntoBytes, Immutable, FromZeros)]
#[repr(C)]
struct Record {
    signo: u32,
    errno: i32,
    code: i32,
    pid: u32,
    uid: u32,
    fd: i32,
    tid: u32,
    band: u32,
    overrun: u32,
    trapno: u32,
    status: i32,
    int: i32,
    ptr: u64,
    utime: u64,
    stime: u64,
    addr: u64,
    addr_lsb: u16,
    pad2: u16,
    syscall: i32,
    call_addr: u64,
    arch: u32,
    pad: [u8; 28],
}

const _: () = assert!(size_of::<Record>() == 128);

/// Reads the signals of whoever reads. Polling, as on Linux, concerns the process that polls;
/// here that is the one that made it, which is the one that can matter to an epoll.
pub struct SignalFd {
    mask: AtomicU64,
    ino: u64,
    maker: Arc<Task>,
    kernel: Arc<Kernel>,
}

impl SignalFd {
    /// Changes the signals it reads.
    pub fn set_mask(&self, mask: SigSet) {
        self.mask.store(mask.blockable().bits(), Ordering::SeqCst);
        self.maker.group().signals.notify_all(Events::READABLE);
    }

    fn mask(&self) -> SigSet {
        SigSet::from_bits(self.mask.load(Ordering::SeqCst))
    }

    /// The task that asks, found by its id: contexts of files do not name it.
    fn reader(&self, cx: &dyn Ctx) -> Arc<Task> {
        let wakes = |t: &Arc<Task>| Arc::ptr_eq(t.waker(), cx.waker());
        if wakes(&self.maker) {
            return self.maker.clone();
        }
        let group = self.kernel.process(cx.process_id().id());
        let threads = group.map(|g| g.threads()).unwrap_or_default();
        threads
            .into_iter()
            .find(wakes)
            .unwrap_or_else(|| self.maker.clone())
    }
}

impl FileOps for SignalFd {
    fn seekable(&self) -> bool {
        false
    }

    fn takes_writes(&self) -> bool {
        false
    }

    fn stays_at_start(&self) -> bool {
        true
    }

    fn read(&self, cx: &dyn Ctx, file: &File, _offset: u64, dst: &mut Dst<'_>) -> SysResult {
        if dst.remaining() < size_of::<Record>() {
            return Err(Errno::EINVAL.into());
        }
        let task = self.reader(cx);
        let first = match task.take_pending(self.mask()) {
            Some(info) => info,
            None if file.nonblocking() => return would_block(),
            None => {
                let queue = &task.group().signals;
                let got = wait_for(cx, queue, Events::READABLE, None, Restart::Sys, || {
                    Ok(task.take_pending(self.mask()))
                })?;
                got.ok_or(Errno::EAGAIN)?
            }
        };
        let mut done = dst.put(record(&first).as_bytes())?;
        while dst.remaining() >= size_of::<Record>() {
            let Some(info) = task.take_pending(self.mask()) else {
                break;
            };
            done += dst.put(record(&info).as_bytes())?;
        }
        Ok(done)
    }

    fn ready(&self, _file: &File) -> Events {
        let pending = self.maker.pending() | self.maker.group().pending();
        if (pending & self.mask()).is_empty() {
            Events::empty()
        } else {
            Events::READABLE
        }
    }

    fn queue(&self) -> Option<&Queue> {
        Some(&self.maker.group().signals)
    }

    fn anonymous_attr(&self, cx: &dyn Ctx) -> Option<Attr> {
        Some(anon::anonymous_attr(
            cx,
            FileType::Anonymous,
            0o600,
            self.ino,
        ))
    }

    fn anonymous_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:[signalfd]".to_vec())
    }

    fn fdinfo(&self) -> String {
        format!("sigmask:\t{:016x}\n", self.mask().bits())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Only what belongs to its kind of information is told (`siginfo_layout`).
fn record(i: &SigInfo) -> Record {
    if i.is_ready() {
        let (band, fd) = i.band_and_fd();
        return Record {
            signo: i.signo as u32,
            errno: i.errno,
            code: i.code,
            band: band as u32,
            fd,
            ..Record::new_zeroed()
        };
    }
    let child = i.code > 0 && i.signo == abi::libc::SIGCHLD;
    let timer = i.code == abi::libc::SI_TIMER;
    let mut record = Record {
        signo: i.signo as u32,
        errno: i.errno,
        code: i.code,
        ..Record::new_zeroed()
    };
    if timer {
        (record.tid, record.overrun) = (i.pid() as u32, i.uid());
    } else if i.code <= 0 || child {
        (record.pid, record.uid) = (i.pid() as u32, i.uid());
    }
    if i.code < 0 {
        (record.int, record.ptr) = (i.value() as u32 as i32, i.value());
    }
    if child {
        record.status = i.status();
        (record.utime, record.stime) = i.times();
    } else if i.code > 0 {
        record.addr = i.addr();
    }
    record
}

impl TaskCx {
    /// signalfd4(2) without a descriptor to change: the new one.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn signalfd(
        &mut self,
        mask: SigSet,
        cloexec: bool,
        nonblocking: bool,
    ) -> Result<i32, Errno> {
        let ops = Arc::new(SignalFd {
            mask: AtomicU64::new(mask.blockable().bits()),
            ino: anon::next_ino(),
            maker: self.task().clone(),
            kernel: self.kernel().clone(),
        });
        let mut flags = OpenFlags::RDWR;
        flags.set(OpenFlags::NONBLOCK, nonblocking);
        let file = File::anonymous(self, ops, flags);
        self.fd_table()
            .insert(file, cloexec, 0, self.limit(ctx::Resource::Nofile))
    }
}
