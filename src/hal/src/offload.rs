//! What a frame still needs, what a port has already done, and what a port is able to do.
//!
//! Bits and their positions are those of DPDK's `RTE_MBUF_F_*` (`rte_mbuf_core.h`), so that a driver
//! of either kind reads and writes the same word.
//!
//! One rule makes forwarding transparent: **a driver that takes something off a frame on receive also
//! sets the request that puts it back on transmit.** A stripped VLAN tag arrives with
//! [`MbufFlags::TX_VLAN`], a checksum that the sending host left unfinished with
//! [`MbufFlags::TX_TCP_CKSUM`], a segmentation super-frame with [`MbufFlags::TX_TCP_SEG`]. A stage that
//! forwards the mbuf unchanged thus puts the same frame back on the wire; one that wants something
//! else changes the flags. A request that the transmitting port cannot take is carried out in software
//! by the engine before the port sees the mbuf.

bitflags::bitflags! {
    /// Per-mbuf flags: receive status and transmit requests.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct MbufFlags: u64 {
        /// The frame carried a VLAN tag; its TCI is in the mbuf.
        const RX_VLAN = 1 << 0;
        /// The RSS hash is in the mbuf.
        const RX_RSS_HASH = 1 << 1;
        /// A flow rule matched and its mark is in the mbuf.
        const RX_FDIR = 1 << 2;
        /// Layer-4 checksum: wrong. Together with [`Self::RX_L4_CKSUM_GOOD`] it means "not computed,
        /// but the data is known to be intact" (a virtual link).
        const RX_L4_CKSUM_BAD = 1 << 3;
        /// IPv4 header checksum: wrong.
        const RX_IP_CKSUM_BAD = 1 << 4;
        /// The VLAN tag is in the mbuf and no longer in the data.
        const RX_VLAN_STRIPPED = 1 << 6;
        /// IPv4 header checksum: right.
        const RX_IP_CKSUM_GOOD = 1 << 7;
        /// Layer-4 checksum: right.
        const RX_L4_CKSUM_GOOD = 1 << 8;
        /// The mark of the flow rule that matched is in the mbuf.
        const RX_FDIR_ID = 1 << 13;
        /// Two tags were stripped; the outer TCI is in the mbuf too.
        const RX_QINQ_STRIPPED = 1 << 15;
        /// Several frames of a stream merged into one; `tso_segsz` is the segment size.
        const RX_LRO = 1 << 16;
        /// Two tags were recognised.
        const RX_QINQ = 1 << 20;
        /// The receive time is in the mbuf. (DPDK's first dynamic flag.)
        const RX_TIMESTAMP = 1 << 23;
        /// The bytes are shared with a clone although the buffer is external. (Dynamic flag.)
        const SHARED = 1 << 24;
        /// The outer of two tags is 802.1ad (0x88a8), not 802.1Q. (Dynamic flag.)
        const VLAN_8021AD = 1 << 25;

        /// Cut the UDP payload into datagrams of `tso_segsz` bytes.
        const TX_UDP_SEG = 1 << 42;
        /// Insert the outer VLAN tag as well.
        const TX_QINQ = 1 << 49;
        /// Cut the TCP payload into segments of `tso_segsz` bytes. Implies the TCP checksum.
        const TX_TCP_SEG = 1 << 50;
        /// Finish the TCP checksum; the field holds the pseudo-header sum.
        const TX_TCP_CKSUM = 1 << 52;
        /// Both bits: finish the UDP checksum; the field holds the pseudo-header sum.
        const TX_UDP_CKSUM = 3 << 52;
        /// Compute the IPv4 header checksum.
        const TX_IP_CKSUM = 1 << 54;
        /// The frame is IPv4 (goes with the requests above).
        const TX_IPV4 = 1 << 55;
        /// The frame is IPv6 (goes with the requests above).
        const TX_IPV6 = 1 << 56;
        /// Insert the VLAN tag whose TCI is in the mbuf.
        const TX_VLAN = 1 << 57;

        /// The buffer belongs to somebody else and is returned through a callback.
        const EXTERNAL = 1 << 61;
        /// The buffer is that of another mbuf.
        const INDIRECT = 1 << 62;
        const _ = !0;
    }
}

impl MbufFlags {
    /// The two bits of the layer-4 checksum request, to be compared with
    /// [`Self::TX_TCP_CKSUM`] or [`Self::TX_UDP_CKSUM`].
    pub const TX_L4_MASK: Self = Self::from_bits_retain(3 << 52);
    /// "Checksum not computed, data known to be intact": what a host leaves to its NIC.
    pub const RX_L4_CKSUM_NONE: Self =
        Self::from_bits_retain(Self::RX_L4_CKSUM_BAD.bits() | Self::RX_L4_CKSUM_GOOD.bits());
    /// Every request that a transmitting port, or the engine for it, has to carry out.
    pub const TX_REQUESTS: Self = Self::from_bits_retain(
        Self::TX_UDP_SEG.bits()
            | Self::TX_QINQ.bits()
            | Self::TX_TCP_SEG.bits()
            | Self::TX_L4_MASK.bits()
            | Self::TX_IP_CKSUM.bits()
            | Self::TX_VLAN.bits(),
    );
    /// The buffer is not the mbuf's own.
    pub(crate) const NOT_DIRECT: Self =
        Self::from_bits_retain(Self::EXTERNAL.bits() | Self::INDIRECT.bits());
}

