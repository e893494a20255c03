//! Requests to a running sandbox, and its replies.

use serde::{Deserialize, Serialize};

/// What can be asked over the control socket. One at a time on a connection.
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
}

/// Answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reply {
    /// It was done.
    Done,
    /// To [`Request::State`].
    State(SandboxState),
    /// The root process's wait status, as `wait4` gives it.
    Exited(i32),
    /// To [`Request::Dump`].
    Text(String),
    /// It failed.
    Failed(Failure),
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
    /// An argument is out of range.
    Invalid,
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
