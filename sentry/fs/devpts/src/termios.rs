//! `struct termios` and its relatives (`asm-generic/termbits.h`), with the defaults of a new
//! terminal.

use abi::libc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The kernel's `struct termios2`; `struct termios` is its first 36 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Termios {
    /// Input modes.
    pub iflag: u32,
    /// Output modes.
    pub oflag: u32,
    /// Control modes.
    pub cflag: u32,
    /// Local modes.
    pub lflag: u32,
    /// Line discipline.
    pub line: u8,
    /// Special characters.
    pub cc: [u8; 19],
    /// Input speed.
    pub ispeed: u32,
    /// Output speed.
    pub ospeed: u32,
}

/// Bytes of `struct termios` without the speeds.
pub const TERMIOS_LEN: usize = 36;
const _: () = assert!(size_of::<Termios>() == 44);

/// The old `struct termio`: the lower half of each of the modes, and the first eight characters.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Termio {
    /// Of input, output, control and local.
    modes: [u16; 4],
    line: u8,
    cc: [u8; 8],
    pad: u8,
}

impl Termio {
    /// What of `t` goes into it.
    pub(crate) fn of(t: &Termios) -> Termio {
        let mut cc = [0; 8];
        cc.copy_from_slice(&t.cc[..8]);
        Termio {
            modes: [t.iflag, t.oflag, t.cflag, t.lflag].map(|mode| mode as u16),
            line: t.line,
            cc,
            pad: 0,
        }
    }

    /// Changes that part of `t`.
    pub(crate) fn put_into(&self, t: &mut Termios) {
        let modes = [&mut t.iflag, &mut t.oflag, &mut t.cflag, &mut t.lflag];
        for (mode, low) in modes.into_iter().zip(self.modes) {
            *mode = *mode & 0xffff_0000 | u32::from(low);
        }
        t.line = self.line;
        t.cc[..8].copy_from_slice(&self.cc);
    }
}

/// `struct winsize`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "TIOCGWINSZ(2const) names every field")]
pub struct Winsize {
    pub rows: u16,
    pub cols: u16,
    pub xpixel: u16,
    pub ypixel: u16,
}

impl Default for Termios {
    fn default() -> Self {
        let mut cc = [0u8; 19];
        cc[libc::VINTR] = 0x03;
        cc[libc::VQUIT] = 0x1c;
        cc[libc::VERASE] = 0x7f;
        cc[libc::VKILL] = 0x15;
        cc[libc::VEOF] = 0x04;
        cc[libc::VTIME] = 0;
        cc[libc::VMIN] = 1;
        cc[libc::VSTART] = 0x11;
        cc[libc::VSTOP] = 0x13;
        cc[libc::VSUSP] = 0x1a;
        cc[libc::VREPRINT] = 0x12;
        cc[libc::VDISCARD] = 0x0f;
        cc[libc::VWERASE] = 0x17;
        cc[libc::VLNEXT] = 0x16;
        Termios {
            iflag: libc::ICRNL | libc::IXON,
            oflag: libc::OPOST | libc::ONLCR,
            cflag: libc::B38400 | libc::CS8 | libc::CREAD,
            lflag: libc::ISIG
                | libc::ICANON
                | libc::ECHO
                | libc::ECHOE
                | libc::ECHOK
                | libc::ECHOCTL
                | libc::ECHOKE
                | libc::IEXTEN,
            line: 0,
            cc,
            ispeed: 38400,
            ospeed: 38400,
        }
    }
}

impl Termios {
    /// Whether all bits of `flag` are set in the local modes.
    pub fn local(&self, flag: u32) -> bool {
        self.lflag & flag == flag
    }

    /// Whether all bits of `flag` are set in the input modes.
    pub fn input(&self, flag: u32) -> bool {
        self.iflag & flag == flag
    }

    /// Whether all bits of `flag` are set in the output modes.
    pub fn output(&self, flag: u32) -> bool {
        self.oflag & flag == flag
    }

    /// Whether `c` is the special character `which`; one set to 0 (`_POSIX_VDISABLE`) is none.
    pub fn is(&self, which: usize, c: u8) -> bool {
        self.cc[which] != 0 && self.cc[which] == c
    }
}
