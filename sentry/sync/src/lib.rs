//! Locks with ranks.
//!
//! Every lock of the sentry names its rank in its type. A thread may only take a lock whose rank
//! is higher than that of each lock it holds; debug builds panic on an inversion, at the first
//! time the order is wrong rather than the first time it deadlocks. Release builds carry nothing
//! of it.
//!
//! All ranks stand in [`ranks`], from the first taken to the last.
//!
//! [`census`] counts objects that are shared.
#![forbid(unsafe_code)]

pub mod census;
mod lock;
pub mod observe;
mod order;
pub mod ranks;

pub use lock::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use ranks::Rank;
