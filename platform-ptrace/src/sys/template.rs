//! Forks the template: the first stub, from which all others descend.
//!
//! Made in two steps. A helper that shares our memory (as vfork's child) forks the template. The
//! C library's restartable-sequence area is registered for our thread; a fork inherits that, a
//! process that shares memory does not, and neither does what it forks. The kernel would write
//! into guest memory otherwise.

use super::blob;
use super::calls::Pid;
use crate::layout::{BATCH_ADDR, BATCH_LEN, CODE_LEN, KICK, STUB_BASE};
use std::io;

/// What the template is told.
pub(crate) struct Seed<'a> {
    /// This process, the parent of all stubs.
    pub(crate) parent: Pid,
    /// The batch memfd.
    pub(crate) batch_fd: i32,
    /// The template's own slot of it.
    pub(crate) batch_offset: u64,
    /// The stubs' seccomp filter.
    pub(crate) filter: &'a [libc::sock_filter],
}

/// Between the helper and us.
struct Exchange<'a> {
    seed: &'a Seed<'a>,
    code: &'static [u8],
    init: u64,
    /// The answer: a pid or a negative error number.
    answer: i64,
}

const STACK: usize = 64 * 1024;

/// Forks it; it waits to be taken or has exited with a status that [`explain`] knows.
pub(crate) fn fork(seed: &Seed<'_>) -> io::Result<Pid> {
    let mut stack = vec![0u128; STACK / 16];
    let code = blob::code();
    let mut exchange = Exchange {
        seed,
        code,
        init: blob::entries().init,
        answer: 0,
    };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES;
    // SAFETY: the helper runs on a stack of its own while this thread waits for its end
    // (CLONE_VFORK), so that `stack` and `exchange` outlive it and nobody else touches them.
    let helper = unsafe {
        libc::clone(
            helper,
            stack.as_mut_ptr().add(stack.len()).cast(),
            flags,
            (&raw mut exchange).cast(),
        )
    };
    if helper < 0 {
        return Err(io::Error::last_os_error());
    }
    super::calls::wait(helper)?;
    // SAFETY: written by the helper, which has ended.
    match unsafe { (&raw const exchange.answer).read_volatile() } {
        pid if pid > 0 => Ok(pid as Pid),
        negative => Err(io::Error::from_raw_os_error(-negative as i32)),
    }
}

/// What a template's exit status means.
pub(crate) fn explain(status: i32) -> &'static str {
    match status {
        90 => "mapping the stub's code failed",
        91 => {
            "making the stub's code executable failed (does a policy forbid new executable memory?)"
        }
        92 => "mapping the batch pages failed",
        93 => "PR_SET_NO_NEW_PRIVS failed",
        94 => "installing the stub's seccomp filter failed (is CONFIG_SECCOMP_FILTER missing?)",
        101 | 103 => {
            "emptying the stub's address space failed (a kernel that seals its vDSO, \
             CONFIG_MSEAL_SYSTEM_MAPPINGS, does not allow it)"
        }
        102 => "the sandbox process ended meanwhile",
        104 => "mapping a space's batch pages failed",
        _ => "ended without a word",
    }
}

extern "C" fn helper(arg: *mut libc::c_void) -> libc::c_int {
    let exchange: *mut Exchange<'_> = arg.cast();
    // SAFETY: the caller of clone waits and has lent it to us.
    let exchange = unsafe { &mut *exchange };
    let flags = libc::CLONE_FILES | libc::CLONE_PARENT;
    // SAFETY: as fork(2), with the stack of the copy at the same address.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid == 0 {
        become_template(exchange);
    }
    // SAFETY: this thread's own.
    let errno = unsafe { *libc::__errno_location() };
    exchange.answer = if pid > 0 { pid } else { -i64::from(errno) };
    0
}

/// In the template: nothing but raw calls from here on, since locks of the parent's other
/// threads may be held for ever in this copy.
fn become_template(exchange: &Exchange<'_>) -> ! {
    let seed = exchange.seed;
    let fail = |status: i32| -> ! {
        // SAFETY: ends this process.
        unsafe { libc::_exit(status) }
    };
    // SAFETY: each call is on memory of this process's own copy; the regions that are mapped over
    // (the top of user space: the copied stack and vDSO) are not used any more.
    unsafe {
        let zero = [0u64; 4];
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, zero.as_ptr(), 0, 8);
        }
        // Only what we wait for gets through: a Ctrl-C on the terminal reaches the whole process
        // group, stubs that nobody traces yet among them.
        let bit = |signal: i32| 1u64 << (signal - 1);
        let open = [
            KICK,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGSYS,
        ];
        let mask = !open.iter().fold(0, |set, s| set | bit(*s));
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            0,
            8,
        );
        let no_stack = libc::stack_t {
            ss_sp: core::ptr::null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: 0,
        };
        libc::syscall(libc::SYS_sigaltstack, &raw const no_stack, 0);
        let no_core = [0u64; 2];
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            libc::RLIMIT_CORE,
            no_core.as_ptr(),
            0,
        );

        let fixed = libc::MAP_FIXED;
        let at = libc::syscall(
            libc::SYS_mmap,
            STUB_BASE,
            CODE_LEN,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | fixed,
            -1,
            0,
        );
        if at as u64 != STUB_BASE {
            fail(90);
        }
        core::ptr::copy_nonoverlapping(
            exchange.code.as_ptr(),
            core::ptr::with_exposed_provenance_mut::<u8>(STUB_BASE as usize),
            exchange.code.len(),
        );
        let rx = libc::PROT_READ | libc::PROT_EXEC;
        if libc::syscall(libc::SYS_mprotect, STUB_BASE, CODE_LEN, rx) != 0 {
            fail(91);
        }
        let at = libc::syscall(
            libc::SYS_mmap,
            BATCH_ADDR,
            BATCH_LEN,
            libc::PROT_READ,
            libc::MAP_SHARED | fixed,
            seed.batch_fd,
            seed.batch_offset,
        );
        if at as u64 != BATCH_ADDR {
            fail(92);
        }
        // After a change of user, a process can't be traced by its like unless it says so.
        libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
        if libc::syscall(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            fail(93);
        }
        let program = libc::sock_fprog {
            len: seed.filter.len() as u16,
            filter: seed.filter.as_ptr().cast_mut(),
        };
        // Without SPEC_ALLOW older kernels slow the whole process down to guard it against
        // itself.
        if libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        ) != 0
        {
            fail(94);
        }
        core::arch::asm!(
            "jmp {init}",
            init = in(reg) exchange.init,
            in("r12") i64::from(seed.parent),
            in("r13") 0u64,
            in("r14") -1i64,
            in("r15") 1u64,
            options(noreturn),
        );
    }
}
