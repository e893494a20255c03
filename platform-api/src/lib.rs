//! The contract between the sentry and a platform.
//!
//! A [`Platform`] is how guest code is run and trapped. It is a stateless descriptor that a crate
//! submits at link time ([`register!`]); [`registry`] finds it by name. Inside the sandbox process
//! [`Platform::boot`] turns it into an [`Engine`], which makes [`AddressSpace`]s and
//! [`Context`]s. [`Context::switch`] runs guest code until it traps and says why ([`Exit`]).
//!
//! Plain data goes down, `Exit` comes up; there are no upcalls. A platform knows nothing of
//! tasks, files or signals.
//!
//! The words of the contract stand on each item under `# Preconditions` and `# Postconditions`.
//! They are tested: the `conformance` feature holds a kit that every platform runs.
#![forbid(unsafe_code)]

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod engine;
pub mod exit;
pub mod ops;
pub mod platform;
pub mod registers;
pub mod registry;
pub mod rules;
pub mod xstate;

pub use engine::{AddressSpace, Context, Engine, Interrupter, Limits, host_cpuid};
pub use exit::{Access, Exception, Exit};
pub use ops::{Backing, Op, Protection};
pub use platform::{BinaryPermissions, Platform, PlatformError, Probe};
pub use registers::Registers;
pub use registry::Registration;
pub use rules::{ArgCheck, HostRule};

#[doc(hidden)]
pub use inventory as __inventory;

/// Submits a platform at link time: `platform_api::register!(&MyPlatform);`.
#[macro_export]
macro_rules! register {
    ($platform:expr) => {
        $crate::__inventory::submit! { $crate::Registration($platform) }
    };
}
