//! The file server process: sees one container's files and opens them for its sentry.
//!
//! A [`Server`] answers the requests of [`control::fs`], one connection for each tree. A tree is
//! reached through the descriptor of its root alone; names are single components, looked up
//! without following anything (`tree.rs`), so neither a symbolic link nor `..` leads out. The
//! sentry is not trusted: names, numbers and flags are checked, tables are bounded, and a request
//! that makes no sense is an error to it.
//!
//! [`run`] is the life of a gofer process: [`control::gofer::GoferArgs`] in, a filter over its own
//! system calls, then requests until every connection has closed.

mod filter;
mod magic;
mod names;
mod nodes;
mod process;
mod server;
mod sys;
mod tree;
mod xattr;

pub use filter::{FilterError, compile};
pub use magic::Magic;
pub use process::run;
pub use server::{Server, TreeConfig};

#[cfg(test)]
mod tests;
