//! Who may look into whom (ptrace(2), "Ptrace access mode checking").

use crate::Task;
use auth::{Capability, UserNamespace};
use ctx::Ctx;
use mm::Mm;
use std::sync::Arc;

/// Which ids of the one who asks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// The real ones (`PTRACE_MODE_REALCREDS`), of system calls.
    Real,
    /// Those for files (`PTRACE_MODE_FSCREDS`), of /proc.
    Files,
}

impl Task {
    /// Whether the task that `cx` is of may look into this one (`PTRACE_MODE_READ`). What it sees
    /// then is for [`Task::look`] to fetch.
    pub fn lets_look(&self, cx: &dyn Ctx, ids: Ids) -> bool {
        self.lets_look_at(self.mm().as_deref(), cx, ids)
    }

    /// What `fetch` finds in this task, for the task that `cx` is of; `None` where that may not
    /// look into it. All of it is of the one program that was judged: an execve(2) in between,
    /// which may have been of a set-user-ID program, has it begin anew.
    pub fn look<T>(&self, cx: &dyn Ctx, ids: Ids, mut fetch: impl FnMut() -> T) -> Option<T> {
        loop {
            // A program comes with its memory, and only then with its credentials.
            let mm = self.mm();
            if !self.lets_look_at(mm.as_deref(), cx, ids) {
                return None;
            }
            let found = fetch();
            let now = self.mm();
            if mm.as_ref().map(Arc::as_ptr) == now.as_ref().map(Arc::as_ptr) {
                return Some(found);
            }
        }
    }

    /// Whether it may, `mm` having been this one's memory before anything else was asked.
    fn lets_look_at(&self, mm: Option<&Mm>, cx: &dyn Ctx, ids: Ids) -> bool {
        if self.group().serial() == cx.process() {
            return true;
        }
        let (mine, theirs) = (cx.creds(), self.creds());
        let (uid, gid) = match ids {
            Ids::Real => (mine.ruid, mine.rgid),
            Ids::Files => (mine.fsuid, mine.fsgid),
        };
        let same = [theirs.ruid, theirs.euid, theirs.suid] == [uid; 3]
            && [theirs.rgid, theirs.egid, theirs.sgid] == [gid; 3];
        let traces = |ns: &UserNamespace| mine.has_in(ns, Capability::SysPtrace);
        if traces(&theirs.user_ns) {
            return lets_be_seen(mm, traces);
        }
        // One in a namespace inside can do more there than who is outside, the same user or not.
        let held = match ids {
            Ids::Real => mine.permitted,
            Ids::Files => mine.effective,
        };
        same && lets_be_seen(mm, traces)
            && mine.user_ns == theirs.user_ns
            && held.contains(theirs.permitted)
    }
}

/// Whether a program is dumpable, or who `traces` may in the user namespace that it began in.
fn lets_be_seen(mm: Option<&Mm>, traces: impl Fn(&UserNamespace) -> bool) -> bool {
    // What is left of an ended process has nothing to hide.
    mm.is_none_or(|mm| {
        let info = mm.exec_info();
        info.dumpable == 1 || traces(&info.user_ns)
    })
}
