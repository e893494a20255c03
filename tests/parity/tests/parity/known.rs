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

/// Cases about what Linux does since some version: on an older one there is nothing to compare
/// with.
const NEWER: &[(&str, (u32, u32))] = &[
    // Signals of a timer that was set anew are dropped.
    ("posix_timer_set_anew_takes_its_signal_back", (6, 13)),
];

/// Why `case` has nothing to be compared with on this machine.
pub(crate) fn too_new(case: &str) -> Option<String> {
    let (_, since) = NEWER.iter().find(|(name, _)| *name == case)?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    let here = (numbers.next()?, numbers.next()?);
    (here < *since).then(|| {
        let ((major, minor), release) = (since, release.trim());
        format!("Linux does so since {major}.{minor}, and this one is {release}")
    })
}
