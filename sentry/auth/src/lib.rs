//! Credentials: identities, groups, capabilities, securebits. Data and the rules for changing
//! them (credentials(7), capabilities(7)); who asks for a change is task's business.
//!
//! Ids are everywhere those of the first user namespace. What a program is told and what it says
//! goes through its own [`UserNamespace`], where it comes in and where it goes out.
//!
//! A [`Creds`] is immutable once shared: changing credentials means making a new one.
#![forbid(unsafe_code)]

mod caps;
mod counts;
mod creds;
mod idmap;
mod setid;
mod userns;

pub use caps::{CapSet, Capability};
pub use counts::{Counted, Share};
pub use creds::{Creds, NO_ID, Securebits};
pub use userns::{FIRST_USER_NAMESPACE, IdKind, UserNamespace};
