//! The one message from which a sandbox process builds its kernel, and its answer.
//!
//! It arrives on the process's first donated descriptor with everything else as `SCM_RIGHTS`;
//! an [`FdIndex`] says which of them is meant.

use crate::message::{Failure, WindowSize};
use serde::{Deserialize, Serialize};

/// What the launcher says, as a plain byte on the connection of the boot message, when it has
/// brought a sandbox up that is to outlive it. Where the connection closes without, the sandbox
/// ends.
pub const LET_GO: u8 = b'.';

/// Index into the descriptors that came with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FdIndex(pub u32);

/// One container: its processes' world, and what it gets of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its id.
    pub id: String,
    /// Of its UTS namespace.
    pub hostname: String,
    /// NIS domain, empty when none.
    pub domainname: String,
    /// Its first process.
    pub process: ProcessSpec,
    /// The root file system.
    pub root: RootSpec,
    /// Further mounts, in order.
    pub mounts: Vec<MountSpec>,
    /// Device nodes beside those that every container has.
    pub devices: Vec<DeviceSpec>,
    /// Paths to hide.
    pub masked_paths: Vec<String>,
    /// Paths to make read-only.
    pub readonly_paths: Vec<String>,
    /// Kernel parameters of the container's namespaces (`kernel.shmmax`, …).
    pub sysctls: Vec<(String, String)>,
    /// What it may use, and is shown to have.
    pub limits: Limits,
    /// How many CPUs it can be shown later on.
    pub possible_cpus: u32,
    /// Its standard input, output and error; absent ones are closed. Raw host descriptors that may
    /// block.
    pub stdio: [Option<FdIndex>; 3],
    /// Replica of a host pseudo-terminal (in raw mode; the sentry keeps line discipline) when
    /// `process.terminal`; then `stdio` is empty.
    pub console: Option<FdIndex>,
    /// Further descriptors for the first process, from number 3 on.
    pub preserved: Vec<FdIndex>,
}

/// What a container may use, and is shown to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How many CPUs it is shown, at least one.
    pub cpus: u32,
    /// Bytes of application memory allowed.
    pub memory: Option<u64>,
    /// Tasks allowed at once.
    pub pids: Option<u64>,
    /// Microseconds of CPU time in each period, which the host enforces.
    pub quota: Option<u64>,
    /// Microseconds of a period.
    pub period: u64,
    /// Of its CPU time against others' (1 to 10000, 100 being an ordinary one), which the host
    /// enforces.
    pub weight: u64,
}

/// Everything about one sandbox and its root container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootArgs {
    /// The root container.
    pub container: ContainerSpec,
    /// Name of the platform, as registered.
    pub platform: String,
    /// The platform's device, if it has one.
    pub device: Option<FdIndex>,
    /// The listening control socket.
    pub control: Option<FdIndex>,
    /// BPF to install once the platform is booted, as `struct sock_filter` bytes.
    pub seccomp: Vec<u8>,
    /// Whether the sandbox ends when the launcher does, and is never let go ([`LET_GO`]).
    pub attached: bool,
    /// Start the root process at once and reply [`BootReply::Started`], instead of waiting for a
    /// start request.
    pub start: bool,
    /// What is written where for people who look for a fault.
    pub debug: DebugSpec,
}

/// A container's first process, as the bundle describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Argument vector; the first is also what is looked up in `PATH` when it has no slash.
    pub args: Vec<String>,
    /// What is executed, where that is not the first argument.
    pub program: Option<String>,
    /// `NAME=value`
    pub env: Vec<String>,
    /// Absolute; made when it is missing.
    pub cwd: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Capability sets.
    pub capabilities: Capabilities,
    /// `PR_SET_NO_NEW_PRIVS`
    pub no_new_privs: bool,
    /// Resource limits, as the guest sees them.
    pub rlimits: Vec<Rlimit>,
    /// `oom_score_adj`
    pub oom_score_adj: Option<i32>,
    /// Its nice value, -20 to 19: that of who started it.
    pub nice: i32,
    /// How it is scheduled (`process.scheduler`); as any process where absent.
    pub scheduler: Option<Scheduler>,
    /// Priority of what it reads and writes, as ioprio_set(2) has it.
    pub io_priority: Option<u16>,
    /// Of personality(2).
    pub personality: Option<u32>,
    /// The CPUs that a process of `exec`'s may run on, a bit each; all where absent.
    pub affinity: Option<Vec<u8>>,
    /// Whether signals end it as they end any process. Otherwise it is what process 1 is on
    /// Linux: those that it has no handler for do nothing.
    pub mortal: bool,
    /// Whether standard streams are a terminal.
    pub terminal: bool,
    /// First size of the terminal.
    pub console_size: Option<WindowSize>,
    /// The system calls it may make (`linux.seccomp`); all of them where absent.
    pub seccomp: Option<SeccompSpec>,
}

/// What sched_setattr(2) sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// `SCHED_…` by number.
    pub policy: u32,
    /// Static priority.
    pub priority: i32,
    /// `SCHED_FLAG_RESET_ON_FORK`
    pub reset_on_fork: bool,
    /// Nice value, for the policies that have one.
    pub nice: Option<i32>,
}

