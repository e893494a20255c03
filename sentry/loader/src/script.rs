//! `#!` lines.

use abi::Errno;

/// Bytes of a program that tell what it is (`BINPRM_BUF_SIZE`); behind the end of a shorter file
/// there are zeros.
pub(crate) const HEAD_LEN: usize = 256;

/// The first line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Path of the interpreter. May be empty, which fails when it is opened.
    pub(crate) interpreter: Vec<u8>,
    /// All that follows the path, as one argument. May be empty: blanks at the end of a file
    /// that has no newline make an empty argument.
    pub(crate) argument: Option<Vec<u8>>,
}

fn is_blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

/// Up to the first NUL.
fn c_string(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().take_while(|b| *b != 0).collect()
}

/// Reads the line that starts a script; `None` for what is no script.
///
/// # Errors
/// `ENOEXEC` where there is no interpreter in it, or where its path may have been cut off at the
/// end of what is looked at.
pub(crate) fn parse(head: &[u8; HEAD_LEN]) -> Option<Result<Script, Errno>> {
    let rest = head.strip_prefix(b"#!")?;
    Some(parse_rest(rest))
}

fn parse_rest(rest: &[u8]) -> Result<Script, Errno> {
    // A NUL ends what may hold the newline; behind it lies no text.
    let text = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
    let newline = rest
        .get(..text)
        .and_then(|t| t.iter().position(|b| *b == b'\n'));
    let line = match newline {
        Some(end) => rest.get(..end).unwrap_or_default().trim_ascii_end_blanks(),
        None => {
            // The whole of it, but only when the path surely ends within. The buffer's last byte
            // is looked at as a terminator and does not belong to the line.
            let start = rest
                .iter()
                .position(|b| !is_blank(*b))
                .ok_or(Errno::ENOEXEC)?;
            let path = rest.get(start..).unwrap_or_default();
            if !path.iter().any(|b| is_blank(*b) || *b == 0) {
                return Err(Errno::ENOEXEC);
            }
            let (_, all) = rest.split_last().ok_or(Errno::ENOEXEC)?;
            all.trim_ascii_end_blanks()
        }
    };
    let start = line
        .iter()
        .position(|b| !is_blank(*b))
        .ok_or(Errno::ENOEXEC)?;
    let path = line.get(start..).unwrap_or_default();
    let end = path
        .iter()
        .position(|b| is_blank(*b) || *b == 0)
        .unwrap_or(path.len());
    let (path, tail) = path.split_at_checked(end).unwrap_or((path, &[]));
    // A NUL right behind the path hides what follows it.
    let argument = match tail.first() {
        Some(b) if is_blank(*b) => tail
            .iter()
            .position(|b| !is_blank(*b))
            .and_then(|at| tail.get(at..))
            .map(c_string),
        _ => None,
    };
    Ok(Script {
        interpreter: path.to_vec(),
        argument,
    })
}

trait TrimBlanks {
    fn trim_ascii_end_blanks(&self) -> &[u8];
}

impl TrimBlanks for [u8] {
    /// Without the spaces and tabs at its end.
    fn trim_ascii_end_blanks(&self) -> &[u8] {
        let end = self
            .iter()
            .rposition(|b| !is_blank(*b))
            .map_or(0, |at| at + 1);
        self.get(..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(text: &[u8]) -> Option<Result<(String, Option<String>), Errno>> {
        let mut head = [0; HEAD_LEN];
        let n = text.len().min(HEAD_LEN);
        head[..n].copy_from_slice(&text[..n]);
        let s = |b: Vec<u8>| String::from_utf8(b).unwrap();
        parse(&head).map(|r| r.map(|l| (s(l.interpreter), l.argument.map(s))))
    }

    fn ok(path: &str, arg: Option<&str>) -> Option<Result<(String, Option<String>), Errno>> {
        Some(Ok((path.into(), arg.map(Into::into))))
    }

    #[test]
    fn lines_are_cut_as_linux_cuts_them() {
        assert_eq!(line(b"#"), None);
        assert_eq!(line(b"#!/bin/sh\n"), ok("/bin/sh", None));
        assert_eq!(
            line(b"#! /bin/sh -x  y \t\nfoo"),
            ok("/bin/sh", Some("-x  y"))
        );
        assert_eq!(line(b"#!/bin/sh"), ok("/bin/sh", None));
        assert_eq!(line(b"#!/bin/sh\t\t"), ok("/bin/sh", Some("")));
        assert_eq!(line(b"#!/bin/sh\0foo\n"), ok("/bin/sh", None));
        assert_eq!(line(b"#!/bin/sh a\0b\n"), ok("/bin/sh", Some("a")));
        assert_eq!(line(b"#!"), ok("", None));
        assert_eq!(line(b"#! "), ok("", None));
        assert_eq!(line(b"#!\0\n"), ok("", None));
        assert_eq!(line(b"#!\n"), Some(Err(Errno::ENOEXEC)));
        assert_eq!(line(b"#!   \n/bin/sh"), Some(Err(Errno::ENOEXEC)));
    }

    #[test]
    fn a_path_that_may_be_cut_off_is_refused() {
        let long = |n: usize, tail: &str| {
            let path = format!("{}bin/sh", "/".repeat(n - 6));
            (line(format!("#!{path}{tail}").as_bytes()), path)
        };
        for (len, tail) in [(252, ""), (253, ""), (253, "\n")] {
            let (got, path) = long(len, tail);
            assert_eq!(got, ok(&path, None), "{len} {tail:?}");
        }
        for (len, tail) in [(254, ""), (254, "\n"), (300, "\n")] {
            assert_eq!(long(len, tail).0, Some(Err(Errno::ENOEXEC)), "{len}");
        }
        let arg = "q".repeat(300);
        let got = line(format!("#!/bin/sh {arg}").as_bytes());
        assert_eq!(got, ok("/bin/sh", Some(&arg[..245])));
        assert_eq!(
            line(&[b"#!".as_slice(), &[b' '; 300]].concat()),
            Some(Err(Errno::ENOEXEC))
        );
    }

    proptest! {
        #[test]
        fn any_head_is_answered(tail in proptest::collection::vec(
            prop_oneof![Just(b' '), Just(b'\t'), Just(0u8), Just(b'\n'), any::<u8>()], 0..300,
        )) {
            let text = [b"#!".as_slice(), &tail].concat();
            let mut head = [0; HEAD_LEN];
            let n = text.len().min(HEAD_LEN);
            head[..n].copy_from_slice(&text[..n]);
            if let Some(Ok(script)) = parse(&head) {
                prop_assert!(!script.interpreter.iter().any(|b| is_blank(*b) || *b == 0));
            }
        }
    }
}
