//! Requests to a running sandbox, and its replies.

use crate::boot::{ContainerSpec, FdIndex, Limits, ProcessSpec};
use crate::debug::{Counters, Logging, Stacks, Traced};
use crate::profile::{ProfileSpec, Profiled, Profiling};
use serde::{Deserialize, Serialize};

/// What can be asked over the control socket. One at a time on a connection. Everything is about
/// the root container, but for what [`Request::Select`] says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request {
    /// Runs the container's root process. Replied by [`Reply::Done`].
    Start,
    /// Replied by [`Reply::State`].
    State,
    /// Sends a signal. Replied by [`Reply::Done`].
    Signal {
        /// A process as numbered inside; none means the container's first.
        pid: Option<i32>,
        /// Its number.
        signal: i32,
        /// To every process of the container.
        all: bool,
    },
    /// Replied by [`Reply::Exited`] when the root process ended.
    Wait,
    /// Sets the size of the container's terminal. Replied by [`Reply::Done`].
    Resize(WindowSize),
    /// A report for a person who looks for a fault: tasks and what they wait for. Replied by
    /// [`Reply::Text`].
    Dump,
    /// Replied by [`Reply::Processes`].
    Processes,
    /// Replied by [`Reply::Stats`].
    Stats,
    /// Runs a further process. Replied by [`Reply::Executed`], and once more by [`Reply::Exited`]
    /// when it ended. The connection is the process's from then on: [`Request::Signal`] without a
    /// number and [`Request::Resize`] mean it and its terminal and are not replied to, and it is
    /// killed when the connection is closed.
    Exec(Box<ExecSpec>),
    /// Pauses all tasks. Replied by [`Reply::Done`] once none runs.
    Pause,
    /// Lets them go on. Replied by [`Reply::Done`].
    Resume,
    /// Changes what the container may use and is shown to have. Replied by [`Reply::Done`]; refused,
    /// and nothing changed, where it uses more memory than it may.
    Update(Limits),
    /// Writes the sandbox's whole state down. Not supported yet.
    Checkpoint,
    /// Goes on from what [`Request::Checkpoint`] wrote. Not supported yet.
    Restore,
    /// Writes the stacks of these threads, numbered as in the sandbox's PID namespace, into the
    /// file that comes along; see [`crate::debug`]. Replied by [`Reply::Stacks`].
    Stacks(Vec<i32>),
    /// Changes what is logged. Replied by [`Reply::Done`].
    Logging(Logging),
    /// Writes a trace of what the tasks do into the file that comes along, for so many
    /// milliseconds, or until the container ends or the caller closes. Replied by
    /// [`Reply::Traced`].
    Trace(u64),
    /// Brings a further container up; it is to be started. Replied by [`Reply::Done`], and once
    /// more by [`Reply::Exited`] when it ended. The connection is the container's from then on, as
    /// that of [`Request::Exec`] is a process's: when it is closed, the container is ended and all
    /// that it had is freed.
    Join(Box<JoinSpec>),
    /// What follows on this connection is about the container with this id. Replied by
    /// [`Reply::Done`].
    Select(String),
    /// Ends the container with this id that joined, if it is there. Replied by [`Reply::Done`] once
    /// all that it had is freed.
    Destroy(String),
    /// Whether the program of a container that is to be started is there and can be executed.
    /// Replied by [`Reply::Done`].
    Check,
    /// Profiles the sandbox process, into the socket that comes along; see [`crate::profile`].
    /// Replied by [`Reply::Profiling`], and once more by [`Reply::Profiled`] when its time is over,
    /// or the container ended, or the caller closed.
    Profile(ProfileSpec),
    /// Replied by [`Reply::Counters`].
    Counters,
}

/// A further container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinSpec {
    /// What it is.
    pub container: ContainerSpec,
    /// Which namespaces of the root container it is in; it has the others for itself.
    pub shared: Shared,
}

/// Namespaces of the root container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are Linux's own names")]
pub struct Shared {
    pub pid: bool,
    pub ipc: bool,
    pub uts: bool,
    pub network: bool,
}

/// A further process for a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// What to run, as whom.
    pub process: ProcessSpec,
    /// As [`ContainerSpec::stdio`].
    pub stdio: [Option<FdIndex>; 3],
    /// As [`ContainerSpec::console`].
    pub console: Option<FdIndex>,
    /// As [`ContainerSpec::preserved`].
    pub preserved: Vec<FdIndex>,
    /// Whether it may be started while all is paused; it runs once that is over.
    pub while_paused: bool,
    /// Whether it is to run before the container's program is started, rather than after.
    pub before_start: bool,
}

/// Answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reply {
    /// It was done.
    Done,
    /// To [`Request::State`].
    State(SandboxState),
    /// The process's wait status, as `wait4` gives it.
    Exited(i32),
    /// To [`Request::Exec`]: its number inside.
    Executed(i32),
    /// To [`Request::Dump`].
    Text(String),
    /// It failed.
    Failed(Failure),
    /// To [`Request::Processes`], by number.
    Processes(Vec<ProcessInfo>),
    /// To [`Request::Stats`].
    Stats(Stats),
    /// To [`Request::Stacks`].
    Stacks(Stacks),
    /// To [`Request::Trace`].
    Traced(Traced),
    /// To [`Request::Profile`], at its beginning.
    Profiling(Profiling),
    /// And at its end.
    Profiled(Profiled),
    /// To [`Request::Counters`].
    Counters(Counters),
}

/// A process, as the container numbers things. Times are in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Effective user id.
    pub uid: u32,
    /// How many threads it has.
    pub threads: u32,
    /// `R`, `S`, `T` or `Z`, as in ps(1).
    pub state: char,
    /// CPU time in its own code.
    pub user: u64,
    /// CPU time in the sentry.
    pub system: u64,
    /// How long ago it was started.
    pub age: u64,
    /// Its name: that of the program, unless it gave itself another.
    pub command: String,
}

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time in the container's own code, in nanoseconds: of all processes that are there, and
    /// of those they have waited for.
    pub user: u64,
    /// The same in the sentry.
    pub system: u64,
    /// Bytes of memory that exist on the host.
    pub memory: u64,
    /// Bytes it is shown to have.
    pub memory_limit: u64,
    /// Tasks.
    pub tasks: u32,
    /// How many processes were killed for want of memory.
    pub oom_kills: u64,
}

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Where the root process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// Made, not started.
    Created,
    /// Started.
    Running,
    /// Ended, with this wait status.
    Stopped(i32),
}

/// What kind of failure, for exit statuses and for callers that decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FailureKind {
    /// The request makes no sense in this state (start twice, signal after the end).
    State,
    /// The program to run is not there.
    ProgramMissing,
    /// The program to run cannot be executed.
    ProgramNotExecutable,
    /// No such process inside.
    NoProcess,
    /// No such container inside.
    NoContainer,
    /// An argument is out of range.
    Invalid,
    /// It is not there yet.
    Unsupported,
    /// Our own fault.
    Internal,
}

/// A failure as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// For programs.
    pub kind: FailureKind,
    /// Linux's number, where there is one.
    pub errno: Option<i32>,
    /// For people: what, to what, and the answer.
    pub text: String,
}

impl Failure {
    /// With a kind and a text.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Failure {
        Failure {
            kind,
            errno: None,
            text: text.into(),
        }
    }
}
