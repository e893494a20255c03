//! Starting our own binary again as the sandbox process or the gofer.

use crate::identity::{IdMaps, MapError};
use crate::sys::{self, Child};
use crate::words::printable;
use control::{Channel, ChannelError};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2, read};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Most of a process's last words that is shown.
const MAX_WORDS: usize = 16 << 10;

/// A process that could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The host has no room for, or forbids, the namespaces.
    #[error("cannot start the {role} in new namespaces: {answer}{}", remedy(*answer))]
    Namespaces {
        /// Which process.
        role: &'static str,
        /// The host's answer.
        answer: Errno,
    },
    /// Something on the way.
    #[error("cannot {what}: {answer}")]
    Host {
        /// The step.
        what: &'static str,
        /// The host's answer.
        answer: Errno,
    },
    /// The id maps.
    #[error(transparent)]
    Maps(#[from] MapError),
    /// The executable cannot be run by others.
    #[error(
        "ringfence's binary {path} has mode {mode:04o}, but others need {needed} (platform \
         `{platform}` runs it as nobody); chmod {chmod} it"
    )]
    Permissions {
        /// Of the binary.
        path: String,
        /// Its permission bits.
        mode: u32,
        /// In words.
        needed: &'static str,
        /// Platform by name.
        platform: String,
        /// As chmod has it.
        chmod: &'static str,
    },
}

fn remedy(answer: Errno) -> &'static str {
    match answer {
        Errno::ENOSPC => {
            "; the host's limit of namespaces is reached: raise the numbers in \
             /proc/sys/user/max_*_namespaces (0 there means that they are turned off)"
        }
        Errno::EPERM => {
            "; the host forbids user namespaces to this user: run as root, or have \
             kernel.unprivileged_userns_clone=1 (Debian) or \
             kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu) set by sysctl; inside another \
             container, that one's seccomp profile may be the cause"
        }
        Errno::EINVAL => {
            "; this kernel was built without one of them (CONFIG_USER_NS, CONFIG_PID_NS, \
             CONFIG_NET_NS, CONFIG_IPC_NS, CONFIG_UTS_NS are needed)"
        }
        _ => "",
    }
}

pub(crate) fn host(what: &'static str) -> impl FnOnce(Errno) -> SpawnError {
    move |answer| SpawnError::Host { what, answer }
}

pub(crate) fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

/// What the processes of one container share.
pub(crate) struct Spawner {
    exe: File,
    null: File,
}

/// One process to start.
pub(crate) struct Start<'a> {
    /// `boot` or `gofer`: the hidden command.
    pub(crate) role: &'static str,
    /// Whether it dies with the launcher.
    pub(crate) attached: bool,
    /// `CLONE_NEW…`
    pub(crate) namespaces: i32,
    /// See [`Child::become_ids`].
    pub(crate) become_ids: Option<(u32, u32)>,
    /// See [`Child::drop_groups`].
    pub(crate) drop_groups: bool,
    /// See [`Child::keep`].
    pub(crate) keep: u64,
    /// See [`Child::terminal`].
    pub(crate) terminal: Option<BorrowedFd<'a>>,
    /// See [`Child::trees`].
    pub(crate) trees: Vec<sys::TreePath>,
}

impl Spawner {
    pub(crate) fn new() -> Result<Spawner, SpawnError> {
        let open = |path: &str, flags: i32| {
            File::options()
                .read(true)
                .write(flags == 0)
                .custom_flags(flags)
                .open(path)
        };
        Ok(Spawner {
            exe: open("/proc/self/exe", libc::O_PATH)
                .map_err(|e| host("open our own binary /proc/self/exe")(errno(&e)))?,
            null: open("/dev/null", 0).map_err(|e| host("open /dev/null")(errno(&e)))?,
        })
    }

    /// Checks that nobody may run the binary, as `platform` needs it.
    pub(crate) fn check_permissions(
        &self,
        platform: &dyn platform_api::Platform,
    ) -> Result<(), SpawnError> {
        let Ok(metadata) = self.exe.metadata() else {
            return Ok(());
        };
        let need = platform.binary_permissions();
        let mode = metadata.mode() & 0o7777;
        let missing = (need.read && mode & 0o4 == 0) || (need.execute && mode & 0o1 == 0);
        if !missing {
            return Ok(());
        }
        let path = std::env::current_exe().unwrap_or_else(|_| Path::new("/proc/self/exe").into());
        let (needed, chmod) = match (need.read, need.execute) {
            (true, true) => ("read and execute permission", "o+rx"),
            (true, false) => ("read permission", "o+r"),
            _ => ("execute permission", "o+x"),
        };
        Err(SpawnError::Permissions {
            path: path.display().to_string(),
            mode,
            needed,
            platform: platform.name().to_owned(),
            chmod,
        })
    }