/// What becomes of a process's system calls (`linux.seccomp`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompSpec {
    /// Of those that no rule is about.
    pub default: SeccompAction,
    /// Of others; the sandbox leaves out names that it does not know.
    pub rules: Vec<SeccompRule>,
    /// Whether x32 calls fail, rather than kill.
    pub x32: bool,
    /// `SECCOMP_FILTER_FLAG_LOG`
    pub log: bool,
}

/// What becomes of a call (seccomp(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompAction {
    /// `SCMP_ACT_KILL`, `SCMP_ACT_KILL_THREAD`
    KillThread,
    /// `SCMP_ACT_KILL_PROCESS`
    KillProcess,
    /// `SCMP_ACT_TRAP`
    Trap,
    /// `SCMP_ACT_ERRNO`, with the error.
    Errno(u16),
    /// `SCMP_ACT_TRACE`, with what the tracer is told.
    Trace(u16),
    /// `SCMP_ACT_LOG`
    Log,
    /// `SCMP_ACT_ALLOW`
    Allow,
}

/// An action for some calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompRule {
    /// Their names.
    pub calls: Vec<String>,
    /// What becomes of them.
    pub action: SeccompAction,
    /// All of which must hold.
    pub conditions: Vec<SeccompCondition>,
}

/// A test of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompCondition {
    /// Which, from 0 to 5.
    pub arg: u32,
    /// How it is compared.
    pub op: SeccompOp,
    /// With what.
    pub value: u64,
}

/// A comparison, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SeccompOp {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// Of the bits of a mask alone.
    MaskedEqual(u64),
}

/// Capability sets, bit n being capability number n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are Linux's own names")]
pub struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

/// One resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_…` by number.
    pub resource: u32,
    /// Soft; `u64::MAX` is infinity.
    pub soft: u64,
    /// Hard.
    pub hard: u64,
}

/// What stands above the container's own files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverlayMode {
    /// Nothing: writes go through to the files.
    None,
    /// A throw-away layer in the sandbox's memory.
    Memory,
    /// A throw-away layer in a donated file.
    SelfBacked(FdIndex),
}

/// The root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootSpec {
    /// The connection on which the gofer serves it.
    pub connection: FdIndex,
    /// The layer above.
    pub overlay: OverlayMode,
    /// Whether the container may write to it.
    pub readonly: bool,
    /// How it is to take part in propagation, where it is not private.
    pub propagation: Option<Propagate>,
}

/// How a mount takes part in propagation (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the kinds are Linux's own")]
pub enum Propagation {
    Shared,
    Slave,
    Private,
    Unbindable,
}

/// A change of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propagate {
    /// What it becomes.
    pub kind: Propagation,
    /// Whether what is mounted below does, too.
    pub recursive: bool,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute path inside; made (directory or file, after the source) when it is missing.
    pub destination: String,
    /// What is mounted.
    pub source: MountSource,
    /// Flags common to all types.
    pub flags: MountFlags,
    /// Options of the file system itself (`size=64m`, `mode=1777`), comma-separated.
    pub data: String,
    /// How it is to take part in propagation, one after the other, once those that belong to it
    /// are mounted, too.
    pub propagation: Vec<Propagate>,
    /// Whether it belongs to the last before it that does not: the bind mount that brought it
    /// along, below which it is.
    pub brought: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file system of the sentry's own by type: `proc`, `sysfs`, `tmpfs`, `devpts`, `devtmpfs`,
    /// `mqueue`, `cgroup`, `cgroup2`.
    Kernel {
        /// Type.
        fstype: String,
        /// The first field of its line in `/proc/mounts`.
        device: String,
    },
    /// A bind mount of host files, served by the gofer.
    Bind {
        /// The connection on which it is served.
        connection: FdIndex,
        /// Whether its root is a directory.
        directory: bool,
        /// Host path, for `/proc/mounts` and messages.
        path: String,
    },
}

/// A device node, or a FIFO. It leads to a device of the sentry's, where that has one of the number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Absolute; directories on the way are made when they are missing.
    pub path: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Permission bits.
    pub perm: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// A character device, by major and minor number.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A FIFO.
    Fifo,
}

/// Mount flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are Linux's own names")]
pub struct MountFlags {
    pub readonly: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
    pub noatime: bool,
    pub nodiratime: bool,
    pub strictatime: bool,
    pub nosymfollow: bool,
}

/// Debugging aids.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DebugSpec {
    /// File of the sandbox process's log.
    pub log: Option<FdIndex>,
    /// Whether it is verbose (debug level rather than info).
    pub verbose: bool,
    /// One JSON object a line rather than text.
    pub json: bool,
    /// Log each system call of the guest.
    pub strace: bool,
    /// Whether profiles may be made: the filter lets it.
    pub profile: bool,
    /// Where a build that counts what runs writes its counts.
    pub coverage: Option<FdIndex>,
}

/// What the sandbox process says on the descriptor the message came on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BootReply {
    /// The kernel stands; the root process waits for a start request.
    Ready,
    /// The kernel stands and the root process runs.
    Started,
    /// It did not come to that; the process ends.
    Failed(Failure),
}