bitflags::bitflags! {
    /// What a port can do for a frame. Used both for what it is able to and for what is switched on.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Offloads: u32 {
        /// Takes the VLAN tag off and puts it into the mbuf.
        const RX_VLAN_STRIP = 1 << 0;
        /// Reports the state of IPv4 header and layer-4 checksums.
        const RX_CKSUM = 1 << 1;
        /// Stamps the receive time. Not among the [usual](Offloads::usual) ones.
        const RX_TIMESTAMP = 1 << 2;
        /// May deliver super-frames ([`MbufFlags::RX_LRO`]) and unfinished checksums
        /// ([`MbufFlags::RX_L4_CKSUM_NONE`]).
        const RX_SUPER_FRAMES = 1 << 3;
        /// May deliver a frame in several segments.
        const RX_SCATTER = 1 << 4;
        /// Puts the RSS hash into the mbuf.
        const RX_RSS_HASH = 1 << 5;
        /// Computes the IPv4 header checksum.
        const TX_IPV4_CKSUM = 1 << 8;
        /// Finishes the UDP checksum.
        const TX_UDP_CKSUM = 1 << 9;
        /// Finishes the TCP checksum.
        const TX_TCP_CKSUM = 1 << 10;
        /// Cuts TCP super-frames.
        const TX_TCP_SEG = 1 << 11;
        /// Cuts UDP super-frames.
        const TX_UDP_SEG = 1 << 12;
        /// Inserts a VLAN tag.
        const TX_VLAN_INSERT = 1 << 13;
        /// Sends frames of several segments.
        const TX_MULTI_SEGS = 1 << 14;
    }
}

impl Offloads {
    /// What is on unless somebody asks for something else: everything but receive times, which cost a
    /// driver that gets each frame by a system call some fifty nanoseconds a frame.
    pub const fn usual() -> Self {
        Self::all().difference(Self::RX_TIMESTAMP)
    }

    /// The transmit requests that a port with these offloads takes as they are. Requests outside this
    /// set must be carried out before the mbuf reaches the port.
    pub fn accepted_requests(self) -> MbufFlags {
        let mut accepted = MbufFlags::empty();
        for (offload, request) in [
            (Self::TX_IPV4_CKSUM, MbufFlags::TX_IP_CKSUM),
            (Self::TX_TCP_SEG, MbufFlags::TX_TCP_SEG),
            (Self::TX_UDP_SEG, MbufFlags::TX_UDP_SEG),
            (Self::TX_VLAN_INSERT, MbufFlags::TX_VLAN),
            // The layer-4 requests share two bits: accepted only together.
            (
                Self::TX_TCP_CKSUM | Self::TX_UDP_CKSUM,
                MbufFlags::TX_L4_MASK,
            ),
        ] {
            if self.contains(offload) {
                accepted |= request;
            }
        }
        accepted
    }

    /// The names of the offloads, for tables and JSON.
    pub fn names(self) -> Vec<&'static str> {
        self.iter_names().map(|(name, _)| name).collect()
    }
}

/// Header lengths that go with the transmit requests, in bytes: `rte_mbuf`'s `tx_offload` word.
///
/// Lengths that do not fit their bit field are the caller's error and are cut to the field;
/// [`TxOffload::fits`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TxOffload {
    /// Ethernet header with the tags that are in the data (at most 127).
    pub l2_len: u16,
    /// IP header with options or extension headers (at most 511).
    pub l3_len: u16,
    /// TCP or UDP header (at most 255).
    pub l4_len: u16,
    /// Payload bytes per segment.
    pub tso_segsz: u16,
}

impl TxOffload {
    /// Whether every length fits its bit field.
    pub fn fits(self) -> bool {
        self.l2_len < 1 << 7 && self.l3_len < 1 << 9 && self.l4_len < 1 << 8
    }

    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.l2_len & 0x7f)
            | u64::from(self.l3_len & 0x1ff) << 7
            | u64::from(self.l4_len & 0xff) << 16
            | u64::from(self.tso_segsz) << 24
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            l2_len: (bits & 0x7f) as u16,
            l3_len: (bits >> 7 & 0x1ff) as u16,
            l4_len: (bits >> 16 & 0xff) as u16,
            tso_segsz: (bits >> 24 & 0xffff) as u16,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn tx_offload_round_trips() {
        let t = TxOffload {
            l2_len: 18,
            l3_len: 60,
            l4_len: 32,
            tso_segsz: 1448,
        };
        assert!(t.fits());
        assert_eq!(TxOffload::from_bits(t.to_bits()), t);
        assert!(!TxOffload { l3_len: 512, ..t }.fits());
    }

    #[test]
    fn a_port_that_does_everything_accepts_every_request_but_qinq() {
        let left = MbufFlags::TX_REQUESTS - Offloads::all().accepted_requests();
        assert_eq!(left, MbufFlags::TX_QINQ);
        assert_eq!(Offloads::empty().accepted_requests(), MbufFlags::empty());
    }
}
