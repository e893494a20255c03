//! Job control: who may read, who may write, whose terminal it is (`tty_jobctrl.c`'s rules, as
//! POSIX, "General Terminal Interface", has them).

use crate::Tty;
use abi::{Errno, libc};
use ctx::{Ctx, GroupSignaller, JobControl, Restart, SessionId, SysErr, Terminal};
use std::any::Any;
use std::sync::Arc;

impl Tty {
    /// A read by a background process stops its group, or fails where nobody could continue it.
    pub(crate) fn check_background_read(&self, cx: &dyn Ctx) -> Result<(), SysErr> {
        let Some(job) = self.background(cx) else {
            return Ok(());
        };
        if job.ignores(libc::SIGTTIN) || job.orphaned() {
            return Err(Errno::EIO.into());
        }
        job.signaller().signal_group(job.group(), libc::SIGTTIN);
        Err(Restart::Sys.into())
    }

    /// A write by a background process stops its group where `TOSTOP` asks for it.
    pub(crate) fn check_background_write(&self, cx: &dyn Ctx) -> Result<(), SysErr> {
        if !self.state.lock().termios.local(libc::TOSTOP) {
            return Ok(());
        }
        self.check_background_change(cx)
    }

    /// A change of the terminal by a background process stops its group, unless it ignores that.
    pub(crate) fn check_background_change(&self, cx: &dyn Ctx) -> Result<(), SysErr> {
        let Some(job) = self.background(cx) else {
            return Ok(());
        };
        if job.ignores(libc::SIGTTOU) {
            return Ok(());
        }
        if job.orphaned() {
            return Err(Errno::EIO.into());
        }
        job.signaller().signal_group(job.group(), libc::SIGTTOU);
        Err(Restart::Sys.into())
    }

    /// The session whose terminal it is, and the group in its foreground.
    pub(crate) fn foreground_group(&self) -> (Option<SessionId>, i32) {
        let s = self.state.lock();
        (s.session, s.foreground)
    }

    /// The caller's job control, when this is its controlling terminal and it is not in the
    /// foreground.
    fn background<'a>(&self, cx: &'a dyn Ctx) -> Option<&'a dyn JobControl> {
        let job = cx.job()?;
        let (session, foreground) = self.foreground_group();
        let behind = session == Some(job.session()) && foreground != 0 && job.group() != foreground;
        behind.then_some(job)
    }

    /// Whether it is the caller's controlling terminal.
    pub(crate) fn controls(&self, cx: &dyn Ctx) -> bool {
        let session = self.state.lock().session;
        session.is_some() && cx.job().map(|j| j.session()) == session
    }

    /// Makes it the controlling terminal of the caller's session; the caller has been found fit.
    pub(crate) fn adopt(&self, job: &dyn JobControl) {
        let mut s = self.state.lock();
        s.session = Some(job.session());
        s.foreground = job.group();
        s.signaller = Some(job.signaller());
        drop(s);
        job.set_controlling_terminal(Some(self.handle()));
    }

    /// On open without `O_NOCTTY`: a session leader without a terminal gets this one, if it is
    /// nobody's.
    pub(crate) fn adopt_on_open(&self, cx: &dyn Ctx) {
        let Some(job) = cx.job() else { return };
        let free = self.state.lock().session.is_none();
        if free && job.leads_session() && job.controlling_terminal().is_none() {
            self.adopt(job);
        }
    }

    /// `TIOCSCTTY`. `force` takes it from another session, which needs `CAP_SYS_ADMIN`.
    pub(crate) fn set_controlling(&self, cx: &dyn Ctx, force: bool) -> Result<(), Errno> {
        let job = cx.job().ok_or(Errno::EPERM)?;
        let (session, signaller) = {
            let s = self.state.lock();
            (s.session, s.signaller.clone())
        };
        if job.leads_session() && session == Some(job.session()) {
            return Ok(());
        }
        if !job.leads_session() || job.controlling_terminal().is_some() {
            return Err(Errno::EPERM);
        }
        if let Some(session) = session {
            if !(force && cx.creds().has(auth::Capability::SysAdmin)) {
                return Err(Errno::EPERM);
            }
            // It may be another kernel's.
            if let Some(signaller) = signaller {
                signaller.drop_terminal(session.number, 0);
            }
        }
        self.adopt(job);
        Ok(())
    }

    /// `TIOCNOTTY`
    pub(crate) fn give_up(&self, cx: &dyn Ctx) -> Result<(), Errno> {
        if !self.controls(cx) {
            return Err(Errno::ENOTTY);
        }
        let job = cx.job().ok_or(Errno::ENOTTY)?;
        if job.leads_session() {
            self.disassociate(false);
        }
        job.set_controlling_terminal(None);
        Ok(())
    }

    /// `TIOCSPGRP`
    pub(crate) fn set_foreground(&self, cx: &dyn Ctx, group: i32) -> Result<(), SysErr> {
        let job = cx.job().ok_or(Errno::ENOTTY)?;
        self.check_background_change(cx)?;
        if !self.controls(cx) {
            return Err(Errno::ENOTTY.into());
        }
        if group < 0 {
            return Err(Errno::EINVAL.into());
        }
        let group = job.named(group);
        match job.session_of_group(group) {
            None => Err(Errno::ESRCH.into()),
            Some(s) if s != job.session() => Err(Errno::EPERM.into()),
            Some(_) => {
                self.state.lock().foreground = group;
                Ok(())
            }
        }
    }
}

