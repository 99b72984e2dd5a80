//! The virtio-net header: how the kernel says what is unfinished in a frame, and how it is told.
//!
//! Ten bytes before the frame, in the machine's byte order (`linux/virtio_net.h`, legacy layout). A host
//! leaves the checksum to its NIC, and cuts large sends there too; over a veth such frames arrive as
//! they are, with this header beside them. [`VnetHdr::requests`] turns it into the mbuf's transmit
//! requests and [`VnetHdr::for_transmit`] turns those back, so an unchanged mbuf leaves as it came.

use linecard_hal::{MbufFlags, TxOffload};

use crate::frame::Layout;

/// Bytes of the header.
pub(crate) const VNET_LEN: usize = 10;

/// The checksum has to be finished: the sum from `csum_start` on goes to `csum_offset` behind it.
pub(crate) const F_NEEDS_CSUM: u8 = 1;
/// The checksum was verified.
pub(crate) const F_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// The first segment alone carries CWR (RFC 3168, section 6.1.2).
const GSO_ECN: u8 = 0x80;

const TCP_CSUM_OFFSET: u16 = 16;
const UDP_CSUM_OFFSET: u16 = 6;

/// `struct virtio_net_hdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct VnetHdr {
    pub(crate) flags: u8,
    pub(crate) gso_type: u8,
    pub(crate) hdr_len: u16,
    pub(crate) gso_size: u16,
    pub(crate) csum_start: u16,
    pub(crate) csum_offset: u16,
}

/// What a received header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nothing.
    Nothing,
    /// These transmit requests, with these lengths.
    Requests(MbufFlags, TxOffload),
    /// A checksum that no request can express; to be finished at once.
    FinishNow,
    /// Something that cannot be expressed at all.
    Unknown,
}

impl VnetHdr {
    /// Reads the ten bytes.
    #[inline(always)]
    pub(crate) fn from_bytes(b: [u8; VNET_LEN]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([b[at], b[at + 1]]);
        Self {
            flags: b[0],
            gso_type: b[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }

    /// Writes the ten bytes.
    #[inline(always)]
    pub(crate) fn to_bytes(self) -> [u8; VNET_LEN] {
        let mut b = [0; VNET_LEN];
        (b[0], b[1]) = (self.flags, self.gso_type);
        for (at, word) in [
            (2, self.hdr_len),
            (4, self.gso_size),
            (6, self.csum_start),
            (8, self.csum_offset),
        ] {
            b[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        b
    }

    /// Whether there is nothing to do.
    #[inline(always)]
    pub(crate) fn is_plain(self) -> bool {
        self.flags & F_NEEDS_CSUM == 0 && self.gso_type == GSO_NONE
    }

    /// What the header of a received frame asks for. `start` are the frame's first bytes.
    pub(crate) fn requests(self, start: &[u8]) -> Wanted {
        if self.is_plain() {
            return Wanted::Nothing;
        }
        let gso = self.gso_type & !GSO_ECN;
        if self.flags & F_NEEDS_CSUM == 0 {
            // A super-frame whose checksum is whole: a NIC merged received segments (LRO). There is no
            // request that says so.
            return Wanted::Unknown;
        }
        let Some(wanted) = self.express(gso, start) else {
            return if gso == GSO_NONE {
                Wanted::FinishNow
            } else {
                Wanted::Unknown
            };
        };
        wanted
    }

    fn express(self, gso: u8, start: &[u8]) -> Option<Wanted> {
        let layout = Layout::of(start)?;
        if self.csum_start != layout.l4_at() {
            return None;
        }
        let ip = if layout.ipv6 {
            MbufFlags::TX_IPV6
        } else {
            MbufFlags::TX_IPV4
        };
        let (l4, l4_len) = match (layout.protocol, self.csum_offset) {
            (6, TCP_CSUM_OFFSET) => (MbufFlags::TX_TCP_CKSUM, layout.tcp_len(start)?),
            (17, UDP_CSUM_OFFSET) => (MbufFlags::TX_UDP_CKSUM, 8),
            _ => return None,
        };
        let segmentation = match (gso, layout.protocol, layout.ipv6) {
            (GSO_NONE, _, _) => MbufFlags::empty(),
            (GSO_TCPV4, 6, false) | (GSO_TCPV6, 6, true) => MbufFlags::TX_TCP_SEG,
            (GSO_UDP_L4, 17, _) => MbufFlags::TX_UDP_SEG,
            _ => return None,
        };
        if gso != GSO_NONE && self.gso_size == 0 {
            return None;
        }
        let lengths = TxOffload {
            l2_len: layout.l2_len,
            l3_len: layout.l3_len,
            l4_len,
            tso_segsz: if gso == GSO_NONE { 0 } else { self.gso_size },
        };
        lengths
            .fits()
            .then_some(Wanted::Requests(ip | l4 | segmentation, lengths))
    }

    /// The header for a frame with these requests. `cwr` says whether the TCP header has CWR set; it is
    /// asked only for super-frames. `None` if the lengths do not fit a header.
    #[inline]
    pub(crate) fn for_transmit(
        flags: MbufFlags,
        lengths: TxOffload,
        cwr: impl FnOnce(usize) -> bool,
    ) -> Option<Self> {
        let (tcp_seg, udp_seg) = (
            flags.contains(MbufFlags::TX_TCP_SEG),
            flags.contains(MbufFlags::TX_UDP_SEG),
        );
        let l4 = flags & MbufFlags::TX_L4_MASK;
        if l4.is_empty() && !tcp_seg && !udp_seg {
            return Some(Self::default());
        }
        let csum_start = lengths.l2_len + lengths.l3_len; // At most 127 + 511.
        if csum_start == 0 {
            return None;
        }
        let mut header = Self {
            flags: F_NEEDS_CSUM,
            csum_start,
            csum_offset: if tcp_seg || !udp_seg && l4 == MbufFlags::TX_TCP_CKSUM {
                TCP_CSUM_OFFSET
            } else {
                UDP_CSUM_OFFSET
            },
            ..Self::default()
        };
        if tcp_seg || udp_seg {
            if lengths.tso_segsz == 0 {
                return None;
            }
            header.gso_type = match (tcp_seg, flags.contains(MbufFlags::TX_IPV6)) {
                (true, false) => GSO_TCPV4,
                (true, true) => GSO_TCPV6,
                (false, _) => GSO_UDP_L4,
            };
            if tcp_seg && cwr(csum_start as usize) {
                header.gso_type |= GSO_ECN;
            }
            header.gso_size = lengths.tso_segsz;
            header.hdr_len = csum_start + lengths.l4_len;
        }
        Some(header)
    }
}

#[cfg(test)]
mod tests;
