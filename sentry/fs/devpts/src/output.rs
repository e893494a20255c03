//! Output processing: `OPOST` and echo.

use crate::termios::Termios;
use abi::libc;
use std::collections::VecDeque;

/// Bytes on their way out of the terminal, and the column the cursor is in.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// What the other end can take.
    pub(crate) bytes: VecDeque<u8>,
    /// Echoed while output was stopped: comes when it goes on.
    held: VecDeque<u8>,
    /// Output is stopped by `^S` or `TCOOFF`. What was written before goes out all the same.
    pub(crate) stopped: bool,
    pub(crate) column: usize,
}

/// How much may wait to be taken by the other end.
pub(crate) const OUTPUT_LIMIT: usize = 8192;
/// How much echo is kept while output is stopped (`N_TTY_BUF_SIZE`).
const HELD_LIMIT: usize = 4096;

impl Output {
    /// Whether a program may write another byte, which may become several.
    pub(crate) fn has_room(&self) -> bool {
        !self.stopped && self.bytes.len() + 8 <= OUTPUT_LIMIT
    }

    /// Stops or restarts it.
    pub(crate) fn set_stopped(&mut self, stop: bool) {
        self.stopped = stop;
        if !stop {
            self.bytes.append(&mut self.held);
        }
    }

    /// Forgets what has not been taken.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.held.clear();
    }

    fn push(&mut self, c: u8) {
        if !self.stopped {
            self.bytes.push_back(c);
        } else if self.held.len() < HELD_LIMIT {
            self.held.push_back(c);
        }
    }

    /// One byte a program wrote.
    pub(crate) fn put(&mut self, t: &Termios, c: u8) {
        if !t.output(libc::OPOST) {
            self.push(c);
            return;
        }
        match c {
            b'\n' => {
                if t.output(libc::ONLRET) {
                    self.column = 0;
                }
                if t.output(libc::ONLCR) {
                    self.push(b'\r');
                    self.column = 0;
                }
                self.push(b'\n');
            }
            b'\r' => {
                if t.output(libc::ONOCR) && self.column == 0 {
                    return;
                }
                if t.output(libc::OCRNL) {
                    if t.output(libc::ONLRET) {
                        self.column = 0;
                    }
                    self.push(b'\n');
                    return;
                }
                self.column = 0;
                self.push(b'\r');
            }
            b'\t' => {
                let spaces = 8 - self.column % 8;
                self.column += spaces;
                if t.oflag & libc::TABDLY == libc::XTABS {
                    (0..spaces).for_each(|_| self.push(b' '));
                } else {
                    self.push(b'\t');
                }
            }
            0x08 => {
                self.column = self.column.saturating_sub(1);
                self.push(c);
            }
            _ => {
                let c = if t.output(libc::OLCUC) {
                    c.to_ascii_uppercase()
                } else {
                    c
                };
                if c >= 0x20 && c != 0x7f && !(t.input(libc::IUTF8) && c & 0xc0 == 0x80) {
                    self.column += 1;
                }
                self.push(c);
            }
        }
    }

    /// One byte as echo: control characters as `^X` where `ECHOCTL` asks for it.
    pub(crate) fn echo(&mut self, t: &Termios, c: u8) {
        if t.local(libc::ECHOCTL) && is_control(c) && c != b'\t' && c != b'\n' {
            self.put(t, b'^');
            self.put(t, c ^ 0x40);
        } else {
            self.put(t, c);
        }
    }
}

/// Whether `c` is a control character, as echo sees it.
pub(crate) fn is_control(c: u8) -> bool {
    c < 0x20 || c == 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(t: &Termios, data: &[u8]) -> Vec<u8> {
        let mut o = Output::default();
        data.iter().for_each(|c| o.put(t, *c));
        o.bytes.into_iter().collect()
    }

    #[test]
    fn newlines_get_a_carriage_return_and_tabs_stay() {
        assert_eq!(out(&Termios::default(), b"a\tb\n"), b"a\tb\r\n");
        let mut t = Termios::default();
        t.oflag |= libc::XTABS;
        assert_eq!(out(&t, b"a\tb"), b"a       b");
        t.oflag = 0;
        assert_eq!(out(&t, b"a\n"), b"a\n");
    }

    #[test]
    fn echo_waits_while_output_is_stopped() {
        let mut o = Output::default();
        o.put(&Termios::default(), b'a');
        o.set_stopped(true);
        o.echo(&Termios::default(), b'b');
        assert!(!o.has_room());
        assert_eq!(o.bytes, b"a");
        o.set_stopped(false);
        assert_eq!(o.bytes, b"ab");
    }

    #[test]
    fn control_characters_echo_with_a_caret() {
        let mut o = Output::default();
        o.echo(&Termios::default(), 3);
        o.echo(&Termios::default(), 0x7f);
        assert_eq!(o.bytes, b"^C^?");
    }
}