impl Terminal for Tty {
    fn belong_to(&self, session: SessionId, signaller: Arc<dyn GroupSignaller>) {
        let mut s = self.state.lock();
        s.session = Some(session);
        s.foreground = session.number;
        s.signaller = Some(signaller);
    }

    fn disassociate(&self, leader_exits: bool) {
        let (session, group, signaller) = self.state.lock().leave_session();
        // What is open of it stays so: Linux hangs up other terminals here, not pseudo-terminals.
        if let Some(signaller) = signaller {
            if group != 0 {
                signaller.signal_group(group, libc::SIGHUP);
                // Whoever is stopped and left alone by the leader's end is continued as an orphan.
                if !leader_exits {
                    signaller.signal_group(group, libc::SIGCONT);
                }
            }
            if let (true, Some(session)) = (leader_exits, session) {
                signaller.drop_terminal(session.number, 0);
            }
        }
    }

    fn foreground(&self) -> i32 {
        self.state.lock().foreground
    }

    fn device(&self) -> u64 {
        self.device_number()
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tty::OtherEnd;
    use auth::Creds;
    use ctx::{KernelCtx, PidSpace, Resource, UserMemory, Wake};
    use std::time::Instant;
    use sync::{Mutex, ranks};
    use time::Clocks;
    use wait::Waker;

    struct Nowhere;

    impl OtherEnd for Nowhere {
        fn output_ready(&self, _tty: &Tty) {}
    }

    type Told = Mutex<Vec<String>, ranks::Leaf>;

    /// A kernel that notes what it is told.
    #[derive(Default)]
    struct Kernel(Told);

    impl GroupSignaller for Kernel {
        fn signal_group(&self, group: i32, signal: i32) {
            self.0.lock().push(format!("signal {signal} to {group}"));
        }
        fn signal_session_leader(&self, session: i32, signal: i32) {
            self.0
                .lock()
                .push(format!("signal {signal} to leader {session}"));
        }
        fn drop_terminal(&self, session: i32, _foreground: i32) {
            self.0.lock().push(format!("drop of {session}"));
        }
    }

    /// The leader of session 1 of a kernel, whose process groups are 1 and 2.
    struct Leader {
        cx: KernelCtx,
        space: PidSpace,
        group: i32,
        kernel: Arc<Kernel>,
        terminal: Mutex<Option<Arc<dyn Terminal>>, ranks::Leaf>,
    }

    impl Leader {
        fn new(space: u64, group: i32) -> Leader {
            Leader {
                cx: KernelCtx::new(Arc::new(Clocks::new())),
                space: PidSpace(space),
                group,
                kernel: Arc::default(),
                terminal: Mutex::new(None),
            }
        }

        fn told(&self) -> Vec<String> {
            std::mem::take(&mut *self.kernel.0.lock())
        }
    }

    impl JobControl for Leader {
        fn named(&self, number: i32) -> i32 {
            number
        }
        fn shown(&self, id: i32) -> i32 {
            id
        }
        fn session(&self) -> SessionId {
            SessionId {
                space: self.space,
                number: 1,
            }
        }
        fn group(&self) -> i32 {
            self.group
        }
        fn leads_session(&self) -> bool {
            true
        }
        fn orphaned(&self) -> bool {
            false
        }
        fn ignores(&self, _signal: i32) -> bool {
            false
        }
        fn session_of_group(&self, group: i32) -> Option<SessionId> {
            (1..=2).contains(&group).then(|| self.session())
        }
        fn controlling_terminal(&self) -> Option<Arc<dyn Terminal>> {
            self.terminal.lock().clone()
        }
        fn set_controlling_terminal(&self, terminal: Option<Arc<dyn Terminal>>) {
            *self.terminal.lock() = terminal;
        }
        fn signaller(&self) -> Arc<dyn GroupSignaller> {
            self.kernel.clone()
        }
    }

    impl Ctx for Leader {
        fn creds(&self) -> Arc<Creds> {
            self.cx.creds()
        }
        fn memory(&self) -> &dyn UserMemory {
            self.cx.memory()
        }
        fn clocks(&self) -> &Clocks {
            self.cx.clocks()
        }
        fn waker(&self) -> &Arc<Waker> {
            self.cx.waker()
        }
        fn park(&self, deadline: Option<Instant>) -> Wake {
            self.cx.park(deadline)
        }
        fn interrupted(&self) -> bool {
            false
        }
        fn raise(&self, _signal: i32) {}
        fn limit(&self, _resource: Resource) -> u64 {
            u64::MAX
        }
        fn pid(&self) -> i32 {
            1
        }
        fn job(&self) -> Option<&dyn JobControl> {
            Some(self)
        }
    }

    #[test]
    fn sessions_of_two_kernels_are_two() {
        let tty = Tty::new(0, false, |_| Box::new(Nowhere));
        let (one, other) = (Leader::new(1, 1), Leader::new(2, 2));
        tty.adopt_on_open(&one);
        assert!(tty.controls(&one) && !tty.controls(&other));
        // What would be in the background of its own terminal is nobody to this one.
        assert!(tty.check_background_read(&other).is_ok());
        let stranger = Leader::new(1, 2);
        assert_eq!(
            tty.check_background_read(&stranger),
            Err(Restart::Sys.into())
        );
        assert_eq!(stranger.told(), ["signal 21 to 2"]);
        let refused = Err(Errno::ENOTTY.into());
        assert_eq!(tty.set_foreground(&other, 2), refused);
        assert_eq!(tty.give_up(&other), Err(Errno::ENOTTY));
        tty.adopt_on_open(&other);
        assert!(other.controlling_terminal().is_none());
        assert_eq!(tty.set_controlling(&other, false), Err(Errno::EPERM));
        // Whose it was hears of it, in the kernel that it is in.
        assert_eq!(tty.set_controlling(&other, true), Ok(()));
        assert_eq!(one.told(), ["drop of 1"]);
        assert!(other.told().is_empty());
        assert!(tty.controls(&other) && !tty.controls(&one));
        tty.hang_up();
        assert_eq!(other.told().len(), 3);
        assert!(one.told().is_empty());
    }
}
