//! Tests of what docs/security.md promises. They are in `tests/security`.
#![forbid(unsafe_code)]
