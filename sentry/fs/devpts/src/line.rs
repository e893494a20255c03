//! Input processing: what N_TTY does with each byte that is typed.

use crate::output::{Output, is_control};
use crate::termios::Termios;
use abi::libc;
use std::collections::VecDeque;

/// Linux's `N_TTY_BUF_SIZE`: how much input is kept.
pub(crate) const INPUT_LIMIT: usize = 4096;

/// Something the terminal has to do after a byte was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Signal the foreground group.
    Signal(i32),
    /// Output is to stop (`^S`).
    Stop,
    /// Output is to go on (`^Q`).
    Start,
}

/// Input that has been typed and not yet been read.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Bytes that can be read.
    ready: VecDeque<u8>,
    /// In canonical mode: the lines in `ready`.
    lines: VecDeque<Complete>,
    /// The line being edited.
    edit: Vec<u8>,
    /// Column at which the edited line began.
    start_column: usize,
    /// The next byte is taken literally (`^V`).
    literal: bool,
}

/// A line that can be read.
#[derive(Clone, Copy, Debug)]
struct Complete {
    /// Bytes of it that have not been read.
    len: usize,
    /// It was ended by `^D`, which is none of its bytes.
    by_eof: bool,
}

impl Line {
    /// Bytes that a read could take in all.
    pub(crate) fn available(&self, t: &Termios) -> usize {
        if t.local(libc::ICANON) {
            self.lines.iter().map(|line| line.len).sum()
        } else {
            self.ready.len()
        }
    }

    /// Whether a read would not block (an end of file is readable, too).
    pub(crate) fn readable(&self, t: &Termios) -> bool {
        if t.local(libc::ICANON) {
            !self.lines.is_empty()
        } else {
            !self.ready.is_empty()
        }
    }

    /// Room for typed bytes.
    pub(crate) fn room(&self, t: &Termios) -> usize {
        let used = self.ready.len() + self.edit.len();
        // In canonical mode editing must stay possible: bytes past the limit are dropped with a
        // bell instead of holding up the typist for ever.
        if t.local(libc::ICANON) && self.lines.is_empty() {
            return INPUT_LIMIT;
        }
        INPUT_LIMIT.saturating_sub(used)
    }

    /// Takes bytes for a read of at most `max`; in canonical mode at most one line.
    pub(crate) fn take(&mut self, t: &Termios, max: usize) -> Vec<u8> {
        let n = if t.local(libc::ICANON) {
            let Some(line) = self.lines.front_mut() else {
                return Vec::new();
            };
            let n = max.min(line.len);
            line.len -= n;
            if line.len == 0 {
                self.lines.pop_front();
            }
            n
        } else {
            max.min(self.ready.len())
        };
        self.ready.drain(..n).collect()
    }

    /// Discards all input (`TCIFLUSH`).
    pub(crate) fn flush(&mut self) {
        self.ready.clear();
        self.lines.clear();
        self.edit.clear();
        self.literal = false;
    }

    /// The modes change: what has been typed stays readable. An end of file is a NUL to who reads
    /// bytes, as on Linux.
    pub(crate) fn modes_change(&mut self, old: &Termios, new: &Termios) {
        let (was, is) = (old.local(libc::ICANON), new.local(libc::ICANON));
        if was && !is {
            let mut complete = std::mem::take(&mut self.ready).into_iter();
            for line in self.lines.drain(..) {
                self.ready.extend(complete.by_ref().take(line.len));
                self.ready.extend(line.by_eof.then_some(0));
            }
            self.ready.extend(self.edit.drain(..));
        } else if !was && is && !self.ready.is_empty() {
            self.lines.push_back(Complete {
                len: self.ready.len(),
                by_eof: false,
            });
        }
    }

    /// One byte from the other end.
    pub(crate) fn input(&mut self, t: &Termios, out: &mut Output, mut c: u8) -> Option<Effect> {
        if self.literal {
            self.literal = false;
            self.store(t, out, c);
            return None;
        }
        if t.input(libc::ISTRIP) {
            c &= 0x7f;
        }
        if t.input(libc::IUCLC) && t.local(libc::IEXTEN) {
            c = c.to_ascii_lowercase();
        }
        if t.input(libc::IXON) {
            if t.is(libc::VSTART, c) {
                return Some(Effect::Start);
            }
            if t.is(libc::VSTOP, c) {
                return Some(Effect::Stop);
            }
        }
        if t.local(libc::ISIG)
            && let Some(signal) = signal_of(t, c)
        {
            if !t.local(libc::NOFLSH) {
                self.flush();
                out.clear();
            }
            if t.local(libc::ECHO) {
                out.echo(t, c);
            }
            return Some(Effect::Signal(signal));
        }
        match c {
            b'\r' if t.input(libc::IGNCR) => return None,
            b'\r' if t.input(libc::ICRNL) => c = b'\n',
            b'\n' if t.input(libc::INLCR) => c = b'\r',
            _ => {}
        }
        if t.local(libc::ICANON) {
            self.canonical(t, out, c);
        } else {
            self.store_raw(t, out, c);
        }
        None
    }

