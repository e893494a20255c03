//! The table in words.

use super::{ENTRIES, Support};
use std::fmt::Write;

fn counts() -> (usize, usize, usize) {
    ENTRIES
        .iter()
        .fold((0, 0, 0), |(f, p, a), e| match e.support {
            Support::Full => (f + 1, p, a),
            Support::Partial(_) => (f, p + 1, a),
            Support::Absent(_) => (f, p, a + 1),
        })
}

/// `compat/syscalls.md`.
pub fn compat_markdown() -> String {
    let (full, partial, absent) = counts();
    let mut out = String::from(
        "# System calls\n\n\
         Made from the dispatch table; a test fails when the two differ. To write it anew:\n\
         `RINGFENCE_BLESS=1 cargo test -p sentry-syscalls`.\n\n",
    );
    let _ = writeln!(
        out,
        "{full} supported, {partial} partly, {absent} absent (`ENOSYS`, and a line in the debug log once).\n"
    );
    out.push_str("| number | name | support | what is missing |\n|---|---|---|---|\n");
    for e in ENTRIES {
        let (level, note) = match e.support {
            Support::Full => ("full", ""),
            Support::Partial(note) => ("partial", note),
            Support::Absent(note) => ("absent", note),
        };
        let _ = writeln!(out, "| {} | {} | {level} | {note} |", e.nr, e.name);
    }
    out
}

/// What `ringfence help syscalls` prints.
pub fn help_text() -> String {
    let (full, partial, absent) = counts();
    let mut out = format!("System calls: {full} supported, {partial} partly, {absent} absent.\n");
    out.push_str("\nPartly:\n");
    for e in ENTRIES {
        if let Support::Partial(note) = e.support {
            let _ = writeln!(out, "  {:<24} {note}", e.name);
        }
    }
    out.push_str("\nAbsent (ENOSYS):\n");
    for e in ENTRIES {
        if let Support::Absent(note) = e.support {
            let _ = writeln!(out, "  {:<24} {note}", e.name);
        }
    }
    out.push_str("\nSupported:\n");
    let mut line = String::from(" ");
    for e in ENTRIES.iter().filter(|e| e.support == Support::Full) {
        if line.len() + e.name.len() > 78 {
            out.push_str(&line);
            out.push('\n');
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(e.name);
    }
    out.push_str(&line);
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compat_table_is_what_the_dispatch_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../compat/syscalls.md");
        let now = compat_markdown();
        if std::env::var_os("RINGFENCE_BLESS").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == now,
            "compat/syscalls.md is out of date: run with RINGFENCE_BLESS=1"
        );
    }

    #[test]
    fn help_names_every_call() {
        let text = help_text();
        for e in ENTRIES {
            assert!(text.contains(e.name), "{}", e.name);
        }
    }
}
