//! What the launcher, the sandbox process and the gofer say to each other: types, framing, codec
//! and the passing of descriptors. No policy and no server.
//!
//! - [`boot`] is the one message from which the sandbox process builds its kernel.
//! - [`gofer`] is the one message from which a gofer process learns its trees.
//! - [`fs`] is the file protocol between the two.
//! - [`debug`] is what people who look for a fault can ask of a sandbox.
//! - [`profile`] is how samples of what it does come out of one.
//! - [`message`] holds the requests to a running sandbox and the replies, after a [`hello`].
//! - [`Channel`] carries any serde message with its descriptors over a Unix stream socket.
//!
//! Everything that arrives is the peer's word: frames, counts and nesting are bounded, and what
//! does not decode is an error to that connection alone.

pub mod boot;
mod channel;
pub mod codec;
pub mod debug;
pub mod fs;
pub mod gofer;
pub mod hello;
pub mod message;
pub mod profile;
mod sys;

pub use channel::{Channel, ChannelError, MAX_FDS, MAX_FRAME};
pub use codec::CodecError;
