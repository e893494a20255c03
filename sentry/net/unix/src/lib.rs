//! Unix sockets (unix(7)): streams, datagrams and sequenced packets; pairs, paths and abstract
//! names; descriptors and credentials beside the bytes.
//!
//! Not here yet: collecting sockets that are only in flight in each other's queues.
#![forbid(unsafe_code)]

mod address;
mod family;
mod inbox;
mod listener;
mod options;
mod ready;
mod socket;
mod transfer;

pub use address::{AbstractNames, Address};
pub use socket::UnixSocket;
