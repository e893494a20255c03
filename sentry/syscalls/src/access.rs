//! Who may look into whom (ptrace(2), "Ptrace access mode checking").

use task::{Ids, Task, TaskCx};

/// Whether the caller may inspect `other` (`PTRACE_MODE_READ_REALCREDS`).
pub(crate) fn may_inspect(cx: &TaskCx, other: &Task) -> bool {
    other.lets_look(cx, Ids::Real)
}
