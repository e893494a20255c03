//! Where the sandbox differs from Linux on purpose, case by case, with why. A
//! case that is listed here and is equal fails, so that the list only shrinks.

/// The cases and the reasons.
const KNOWN: &[(&str, &str)] = &[(
    "io_priority",
    "not there: ENOSYS, as of a kernel built without it",
)];

/// Cases that differ now and then, for a fault of ours that is known and not mended yet. A run in
/// which one differs counts it as skipped, with the reason.
const NOW_AND_THEN: &[(&str, &str)] = &[(
    "links_that_change",
    "a walk that meets rename(2) over a link can find neither the old nor the new one",
)];

/// What is known of a `case` that differs now and then.
pub(crate) fn now_and_then(case: &str) -> Option<&'static str> {
    let entry = NOW_AND_THEN.iter().find(|(name, _)| *name == case);
    entry.map(|(_, reason)| *reason)
}

/// Why `case` may differ.
pub(crate) fn reason(case: &str) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|(name, _)| *name == case)
        .map(|(_, why)| *why)
}
