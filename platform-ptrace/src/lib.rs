//! The ptrace platform: guest code runs in traced host processes ("stubs") and never executes a
//! call of the host.
//!
//! - A **stub** (`stub`) is a host process without memory of its own but a page of code
//!   (`sys::blob`) and read-only batch pages (`sys::share`) at the top of user space. One
//!   template is forked at boot, before the sentry's filter; all others descend from it.
//! - A **space** (`space`) is the memory that some stubs share. Changes of mappings are queued
//!   and made by the stub's own code, many in one round trip.
//! - A **context** (`context`) belongs to a host thread and holds a stub of the space it runs
//!   in. `tracee` makes states of a traced process into types.
//! - Both of a context, thread and stub, are kept on one CPU while they hand over often (`cpu`).
//!
//! Guest code runs under `PTRACE_SYSEMU` always, also when the guest jumps into the stub's code:
//! every `syscall` stops before the host acts on it. The stub's own code runs under
//! `PTRACE_CONT`, only after the tracer has set all of its registers, on arguments that the
//! guest cannot write. A seccomp filter (`filter`) is the second wall, and the only one for the
//! vsyscall page, whose calls come out as [`platform_api::Exit::Syscall`] like others.
//!
//! All stubs are children of the sandbox process. They die with their tracer's thread
//! (`PTRACE_O_EXITKILL`), or, while nobody traces them, with the thread that called
//! [`platform_api::Platform::boot`], which must therefore live as long as the sandbox.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("the ptrace platform is for x86-64 Linux");

mod admit;
mod common;
mod context;
mod coverage;
mod cpu;
mod engine;
mod error;
mod fault;
mod filter;
mod handle;
mod inject;
mod layout;
mod platform;
mod probe;
mod queue;
mod rules;
mod space;
mod stub;
mod sys;
mod tracee;

pub use platform::Ptrace;
