//! The socket core: what every family offers ([`Socket`]) and a socket as an open file
//! ([`SocketFile`]). System calls see nothing else of the network.
#![forbid(unsafe_code)]

mod file;
mod socket;

pub use file::{SocketFile, socket_of};
pub use socket::timeout;
pub use socket::{
    Control, Identity, Message, Received, RecvFlags, SendFlags, Shutdown, Socket, SocketKind, Ucred,
};
