//! Driving a program at a pseudo-terminal, as a person would.

use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// A program on a terminal of its own.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    child: Child,
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
        let master = File::from(pair.master);
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
    /// The screen so far, when it doesn't within ten seconds.
    pub fn expect(&mut self, text: &str) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(10);
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

    /// Waits for the program's end: `exit N` and so on.
    pub fn finish(mut self) -> String {
        crate::run::finish(&mut self.child, Duration::from_secs(10))
    }
}
