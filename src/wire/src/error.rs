//! Why bytes were not accepted, or could not be written.

use crate::describe::{Field, Role};
use core::fmt;

/// Why a header was not accepted. The reasons are closed: a counter per reason is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParseError {
    /// The header, or what its length field promises, is longer than the bytes at hand.
    Truncated {
        /// How many bytes there must be.
        need: usize,
        /// How many there are.
        have: usize,
    },
    /// The IP version field does not say 4 or 6, as it must here.
    BadVersion {
        /// What it says.
        found: u8,
    },
    /// A header length field (IPv4 IHL, TCP data offset) is below the fixed header's length.
    BadHeaderLen {
        /// What it says, in bytes.
        len: usize,
    },
    /// A total length field (IPv4 total length, UDP length) is below the header's own length.
    BadTotalLen {
        /// What it says, in bytes.
        len: usize,
    },
    /// The checksum does not match the bytes it covers.
    BadChecksum,
    /// An option's length is below its minimum or runs over the end of the options.
    BadOption {
        /// The option's kind (type) octet.
        kind: u8,
    },
    /// More VLAN tags than [`MAX_TAGS`](crate::vlan::MAX_TAGS).
    TooManyTags,
    /// More IPv6 extension headers than [`MAX_EXTENSIONS`](crate::ipv6::ext::MAX_EXTENSIONS).
    TooManyExtensions,
    /// An ARP packet that is not for IPv4 over Ethernet.
    BadAddressType,
    /// A field of a [described](crate::describe) header has a value that it cannot have: a constant another one,
    /// or a length one that contradicts the header.
    BadField {
        /// The field.
        field: &'static Field,
        /// What it says.
        found: u64,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { need, have } => {
                write!(f, "truncated: {need} bytes are needed, {have} are there")
            }
            Self::BadVersion { found } => write!(f, "bad IP version {found}"),
            Self::BadHeaderLen { len } => write!(f, "bad header length of {len} bytes"),
            Self::BadTotalLen { len } => write!(f, "bad total length of {len} bytes"),
            Self::BadChecksum => write!(f, "bad checksum"),
            Self::BadOption { kind } => write!(f, "bad length of option {kind}"),
            Self::TooManyTags => write!(f, "more than {} VLAN tags", crate::vlan::MAX_TAGS),
            Self::TooManyExtensions => {
                write!(
                    f,
                    "more than {} extension headers",
                    crate::ipv6::ext::MAX_EXTENSIONS
                )
            }
            Self::BadAddressType => write!(f, "not ARP for IPv4 over Ethernet"),
            Self::BadField { field, found } => match field.role {
                Role::Constant(right) => {
                    write!(f, "bad {}: {found:#x}, not {right:#x}", field.name)
                }
                _ => write!(f, "bad {}: {found}", field.name),
            },
        }
    }
}

impl core::error::Error for ParseError {}

/// Why a header could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EmitError {
    /// The buffer is too short for the header and the payload asked for.
    NoRoom {
        /// How many bytes it takes.
        need: usize,
        /// How many there are.
        have: usize,
    },
    /// The payload or the options are longer than the length field can say.
    TooLong {
        /// How long they are, in bytes.
        len: usize,
        /// How long they may be.
        max: usize,
    },
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoRoom { need, have } => {
                write!(f, "no room: {need} bytes are needed, {have} are there")
            }
            Self::TooLong { len, max } => write!(f, "{len} bytes are too long, {max} is the most"),
        }
    }
}

impl core::error::Error for EmitError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn errors_say_what_is_wrong_with_numbers() {
        let error = ParseError::Truncated { need: 20, have: 7 };
        assert_eq!(
            error.to_string(),
            "truncated: 20 bytes are needed, 7 are there"
        );
        assert_eq!(
            ParseError::BadVersion { found: 9 }.to_string(),
            "bad IP version 9"
        );
        assert_eq!(ParseError::TooManyTags.to_string(), "more than 2 VLAN tags");
        let error = EmitError::TooLong {
            len: 70000,
            max: 65515,
        };
        assert_eq!(
            error.to_string(),
            "70000 bytes are too long, 65515 is the most"
        );
    }
}
