//! IPv6 extension headers (RFC 8200 section 4; AH: RFC 4302).
//!
//! Hop-by-hop options, Routing, Fragment, Destination options and AH are looked through, in any
//! order and up to [`MAX_EXTENSIONS`] of them: RFC 8200 names an order of at most seven, and a
//! bound keeps a remote peer from buying time with a long chain. A fragment other than the first
//! ends the walk, as what follows its header is not the beginning of anything.

use crate::bytes::{Header, split};
use crate::{IpProtocol, ParseError};
use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// How many extension headers are looked through.
pub const MAX_EXTENSIONS: usize = 8;
/// The length of a Fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// One extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    kind: IpProtocol,
    next: IpProtocol,
    len_octet: u8,
    body: &'a [u8],
}

impl<'a> Extension<'a> {
    /// Which extension header this is.
    #[inline]
    pub fn kind(&self) -> IpProtocol {
        self.kind
    }

    /// What follows it.
    #[inline]
    pub fn next(&self) -> IpProtocol {
        self.next
    }

    /// What follows its first two octets (next header and length).
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The content of a Fragment header (RFC 8200 section 4.5).
    #[inline]
    pub fn fragment(&self) -> Option<FragmentInfo> {
        let (body, _) = FragmentBody::cut(self.body).ok()?;
        (self.kind == IpProtocol::FRAGMENT).then(|| FragmentInfo {
            offset: body.offset_flags.get() & 0xfff8,
            more: body.offset_flags.get() & 1 == 1,
            ident: body.ident.get(),
        })
    }

    /// How many stops a Routing header still has to make; zero for any other header.
    #[inline]
    pub fn segments_left(&self) -> u8 {
        match (self.kind, self.body) {
            (IpProtocol::ROUTING, [_, left, ..]) => *left,
            _ => 0,
        }
    }

    /// The options of a hop-by-hop or destination options header; none for any other header.
    #[inline]
    pub fn options(&self) -> Ipv6Options<'a> {
        match self.kind {
            IpProtocol::HOP_BY_HOP | IpProtocol::DESTINATION => Ipv6Options { rest: self.body },
            _ => Ipv6Options { rest: &[] },
        }
    }

    /// The length of the header on the wire.
    #[inline]
    pub fn wire_len(&self) -> usize {
        ext_len(self.kind, self.len_octet)
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FragmentBody {
    offset_flags: U16,
    ident: U32,
}

/// The content of a Fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentInfo {
    /// Where in the packet this fragment belongs, in bytes.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
    /// Which packet this is a fragment of.
    pub ident: u32,
}

impl FragmentInfo {
    /// Whether the "fragment" is the whole packet (RFC 6946).
    #[inline]
    pub const fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }

    /// The eight bytes of a Fragment header.
    #[inline]
    pub fn to_bytes(self, next: IpProtocol) -> [u8; FRAGMENT_LEN] {
        let [o0, o1] = ((self.offset & 0xfff8) | u16::from(self.more)).to_be_bytes();
        let [i0, i1, i2, i3] = self.ident.to_be_bytes();
        [next.0, 0, o0, o1, i0, i1, i2, i3]
    }
}

/// The length of an extension header, from its length octet.
#[inline(always)]
pub(crate) const fn ext_len(kind: IpProtocol, len_octet: u8) -> usize {
    match kind {
        IpProtocol::FRAGMENT => FRAGMENT_LEN,
        IpProtocol::AH => (len_octet as usize + 2) * 4,
        _ => (len_octet as usize + 1) * 8,
    }
}

/// The extension headers of a packet, one by one; afterwards, what they lead to. An error is
/// reported once and ends the walk.
#[derive(Clone, Debug)]
pub struct Ipv6Extensions<'a> {
    protocol: IpProtocol,
    rest: &'a [u8],
    used: usize,
    left: usize,
    done: bool,
}

impl<'a> Ipv6Extensions<'a> {
    /// A walk over the `payload` of a header with this `next` header.
    #[inline]
    pub const fn new(next: IpProtocol, payload: &'a [u8]) -> Self {
        Self {
            protocol: next,
            rest: payload,
            used: 0,
            left: MAX_EXTENSIONS,
            done: false,
        }
    }

