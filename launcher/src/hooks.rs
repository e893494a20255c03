//! OCI hooks: programs that the spec wants run at points of a container's life.
//!
//! | hook | when | namespaces | pid in its state |
//! |---|---|---|---|
//! | prestart, createRuntime | after the sandbox is up, before `create` returns | the runtime's | the sandbox process |
//! | createContainer | after those | the runtime's: a container has no namespaces on the host | the sandbox process |
//! | startContainer | before the root process is started ([`crate::exec`]) | the container's: its path is one inside | the sandbox process |
//! | poststart | after the root process was started | the runtime's | the sandbox process |
//! | poststop | after the container was removed | the runtime's | 0 |

use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// One program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute.
    pub path: PathBuf,
    /// Argument vector with the name first; empty means just the path.
    pub args: Vec<String>,
    /// `NAME=value`; the whole environment. Without one, that of a startContainer hook is the
    /// container's program's, and that of others is empty.
    pub env: Option<Vec<String>>,
    /// After how many seconds it is killed.
    pub timeout: Option<u64>,
}

/// A hook that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{kind} hook {path} {answer}")]
pub struct HookError {
    kind: &'static str,
    path: PathBuf,
    answer: String,
}

impl HookError {
    pub(crate) fn new(kind: &'static str, hook: &Hook, answer: String) -> HookError {
        HookError {
            kind,
            path: hook.path.clone(),
            answer,
        }
    }
}

impl Hook {
    /// When it is killed, should it begin now.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let limit = self.timeout?;
        Some(Instant::now() + Duration::from_secs(limit.min(86_400)))
    }

    /// What is said of one that was.
    pub(crate) fn too_late(&self) -> String {
        format!("did not end within {} s", self.timeout.unwrap_or(0))
    }
}

/// Runs `hooks` in order with the container's OCI state on standard input; the first failure ends
/// it.
pub fn run(kind: &'static str, hooks: &[Hook], state: &str) -> Result<(), HookError> {
    hooks.iter().try_for_each(|hook| {
        run_one(hook, state).map_err(|answer| HookError::new(kind, hook, answer))
    })
}

fn run_one(hook: &Hook, state: &str) -> Result<(), String> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(&hook.path);
    if let Some((name, arguments)) = hook.args.split_first() {
        command.arg0(name).args(arguments);
    }
    command
        .env_clear()
        .envs(hook.env.iter().flatten().filter_map(|e| e.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(|e| format!("cannot be run: {e}"))?;
    if let Some(mut input) = child.stdin.take() {
        // A hook that does not read its input is no failure.
        let _unread = input.write_all(state.as_bytes());
    }
    let deadline = hook.deadline();
    let status = loop {
        let ended = match deadline {
            None => child.wait().map(Some),
            Some(_) => child.try_wait(),
        };
        match ended.map_err(|e| format!("cannot be waited for: {e}"))? {
            Some(status) => break status,
            None if deadline.is_some_and(|d| Instant::now() >= d) => {
                let _ended = child.kill();
                let _reaped = child.wait();
                return Err(hook.too_late());
            }
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    if status.success() {
        Ok(())
    } else {
        Err(format!("failed: {status}"))
    }
}
