//! Who may look into whom (ptrace(2), "Ptrace access mode checking").

use auth::Capability;
use ctx::Ctx;
use task::{Task, TaskCx};

/// Whether the caller may inspect `other` (`PTRACE_MODE_READ_REALCREDS`).
pub(crate) fn may_inspect(cx: &TaskCx, other: &Task) -> bool {
    if other.tgid() == cx.pid() {
        return true;
    }
    let (mine, theirs) = (cx.creds(), other.creds());
    let same = [theirs.ruid, theirs.euid, theirs.suid]
        .iter()
        .all(|id| *id == mine.ruid)
        && [theirs.rgid, theirs.egid, theirs.sgid]
            .iter()
            .all(|id| *id == mine.rgid);
    same || mine.has(Capability::SysPtrace)
}
