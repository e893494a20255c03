//! Job control: who may read, who may write, whose terminal it is (`tty_jobctrl.c`'s rules, as
//! POSIX, "General Terminal Interface", has them).

use crate::Tty;
use abi::{Errno, libc};
use ctx::{Ctx, GroupSignaller, JobControl, Restart, SysErr, Terminal};
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

    /// The caller's job control, when this is its controlling terminal and it is not in the
    /// foreground.
    fn background<'a>(&self, cx: &'a dyn Ctx) -> Option<&'a dyn JobControl> {
        let job = cx.job()?;
        let (session, foreground) = {
            let s = self.state.lock();
            (s.session, s.foreground)
        };
        let behind = session != 0
            && job.session() == session
            && foreground != 0
            && job.group() != foreground;
        behind.then_some(job)
    }

    /// Whether it is the caller's controlling terminal.
    pub(crate) fn controls(&self, cx: &dyn Ctx) -> bool {
        let session = self.state.lock().session;
        session != 0 && cx.job().is_some_and(|j| j.session() == session)
    }

    /// Makes it the controlling terminal of the caller's session; the caller has been found fit.
    pub(crate) fn adopt(&self, job: &dyn JobControl) {
        let mut s = self.state.lock();
        s.session = job.session();
        s.foreground = job.group();
        s.signaller = Some(job.signaller());
        drop(s);
        job.set_controlling_terminal(Some(self.handle()));
    }

    /// On open without `O_NOCTTY`: a session leader without a terminal gets this one, if it is
    /// nobody's.
    pub(crate) fn adopt_on_open(&self, cx: &dyn Ctx) {
        let Some(job) = cx.job() else { return };
        let free = self.state.lock().session == 0;
        if free && job.leads_session() && job.controlling_terminal().is_none() {
            self.adopt(job);
        }
    }

    /// `TIOCSCTTY`. `force` takes it from another session, which needs `CAP_SYS_ADMIN`.
    pub(crate) fn set_controlling(&self, cx: &dyn Ctx, force: bool) -> Result<(), Errno> {
        let job = cx.job().ok_or(Errno::EPERM)?;
        let session = self.state.lock().session;
        if job.leads_session() && session == job.session() {
            return Ok(());
        }
        if !job.leads_session() || job.controlling_terminal().is_some() {
            return Err(Errno::EPERM);
        }
        if session != 0 {
            if !(force && cx.creds().has(auth::Capability::SysAdmin)) {
                return Err(Errno::EPERM);
            }
            job.signaller().drop_terminal(session, 0);
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
    fn belong_to(&self, session: i32, signaller: Arc<dyn GroupSignaller>) {
        let mut s = self.state.lock();
        s.session = session;
        s.foreground = session;
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
            if leader_exits && session != 0 {
                signaller.drop_terminal(session, 0);
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
