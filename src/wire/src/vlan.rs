//! VLAN tags: IEEE 802.1Q clause 9, stacked as in 802.1ad (QinQ).
//!
//! A tag is four bytes between the source address and the ethertype: its TPID stands where the
//! ethertype was, then come two bytes of tag control information. Up to [`MAX_TAGS`] are looked
//! through, a service tag and a customer tag; what lies under more is not classified, here as in
//! most NICs.

use crate::bytes::Header;
use crate::{EmitError, EtherType, ParseError};
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// How many tags are looked through.
pub const MAX_TAGS: usize = 2;
/// The length of one tag.
pub const TAG_LEN: usize = 4;

/// A tag: which kind, and its sixteen bits of control information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// [`EtherType::VLAN`] or [`EtherType::QINQ`].
    pub tpid: EtherType,
    /// Priority (3 bits), drop eligible (1 bit) and VLAN identifier (12 bits).
    pub tci: u16,
}

impl VlanTag {
    /// A customer tag (802.1Q) for VLAN `vid`, priority 0. Only the low 12 bits of `vid` count.
    #[inline]
    pub const fn new(vid: u16) -> Self {
        Self {
            tpid: EtherType::VLAN,
            tci: vid & 0x0fff,
        }
    }

    /// The VLAN identifier; 0 is a priority tag without a VLAN.
    #[inline]
    pub const fn vid(self) -> u16 {
        self.tci & 0x0fff
    }

    /// The priority code point.
    #[inline]
    pub const fn priority(self) -> u8 {
        (self.tci >> 13) as u8
    }

    /// The drop eligible indicator.
    #[inline]
    pub const fn drop_eligible(self) -> bool {
        self.tci & 0x1000 != 0
    }
}

/// What stands after a TPID on the wire.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TagBody {
    tci: U16,
    ethertype: U16,
}

/// A frame's payload with the tags taken off.
#[derive(Clone, Copy, Debug)]
pub struct Untagged<'a> {
    tags: [VlanTag; MAX_TAGS],
    count: u8,
    ethertype: EtherType,
    payload: &'a [u8],
}

impl<'a> Untagged<'a> {
    /// Looks through the tags of a frame with this `ethertype` and `payload`, as an Ethernet
    /// header gives them.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] if a tag is cut short, [`ParseError::TooManyTags`] above
    /// [`MAX_TAGS`].
    #[inline]
    pub fn parse(ethertype: EtherType, payload: &'a [u8]) -> Result<Self, ParseError> {
        let mut this = Self {
            tags: Default::default(),
            count: 0,
            ethertype,
            payload,
        };
        for place in &mut this.tags {
            if !this.ethertype.is_vlan() {
                return Ok(this);
            }
            let (body, rest) = TagBody::cut(this.payload)?;
            *place = VlanTag {
                tpid: this.ethertype,
                tci: body.tci.get(),
            };
            this.ethertype = EtherType(body.ethertype.get());
            this.payload = rest;
            this.count += 1;
        }
        if this.ethertype.is_vlan() {
            return Err(ParseError::TooManyTags);
        }
        Ok(this)
    }

    /// The tags, outermost first.
    #[inline]
    pub fn tags(&self) -> &[VlanTag] {
        self.tags.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// The length of Ethernet header and tags together.
    #[inline]
    pub fn l2_len(&self) -> usize {
        crate::ethernet::HEADER_LEN + TAG_LEN * usize::from(self.count)
    }

    /// What the payload is.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        self.ethertype
    }