    fn canonical(&mut self, t: &Termios, out: &mut Output, c: u8) {
        if t.is(libc::VERASE, c) {
            return self.erase_char(t, out);
        }
        if t.is(libc::VKILL, c) {
            return self.kill(t, out, c);
        }
        if t.local(libc::IEXTEN) {
            if t.is(libc::VWERASE, c) {
                return self.erase_word(t, out);
            }
            if t.is(libc::VLNEXT, c) {
                self.literal = true;
                if t.local(libc::ECHO) && t.local(libc::ECHOCTL) {
                    out.put(t, b'^');
                    out.put(t, 0x08);
                }
                return;
            }
            if t.is(libc::VREPRINT, c) && t.local(libc::ECHO) {
                out.echo(t, c);
                out.put(t, b'\n');
                self.start_column = out.column;
                let line = self.edit.clone();
                line.iter().for_each(|b| out.echo(t, *b));
                return;
            }
        }
        if t.is(libc::VEOF, c) {
            // Ends of file take no room, and yet there cannot be any number of them.
            if self.lines.len() < INPUT_LIMIT {
                self.complete(true);
            }
            return;
        }
        let ends =
            c == b'\n' || t.is(libc::VEOL, c) || (t.local(libc::IEXTEN) && t.is(libc::VEOL2, c));
        if !ends {
            return self.store(t, out, c);
        }
        if t.local(libc::ECHO) || (c == b'\n' && t.local(libc::ECHONL)) {
            out.echo(t, c);
        }
        self.edit.push(c);
        self.complete(false);
    }

    /// The edited line can be read now.
    fn complete(&mut self, by_eof: bool) {
        self.lines.push_back(Complete {
            len: self.edit.len(),
            by_eof,
        });
        self.ready.extend(self.edit.drain(..));
    }

    fn store(&mut self, t: &Termios, out: &mut Output, c: u8) {
        if !t.local(libc::ICANON) {
            return self.store_raw(t, out, c);
        }
        // One place is kept for the newline.
        if self.ready.len() + self.edit.len() >= INPUT_LIMIT - 1 {
            if t.input(libc::IMAXBEL) {
                out.put(t, 0x07);
            }
            return;
        }
        if self.edit.is_empty() {
            self.start_column = out.column;
        }
        if t.local(libc::ECHO) {
            out.echo(t, c);
        }
        self.edit.push(c);
    }

    fn store_raw(&mut self, t: &Termios, out: &mut Output, c: u8) {
        if self.ready.len() >= INPUT_LIMIT {
            if t.input(libc::IMAXBEL) {
                out.put(t, 0x07);
            }
            return;
        }
        if t.local(libc::ECHO) {
            out.echo(t, c);
        }
        self.ready.push_back(c);
    }

    /// Removes the last character from the line and from the screen.
    fn erase_char(&mut self, t: &Termios, out: &mut Output) {
        let Some(mut c) = self.edit.pop() else { return };
        if t.input(libc::IUTF8) {
            while c & 0xc0 == 0x80 {
                match self.edit.pop() {
                    Some(p) => c = p,
                    None => break,
                }
            }
        }
        if !t.local(libc::ECHO) {
            return;
        }
        if !t.local(libc::ECHOE) {
            return out.echo(t, t.cc[libc::VERASE]);
        }
        match c {
            b'\t' => self.erase_tab(t, out),
            c if is_control(c) && !t.local(libc::ECHOCTL) => {}
            c => {
                let width = if is_control(c) { 2 } else { 1 };
                for _ in 0..width {
                    for b in [0x08, b' ', 0x08] {
                        // A plain backspace moves the column even without OPOST.
                        out.put(t, b);
                    }
                }
            }
        }
    }

    /// Goes back over a tab that has just been taken from the line: there is nothing to blank.
    fn erase_tab(&self, t: &Termios, out: &mut Output) {
        // Columns since the tab before, or else since the beginning of the line.
        let (since, start) = match self.edit.iter().rposition(|c| *c == b'\t') {
            Some(tab) => (self.edit.get(tab + 1..).unwrap_or_default(), 0),
            None => (self.edit.as_slice(), self.start_column),
        };
        let columns = since.iter().fold(start, |col, c| match *c {
            c if is_control(c) => col + if t.local(libc::ECHOCTL) { 2 } else { 0 },
            c if t.input(libc::IUTF8) && c & 0xc0 == 0x80 => col,
            _ => col + 1,
        });
        for _ in 0..8 - columns % 8 {
            out.put(t, 0x08);
        }
    }

