//! Credentials: identities, groups, capabilities, securebits. Data and the rules for changing
//! them (credentials(7), capabilities(7)); who asks for a change is task's business.
//!
//! A [`Creds`] is immutable once shared: changing credentials means making a new one.
#![forbid(unsafe_code)]

mod caps;
mod creds;
mod setid;

pub use caps::{CapSet, Capability};
pub use creds::{Creds, NO_ID, Securebits};
