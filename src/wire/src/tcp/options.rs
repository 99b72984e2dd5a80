//! TCP options (RFC 9293 section 3.1; window scale and timestamps: RFC 7323; SACK: RFC 2018).

use crate::tcp::MAX_OPTIONS_LEN;
use crate::{EmitError, ParseError};
use zerocopy::network_endian::U32;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// Maximum segment size (on SYN only).
    Mss(u16),
    /// The shift of later windows (on SYN only). A value above 14 counts as 14 (RFC 7323
    /// section 2.3), which is left to the user.
    WindowScale(u8),
    /// The sender understands SACK (on SYN only).
    SackPermitted,
    /// Blocks that have arrived out of order.
    Sack(SackBlocks<'a>),
    /// The sender's clock, and the last one it has seen.
    Timestamps {
        /// TSval.
        value: u32,
        /// TSecr.
        echo: u32,
    },
    /// An option that is not known here, or a known one with a length it cannot have.
    Unknown {
        /// The option's kind.
        kind: u8,
        /// What follows the length octet.
        data: &'a [u8],
    },
}

/// The blocks of a SACK option: one to four pairs of left edge and right edge (first sequence
/// number not in the block).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SackBlocks<'a>(&'a [[U32; 2]]);

impl<'a> SackBlocks<'a> {
    /// The blocks, in the order sent: the most recent first.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, u32)> + 'a {
        self.0.iter().map(|[left, right]| (left.get(), right.get()))
    }
}

/// The options of a header, one by one. Padding is skipped. An option of a known kind whose length
/// is wrong, but stays within the options, comes as [`TcpOption::Unknown`], and the walk goes on.
/// A length below two or beyond the end is reported once, as an error, and ends the list.
///
/// ```
/// use linecard_wire::{ParseError, TcpOption, tcp::options::TcpOptions};
///
/// let mut options = TcpOptions::new(&[2, 4, 0x05, 0xb4, 1, 3, 3, 7, 8, 99, 0, 0]);
/// assert_eq!(options.next(), Some(Ok(TcpOption::Mss(1460))));
/// assert_eq!(options.next(), Some(Ok(TcpOption::WindowScale(7))));
/// assert_eq!(options.next(), Some(Err(ParseError::BadOption { kind: 8 })));
/// assert_eq!(options.next(), None);
/// ```
#[derive(Clone, Debug)]
pub struct TcpOptions<'a> {
    rest: &'a [u8],
}

impl<'a> TcpOptions<'a> {
    /// The options in `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for TcpOptions<'a> {
    type Item = Result<TcpOption<'a>, ParseError>;

    #[inline]
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
                    return Some(Ok(read(kind, data)));
                }
            }
        }
    }
}

impl core::iter::FusedIterator for TcpOptions<'_> {}

#[inline]
fn read(kind: u8, data: &[u8]) -> TcpOption<'_> {
    match (kind, data) {
        (MSS, &[a, b]) => TcpOption::Mss(u16::from_be_bytes([a, b])),
        (WINDOW_SCALE, &[shift]) => TcpOption::WindowScale(shift),
        (SACK_PERMITTED, []) => TcpOption::SackPermitted,
        (SACK, _) if matches!(data.len(), 8 | 16 | 24 | 32) => read_sack(data),
        (TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => TcpOption::Timestamps {
            value: u32::from_be_bytes([a, b, c, d]),
            echo: u32::from_be_bytes([e, f, g, h]),
        },
        _ => TcpOption::Unknown { kind, data },
    }
}

#[inline]
fn read_sack(data: &[u8]) -> TcpOption<'_> {
    match <[[U32; 2]] as zerocopy::FromBytes>::ref_from_bytes(data) {
        Ok(blocks) => TcpOption::Sack(SackBlocks(blocks)),
        Err(_) => TcpOption::Unknown { kind: SACK, data },
    }
}

/// Options to be written, in the order pushed.
///
/// ```
/// use linecard_wire::{TcpHeader, TcpMut, TcpOptionList};
///
/// let mut options = TcpOptionList::new();
/// options.mss(1460)?.sack_permitted()?.window_scale(7)?;
/// let mut buf = [0; 64];
/// let tcp = TcpMut::emit(&mut buf, &TcpHeader::new(1024, 80), options.as_bytes())?;
/// assert_eq!(tcp.header_len(), 20 + 12);
/// # Ok::<(), linecard_wire::EmitError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpOptionList {
    bytes: Bytes,
    len: usize,
}

/// An array that has a default.
#[derive(Clone, Copy, Debug)]
struct Bytes([u8; MAX_OPTIONS_LEN]);

impl Default for Bytes {
    fn default() -> Self {
        Self([0; MAX_OPTIONS_LEN])
    }
}

