//! Signals as data: numbers, sets, actions, siginfo, pending queues, and the layout of the frame
//! that a handler finds on its stack.
//!
//! Who receives a signal and when it is delivered is task's business.
#![forbid(unsafe_code)]

mod action;
pub mod frame;
mod info;
mod pending;
mod set;
mod signo;
pub mod stack;

pub use action::{ActionFlags, Actions, Handler, SigAction};
pub use info::SigInfo;
pub use pending::{Full, Pending};
pub use set::SigSet;
pub use signo::{Default as DefaultAction, Signal};
pub use stack::AltStack;
