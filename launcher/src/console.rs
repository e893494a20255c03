//! Terminals on the host's side: raw bytes only, for the sentry owns line discipline.

use crate::sys;
use control::message::WindowSize;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Trouble with a terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// No pair could be made.
    #[error("cannot {what} for the container's terminal: {answer}; is /dev/pts mounted?")]
    Pair {
        /// The step.
        what: &'static str,
        /// The host's answer.
        answer: Errno,
    },
    /// The master could not be handed over.
    #[error("cannot send the terminal to the console socket {path}: {answer}")]
    Socket {
        /// Of the socket.
        path: PathBuf,
        /// The host's answer.
        answer: Errno,
    },
    /// Nobody would hold the terminal.
    #[error(
        "config.json asks for a terminal, and nobody would hold it: give --console-socket, or run \
         attached (`ringfence run` without --detach), or set process.terminal to false"
    )]
    Nobody,
    /// The same for a further process.
    #[error(
        "nobody would hold the process's terminal: give --console-socket, or leave --detach out"
    )]
    NobodyForExec,
}

/// A pseudo-terminal, its replica in raw mode.
#[derive(Debug)]
pub struct Pair {
    /// For whoever sits at it.
    pub master: PtyMaster,
    /// For the sandbox.
    pub replica: OwnedFd,
    name: String,
}

impl Pair {
    /// A new pair of the given size.
    pub fn new(size: Option<WindowSize>) -> Result<Pair, ConsoleError> {
        let failed = |what| move |answer| ConsoleError::Pair { what, answer };
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).map_err(failed("open /dev/ptmx"))?;
        grantpt(&master).map_err(failed("grant a pseudo-terminal"))?;
        unlockpt(&master).map_err(failed("unlock a pseudo-terminal"))?;
        let name = ptsname_r(&master).map_err(failed("name a pseudo-terminal"))?;
        // The sentry reads it on a thread that serves other descriptors, too.
        let replica = open(name.as_str(), flags | OFlag::O_NONBLOCK, Mode::empty())
            .map_err(failed("open a pseudo-terminal's replica"))?;
        make_raw(replica.as_fd()).map_err(failed("set raw mode"))?;
        if let Some(size) = size {
            resize(replica.as_fd(), size).map_err(failed("set a window size"))?;
        }
        Ok(Pair {
            master,
            replica,
            name,
        })
    }

    /// Sends the master over the socket at `path`, as runc's console sockets have it: one message
    /// with the terminal's name as bytes.
    pub fn send_master(&self, path: &Path) -> Result<(), ConsoleError> {
        let failed = |answer| ConsoleError::Socket {
            path: path.to_owned(),
            answer,
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path).map_err(failed)?).map_err(failed)?;
        let rights = [self.master.as_raw_fd()];
        sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(self.name.as_bytes())],
            &[ControlMessage::ScmRights(&rights)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map(drop)
        .map_err(failed)
    }
}

fn make_raw(terminal: BorrowedFd<'_>) -> Result<Termios, Errno> {
    let before = tcgetattr(terminal)?;
    let mut raw = before.clone();
    cfmakeraw(&mut raw);
    tcsetattr(terminal, SetArg::TCSANOW, &raw)?;
    Ok(before)
}

/// Sets a terminal's size.
pub fn resize(terminal: BorrowedFd<'_>, size: WindowSize) -> Result<(), Errno> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    sys::set_window_size(terminal, size)
}

/// A terminal's size, if `fd` is one.
pub fn size(fd: BorrowedFd<'_>) -> Option<WindowSize> {
    let size = sys::window_size(fd).ok()?;
    Some(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// A person's terminal in raw mode, put back when dropped.
#[derive(Debug)]
pub struct RawMode<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    /// None when `terminal` is none.
    pub fn enter(terminal: BorrowedFd<'a>) -> Option<RawMode<'a>> {
        let before = make_raw(terminal).ok()?;
        Some(RawMode { terminal, before })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        if let Err(e) = tcsetattr(self.terminal, SetArg::TCSADRAIN, &self.before) {
            tracing::warn!("cannot restore the terminal: {e}");
        }
    }
}
