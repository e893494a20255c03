//! Bytes and names as text.

use std::fmt::Write;

/// Bytes of a string that are shown.
pub(crate) const SHOWN: usize = 64;

/// In quotes, with C's escapes; `more` says that what follows is left out.
pub(crate) fn quoted(bytes: &[u8], more: bool) -> String {
    let mut out = String::with_capacity(bytes.len() + 5);
    out.push('"');
    for b in bytes {
        match b {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x20..=0x7e => out.push(char::from(*b)),
            _ => {
                let _ = write!(out, "\\{b:o}");
            }
        }
    }
    out.push('"');
    if more {
        out.push_str("...");
    }
    out
}

/// The name of a signal.
pub(crate) fn signal(number: i32) -> String {
    signal::Signal::new(number).map_or_else(|_| number.to_string(), |s| s.name())
}

/// A set of signals: `[INT CHLD]`, or `~[…]` where most are in it.
pub(crate) fn signals(bits: u64) -> String {
    let (sign, bits) = if bits.count_ones() > 32 {
        ("~", !bits)
    } else {
        ("", bits)
    };
    let names: Vec<String> = (1..=64)
        .filter(|n| bits & (1 << (n - 1)) != 0)
        .map(|n| signal(n).trim_start_matches("SIG").to_owned())
        .collect();
    format!("{sign}[{}]", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_cut() {
        assert_eq!(quoted(b"a\n\0\"", false), "\"a\\n\\0\\\"\"");
        assert_eq!(quoted(b"ab", true), "\"ab\"...");
    }

    #[test]
    fn signal_sets_are_short_either_way() {
        assert_eq!(signals(0b10), "[INT]");
        assert_eq!(signals(u64::MAX), "~[]");
    }
}
