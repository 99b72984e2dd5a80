//! IPv4 options (RFC 791 section 3.1, "Options"; numbers at IANA "IP Parameters").

use crate::ParseError;

/// End of the option list.
pub const END: u8 = 0;
/// No operation: padding between options.
pub const NOP: u8 = 1;
/// Record route.
pub const RECORD_ROUTE: u8 = 7;
/// Timestamp.
pub const TIMESTAMP: u8 = 68;
/// Loose source route; a packet with it is dropped by most routers (RFC 7126 section 4.3).
pub const LOOSE_SOURCE_ROUTE: u8 = 131;
/// Strict source route.
pub const STRICT_SOURCE_ROUTE: u8 = 137;
/// Router alert (RFC 2113).
pub const ROUTER_ALERT: u8 = 148;

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Option<'a> {
    /// The type octet: copied flag, class and number.
    pub kind: u8,
    /// What follows the length octet.
    pub data: &'a [u8],
}

impl Ipv4Option<'_> {
    /// Whether the option goes into every fragment.
    #[inline]
    pub const fn is_copied(&self) -> bool {
        self.kind & 0x80 != 0
    }
}

/// The options of a header, one by one. Padding is skipped. A malformed option is reported once,
/// as an error, and ends the list: its length says where the next one begins, so nothing after it
/// can be trusted.
#[derive(Clone, Debug)]
pub struct Ipv4Options<'a> {
    rest: &'a [u8],
}

impl<'a> Ipv4Options<'a> {
    /// The options in `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Ipv4Options<'a> {
    type Item = Result<Ipv4Option<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&kind, after) = self.rest.split_first()?;
            match kind {
                END => {
                    self.rest = &[];
                    return None;
                }
                NOP => self.rest = after,
                _ => {
                    let cut = after.split_first().and_then(|(&len, body)| {
                        body.split_at_checked(usize::from(len).checked_sub(2)?)
                    });
                    let Some((data, rest)) = cut else {
                        self.rest = &[];
                        return Some(Err(ParseError::BadOption { kind }));
                    };
                    self.rest = rest;
                    return Some(Ok(Ipv4Option { kind, data }));
                }
            }
        }
    }
}

impl core::iter::FusedIterator for Ipv4Options<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn reads_options_and_skips_padding() {
        let bytes = hex("01 94040000 01 0703 04 00 ff");
        let options: Vec<_> = Ipv4Options::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(options.len(), 2);
        assert_eq!(
            options[0],
            Ipv4Option {
                kind: ROUTER_ALERT,
                data: &[0, 0]
            }
        );
        assert!(options[0].is_copied());
        assert_eq!(
            options[1],
            Ipv4Option {
                kind: RECORD_ROUTE,
                data: &[4]
            }
        );
    }

    #[test]
    fn a_malformed_option_is_reported_once() {
        for text in ["83", "8300", "8301", "8303", "010183ff00"] {
            let bytes = hex(text);
            let mut options = Ipv4Options::new(&bytes);
            assert_eq!(
                options.next(),
                Some(Err(ParseError::BadOption { kind: 0x83 })),
                "{text}"
            );
            assert_eq!(options.next(), None);
            assert_eq!(options.next(), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            let mut used = 0;
            for option in Ipv4Options::new(&bytes) {
                used += 1 + option.map_or(0, |option| 1 + option.data.len());
            }
            prop_assert!(used <= bytes.len());
        }

        #[test]
        fn written_options_are_read_back(
            list in proptest::collection::vec(
                (2u8.., proptest::collection::vec(any::<u8>(), 0..6)), 0..5)
        ) {
            let mut bytes = Vec::new();
            for (kind, data) in &list {
                bytes.extend_from_slice(&[*kind, data.len() as u8 + 2]);
                bytes.extend_from_slice(data);
                bytes.push(NOP);
            }
            let read: Vec<_> = Ipv4Options::new(&bytes)
                .map(|option| option.map(|o| (o.kind, o.data.to_vec())).unwrap())
                .collect();
            prop_assert_eq!(read, list);
        }
    }
}
