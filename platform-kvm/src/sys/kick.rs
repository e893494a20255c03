//! Ending a run from another thread.
//!
//! The signal's handler sets `immediate_exit` of the vCPU that its thread is about to run or
//! runs: a signal that comes just before the host call is not lost, since the call looks at it.

use kvm_ioctls::VcpuFd;
use std::cell::Cell;
use std::io;
use std::ptr::null_mut;

/// Ignored where it comes too late, by default and here.
pub(crate) const SIGNAL: i32 = libc::SIGURG;

thread_local! {
    /// `immediate_exit` of the vCPU that this thread runs.
    static ARMED: Cell<*mut u8> = const { Cell::new(null_mut()) };
}

extern "C" fn on_signal(_: libc::c_int) {
    let at = ARMED.get();
    if !at.is_null() {
        // SAFETY: set by this very thread in `Armed::new` and taken back before the vCPU's
        // mapping can go; the byte is the host's to be set at any time.
        unsafe { at.write_volatile(1) };
    }
}

/// Installs the handler for this process.
pub(crate) fn install() -> io::Result<()> {
    // SAFETY: all zeros is an empty mask and no flags.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler only writes one byte, see there.
    match unsafe { libc::sigaction(SIGNAL, &raw const action, null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// While it lives, the signal ends the runs of one vCPU on this thread.
pub(crate) struct Armed<'a> {
    pub(crate) vcpu: &'a mut VcpuFd,
    _thread: std::marker::PhantomData<*const ()>,
}

impl<'a> Armed<'a> {
    /// For the next run.
    pub(crate) fn new(vcpu: &'a mut VcpuFd) -> Armed<'a> {
        vcpu.set_kvm_immediate_exit(0);
        ARMED.set(&raw mut vcpu.get_kvm_run().immediate_exit);
        Armed {
            vcpu,
            _thread: std::marker::PhantomData,
        }
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        ARMED.set(null_mut());
    }
}

/// The calling thread.
pub(crate) fn own_thread() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() }
}

/// Sends the signal to a thread of this process.
pub(crate) fn send(thread: i32) {
    // SAFETY: numbers only. A thread that is gone is no error.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGNAL) };
}