    /// What is in [`Ipv6Extensions::rest`]: after a full walk, the upper protocol.
    #[inline]
    pub const fn protocol(&self) -> IpProtocol {
        self.protocol
    }

    /// What was not yet walked over: after a full walk, the upper protocol's bytes.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes were walked over.
    #[inline]
    pub const fn used(&self) -> usize {
        self.used
    }

    #[inline]
    fn cut_next(&mut self) -> Result<Extension<'a>, ParseError> {
        let before = crate::ipv6::HEADER_LEN + self.used;
        if self.left == 0 {
            return Err(ParseError::TooManyExtensions);
        }
        let ([next, len_octet, ..], kind) = (self.rest, self.protocol) else {
            return Err(ParseError::Truncated {
                need: before + 2,
                have: before + self.rest.len(),
            });
        };
        let len = ext_len(kind, *len_octet);
        let (whole, rest) = split(self.rest, len, before)?;
        let extension = Extension {
            kind,
            next: IpProtocol(*next),
            len_octet: *len_octet,
            body: whole.get(2..).unwrap_or_default(),
        };
        self.protocol = extension.next;
        self.rest = rest;
        self.used += len;
        self.left -= 1;
        self.done = extension
            .fragment()
            .is_some_and(|fragment| fragment.offset != 0);
        Ok(extension)
    }
}

impl<'a> Iterator for Ipv6Extensions<'a> {
    type Item = Result<Extension<'a>, ParseError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done || !self.protocol.is_extension() {
            return None;
        }
        let extension = self.cut_next();
        self.done |= extension.is_err();
        Some(extension)
    }
}

impl core::iter::FusedIterator for Ipv6Extensions<'_> {}

/// The options of a hop-by-hop or destination options header (RFC 8200 section 4.2), one by one,
/// as type and data. Padding is skipped; a malformed option is reported once and ends the list.
#[derive(Clone, Debug)]
pub struct Ipv6Options<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Ipv6Options<'a> {
    type Item = Result<(u8, &'a [u8]), ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        const PAD1: u8 = 0;
        const PADN: u8 = 1;
        loop {
            let (&kind, after) = self.rest.split_first()?;
            if kind == PAD1 {
                self.rest = after;
                continue;
            }
            let cut = after
                .split_first()
                .and_then(|(&len, body)| body.split_at_checked(usize::from(len)));
            let Some((data, rest)) = cut else {
                self.rest = &[];
                return Some(Err(ParseError::BadOption { kind }));
            };
            self.rest = rest;
            if kind != PADN {
                return Some(Ok((kind, data)));
            }
        }
    }
}

