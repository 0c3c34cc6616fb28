//! The one byte encoding: borsh, every byte consumed, every list capped before it is read (F1).

use borsh::io::{Error, ErrorKind, Read, Result};
use borsh::{BorshDeserialize, BorshSerialize};

/// Canonical bytes of a value.
pub fn encode<T: BorshSerialize>(value: &T) -> Vec<u8> {
    // Writing to a Vec fails only if a length exceeds u32, which the caps forbid.
    borsh::to_vec(value).unwrap_or_default()
}

/// Reads a value that must take up all of `bytes`.
///
/// # Errors
/// On malformed or trailing bytes, and on lists over their cap.
pub fn decode<T: BorshDeserialize>(bytes: &[u8]) -> Result<T> {
    T::try_from_slice(bytes)
}

/// Reads a list of at most `MAX` items, refusing a longer one before any item is read.
pub fn capped<R: Read, T: BorshDeserialize, const MAX: usize>(reader: &mut R) -> Result<Vec<T>> {
    let len = u32::deserialize_reader(reader)? as usize;
    if len > MAX {
        return Err(Error::new(ErrorKind::InvalidData, format!("list of {len} items, at most {MAX} allowed")));
    }
    let mut items = Vec::with_capacity(len.min(1024));
    for _ in 0..len {
        items.push(T::deserialize_reader(reader)?);
    }
    Ok(items)
}

/// The encoding as text, `0x` and hex digits: how it stands in JSON. For `#[serde(with = "codec::hex")]` and by hand.
pub mod hex {
    use borsh::{BorshDeserialize, BorshSerialize};
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Text of a value.
    pub fn text<T: BorshSerialize>(value: &T) -> String {
        format!("0x{}", ::hex::encode(super::encode(value)))
    }

    /// Value of a text.
    ///
    /// # Errors
    /// Where it is no hex, or [`super::decode`] refuses the bytes.
    pub fn parse<T: BorshDeserialize>(text: &str) -> Result<T, String> {
        let bytes = ::hex::decode(text.strip_prefix("0x").unwrap_or(text)).map_err(|cause| cause.to_string())?;
        super::decode(&bytes).map_err(|cause| cause.to_string())
    }

    /// For serde.
    pub fn serialize<T: BorshSerialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(value))
    }

    /// For serde.
    pub fn deserialize<'de, T: BorshDeserialize, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        parse(&<String as Deserialize>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
