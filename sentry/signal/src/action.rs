//! `struct sigaction` of the kernel, and a process's table of them.

use crate::{DefaultAction, SigSet, Signal};
use sync::{Mutex, ranks};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags::bitflags! {
    /// `sa_flags` (sigaction(2)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct ActionFlags: u64 {
        /// No `SIGCHLD` when children stop or continue.
        const NOCLDSTOP = 0x0000_0001;
        /// Children do not become zombies.
        const NOCLDWAIT = 0x0000_0002;
        /// The handler takes three arguments.
        const SIGINFO = 0x0000_0004;
        /// Never kept: a way to ask which flags are known.
        const UNSUPPORTED = 0x0000_0400;
        /// There is a restorer.
        const RESTORER = 0x0400_0000;
        /// Runs on the alternate stack.
        const ONSTACK = 0x0800_0000;
        /// Interrupted calls are restarted.
        const RESTART = 0x1000_0000;
        /// The signal is not blocked while its handler runs.
        const NODEFER = 0x4000_0000;
        /// Reset to the default on delivery.
        const RESETHAND = 0x8000_0000;
        const _ = !0;
    }
}

impl ActionFlags {
    /// Those that have a meaning, and are kept.
    pub const KNOWN: ActionFlags = ActionFlags::NOCLDSTOP
        .union(ActionFlags::NOCLDWAIT)
        .union(ActionFlags::SIGINFO)
        .union(ActionFlags::RESTORER)
        .union(ActionFlags::ONSTACK)
        .union(ActionFlags::RESTART)
        .union(ActionFlags::NODEFER)
        .union(ActionFlags::RESETHAND);
}

/// `struct kernel_sigaction` on x86-64.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SigAction {
    /// 0 is `SIG_DFL`, 1 `SIG_IGN`, anything else an address.
    pub handler: u64,
    /// [`ActionFlags`].
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// What is blocked while the handler runs.
    pub mask: SigSet,
}

/// What becomes of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// `SIG_DFL`
    Default,
    /// `SIG_IGN`
    Ignore,
    /// A function of the program.
    Address(u64),
}

impl SigAction {
    /// What is to be called.
    pub fn handler(&self) -> Handler {
        match self.handler {
            0 => Handler::Default,
            1 => Handler::Ignore,
            a => Handler::Address(a),
        }
    }

    /// Its flags.
    pub fn flags(&self) -> ActionFlags {
        ActionFlags::from_bits_retain(self.flags)
    }

    /// Whether `signal` does nothing with this action, so that it need not even be queued.
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.handler() {
            Handler::Ignore => true,
            Handler::Default => matches!(
                signal.default_action(),
                DefaultAction::Ignore | DefaultAction::Continue
            ),
            Handler::Address(_) => false,
        }
    }
}

/// The actions of a process, shared by its threads (and by what `CLONE_SIGHAND` shares them with).
#[derive(Debug)]
pub struct Actions {
    table: Mutex<[SigAction; 64], ranks::Actions>,
}

impl Default for Actions {
    fn default() -> Self {
        Actions {
            table: Mutex::new([SigAction::default(); 64]),
        }
    }
}

impl Actions {
    /// A copy (fork).
    pub fn fork(&self) -> Actions {
        Actions {
            table: Mutex::new(*self.table.lock()),
        }
    }

    /// The action of `signal`.
    pub fn get(&self, signal: Signal) -> SigAction {
        self.table.lock()[slot(signal)]
    }

    /// Replaces the action of `signal`; returns the former one.
    pub fn set(&self, signal: Signal, action: SigAction) -> SigAction {
        std::mem::replace(&mut self.table.lock()[slot(signal)], action)
    }

    /// The action of `signal` about to be delivered; with `SA_RESETHAND`, it is reset by this.
    pub fn take_for_delivery(&self, signal: Signal) -> SigAction {
        let mut table = self.table.lock();
        let action = table[slot(signal)];
        if action.flags().contains(ActionFlags::RESETHAND)
            && matches!(action.handler(), Handler::Address(_))
        {
            table[slot(signal)].handler = 0;
        }
        action
    }

    /// What execve(2) does: handlers become `SIG_DFL`, ignored signals stay ignored.
    pub fn reset_for_exec(&self) {
        for a in self.table.lock().iter_mut() {
            let handler = if a.handler() == Handler::Ignore { 1 } else { 0 };
            *a = SigAction {
                handler,
                ..SigAction::default()
            };
        }
    }

    /// `CLONE_CLEAR_SIGHAND`: all to the default, but for those ignored.
    pub fn clear_handlers(&self) {
        self.reset_for_exec();
    }

    /// The signals ignored and those caught (`SigIgn` and `SigCgt` of /proc/PID/status).
    pub fn ignored_and_caught(&self) -> (SigSet, SigSet) {
        let table = self.table.lock();
        let (mut ignored, mut caught) = (SigSet::EMPTY, SigSet::EMPTY);
        for n in 1..=Signal::MAX {
            let Ok(s) = Signal::new(n) else { continue };
            match table[slot(s)].handler() {
                Handler::Default => {}
                Handler::Ignore => ignored = ignored.with(s),
                Handler::Address(_) => caught = caught.with(s),
            }
        }
        (ignored, caught)
    }
}

fn slot(signal: Signal) -> usize {
    (signal.number() - 1) as usize
}
