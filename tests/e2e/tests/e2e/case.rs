//! What a test is, and the checks that all use.

use crate::place::Place;
use std::fmt::Debug;
use test_support::report::difference;
use test_support::run::Outcome;

/// One test.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// `module/what_it_shows`.
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Place<'_>) -> Result,
}

/// A test by the name of its function.
macro_rules! cases {
    ($module:literal: $($function:ident),* $(,)?) => {
        pub(crate) const CASES: &[$crate::case::Case] = &[$($crate::case::Case {
            name: concat!($module, "/", stringify!($function)),
            run: $function,
        }),*];
    };
}
pub(crate) use cases;

/// Why a test did not pass.
#[derive(Debug)]
pub(crate) enum Stop {
    Failed(String),
    /// This machine cannot run it.
    Skipped(String),
}

pub(crate) type Result<T = ()> = std::result::Result<T, Stop>;

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(format!("{:#}", error.into()))
    }
}

pub(crate) fn failed<T>(why: impl Into<String>) -> Result<T> {
    Err(Stop::Failed(why.into()))
}

/// Fails with `why()` unless `good`.
pub(crate) fn ensure(good: bool, why: impl FnOnce() -> String) -> Result {
    if good { Ok(()) } else { failed(why()) }
}

pub(crate) fn equal<T: PartialEq + Debug>(what: &str, got: &T, want: &T) -> Result {
    ensure(got == want, || {
        format!("{what}: {got:?} instead of {want:?}")
    })
}

/// Checks status and standard output; what went to standard error is shown on failure.
pub(crate) fn said(outcome: &Outcome, status: i32, stdout: &str) -> Result {
    ensure(
        outcome.code() == Some(status) && outcome.out() == stdout,
        || {
            format!(
                "{} instead of exit {status}\n{}stderr: {}",
                outcome.status,
                difference(stdout, &outcome.out()),
                outcome.err()
            )
        },
    )
}

/// Checks the status alone.
pub(crate) fn exited(outcome: &Outcome, status: i32) -> Result {
    ensure(outcome.code() == Some(status), || {
        format!(
            "{} instead of exit {status}\nstdout: {}\nstderr: {}",
            outcome.status,
            outcome.out(),
            outcome.err()
        )
    })
}

/// A failure of ours as the user must see it: the status, nothing on standard output, and on
/// standard error one message that begins with `error: ` and holds each of `words`.
pub(crate) fn refused(outcome: &Outcome, status: i32, words: &[&str]) -> Result {
    let text = outcome.err();
    let missing: Vec<_> = words.iter().filter(|w| !text.contains(**w)).collect();
    let good = outcome.code() == Some(status)
        && text.starts_with("error: ")
        && text.matches("error: ").count() == 1
        && outcome.stdout.is_empty()
        && missing.is_empty();
    ensure(good, || {
        format!(
            "{} (wanted exit {status}); the message lacks {missing:?}\nstdout: {}\nstderr: {text}",
            outcome.status,
            outcome.out()
        )
    })
}

/// Both sides gave the same bytes and the same status.
pub(crate) fn same(native: &Outcome, sandboxed: &Outcome) -> Result {
    if native == sandboxed {
        return Ok(());
    }
    let show = |o: &Outcome| {
        format!(
            "{}\n--- stdout\n{}\n--- stderr\n{}\n",
            o.status,
            o.out(),
            o.err()
        )
    };
    failed(difference(&show(native), &show(sandboxed)))
}