    /// Starts one; it waits to be admitted.
    pub(crate) fn start(&self, start: Start<'_>) -> Result<Process, SpawnError> {
        let role = start.role;
        let (ours, theirs) = Channel::pair().map_err(|e| match e {
            ChannelError::Host(what, answer) => SpawnError::Host { what, answer },
            _ => SpawnError::Host {
                what: "make a socket pair",
                answer: Errno::EIO,
            },
        })?;
        let (heard, words) = pipe2(OFlag::O_CLOEXEC).map_err(host("make a pipe"))?;
        fcntl(&heard, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(host("set up a pipe"))?;
        let attached = if start.attached {
            c"attached"
        } else {
            c"detached"
        };
        let role_name = if role == "boot" { c"boot" } else { c"gofer" };
        let child = Child {
            exe: self.exe.as_fd(),
            argv: vec![
                c"ringfence".to_owned(),
                role_name.to_owned(),
                attached.to_owned(),
            ],
            namespaces: start.namespaces,
            donated: theirs.socket(),
            null: self.null.as_fd(),
            words: words.as_fd(),
            become_ids: start.become_ids,
            drop_groups: start.drop_groups,
            keep: start.keep,
            terminal: start.terminal,
            trees: start.trees,
        };
        let name = if role == "boot" {
            "sandbox process"
        } else {
            "gofer"
        };
        let pid =
            sys::start(&child).map_err(|answer| SpawnError::Namespaces { role: name, answer })?;
        tracing::debug!(role, pid, "started");
        Ok(Process {
            pid,
            channel: ours,
            words: heard,
            ours: true,
        })
    }
}

/// A process of ours. Killed and reaped when dropped, unless it was let go.
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) channel: Channel,
    words: OwnedFd,
    ours: bool,
}

impl Process {
    /// Writes its id maps and lets it go on.
    pub(crate) fn admit(&self, maps: Option<&IdMaps>) -> Result<(), SpawnError> {
        if let Some(maps) = maps {
            maps.write(self.pid)?;
        }
        match nix::unistd::write(self.channel.socket(), b"g") {
            // One that is gone already is explained by what it said.
            Ok(_) | Err(Errno::EPIPE) => Ok(()),
            Err(e) => Err(host("admit a new process")(e)),
        }
    }

    /// Stays when this handle goes.
    pub(crate) fn let_go(&mut self) {
        self.ours = false;
    }

    /// Waits for its end. Its exit status, 128 + n for a signal.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let status = loop {
            match waitpid(Pid::from_raw(self.pid), None) {
                Err(Errno::EINTR) => {}
                other => break other.ok(),
            }
        };
        self.ours = false;
        status.and_then(code)
    }

    /// Kills it, if it still runs.
    pub(crate) fn kill(&self) {
        if self.ours {
            let _gone = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }

    /// Kills it, if it still runs, and waits for its end.
    pub(crate) fn end(&mut self) {
        if self.ours {
            self.kill();
            self.wait();
        }
    }

    /// Whether it ended: then its exit status, if it could be had.
    pub(crate) fn poll_end(&mut self) -> Option<Option<i32>> {
        match waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => None,
            ended => {
                self.ours = false;
                Some(ended.ok().and_then(code))
            }
        }
    }

    /// As [`Process::wait`] for one that is about to end; none when it does not.
    pub(crate) fn wait_briefly(&mut self) -> Option<WaitStatus> {
        let deadline = Instant::now() + Duration::from_millis(500);
        loop {
            match waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return None,
                Ok(status) => {
                    self.ours = false;
                    return Some(status);
                }
            }
        }
    }

    /// What it wrote to its standard error and was not read yet.
    pub(crate) fn words(&self) -> String {
        let mut said = Vec::new();
        let mut chunk = [0; 4096];
        while said.len() < MAX_WORDS {
            match read(&self.words, &mut chunk) {
                Ok(n @ 1..) => said.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                _ => break,
            }
        }
        printable(String::from_utf8_lossy(&said).trim(), MAX_WORDS)
    }

    /// Why it ended early, in words.
    pub(crate) fn last_words(&mut self) -> String {
        let end = match self.wait_briefly() {
            None => "it closed its connection and still runs".to_owned(),
            Some(WaitStatus::Exited(_, status)) => format!("it ended with status {status}"),
            Some(WaitStatus::Signaled(_, Signal::SIGSYS, _)) => {
                "the host killed it with SIGSYS: it made a system call that its filter forbids \
                 (--debug tells which)"
                    .to_owned()
            }
            Some(WaitStatus::Signaled(_, signal, _)) => format!("it was killed by {signal}"),
            Some(other) => format!("{other:?}"),
        };
        match self.words() {
            words if words.is_empty() => format!("{end}, and said nothing"),
            words => format!("{end}, and said: {words}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// An exit status, 128 + n for a signal.
fn code(status: WaitStatus) -> Option<i32> {
    match status {
        WaitStatus::Exited(_, status) => Some(status),
        WaitStatus::Signaled(_, signal, _) => Some(128 + signal as i32),
        _ => None,
    }
}
