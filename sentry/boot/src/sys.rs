//! The host calls of bring-up for which there is no safe wrapper.
// UNSAFETY: adoption of the donated descriptor, a SIGSYS handler that reports and
// ends the process, and allocator tuning; each before any guest code exists.
#![expect(
    unsafe_code,
    reason = "bring-up needs host calls without a safe wrapper"
)]

use control::message::WindowSize;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub(crate) mod cputime;
pub(crate) mod heap;
pub(crate) mod sampler;
pub(crate) mod stacks;

/// Takes over a descriptor that was donated by number across exec.
pub(crate) fn adopt(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: fcntl on any number is harmless; it tells whether the descriptor is open.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: open, as just seen, and by the launcher's contract ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets one heap of the C library's serve all threads. A further one would hold pages of its own,
/// and grow by a page and a host call at a time; nothing on the hot path allocates.
pub(crate) fn share_heap() {
    // SAFETY: plain tuning of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

extern "C" fn report_forbidden_call(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // `si_syscall` stands behind `_call_addr`, at byte 24 of siginfo.
    // SAFETY: the kernel hands a whole siginfo_t to a SA_SIGINFO handler.
    let call = unsafe { info.cast::<u8>().add(24).cast::<i32>().read_unaligned() };
    let mut text = *b"the sandbox process made host system call      , which its filter forbids\n";
    let mut left = call.unsigned_abs();
    let mut at = 46;
    loop {
        text[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 || at == 42 {
            break;
        }
        at -= 1;
    }
    // SAFETY: write and _exit are async-signal-safe; the buffer is ours.
    unsafe {
        libc::write(2, text.as_ptr().cast(), text.len());
        libc::_exit(crate::process::EXIT_FORBIDDEN_CALL);
    }
}

/// With a filter that traps (debugging), says which call it was.
pub(crate) fn report_forbidden_calls() -> Result<(), Errno> {
    // SAFETY: an all-zero sigaction is valid; the handler only uses async-signal-safe calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = report_forbidden_call as OnSignal as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        Errno::result(libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut())).map(drop)
    }
}

/// What the kernel calls at a signal: its number, a whole `siginfo_t`, a whole `ucontext_t`.
type OnSignal = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

/// Has `handler` called at `signal`, with every signal blocked: nothing interrupts it. Host calls
/// that it interrupts go on.
///
/// # Safety
/// The handler makes only calls that a signal handler may make.
unsafe fn handle(signal: i32, handler: OnSignal) -> Result<(), Errno> {
    // SAFETY: all zeros is a valid sigaction; of the handler the caller promises it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigfillset(&raw mut action.sa_mask);
        Errno::result(libc::sigaction(signal, &action, std::ptr::null_mut())).map(drop)
    }
}

/// A terminal's window size.
pub(crate) fn window_size(terminal: BorrowedFd<'_>) -> Result<WindowSize, Errno> {
    // SAFETY: all zero is a valid winsize; it lives through the call.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        Errno::result(libc::ioctl(
            terminal.as_raw_fd(),
            libc::TIOCGWINSZ,
            &raw mut size,
        ))?;
        size
    };
    Ok(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}
