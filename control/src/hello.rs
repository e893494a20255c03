//! The first frame in each direction of a control connection.

use serde::{Deserialize, Serialize};

/// Says that this is our protocol.
pub const MAGIC: u32 = 0x5246_434e;
/// Raised with every incompatible change of [`crate::message`].
pub const VERSION: u32 = 6;

/// Who speaks, and what it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`]
    pub magic: u32,
    /// [`VERSION`]
    pub version: u32,
    /// Bits for additions that both sides must know; none so far.
    pub features: u64,
}

/// A peer that cannot be talked to.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HelloError {
    /// Something else listens there.
    #[error("the peer does not speak ringfence's control protocol (magic {0:#x})")]
    Magic(u32),
    /// Another release.
    #[error(
        "the sandbox speaks control protocol {theirs} and this binary {VERSION}: it was started by \
         another release of ringfence; use that one for this container"
    )]
    Version {
        /// The peer's.
        theirs: u32,
    },
}

impl Hello {
    /// What this binary says.
    pub fn ours() -> Hello {
        Hello {
            magic: MAGIC,
            version: VERSION,
            features: 0,
        }
    }

    /// Whether we can talk to whoever said this.
    pub fn check(&self) -> Result<(), HelloError> {
        if self.magic != MAGIC {
            return Err(HelloError::Magic(self.magic));
        }
        if self.version != VERSION {
            return Err(HelloError::Version {
                theirs: self.version,
            });
        }
        Ok(())
    }
}
