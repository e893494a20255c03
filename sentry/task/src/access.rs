//! Who may look into whom (ptrace(2), "Ptrace access mode checking").

use crate::Task;
use auth::Capability;
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
        // What is left of an ended process has nothing to hide.
        let open = || self.mm().is_none_or(|mm| mm.exec_info().dumpable == 1);
        (same && open()) || mine.has(Capability::SysPtrace)
    }
}