    fn erase_word(&mut self, t: &Termios, out: &mut Output) {
        let in_word = |c: &u8| c.is_ascii_alphanumeric() || *c == b'_' || *c >= 0x80;
        let mut seen = false;
        while let Some(last) = self.edit.last() {
            if in_word(last) {
                seen = true;
            } else if seen {
                break;
            }
            self.erase_char(t, out);
        }
    }

    fn kill(&mut self, t: &Termios, out: &mut Output, c: u8) {
        if t.local(libc::ECHOKE | libc::ECHOE | libc::ECHOK) {
            while !self.edit.is_empty() {
                self.erase_char(t, out);
            }
            return;
        }
        self.edit.clear();
        if t.local(libc::ECHO) {
            out.echo(t, c);
            if t.local(libc::ECHOK) {
                out.put(t, b'\n');
            }
        }
    }
}

fn signal_of(t: &Termios, c: u8) -> Option<i32> {
    if t.is(libc::VINTR, c) {
        Some(libc::SIGINT)
    } else if t.is(libc::VQUIT, c) {
        Some(libc::SIGQUIT)
    } else if t.is(libc::VSUSP, c) {
        Some(libc::SIGTSTP)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_in(t: &Termios, data: &[u8]) -> (Line, Vec<u8>, Vec<Effect>) {
        let (mut l, mut o) = (Line::default(), Output::default());
        let effects = data.iter().filter_map(|c| l.input(t, &mut o, *c)).collect();
        (l, o.bytes.into_iter().collect(), effects)
    }

    #[test]
    fn a_line_is_read_when_it_is_complete() {
        let t = Termios::default();
        let (mut l, echo, _) = type_in(&t, b"ab");
        assert!(!l.readable(&t));
        assert_eq!(echo, b"ab");
        l.input(&t, &mut Output::default(), b'\r');
        assert_eq!(l.available(&t), 3);
        assert_eq!(l.take(&t, 2), b"ab");
        assert_eq!(l.take(&t, 9), b"\n");
        assert!(!l.readable(&t));
    }

    #[test]
    fn editing_erases_characters_words_and_lines() {
        let t = Termios::default();
        let (mut l, echo, _) = type_in(&t, b"abc\x7fd two\x17\n");
        assert_eq!(l.take(&t, 99), b"abd \n");
        assert!(echo.starts_with(b"abc\x08 \x08d"));
        let (mut l, _, _) = type_in(&t, b"gone\x15kept\n");
        assert_eq!(l.take(&t, 99), b"kept\n");
        let (mut l, echo, _) = type_in(&t, b"a\x16\x03\n");
        assert_eq!(l.take(&t, 99), b"a\x03\n");
        assert_eq!(echo, b"a^\x08^C\r\n");
        let (_, echo, _) = type_in(&t, b"ab\t\x7f");
        assert_eq!(echo, b"ab\t\x08\x08\x08\x08\x08\x08");
    }

    #[test]
    fn end_of_file_ends_a_line_without_a_byte() {
        let t = Termios::default();
        let (mut l, _, _) = type_in(&t, b"\x04ab\x04");
        assert!(l.readable(&t));
        assert_eq!(l.take(&t, 9), b"");
        assert_eq!(l.take(&t, 9), b"ab");
        assert!(!l.readable(&t));
    }

    #[test]
    fn interrupt_flushes_and_signals() {
        let t = Termios::default();
        let (l, echo, effects) = type_in(&t, b"abc\x03");
        assert_eq!(effects, [Effect::Signal(libc::SIGINT)]);
        assert_eq!(echo, b"^C");
        assert!(!l.readable(&t));
    }

    #[test]
    fn leaving_canonical_mode_keeps_what_was_typed() {
        let t = Termios::default();
        let (mut l, _, _) = type_in(&t, b"one\ntw");
        let mut raw = t;
        raw.lflag &= !libc::ICANON;
        l.modes_change(&t, &raw);
        assert_eq!(l.take(&raw, 99), b"one\ntw");
        let (mut l, _, _) = type_in(&t, b"ab\x04\x04c\nd");
        assert_eq!(l.available(&t), 4);
        l.modes_change(&t, &raw);
        assert_eq!(l.take(&raw, 99), b"ab\0\0c\nd");
        // What was read is gone, its end is not.
        let (mut l, _, _) = type_in(&t, b"ab\x04");
        assert_eq!(l.take(&t, 1), b"a");
        l.modes_change(&t, &raw);
        assert_eq!(l.take(&raw, 99), b"b\0");
    }
}
