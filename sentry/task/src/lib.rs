//! Tasks: threads, processes, sessions; signals; fork, exec, exit and wait; the loop that runs
//! guest code.
//!
//! A [`Kernel`] is a PID namespace with all that are nested in it ([`PidNamespace`]); a [`Container`]
//! is what some of its processes have in common. A [`Task`] is a guest thread as others see it, a [`ThreadGroup`] a
//! process; the tree of processes, groups and sessions is one table under one lock. [`TaskCx`]
//! is the running task: what a system call's [`Handler`] works with. It implements the context
//! traits of the layers below ([`ctx::Ctx`], [`vfs::FsCtx`], [`ctx::JobControl`]).
//!
//! Lock order: `TaskTree` (who is whose child) -> `ThreadGroup` (signals, threads, stops) ->
//! `Task` (what a task shares) -> `Signals` (what is pending for a task) -> `Actions`. A signal
//! may be queued with the tree locked, but for `SIGCONT`, which reports to the parent and so
//! needs the tree itself.
//!
//! One host thread runs one task, synchronously (`run`); threads are pooled together with
//! their platform contexts (`pool`). Whatever wants a task elsewhere sets its `work` flag and
//! interrupts it: its sleep (the waker) or its switch (the interrupter). It then looks for itself
//! at what there is (`deliver`).
#![forbid(unsafe_code)]

mod access;
mod attributes;
mod barrier;
mod children;
mod clone;
mod confine;
mod container;
mod coredump;
mod cpu;
mod cx;
mod deliver;
mod exec;
mod exit;
mod frame;
mod fscontext;
mod futex_pi;
mod futexes;
mod group;
mod io;
mod itimer;
mod job;
mod kernel;
mod limits;
mod load;
mod masks;
mod namespaces;
mod network;
mod oom;
mod pages;
mod pause;
mod pid_namespace;
mod pidfd;
mod pids;
mod pool;
mod run;
mod send;
mod sigio;
mod signalfd;
mod status;
mod supervise;
mod task;
mod trace;
mod tracer;
mod tree;
mod users;
mod uts;
mod vfork;

pub use access::Ids;
pub use attributes::Scheduling;
pub use children::{WaitFlags, Waited, Which};
pub use clone::{CloneArgs, CloneFlags, may_unshare};
pub use confine::FilterFlags;
pub use container::{Container, ContainerConfig};
pub use coredump::DumpFilter;
pub use cpu::{CpuClock, CpuTime, Phase};
pub use cx::{RestartFn, TaskCx};
pub use exec::ProcessSpec;
pub use fscontext::FsContext;
pub use futex_pi::WaitOn;
pub use group::ThreadGroup;
pub use io::{IoAccount, IoCounts};
pub use itimer::{Interval, Notify, ProcessTimers, Setting, TimerClock};
pub use kernel::{CallTable, Ended, Handler, Kernel, KernelConfig, Tracer};
pub use limits::{Limits, RESOURCES, Rlimit, resource_from_number};
pub use namespaces::{CgroupNamespace, Namespaces};
pub use network::NetNamespace;
pub use pages::{VdsoPages, VdsoSpec};
pub use pid_namespace::PidNamespace;
pub use pidfd::PidFd;
pub use signalfd::SignalFd;
pub use status::{ChildEvent, ExitStatus};
pub use supervise::{Decision, Gift, Listener, ListenerFile, Taken};
pub use task::Task;
pub use tracer::{
    CallInfo, CallStop, FS_BASE, GS_BASE, Held, QueuedSignals, Regset, Resume, TraceOptions,
};
pub use uts::{Uts, UtsNamespace};
