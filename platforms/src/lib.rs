//! The façade that links platforms into a binary.
//!
//! A crate that no code names is not linked, and its registration is then
//! silently lost; each feature here is one `extern crate`.
#![forbid(unsafe_code)]

#[cfg(feature = "kvm")]
extern crate platform_kvm as _;
#[cfg(feature = "ptrace")]
extern crate platform_ptrace as _;
