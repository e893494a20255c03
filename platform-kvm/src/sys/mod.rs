//! The edge to the host: mappings, memory slots, and the signal that ends a run, each wrapped in
//! safe functions with the checks they need.

// UNSAFETY: mapping memory, handing it to KVM and handling a signal can't be had from safe code.
// Nothing outside this module and its children uses `unsafe`.
#![expect(unsafe_code, reason = "raw host calls")]

pub(crate) mod kick;
pub(crate) mod map;
pub(crate) mod vm;
