//! Samples of a profile: where a thread is, written by itself to whoever asked.
//!
//! As with stacks, what a sample takes may be done in a signal handler and in the allocator:
//! nothing is allocated, no lock is taken, and the host copies the stack. A message that the socket
//! has no room for is lost: nobody waits for the reader.
// UNSAFETY: reading the registers, and the sending of a message from the stack itself.
#![expect(
    unsafe_code,
    reason = "registers and a message from raw memory have no safe wrapper"
)]

use control::profile::{MAX_SAMPLE_STACK, SampleHead};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, sendmsg};
use std::arch::asm;
use std::cell::Cell;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst};

/// A stack that seems deeper is no stack of ours.
const DEEPEST: u64 = 64 << 20;
/// How long the last messages may wait for room, each, in milliseconds.
const PATIENCE: u16 = 5000;

/// Where samples go to; none between profiles.
static SOCKET: AtomicI32 = AtomicI32::new(-1);
/// How many threads are about to send. It is raised before [`SOCKET`] is looked at.
static INSIDE: AtomicU32 = AtomicU32::new(0);
static SENT: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);
/// An address above all frames of the first thread.
static FIRST_TOP: AtomicU64 = AtomicU64::new(0);

/// Where a thread is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    pub(super) ip: u64,
    pub(super) sp: u64,
    pub(super) bp: u64,
}

/// Samples go to `socket` from now on, until [`close`].
pub(crate) fn open(socket: BorrowedFd<'_>) {
    // The kernel puts what this points to above the first thread's stack.
    // SAFETY: numbers only.
    FIRST_TOP.store(unsafe { libc::getauxval(libc::AT_RANDOM) }, SeqCst);
    SENT.store(0, SeqCst);
    LOST.store(0, SeqCst);
    SOCKET.store(socket.as_raw_fd(), SeqCst);
}

/// No sample is taken any more: how many were sent, and how many lost. Only now may the socket be
/// closed.
pub(crate) fn close() -> (u64, u64) {
    SOCKET.store(-1, SeqCst);
    // Sending is short and waits for nobody.
    while INSIDE.load(SeqCst) > 0 {
        std::thread::yield_now();
    }
    (SENT.load(SeqCst), LOST.load(SeqCst))
}

/// Takes a sample of the calling thread, in the caller.
#[inline(always)]
pub(crate) fn sample_here(value: u64, id: u64) {
    let (ip, sp, bp): (u64, u64, u64);
    // SAFETY: reads three registers.
    unsafe {
        asm!(
            "lea {ip}, [rip]", "mov {sp}, rsp", "mov {bp}, rbp",
            ip = out(reg) ip, sp = out(reg) sp, bp = out(reg) bp,
            options(nomem, nostack, preserves_flags),
        );
    }
    sample(Registers { ip, sp, bp }, value, id);
}

/// Takes a sample of the calling thread, which is, or was when a signal came, at `at`.
#[inline(never)]
pub(super) fn sample(at: Registers, value: u64, id: u64) {
    INSIDE.fetch_add(1, SeqCst);
    let socket = SOCKET.load(SeqCst);
    if socket >= 0 {
        send(socket, at, value, id);
    }
    INSIDE.fetch_sub(1, SeqCst);
}

fn send(socket: i32, at: Registers, value: u64, id: u64) {
    // SAFETY: no arguments.
    let tid = u64::from(unsafe { libc::gettid() }.cast_unsigned());
    let Registers { ip, sp, bp } = at;
    let head = SampleHead {
        tid,
        ip,
        sp,
        bp,
        value,
        id,
    }
    .to_bytes();
    let mut stack = depth(sp);
    loop {
        let mut parts = [
            libc::iovec {
                iov_base: head.as_ptr().cast_mut().cast(),
                iov_len: head.len(),
            },
            libc::iovec {
                iov_base: sp as *mut libc::c_void,
                iov_len: stack,
            },
        ];
        // SAFETY: all zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len();
        // SAFETY: errno's own address, which the interrupted code may be about to read.
        let errno = unsafe { *libc::__errno_location() };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the kernel copies what is there, and answers EFAULT where nothing is: nothing in
        // this process is read through the pointer to the stack. The head and the parts live
        // through the call. The descriptor is open: it is closed only after we left `sample`.
        let sent = unsafe { libc::sendmsg(socket, &raw const message, flags) };
        // SAFETY: as above.
        let answer = unsafe { std::mem::replace(&mut *libc::__errno_location(), errno) };
        if sent >= 0 {
            SENT.fetch_add(1, SeqCst);
            return;
        }
        // No whole stack is there: where the thread is can be told all the same.
        if answer != libc::EFAULT || stack == 0 {
            LOST.fetch_add(1, SeqCst);
            return;
        }
        stack = 0;
    }
}

/// How many bytes of stack are worth sending.
fn depth(sp: u64) -> usize {
    // The C library puts a thread's own block at the top of its stack. The first thread's is
    // elsewhere.
    // SAFETY: no arguments; gives the block's address.
    let own = unsafe { libc::pthread_self() };
    let within = |top: u64| top.checked_sub(sp).filter(|depth| *depth < DEEPEST);
    let depth = within(own).or_else(|| within(FIRST_TOP.load(SeqCst)));
    let depth = depth.and_then(|d| usize::try_from(d).ok());
    depth.unwrap_or(0).min(MAX_SAMPLE_STACK)
}

/// Sends a message that is not to be lost; from a thread that may wait.
pub(crate) fn send_whole(socket: BorrowedFd<'_>, head: SampleHead, rest: &[u8]) {
    let head = head.to_bytes();
    let parts = [IoSlice::new(&head), IoSlice::new(rest)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &parts, &[], flags, None) {
            Ok(_) => SENT.fetch_add(1, SeqCst),
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => {
                let mut room = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut room, PollTimeout::from(PATIENCE)) {
                    Ok(0) => LOST.fetch_add(1, SeqCst),
                    _ => continue,
                }
            }
            Err(_) => LOST.fetch_add(1, SeqCst),
        };
        return;
    }
}

/// A number by chance, good enough to choose samples by.
pub(crate) fn random() -> u64 {
    thread_local! {
        // Neither made nor dropped by anything that would allocate.
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    STATE.with(|state| {
        let mut x = match state.get() {
            // The address differs between threads.
            0 => (std::ptr::from_ref(state) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            x => x,
        };
        // Marsaglia's xorshift.
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    })
}
