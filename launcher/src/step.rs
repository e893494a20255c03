//! Named points on the way of `create`, `start`, `exec` and `delete`, at which a test of what
//! becomes of killed processes looks in. Debug builds alone have them.

/// Names the step to stop at.
#[cfg(debug_assertions)]
const WHICH: &str = "RINGFENCE_STEP";

/// In debug builds, stops this process when it was told to stop here.
#[cfg(debug_assertions)]
pub(crate) fn reached(step: &str) {
    if std::env::var_os(WHICH).is_some_and(|which| which == *step) {
        // It goes on when somebody says so; that it could not stop a test notices.
        let _stopped = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
    }
}

/// Nothing, in release builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn reached(_step: &str) {}
