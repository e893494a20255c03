//! OCI bundles.

use crate::native::default_env;
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Linux's capabilities by number.
const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID \
    SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER \
    SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE \
    SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN \
    SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

/// The capabilities that a process here may have: a test machine is often a
/// container itself, and both sides must have the same.
fn capabilities() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    CAPABILITIES
        .split_whitespace()
        .enumerate()
        .filter(|(number, _)| set >> number & 1 == 1)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect()
}

/// A bundle's directory and its configuration, which tests may change before
/// [`Bundle::write`].
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The directory that gets config.json.
    pub dir: PathBuf,
    /// The configuration.
    pub config: Value,
}

impl Bundle {
    /// A bundle in `dir` that runs `args` as root in `rootfs`, with the mounts
    /// and limits that [`crate::native::Chroot`] makes.
    pub fn new(dir: &Path, rootfs: &Path, args: &[&str]) -> Self {
        let caps = capabilities();
        let env: Vec<String> = default_env()
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mount = |to: &str, kind: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
        let limit =
            |name: &str, soft: u64, hard: u64| json!({"type": name, "soft": soft, "hard": hard});
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": env,
                "cwd": "/",
                "capabilities": {
                    "bounding": caps, "effective": caps, "permitted": caps,
                },
                "rlimits": [
                    limit("RLIMIT_NOFILE", 1024, 4096),
                    limit("RLIMIT_CORE", 0, u64::MAX),
                    limit("RLIMIT_STACK", 8_388_608, u64::MAX),
                ],
                "noNewPrivileges": false,
            },
            "root": {"path": rootfs, "readonly": false},
            "hostname": "ringfence",
            "mounts": [
                mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                mount("/dev", "tmpfs", &["nosuid", "mode=755"]),
                mount("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
                mount("/dev/shm", "tmpfs", &["mode=1777"]),
                mount("/tmp", "tmpfs", &["mode=1777"]),
            ],
            "linux": {
                "namespaces": [
                    {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                    {"type": "network"},
                ],
            },
        });
        Self {
            dir: dir.to_owned(),
            config,
        }
    }

    /// Writes config.json.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn write(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        std::fs::write(
            self.dir.join("config.json"),
            serde_json::to_vec_pretty(&self.config)?,
        )
    }
}

/// How the tests start the runtime: its executable, state directory, platform.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The executable.
    pub program: PathBuf,
    /// The state directory.
    pub state: PathBuf,
    /// The platform's name.
    pub platform: String,
    /// Where logs go, if anywhere.
    pub debug_log: Option<PathBuf>,
}

impl Runtime {
    /// The runtime with its global options; the caller adds the command.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(&self.state)
            .args(["--platform", &self.platform]);
        if let Some(dir) = &self.debug_log {
            command.arg("--debug").arg("--debug-log").arg(dir);
        }
        command
    }

    /// `run` of a bundle.
    pub fn run(&self, bundle: &Path, id: &str) -> Command {
        let mut command = self.command();
        command.arg("run").arg("--bundle").arg(bundle).arg(id);
        command
    }
}
