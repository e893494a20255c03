//! Starting a process with a limit on its time, and what came of it.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What a process left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `exit N`, `signal N`, or `timeout`.
    pub status: String,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
    /// The exit status, if it exited.
    pub fn code(&self) -> Option<i32> {
        self.status.strip_prefix("exit ")?.parse().ok()
    }
}

/// How a process ended, in words.
pub fn status_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "unknown".into(),
    }
}

/// Runs `command` with `input` on its standard input. It is killed when it has
/// written nothing to its standard output for `silence`, or at most ten times
/// that altogether.
///
/// # Panics
/// When the command cannot be started: that is a broken test environment.
pub fn run(command: &mut Command, input: &[u8], silence: Duration) -> Outcome {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("cannot start {command:?}: {error}"),
    };
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        thread::spawn(move || {
            let _reader_may_be_gone = stdin.write_all(&input);
        });
    }
    let (lines, all) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        pump(out, 1, lines.clone());
    }
    if let Some(err) = child.stderr.take() {
        pump(err, 2, lines);
    }
    let mut outcome = Outcome {
        status: String::new(),
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    let end = Instant::now() + silence * 10;
    let mut timed_out = false;
    loop {
        let wait = silence.min(end.saturating_duration_since(Instant::now()));
        match all.recv_timeout(wait) {
            Ok((1, bytes)) => outcome.stdout.extend(bytes),
            Ok((_, bytes)) => outcome.stderr.extend(bytes),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if timed_out => break,
            Err(RecvTimeoutError::Timeout) => {
                timed_out = true;
                let _gone_already = child.kill();
            }
        }
    }
    let status = finish(&mut child, silence);
    outcome.status = if timed_out { "timeout".into() } else { status };
    outcome
}

/// As [`run`] with nothing on standard input and a minute's patience.
pub fn run_plain(command: &mut Command) -> Outcome {
    run(command, b"", Duration::from_secs(60))
}

/// Waits for `child` for at most `limit`, then kills it.
pub fn finish(child: &mut Child, limit: Duration) -> String {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status_text(status),
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _gone_already = child.kill();
                let _reaped = child.wait();
                return "timeout".into();
            }
            Err(error) => return format!("wait: {error}"),
        }
    }
}

fn pump(mut from: impl Read + Send + 'static, which: u8, to: mpsc::Sender<(u8, Vec<u8>)>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if to.send((which, buffer[..n].to_vec())).is_err() {
                break;
            }
        }
    });
}
