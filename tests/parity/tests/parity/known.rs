//! Where the sandbox differs from Linux on purpose, case by case, with why. A
//! case that is listed here and is equal fails, so that the list only shrinks.

/// The cases and the reasons.
const KNOWN: &[(&str, &str)] = &[];

/// Why `case` may differ.
pub(crate) fn reason(case: &str) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|(name, _)| *name == case)
        .map(|(_, why)| *why)
}
