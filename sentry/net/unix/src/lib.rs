//! Unix sockets (unix(7)): streams, datagrams and sequenced packets; pairs, paths and abstract
//! names; descriptors and credentials beside the bytes.
#![forbid(unsafe_code)]

mod address;
mod family;
mod flight;
mod inbox;
mod listener;
mod options;
mod ready;
mod socket;
mod transfer;

pub use address::{AbstractNames, Address};
pub use socket::UnixSocket;