    /// What follows the last tag.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Inserts an outermost tag by moving the two addresses, never the payload.
///
/// `buf` begins four bytes *before* the frame, that is, where the frame begins afterwards (with an
/// mbuf: push four bytes of headroom, then call this). Sixteen bytes are touched.
///
/// # Errors
/// [`EmitError::NoRoom`] if `buf` is shorter than a tagged Ethernet header.
///
/// ```
/// use linecard_wire::vlan::{VlanTag, insert_tag, remove_tag};
///
/// let mut buf = *b"....DDDDDDSSSSSS\x08\x00payload";
/// insert_tag(&mut buf, VlanTag::new(42))?;
/// assert_eq!(&buf, b"DDDDDDSSSSSS\x81\x00\x00\x2a\x08\x00payload");
/// assert_eq!(remove_tag(&mut buf), Ok(Some(VlanTag::new(42))));
/// assert_eq!(&buf[4..], b"DDDDDDSSSSSS\x08\x00payload");
/// # Ok::<(), linecard_wire::EmitError>(())
/// ```
#[inline]
pub fn insert_tag(buf: &mut [u8], tag: VlanTag) -> Result<(), EmitError> {
    let have = buf.len();
    let Some(head) = buf.first_chunk_mut::<18>() else {
        return Err(EmitError::NoRoom { need: 18, have });
    };
    head.copy_within(4..16, 0);
    let [t0, t1] = tag.tpid.0.to_be_bytes();
    let [c0, c1] = tag.tci.to_be_bytes();
    head[12..16].copy_from_slice(&[t0, t1, c0, c1]);
    Ok(())
}

/// Removes the outermost tag, if there is one, by moving the two addresses. The frame then begins
/// four bytes into `frame` (with an mbuf: pull four bytes off the front if this returns a tag).
///
/// # Errors
/// [`ParseError::Truncated`] if the frame ends within its header or tag.
#[inline]
pub fn remove_tag(frame: &mut [u8]) -> Result<Option<VlanTag>, ParseError> {
    let have = frame.len();
    let Some(head) = frame.first_chunk::<14>() else {
        return Err(ParseError::Truncated { need: 14, have });
    };
    let tpid = EtherType(u16::from_be_bytes([head[12], head[13]]));
    if !tpid.is_vlan() {
        return Ok(None);
    }
    let Some(head) = frame.first_chunk_mut::<18>() else {
        return Err(ParseError::Truncated { need: 18, have });
    };
    let tag = VlanTag {
        tpid,
        tci: u16::from_be_bytes([head[14], head[15]]),
    };
    head.copy_within(0..12, 4);
    Ok(Some(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ethernet;
    use crate::testing::hex;
    use proptest::prelude::*;
    use std::vec::Vec;

    const MACS: &str = "020000000002 020000000001";

    fn frame(tail: &str) -> Vec<u8> {
        let mut frame = hex(MACS);
        frame.extend_from_slice(&hex(tail));
        frame
    }

    #[test]
    fn reads_none_one_and_two_tags() {
        let bytes = frame("0800 4500");
        let plain = Ethernet::parse(&bytes).unwrap().untagged().unwrap();
        assert_eq!((plain.tags(), plain.l2_len()), (&[][..], 14));

        let bytes = frame("8100 b02a 86dd 6000");
        let one = Ethernet::parse(&bytes).unwrap().untagged().unwrap();
        assert_eq!((one.ethertype(), one.l2_len()), (EtherType::IPV6, 18));
        assert_eq!(one.payload(), [0x60, 0]);
        let tag = one.tags()[0];
        assert_eq!(
            (tag.vid(), tag.priority(), tag.drop_eligible()),
            (42, 5, true)
        );

        let bytes = frame("88a8 0064 8100 000a 0806 0001");
        let two = Ethernet::parse(&bytes).unwrap().untagged().unwrap();
        assert_eq!((two.ethertype(), two.l2_len()), (EtherType::ARP, 22));
        assert_eq!(
            two.tags()[0],
            VlanTag {
                tpid: EtherType::QINQ,
                tci: 100
            }
        );
        assert_eq!(two.tags()[1], VlanTag::new(10));
    }

    #[test]
    fn refuses_three_tags_and_short_ones() {
        let bytes = frame("88a8 0064 8100 000a 8100 0001 0800");
        let error = Ethernet::parse(&bytes).unwrap().untagged().unwrap_err();
        assert_eq!(error, ParseError::TooManyTags);
        let bytes = frame("8100 00");
        let error = Ethernet::parse(&bytes).unwrap().untagged().unwrap_err();
        assert_eq!(error, ParseError::Truncated { need: 4, have: 1 });
    }

    #[test]
    fn insert_and_remove_need_a_whole_header() {
        assert!(insert_tag(&mut [0; 17], VlanTag::new(1)).is_err());
        assert!(remove_tag(&mut [0; 13]).is_err());
        let mut short = frame("8100 0001");
        assert_eq!(
            remove_tag(&mut short),
            Err(ParseError::Truncated { need: 18, have: 16 })
        );
        assert_eq!(remove_tag(&mut frame("0800")), Ok(None));
    }

    proptest! {
        #[test]
        fn remove_undoes_insert(
            body in proptest::collection::vec(any::<u8>(), 14..100),
            tci: u16,
            service: bool,
        ) {
            let tpid = if service { EtherType::QINQ } else { EtherType::VLAN };
            let tag = VlanTag { tpid, tci };
            let mut buf = std::vec![0; 4];
            buf.extend_from_slice(&body);
            insert_tag(&mut buf, tag).unwrap();
            prop_assert_eq!(&buf[..12], &body[..12]);
            prop_assert_eq!(&buf[16..], &body[12..]);
            if let Ok(untagged) = Ethernet::parse(&buf).unwrap().untagged() {
                prop_assert_eq!(untagged.tags()[0], tag);
            }
            prop_assert_eq!(remove_tag(&mut buf), Ok(Some(tag)));
            prop_assert_eq!(&buf[4..], &body[..]);
        }

        #[test]
        fn any_bytes(ethertype: u16, bytes: Vec<u8>) {
            if let Ok(untagged) = Untagged::parse(EtherType(ethertype), &bytes) {
                prop_assert!(bytes.ends_with(untagged.payload()));
                prop_assert_eq!(untagged.payload().len() + untagged.l2_len(), bytes.len() + 14);
                prop_assert!(!untagged.ethertype().is_vlan());
            }
        }
    }
}