impl TcpOptionList {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// The options as bytes; [`TcpMut::emit`](crate::TcpMut::emit) fills them up.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.0.get(..self.len).unwrap_or_default()
    }

    /// Appends a maximum segment size.
    ///
    /// # Errors
    /// As [`TcpOptionList::push`].
    pub fn mss(&mut self, mss: u16) -> Result<&mut Self, EmitError> {
        self.push(MSS, &mss.to_be_bytes())
    }

    /// Appends a window scale.
    ///
    /// # Errors
    /// As [`TcpOptionList::push`].
    pub fn window_scale(&mut self, shift: u8) -> Result<&mut Self, EmitError> {
        self.push(WINDOW_SCALE, &[shift])
    }

    /// Appends "SACK permitted".
    ///
    /// # Errors
    /// As [`TcpOptionList::push`].
    pub fn sack_permitted(&mut self) -> Result<&mut Self, EmitError> {
        self.push(SACK_PERMITTED, &[])
    }

    /// Appends timestamps.
    ///
    /// # Errors
    /// As [`TcpOptionList::push`].
    pub fn timestamps(&mut self, value: u32, echo: u32) -> Result<&mut Self, EmitError> {
        let data = [U32::new(value), U32::new(echo)];
        self.push(TIMESTAMPS, zerocopy::IntoBytes::as_bytes(&data))
    }

    /// Appends SACK blocks, as left and right edges.
    ///
    /// # Errors
    /// As [`TcpOptionList::push`].
    pub fn sack(&mut self, blocks: &[(u32, u32)]) -> Result<&mut Self, EmitError> {
        let mut data = [[U32::ZERO; 2]; 4];
        let max = data.len();
        let Some(used) = data.get_mut(..blocks.len()) else {
            return Err(EmitError::TooLong {
                len: blocks.len(),
                max,
            });
        };
        for (place, (left, right)) in used.iter_mut().zip(blocks) {
            *place = [U32::new(*left), U32::new(*right)];
        }
        self.push(SACK, zerocopy::IntoBytes::as_bytes(used))
    }

    /// Appends padding: one octet that says nothing.
    ///
    /// # Errors
    /// As [`TcpOptionList::push`].
    pub fn nop(&mut self) -> Result<&mut Self, EmitError> {
        self.append(&[NOP])
    }

    /// Appends any option with a length octet.
    ///
    /// # Errors
    /// [`EmitError::TooLong`] if the options would exceed 40 bytes; nothing is appended then.
    pub fn push(&mut self, kind: u8, data: &[u8]) -> Result<&mut Self, EmitError> {
        let before = *self;
        let len = (data.len() + 2).min(255) as u8;
        let result = self
            .append(&[kind, len])
            .and_then(|list| list.append(data))
            .map(|_| ());
        if let Err(error) = result {
            *self = before;
            return Err(error);
        }
        Ok(self)
    }

    fn append(&mut self, data: &[u8]) -> Result<&mut Self, EmitError> {
        let len = self.len + data.len();
        let Some(place) = self.bytes.0.get_mut(self.len..len) else {
            return Err(EmitError::TooLong {
                len,
                max: MAX_OPTIONS_LEN,
            });
        };
        place.copy_from_slice(data);
        self.len = len;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn reads_the_options_of_a_linux_syn() {
        let bytes = hex("020405b4 0402 080a 12345678 00000000 01 030307");
        let options: Vec<_> = TcpOptions::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(
            options,
            [
                TcpOption::Mss(1460),
                TcpOption::SackPermitted,
                TcpOption::Timestamps {
                    value: 0x12345678,
                    echo: 0
                },
                TcpOption::WindowScale(7),
            ]
        );
    }

    #[test]
    fn reads_sack_blocks() {
        let bytes = hex("0101 0512 00000001 00000002 00000003 00000004 00 ffff");
        let mut options = TcpOptions::new(&bytes);
        let Some(Ok(TcpOption::Sack(blocks))) = options.next() else {
            panic!()
        };
        assert_eq!(blocks.iter().collect::<Vec<_>>(), [(1, 2), (3, 4)]);
        assert_eq!(options.next(), None);
    }

    #[test]
    fn a_wrong_length_does_not_hide_what_follows() {
        let bytes = hex("0203aa 0503bb 0502 0404cccc 030307");
        let options: Vec<_> = TcpOptions::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(options.len(), 5);
        assert_eq!(
            options[0],
            TcpOption::Unknown {
                kind: 2,
                data: &[0xaa]
            }
        );
        assert_eq!(options[4], TcpOption::WindowScale(7));
    }

    #[test]
    fn a_malformed_option_is_reported_once() {
        for text in ["02", "0200", "0201ff", "0204ff", "0101020a05b4"] {
            let bytes = hex(text);
            let mut options = TcpOptions::new(&bytes);
            assert_eq!(
                options.next(),
                Some(Err(ParseError::BadOption { kind: 2 })),
                "{text}"
            );
            assert_eq!(options.next(), None);
        }
    }

    #[test]
    fn a_full_list_refuses_more_and_keeps_what_it_has() {
        let mut list = TcpOptionList::new();
        list.sack(&[(1, 2), (3, 4), (5, 6), (7, 8)])
            .unwrap()
            .nop()
            .unwrap();
        let before = list.as_bytes().to_vec();
        assert!(list.mss(1).is_ok());
        assert!(list.nop().is_ok() && list.nop().is_err());
        assert!(list.as_bytes().starts_with(&before));
        assert!(TcpOptionList::new().sack(&[(0, 0); 5]).is_err());
        assert!(TcpOptionList::new().push(254, &[0; 300]).is_err());
    }

    proptest! {
        #[test]
        fn written_options_are_read_back(
            mss: u16, shift: u8, value: u32, echo: u32,
            blocks in proptest::collection::vec(any::<(u32, u32)>(), 1..=2),
        ) {
            let mut list = TcpOptionList::new();
            list.mss(mss).unwrap().window_scale(shift).unwrap().nop().unwrap();
            list.timestamps(value, echo).unwrap().sack(&blocks).unwrap();
            let read: Vec<_> = TcpOptions::new(list.as_bytes()).map(Result::unwrap).collect();
            prop_assert_eq!(read[0], TcpOption::Mss(mss));
            prop_assert_eq!(read[1], TcpOption::WindowScale(shift));
            prop_assert_eq!(read[2], TcpOption::Timestamps { value, echo });
            let TcpOption::Sack(sack) = read[3] else { panic!() };
            prop_assert_eq!(sack.iter().collect::<Vec<_>>(), blocks);
            prop_assert_eq!(read.len(), 4);
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            prop_assert!(TcpOptions::new(&bytes).count() <= bytes.len());
        }
    }
}
