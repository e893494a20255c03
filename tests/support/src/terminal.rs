//! Driving a program at a pseudo-terminal, as a person would.

use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// For what must happen and is not measured.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program on a terminal of its own.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    /// None where somebody else started the program.
    child: Option<Child>,
    bytes: Receiver<Vec<u8>>,
    /// All that it has written so far.
    pub screen: String,
    seen: usize,
}

impl Terminal {
    /// Starts `command` in a session of its own whose controlling terminal has
    /// `rows` and `columns`.
    ///
    /// # Errors
    /// When there are no pseudo-terminals, or the command can't be started.
    pub fn start(command: &Command, rows: u16, columns: u16) -> anyhow::Result<Self> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(&size, None)?;
        // `setsid --ctty` takes standard input as the controlling terminal.
        let mut outer = Command::new("setsid");
        outer
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => outer.env(key, value),
                None => outer.env_remove(key),
            };
        }
        let child = outer
            .stdin(Stdio::from(pair.slave.try_clone()?))
            .stdout(Stdio::from(pair.slave.try_clone()?))
            .stderr(Stdio::from(pair.slave))
            .spawn()?;
        Self::new(File::from(pair.master), Some(child))
    }

    /// A person at a terminal that another program runs on.
    ///
    /// # Errors
    /// When the descriptor can't be duplicated.
    pub fn attach(master: OwnedFd) -> anyhow::Result<Self> {
        Self::new(File::from(master), None)
    }

    fn new(master: File, child: Option<Child>) -> anyhow::Result<Self> {
        let mut reader = master.try_clone()?;
        let (send, bytes) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if send.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            master,
            child,
            bytes,
            screen: String::new(),
            seen: 0,
        })
    }

    /// Types.
    pub fn keys(&mut self, text: &str) {
        let _hung_up = self.master.write_all(text.as_bytes());
    }

    /// Changes the size, as a window manager does.
    ///
    /// # Errors
    /// When `stty` fails on the terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> std::io::Result<()> {
        let status = Command::new("stty")
            .args(["rows", &rows.to_string(), "cols", &columns.to_string()])
            .stdin(Stdio::from(self.master.try_clone()?))
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(std::io::Error::other("stty failed"))
        }
    }

    /// Waits until `text` appears after what earlier calls have waited for.
    ///
    /// # Errors
    /// The screen so far, when it doesn't.
    pub fn expect(&mut self, text: &str) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.screen.get(self.seen..).and_then(|s| s.find(text)) {
                self.seen += at + text.len();
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.bytes.recv_timeout(left) {
                Ok(bytes) => self.screen += &String::from_utf8_lossy(&bytes),
                Err(_) => {
                    let after = self.screen.get(self.seen..).unwrap_or_default();
                    return Err(format!("{text:?} did not appear in {after:?}"));
                }
            }
        }
    }

    /// Waits for the program's end: `exit N` and so on; of a program that
    /// somebody else started, that it has let go of the terminal.
    pub fn finish(mut self) -> String {
        if let Some(child) = &mut self.child {
            return crate::run::finish(child, PATIENCE);
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.bytes.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return "hung up".into(),
                Err(RecvTimeoutError::Timeout) => return "timeout".into(),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// A socket at which a container's terminal is awaited, as callers of `create`
/// hold one.
#[derive(Debug)]
pub struct ConsoleSocket(UnixListener);

impl ConsoleSocket {
    /// Listens at `path`.
    ///
    /// # Errors
    /// When it can't.
    pub fn bind(path: &Path) -> std::io::Result<Self> {
        UnixListener::bind(path).map(Self)
    }

    /// Takes the terminal from the first who connects, and its name.
    ///
    /// # Errors
    /// When the message holds none.
    pub fn receive(&self) -> anyhow::Result<(OwnedFd, String)> {
        let (stream, _) = self.0.accept()?;
        let (text, fds) = crate::sys::receive(&stream)?;
        let [master] = <[OwnedFd; 1]>::try_from(fds)
            .map_err(|fds| anyhow::anyhow!("{} descriptors came", fds.len()))?;
        Ok((master, String::from_utf8_lossy(&text).into_owned()))
    }
}
