//! End-to-end tests of the real binary; they are in `tests/e2e`.
#![forbid(unsafe_code)]
