//! What derived code calls. Not for use by hand.

use super::Field;
use crate::{EmitError, ParseError};

pub use crate::{Sum, crc32c};

/// The fixed part at the front of `bytes`, and the rest.
#[inline(always)]
pub fn cut<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), ParseError> {
    let have = bytes.len();
    bytes
        .split_first_chunk()
        .ok_or(ParseError::Truncated { need: N, have })
}

/// As [`cut`], mutable.
#[inline(always)]
pub fn cut_mut<const N: usize>(bytes: &mut [u8]) -> Result<(&mut [u8; N], &mut [u8]), ParseError> {
    let have = bytes.len();
    bytes
        .split_first_chunk_mut()
        .ok_or(ParseError::Truncated { need: N, have })
}

/// As [`cut_mut`], when writing.
#[inline(always)]
pub fn place<const N: usize>(buf: &mut [u8]) -> Result<(&mut [u8; N], &mut [u8]), EmitError> {
    let have = buf.len();
    buf.split_first_chunk_mut()
        .ok_or(EmitError::NoRoom { need: N, have })
}

/// `bytes` cut at `at`; `before` is how many bytes were cut off already.
#[inline(always)]
pub fn split(bytes: &[u8], at: usize, before: usize) -> Result<(&[u8], &[u8]), ParseError> {
    bytes.split_at_checked(at).ok_or(ParseError::Truncated {
        need: before.saturating_add(at),
        have: before + bytes.len(),
    })
}

/// As [`split`], mutable.
#[inline(always)]
pub fn split_mut(
    bytes: &mut [u8],
    at: usize,
    before: usize,
) -> Result<(&mut [u8], &mut [u8]), ParseError> {
    let have = before + bytes.len();
    bytes.split_at_mut_checked(at).ok_or(ParseError::Truncated {
        need: before.saturating_add(at),
        have,
    })
}

/// As [`split_mut`], when writing.
#[inline(always)]
pub fn room(buf: &mut [u8], at: usize, before: usize) -> Result<(&mut [u8], &mut [u8]), EmitError> {
    let have = before + buf.len();
    buf.split_at_mut_checked(at).ok_or(EmitError::NoRoom {
        need: before.saturating_add(at),
        have,
    })
}

/// How many bytes a length field says.
#[inline(always)]
pub fn says(value: u64, unit: u64) -> usize {
    usize::try_from(value.saturating_mul(unit)).unwrap_or(usize::MAX)
}

/// What a length field has to say.
#[inline(always)]
pub fn say(field: &'static Field, len: usize, unit: usize) -> Result<u64, EmitError> {
    let value = (len / unit) as u64;
    if value > field.max() {
        let max = says(field.max(), unit as u64);
        return Err(EmitError::TooLong { len, max });
    }
    Ok(value)
}

/// `from` in `to`, which is at least as long, and zeros behind it.
#[inline(always)]
pub fn fill(to: &mut [u8], from: &[u8]) {
    let (front, rest) = to.split_at_mut(from.len().min(to.len()));
    for (to, from) in front.iter_mut().zip(from) {
        *to = *from;
    }
    rest.fill(0);
}

/// The CRC of Ethernet and zlib over pieces, one after the other.
#[inline]
pub fn crc32(pieces: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize()
}

/// The Internet checksum's sum over pieces, one after the other, and what `before` has summed.
#[inline]
pub fn sum(before: Sum, pieces: &[&[u8]]) -> Sum {
    let mut sum = before;
    for piece in pieces {
        sum.add_bytes(piece);
    }
    sum
}
