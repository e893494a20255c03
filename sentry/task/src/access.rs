//! Who may look into whom (ptrace(2), "Ptrace access mode checking").

use crate::Task;
use auth::{Capability, UserNamespace};
use ctx::Ctx;

/// Which ids of the one who asks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// The real ones (`PTRACE_MODE_REALCREDS`), of system calls.
    Real,
    /// Those for files (`PTRACE_MODE_FSCREDS`), of /proc.
    Files,
}

impl Task {
    /// Whether the task that `cx` is of may look into this one (`PTRACE_MODE_READ`).
    pub fn lets_look(&self, cx: &dyn Ctx, ids: Ids) -> bool {
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
            return self.lets_its_memory_be_seen(traces);
        }
        // One in a namespace inside can do more there than who is outside, the same user or not.
        let held = match ids {
            Ids::Real => mine.permitted,
            Ids::Files => mine.effective,
        };
        same && self.lets_its_memory_be_seen(traces)
            && mine.user_ns == theirs.user_ns
            && held.contains(theirs.permitted)
    }

    /// Whether it is dumpable, or who `traces` may in the user namespace that its program began in.
    fn lets_its_memory_be_seen(&self, traces: impl Fn(&UserNamespace) -> bool) -> bool {
        // What is left of an ended process has nothing to hide.
        self.mm().is_none_or(|mm| {
            let info = mm.exec_info();
            info.dumpable == 1 || traces(&info.user_ns)
        })
    }
}
