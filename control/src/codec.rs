//! The one place that knows bincode.

use serde::{Serialize, de::DeserializeOwned};

/// Most bytes that a message may decode from, and most that its containers may claim.
pub const LIMIT: usize = 16 << 20;

/// A message that could not be put into bytes, or bytes that are no such message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The value cannot be written.
    #[error("cannot encode a message: {0}")]
    Encode(String),
    /// The bytes are not a value of the type: unknown variant, short, or over the limit.
    #[error("cannot decode a message: {0}")]
    Decode(String),
    /// A value was there, and more.
    #[error("{0} bytes left over behind a message")]
    Trailing(usize),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// Appends `value` to `into`.
pub fn encode_into<T: Serialize>(value: &T, into: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, into, config())
        .map(drop)
        .map_err(|e| CodecError::Encode(e.to_string()))
}

/// `value` as bytes.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes)?;
    Ok(bytes)
}

/// The value that `bytes` are, all of them.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|e| CodecError::Decode(e.to_string()))?;
    match bytes.len().saturating_sub(used) {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back() {
        let value = (7u32, String::from("seven"), vec![1u8, 2, 3]);
        let bytes = encode(&value).unwrap();
        assert_eq!(decode::<(u32, String, Vec<u8>)>(&bytes).unwrap(), value);
    }

    #[test]
    fn short_and_long_input_is_refused() {
        let bytes = encode(&(1u32, 2u32)).unwrap();
        assert!(decode::<(u32, u32)>(&bytes[..1]).is_err());
        assert!(matches!(
            decode::<u32>(&bytes),
            Err(CodecError::Trailing(1))
        ));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_allocated() {
        // bincode's variable-length integers: 253 announces eight bytes.
        let mut bytes = vec![253];
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode::<Vec<u8>>(&bytes).is_err());
        assert!(decode::<String>(&bytes).is_err());
        assert!(decode::<Vec<String>>(&bytes).is_err());
    }

    #[test]
    fn an_unknown_variant_is_refused() {
        assert!(decode::<Option<u8>>(&[9]).is_err());
        assert!(decode::<crate::message::Request>(&[200]).is_err());
    }
}
