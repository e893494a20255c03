//! Running a command on this machine's own kernel in the surroundings that a
//! container would have: namespaces, the same mounts, the tree as root.

use crate::which;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A tree to run commands in, natively.
#[derive(Clone, Debug)]
pub struct Chroot {
    /// The tree.
    pub root: PathBuf,
    /// Variables of the environment, all there are.
    pub env: Vec<(String, String)>,
    /// Soft and hard limit of open files.
    pub open_files: (u64, u64),
}

/// What is mounted, as [`crate::bundle::Bundle`] asks the sandbox for it.
const SET_UP: &str = r#"
r=$1; shift
mount --bind "$r" "$r"
mount -t proc proc "$r/proc"
mount -t tmpfs -o mode=755 tmpfs "$r/dev"
mkdir "$r/dev/pts" "$r/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$r/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$r/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$r/tmp"
node() { mknod -m 666 "$r/dev/$1" c "$2" "$3"; }
node null 1 3; node zero 1 5; node full 1 7; node random 1 8; node urandom 1 9; node tty 5 0
ln -s pts/ptmx "$r/dev/ptmx"
ln -s /proc/self/fd "$r/dev/fd"
ln -s /proc/self/fd/0 "$r/dev/stdin"
ln -s /proc/self/fd/1 "$r/dev/stdout"
ln -s /proc/self/fd/2 "$r/dev/stderr"
hostname ringfence
ip link set lo up 2>/dev/null || true
# The top of the tree of mounts, and not a chroot, in which no user namespace could be made.
cd "$r"
mount --move "$r" /
exec "$@"
"#;

impl Chroot {
    /// Commands in `root` with a plain PATH and HOME.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            env: default_env(),
            open_files: (1024, 4096),
        }
    }

    /// The command that runs `args` in the tree as its first process. It needs
    /// root.
    pub fn command(&self, args: &[&str]) -> Command {
        let tool = |name: &str| which(name).unwrap_or_else(|| name.into());
        let mut command = Command::new(tool("unshare"));
        command
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--uts",
                "--ipc",
                "--net",
            ])
            .args([
                "--propagation",
                "private",
                "/bin/sh",
                "-ec",
                SET_UP,
                "native",
            ])
            .arg(&self.root)
            .arg(tool("prlimit"))
            .arg(format!(
                "--nofile={}:{}",
                self.open_files.0, self.open_files.1
            ))
            .args(["--core=0:unlimited", "--stack=8388608:unlimited"])
            .arg(tool("env"))
            .arg("-i")
            .args(self.env.iter().map(|(key, value)| format!("{key}={value}")))
            .args([tool("chroot"), ".".into()])
            .args(args)
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            );
        command
    }
}

/// The environment of both sides.
pub fn default_env() -> Vec<(String, String)> {
    [
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("TERM", "xterm"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}
