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
