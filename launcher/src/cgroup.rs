//! Control groups.
//!
//! Not used yet: limits on memory are the sentry's own, and a spec's `cgroupsPath` and
//! `resources` are only warned of. This module is where they will be applied.

use crate::config::Config;
use crate::state::State;

/// Would put the sandbox process into the container's group.
pub(crate) fn place(config: &Config, pid: i32) {
    if let Some(asked) = &config.cgroup {
        tracing::warn!(
            pid,
            "config.json asks for {asked}: control groups are not applied by this version; memory \
             and CPU numbers are, inside the sandbox"
        );
    }
}

/// Would remove the container's group.
pub(crate) fn remove(_state: &State) {}
