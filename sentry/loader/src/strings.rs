//! Arguments and environment, with the limits that execve(2) sets them.

use abi::Errno;

/// Bytes in one string, with its NUL.
const STRING_MAX: usize = 32 * 4096;
/// What there is room for whatever the stack's limit (`ARG_MAX`).
const ROOM_MIN: u64 = 128 << 10;
/// What there never is more room for: three quarters of the usual stack.
const ROOM_MAX: u64 = 6 << 20;

/// The strings a program starts with, and how much room they take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strings {
    filename: Vec<u8>,
    argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
    /// Bytes that strings and their NULs may take in all.
    room: u64,
    used: u64,
}

impl Strings {
    /// For a program called as `filename`, with a stack limit of `stack` bytes. No `argv` makes
    /// one of an empty string, as Linux does.
    ///
    /// # Errors
    /// `E2BIG`
    pub(crate) fn new(
        filename: &[u8],
        argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
        stack: u64,
    ) -> Result<Strings, Errno> {
        let counts = (argv.len() as u64, envp.len() as u64);
        let mut out = Strings::empty(filename, counts, stack)?;
        for s in argv.iter().chain(&envp) {
            out.charge(s)?;
        }
        (out.argv, out.envp) = (argv, envp);
        out.name_something()?;
        Ok(out)
    }

    fn empty(filename: &[u8], counts: (u64, u64), stack: u64) -> Result<Strings, Errno> {
        let limit = (stack / 4).clamp(ROOM_MIN, ROOM_MAX);
        let pointers = counts.0.max(1).saturating_add(counts.1).saturating_mul(8);
        let room = limit
            .checked_sub(pointers)
            .filter(|r| *r > 0)
            .ok_or(Errno::E2BIG)?;
        let filename = filename.to_vec();
        let mut out = Strings {
            filename,
            argv: Vec::new(),
            envp: Vec::new(),
            room,
            used: 0,
        };
        let name_len = out.filename.len();
        out.charge_len(name_len)?;
        Ok(out)
    }

    fn name_something(&mut self) -> Result<(), Errno> {
        if self.argv.is_empty() {
            self.charge(b"")?;
            self.argv.push(Vec::new());
        }
        Ok(())
    }

    fn charge(&mut self, string: &[u8]) -> Result<(), Errno> {
        self.charge_len(string.len())
    }

    fn charge_len(&mut self, len: usize) -> Result<(), Errno> {
        if len >= STRING_MAX {
            return Err(Errno::E2BIG);
        }
        self.used = self.used.saturating_add(len as u64 + 1);
        if self.used > self.room {
            Err(Errno::E2BIG)
        } else {
            Ok(())
        }
    }

    /// Makes them those of a script's interpreter: `interpreter [argument] script args…`.
    ///
    /// # Errors
    /// `E2BIG`
    pub(crate) fn interpret(
        &mut self,
        script: &[u8],
        interpreter: &[u8],
        argument: Option<&[u8]>,
    ) -> Result<(), Errno> {
        if !self.argv.is_empty() {
            let first = self.argv.remove(0);
            self.used = self.used.saturating_sub(first.len() as u64 + 1);
        }
        let head: Vec<Vec<u8>> = [Some(interpreter), argument, Some(script)]
            .into_iter()
            .flatten()
            .map(Vec::from)
            .collect();
        for s in &head {
            self.charge(s)?;
        }
        self.argv.splice(0..0, head);
        Ok(())
    }

    /// The path it was called by: `AT_EXECFN`.
    pub(crate) fn filename(&self) -> &[u8] {
        &self.filename
    }

    /// Arguments; one at least.
    pub(crate) fn argv(&self) -> &[Vec<u8>] {
        &self.argv
    }

    /// Environment.
    pub(crate) fn envp(&self) -> &[Vec<u8>] {
        &self.envp
    }

    /// The last component of the path: the new name of the thread (`comm`, which holds 15 bytes
    /// of it).
    pub(crate) fn comm(&self) -> &[u8] {
        self.filename
            .rsplit(|b| *b == b'/')
            .next()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(n: usize, len: usize, stack: u64) -> Result<Strings, Errno> {
        Strings::new(b"/x", vec![vec![b'a'; len]; n], Vec::new(), stack)
    }

    #[test]
    fn limits_are_those_of_linux() {
        assert!(of(1, STRING_MAX - 1, 8 << 20).is_ok());
        assert_eq!(of(1, STRING_MAX, 8 << 20), Err(Errno::E2BIG));
        // 2 MiB at the usual stack limit, pointers included.
        assert!(of(15, STRING_MAX - 1, 8 << 20).is_ok());
        assert_eq!(of(16, STRING_MAX - 1, 8 << 20), Err(Errno::E2BIG));
        assert!(of(16, STRING_MAX - 1, u64::MAX).is_ok());
        assert_eq!(of(48, STRING_MAX - 1, u64::MAX), Err(Errno::E2BIG));
        // A small stack leaves room for 128 KiB.
        assert!(of(1, 100_000, 4096).is_ok());
        assert_eq!(of(16384, 0, 4096), Err(Errno::E2BIG));
    }

    #[test]
    fn nothing_makes_an_empty_first_argument() {
        assert_eq!(of(0, 0, 8 << 20).unwrap().argv(), [b""]);
    }

    #[test]
    fn a_script_takes_the_place_of_the_first_argument() {
        let argv = vec![b"name".to_vec(), b"a1".to_vec()];
        let mut s = Strings::new(b"dir/script", argv, Vec::new(), 8 << 20).unwrap();
        s.interpret(b"dir/script", b"/bin/sh", Some(b"-x")).unwrap();
        let want: [&[u8]; 4] = [b"/bin/sh", b"-x", b"dir/script", b"a1"];
        assert_eq!(s.argv(), want);
        assert_eq!(
            (s.filename(), s.comm()),
            (&b"dir/script"[..], &b"script"[..])
        );
    }
}
