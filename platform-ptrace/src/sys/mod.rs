//! The edge to the host: raw calls, each wrapped in a safe function with the checks it needs.

// UNSAFETY: ptrace, clone, a shared mapping and the stub's machine code can't be had from safe
// code. Nothing outside this module and its children uses `unsafe`.
#![expect(unsafe_code, reason = "raw host calls and machine code")]

pub(crate) mod blob;
pub(crate) mod calls;
pub(crate) mod share;
pub(crate) mod template;
