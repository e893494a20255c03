//! Clocks and timers of the sentry.
//!
//! [`Clocks`] reads the host's clocks and applies what is the sandbox's own (its boot time).
//! [`TimerQueue`] is the one thread that sleeps until the next armed timer; with none armed it
//! sleeps without a deadline. Per-task CPU clocks are task's business.
#![forbid(unsafe_code)]

mod clocks;
mod timers;

pub use clocks::{ClockId, Clocks};
pub use timers::{TimerId, TimerListener, TimerQueue};
