//! Makes a stopped stub run code of its own: batches of mapping calls, and clone.

use crate::error::{died, host};
use crate::layout::{BATCH_ADDR, BATCH_OPS, CLONE_SPACE_STUB, CLONE_THREAD_STUB, OP_WORDS};
use crate::stub::Stub;
use crate::sys::blob::Entries;
use crate::sys::calls::Pid;
use crate::sys::share::Slot;
use crate::tracee::{Running, Stop, Stopped, Waited};
use platform_api::{PlatformError, Registers};
use std::sync::Arc;

/// Runs stub code from `regs` until its `int3`; `regs` is then what it left.
fn run(stopped: Stopped, regs: &mut Registers, what: &str) -> Result<Stopped, PlatformError> {
    stopped.set_registers(regs).map_err(|e| host(what, e))?;
    let mut running = stopped.resume_stub().map_err(|e| host(what, e))?;
    loop {
        match running.wait().map_err(|e| host(what, e))? {
            Waited::Ended(status) => return Err(died(what, status)),
            Waited::Stopped(stopped, Stop::Signal(libc::SIGTRAP)) if own(&stopped) => {
                stopped.registers(regs).map_err(|e| host(what, e))?;
                return Ok(stopped);
            }
            Waited::Stopped(stopped, Stop::Signal(s)) if FATAL.contains(&s) && own(&stopped) => {
                return Err(died(what, s));
            }
            // A kick that came late, or a signal from somebody else: not for the stub's code.
            Waited::Stopped(stopped, _) => {
                running = stopped.resume_stub().map_err(|e| host(what, e))?;
            }
        }
    }
}

/// Whether the signal is the code's own doing, not somebody's on the host.
fn own(stopped: &Stopped) -> bool {
    stopped.siginfo().is_ok_and(|info| info.code > 0)
}

const FATAL: [i32; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGSYS,
];

/// Takes a stub that waits in its loop, or is on its way there, and stops it.
pub(crate) fn take(stub: Arc<Stub>, entries: &Entries) -> Result<Stopped, PlatformError> {
    let what = "taking over a stub";
    let mut running = Running::seize(stub).map_err(|e| host(what, e))?;
    running.interrupt().map_err(|e| host(what, e))?;
    let mut regs = Registers::default();
    loop {
        let stopped = match running.wait().map_err(|e| host(what, e))? {
            Waited::Stopped(stopped, _) => stopped,
            Waited::Ended(status) => return Err(died(what, status)),
        };
        stopped.registers(&mut regs).map_err(|e| host(what, e))?;
        if (entries.waiting..=entries.parked).contains(&regs.rip) {
            return Ok(stopped);
        }
        // Not there yet. It goes on, and its filter stops it when it comes.
        running = stopped.resume_stub().map_err(|e| host(what, e))?;
    }
}

/// Parks a stub and lets it go.
pub(crate) fn release(stopped: Stopped, entries: &Entries) -> Result<(), PlatformError> {
    let what = "letting go of a stub";
    let regs = Registers {
        rip: entries.park,
        ..Registers::user()
    };
    stopped.set_registers(&regs).map_err(|e| host(what, e))?;
    stopped.detach().map_err(|e| host(what, e))
}

/// Which stub [`spawn`] makes.
pub(crate) enum Child<'a> {
    /// One more in the same space.
    SameSpace,
    /// One with a copy of the space, whose batch pages are `slot`; `empty`: without what is the
    /// guest's in it.
    NewSpace {
        /// The new space's.
        slot: &'a Slot,
        /// Drop the guest's mappings.
        empty: bool,
    },
}

/// Makes a stub, which goes to its parking loop on its own. The inner error is the host's answer
/// (no more processes, no memory); the maker is as good as before.
pub(crate) fn spawn(
    stopped: Stopped,
    entries: &Entries,
    parent: Pid,
    child: &Child<'_>,
) -> Result<(Stopped, Result<Arc<Stub>, PlatformError>), PlatformError> {
    let what = "making a stub";
    let mut regs = Registers {
        rip: entries.spawn,
        rax: libc::SYS_clone as u64,
        r12: parent as u64,
        ..Registers::user()
    };
    match child {
        Child::SameSpace => {
            regs.rdi = CLONE_THREAD_STUB;
            regs.r14 = u64::MAX;
        }
        Child::NewSpace { slot, empty } => {
            regs.rdi = CLONE_SPACE_STUB;
            regs.r13 = slot.offset();
            regs.r14 = slot.fd() as u64;
            regs.r15 = (*empty).into();
        }
    }
    let stopped = run(stopped, &mut regs, what)?;
    let made = match regs.rax as i64 {
        pid if pid > 0 => Ok(Arc::new(Stub::new(pid as Pid))),
        no => Err(host(
            what,
            std::io::Error::from_raw_os_error(no.wrapping_neg() as i32),
        )),
    };
    Ok((stopped, made))
}

/// Runs `ops`; `failed` is told the index and error number of each that the host refused.
pub(crate) fn batch(
    mut stopped: Stopped,
    entries: &Entries,
    slot: &mut Slot,
    ops: &[[u64; OP_WORDS]],
    mut failed: impl FnMut(usize, i32),
) -> Result<Stopped, PlatformError> {
    for (round, chunk) in ops.chunks(BATCH_OPS).enumerate() {
        slot.write(chunk);
        let mut done = 0;
        while done < chunk.len() {
            let mut regs = Registers {
                rip: entries.batch,
                rbx: BATCH_ADDR + (done * OP_WORDS * 8) as u64,
                r12: (chunk.len() - done) as u64,
                ..Registers::user()
            };
            stopped = run(stopped, &mut regs, "changing a space's mappings")?;
            done = chunk.len().saturating_sub(regs.r12 as usize);
            if done < chunk.len() {
                failed(
                    round * BATCH_OPS + done,
                    (regs.rax as i64).wrapping_neg() as i32,
                );
                done += 1;
            }
        }
    }
    Ok(stopped)
}

/// Sets segment bases that `PTRACE_SETREGS` refuses; `false` when the CPU refuses them too.
pub(crate) fn set_bases(
    stopped: Stopped,
    entries: &Entries,
    fs_base: u64,
    gs_base: u64,
) -> Result<(Stopped, bool), PlatformError> {
    let what = "setting segment bases";
    let regs = Registers {
        rip: entries.bases,
        rax: fs_base,
        rbx: gs_base,
        ..Registers::user()
    };
    stopped.set_registers(&regs).map_err(|e| host(what, e))?;
    let mut running = stopped.resume_stub().map_err(|e| host(what, e))?;
    loop {
        match running.wait().map_err(|e| host(what, e))? {
            Waited::Ended(status) => return Err(died(what, status)),
            Waited::Stopped(stopped, Stop::Signal(libc::SIGTRAP)) if own(&stopped) => {
                return Ok((stopped, true));
            }
            Waited::Stopped(stopped, Stop::Signal(s)) if FATAL.contains(&s) && own(&stopped) => {
                return Ok((stopped, false));
            }
            Waited::Stopped(stopped, _) => {
                running = stopped.resume_stub().map_err(|e| host(what, e))?;
            }
        }
    }
}