impl core::iter::FusedIterator for Ipv6Options<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;
    use crate::{Ipv6, Ipv6Header, Ipv6Mut};
    use proptest::prelude::*;
    use std::vec::Vec;

    fn packet(next: IpProtocol, body: &[u8]) -> Vec<u8> {
        let header = Ipv6Header::new([1; 16].into(), [2; 16].into(), next);
        let mut buf = std::vec![0; 40 + body.len()];
        let mut ip = Ipv6Mut::emit(&mut buf, &header, body.len()).unwrap();
        ip.payload_mut().copy_from_slice(body);
        buf
    }

    #[test]
    fn walks_all_five_kinds() {
        let body = hex("3c 00 0502 0000 0100
             2b 00 c604 00010203
             2c 01 0401 00000000 0000000000000000
             33 00 0001 12345678
             06 04 0000 11111111 22222222 333333333333333333333333
             aabb");
        let bytes = packet(IpProtocol::HOP_BY_HOP, &body);
        let ip = Ipv6::parse(&bytes).unwrap();
        let list: Vec<_> = ip.extensions().map(Result::unwrap).collect();
        let kinds: Vec<_> = list.iter().map(|e| (e.kind().0, e.wire_len())).collect();
        assert_eq!(kinds, [(0, 8), (60, 8), (43, 16), (44, 8), (51, 24)]);
        // Router alert, and an option of a documentation type.
        assert_eq!(
            list[0].options().collect::<Vec<_>>(),
            [Ok((5, &[0, 0][..]))]
        );
        assert_eq!(
            list[1].options().collect::<Vec<_>>(),
            [Ok((0xc6, &[0, 1, 2, 3][..]))]
        );
        assert_eq!(list[2].segments_left(), 1);
        let fragment = FragmentInfo {
            offset: 0,
            more: true,
            ident: 0x12345678,
        };
        assert_eq!(list[3].fragment(), Some(fragment));
        assert_eq!(fragment.to_bytes(IpProtocol::AH), body[32..40]);

        let upper = ip.upper().unwrap();
        assert_eq!((upper.protocol, upper.ext_len), (IpProtocol::TCP, 64));
        assert_eq!((upper.fragment, upper.routed), (Some(fragment), true));
        assert_eq!(upper.payload, [0xaa, 0xbb]);
    }

    #[test]
    fn a_later_fragment_ends_the_walk() {
        // Its next header says destination options, but what follows is the middle of one.
        let body = hex("3c 00 05a8 00000001 ffff");
        let bytes = packet(IpProtocol::FRAGMENT, &body);
        let upper = Ipv6::parse(&bytes).unwrap().upper().unwrap();
        assert_eq!(upper.fragment.unwrap().offset, 0x5a8);
        assert_eq!(
            (upper.protocol, upper.payload),
            (IpProtocol::DESTINATION, &[0xff, 0xff][..])
        );
    }

    #[test]
    fn an_atomic_fragment_is_seen() {
        let info = FragmentInfo {
            offset: 0,
            more: false,
            ident: 7,
        };
        let bytes = packet(IpProtocol::FRAGMENT, &info.to_bytes(IpProtocol::UDP));
        let upper = Ipv6::parse(&bytes).unwrap().upper().unwrap();
        assert!(upper.fragment.unwrap().is_atomic());
    }

    #[test]
    fn the_walk_is_bounded() {
        let link = [60, 0, 1, 4, 0, 0, 0, 0];
        let mut body = link.repeat(8);
        body[56] = 59;
        let bytes = packet(IpProtocol::DESTINATION, &body);
        let upper = Ipv6::parse(&bytes).unwrap().upper().unwrap();
        assert_eq!((upper.protocol, upper.ext_len), (IpProtocol::NO_NEXT, 64));

        let bytes = packet(IpProtocol::DESTINATION, &link.repeat(9));
        let ip = Ipv6::parse(&bytes).unwrap();
        assert_eq!(ip.upper().unwrap_err(), ParseError::TooManyExtensions);
        assert_eq!(ip.extensions().count(), 9);
    }

    #[test]
    fn truncation_names_the_bytes_of_the_packet() {
        for (body, need) in [("06", 42), ("0600000000", 48), ("0601 000000000000", 56)] {
            let body = hex(body);
            let bytes = packet(IpProtocol::HOP_BY_HOP, &body);
            let error = Ipv6::parse(&bytes).unwrap().upper().unwrap_err();
            assert_eq!(
                error,
                ParseError::Truncated {
                    need,
                    have: 40 + body.len()
                }
            );
        }
    }

    #[test]
    fn malformed_options_are_reported_once() {
        let bytes = packet(IpProtocol::DESTINATION, &hex("3b 00 0000 01 00 c605"));
        let extension = Ipv6::parse(&bytes)
            .unwrap()
            .extensions()
            .next()
            .unwrap()
            .unwrap();
        let options: Vec<_> = extension.options().collect();
        assert_eq!(options, [Err(ParseError::BadOption { kind: 0xc6 })]);
    }

    proptest! {
        #[test]
        fn any_chain_stays_in_bounds(kind in 0usize..5, body: Vec<u8>) {
            let next = [0, 43, 44, 51, 60][kind];
            let mut walk = Ipv6Extensions::new(IpProtocol(next), &body);
            let mut used = 0;
            while let Some(Ok(extension)) = walk.next() {
                used += extension.wire_len();
                prop_assert_eq!(extension.wire_len(), extension.body().len() + 2);
                prop_assert!(extension.options().count() <= extension.body().len());
            }
            prop_assert_eq!(walk.used(), used);
            prop_assert_eq!(walk.rest(), &body[used..]);
            prop_assert!(walk.next().is_none());
        }
    }
}
