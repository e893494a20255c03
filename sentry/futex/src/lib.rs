//! Futexes (futex(2)): the table of waiters.
//!
//! Buckets are sharded; a waiter is made once a task and used again for each wait, so that
//! waiting allocates nothing. No guest memory is touched under a bucket's lock: a waiter queues
//! first and compares the word after, and a wake-up that reached a waiter whose comparison failed
//! is passed on to the next.
//!
//! What identifies a word is the caller's `K` (`mm::FutexKey`).
#![forbid(unsafe_code)]

mod op;
pub mod pi;
mod table;

pub use op::WakeOp;
pub use pi::PiTable;
pub use table::{BITSET_ANY, Outcome, Table, Waiter};
