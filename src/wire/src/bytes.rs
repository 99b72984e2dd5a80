//! Cutting slices with errors instead of panics; shared by every view.

use crate::{EmitError, ParseError};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The traits of a header struct: any bytes are valid, no padding, no alignment.
pub(crate) trait Header:
    FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Sized
{
    /// The fixed header at the front of `bytes`, and what follows it.
    #[inline(always)]
    fn cut(bytes: &[u8]) -> Result<(&Self, &[u8]), ParseError> {
        match Self::ref_from_prefix(bytes) {
            Ok(cut) => Ok(cut),
            Err(_) => Err(ParseError::Truncated {
                need: size_of::<Self>(),
                have: bytes.len(),
            }),
        }
    }

    /// As [`Header::cut`], mutable.
    #[inline(always)]
    fn cut_mut(bytes: &mut [u8]) -> Result<(&mut Self, &mut [u8]), ParseError> {
        let have = bytes.len();
        match Self::mut_from_prefix(bytes) {
            Ok(cut) => Ok(cut),
            Err(_) => Err(ParseError::Truncated {
                need: size_of::<Self>(),
                have,
            }),
        }
    }

    /// Writes the header to the front of `buf`; the header in place, and what follows it.
    #[inline(always)]
    fn put<'a>(&self, buf: &'a mut [u8]) -> Result<(&'a mut Self, &'a mut [u8]), EmitError>
    where
        Self: Copy,
    {
        let have = buf.len();
        match Self::mut_from_prefix(buf) {
            Ok((place, rest)) => {
                *place = *self;
                Ok((place, rest))
            }
            Err(_) => Err(EmitError::NoRoom {
                need: size_of::<Self>(),
                have,
            }),
        }
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned> Header for T {}

/// `bytes` cut at `at`; `before` is how many bytes were cut off already (for the error).
#[inline(always)]
pub(crate) fn split(bytes: &[u8], at: usize, before: usize) -> Result<(&[u8], &[u8]), ParseError> {
    bytes.split_at_checked(at).ok_or(ParseError::Truncated {
        need: before + at,
        have: before + bytes.len(),
    })
}

/// As [`split`], mutable.
#[inline(always)]
pub(crate) fn split_mut(
    bytes: &mut [u8],
    at: usize,
    before: usize,
) -> Result<(&mut [u8], &mut [u8]), ParseError> {
    let have = before + bytes.len();
    bytes.split_at_mut_checked(at).ok_or(ParseError::Truncated {
        need: before + at,
        have,
    })
}

/// As [`split_mut`], when writing.
#[inline(always)]
pub(crate) fn room(
    buf: &mut [u8],
    at: usize,
    before: usize,
) -> Result<(&mut [u8], &mut [u8]), EmitError> {
    let have = before + buf.len();
    buf.split_at_mut_checked(at).ok_or(EmitError::NoRoom {
        need: before + at,
        have,
    })
}

/// Gives both views of a protocol the accessors of its header.
macro_rules! deref_to_header {
    ($view:ident, $view_mut:ident, $header:ident) => {
        impl core::ops::Deref for $view<'_> {
            type Target = $header;
            #[inline(always)]
            fn deref(&self) -> &$header {
                self.header
            }
        }

        impl core::ops::Deref for $view_mut<'_> {
            type Target = $header;
            #[inline(always)]
            fn deref(&self) -> &$header {
                self.header
            }
        }

        impl core::ops::DerefMut for $view_mut<'_> {
            #[inline(always)]
            fn deref_mut(&mut self) -> &mut $header {
                self.header
            }
        }
    };
}
pub(crate) use deref_to_header;
