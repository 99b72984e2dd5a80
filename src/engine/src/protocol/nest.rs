//! How deep in tunnels a packet is, and by whose doing.

use linecard_hal::{Mbuf, MbufFlags};
use linecard_wire::{Layers, parse_ip_layers, parse_layers};

use super::demux::ProtocolIndex;

/// Levels of tunnels that are unwrapped.
pub const MOST_LEVELS: usize = 8;

/// The most protocols of an engine: their numbers have five bits in a level.
pub(super) const MOST_PROTOCOLS: usize = 31;

/// The longest outer headers: ten bits.
const MOST_BYTES: u16 = 0x3ff;

/// The way in to an inner packet: who unwrapped how many bytes, the outermost first. Small, because it crosses
/// between workers with the packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Nest {
    levels: [u16; MOST_LEVELS],
    depth: u8,
    /// A protocol has handed it off: it stays here.
    pub(super) handed: bool,
    /// Its owner has passed it on: it belongs to the rest, also on another worker.
    pub(super) passed: bool,
    /// The outermost frame had a tag that the port took off and is to put back.
    tagged: bool,
}

/// One level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    /// Who unwrapped it.
    pub(super) by: ProtocolIndex,
    /// Whether what is inside begins with an IP header, not with an Ethernet header.
    is_ip: bool,
    /// Bytes of the outer headers.
    bytes: u16,
}

/// Why it goes no deeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoFurther {
    /// There is no level left.
    TooDeep,
    /// The packet is shorter than its outer headers.
    TooShort,
}

impl Level {
    fn pack(self) -> u16 {
        u16::from(self.by) << 11 | u16::from(self.is_ip) << 10 | self.bytes
    }

    fn unpack(bits: u16) -> Self {
        Self {
            by: (bits >> 11) as ProtocolIndex,
            is_ip: bits & 1 << 10 != 0,
            bytes: bits & MOST_BYTES,
        }
    }
}

impl Nest {
    /// Whether it is in no tunnel: nothing was taken off it.
    #[inline(always)]
    pub(super) fn is_outermost(&self) -> bool {
        self.depth == 0 || self.levels.iter().all(|bits| bits & MOST_BYTES == 0)
    }

    /// Takes the outer headers off.
    pub(super) fn enter(
        &mut self,
        mbuf: &mut Mbuf,
        by: ProtocolIndex,
        is_ip: bool,
        bytes: u16,
    ) -> Result<(), NoFurther> {
        let place = self.levels.get_mut(usize::from(self.depth));
        let place = place.ok_or(NoFurther::TooDeep)?;
        if bytes > MOST_BYTES || !mbuf.adjust(usize::from(bytes)) {
            return Err(NoFurther::TooShort);
        }
        *place = Level { by, is_ip, bytes }.pack();
        self.depth += 1;
        self.handed = false;
        self.passed = false;
        if bytes > 0 {
            self.leave_outer_requests(mbuf, bytes);
        }
        Ok(())
    }

    /// What was found and asked for of the outer headers does not hold for the inner ones.
    fn leave_outer_requests(&mut self, mbuf: &mut Mbuf, bytes: u16) {
        let mut flags = mbuf.flags();
        self.tagged |= flags.contains(MbufFlags::TX_VLAN);
        flags -= MbufFlags::TX_VLAN
            | MbufFlags::RX_VLAN
            | MbufFlags::RX_VLAN_STRIPPED
            | MbufFlags::RX_IP_CKSUM_GOOD
            | MbufFlags::RX_IP_CKSUM_BAD;
        let mut lens = mbuf.tx_offload();
        match lens.l2_len.checked_sub(bytes) {
            // Lengths are counted from the outer header, but the request is for the inner packet.
            Some(l2_len) => lens.l2_len = l2_len,
            None => flags -= MbufFlags::TX_REQUESTS | MbufFlags::RX_L4_CKSUM_NONE,
        }
        mbuf.set_tx_offload(lens);
        mbuf.set_flags(flags);
    }

    /// Puts the innermost of the outer headers back, as they came; who had taken them off. `None` if there are
    /// none, or if their place is not there any more. Levels at which nothing was taken off are no tunnels.
    pub(super) fn leave(&mut self, mbuf: &mut Mbuf) -> Option<ProtocolIndex> {
        let level = loop {
            let last = self.depth.checked_sub(1)?;
            let place = self.levels.get_mut(usize::from(last))?;
            let level = Level::unpack(core::mem::take(place));
            self.depth = last;
            if level.bytes > 0 {
                break level;
            }
        };
        mbuf.prepend(usize::from(level.bytes))?;
        let mut lens = mbuf.tx_offload();
        if mbuf.flags().intersects(MbufFlags::TX_REQUESTS) {
            lens.l2_len += level.bytes;
            if !lens.fits() {
                return None;
            }
            mbuf.set_tx_offload(lens);
        }
        if self.depth == 0 && self.tagged {
            self.tagged = false;
            mbuf.set_flags(mbuf.flags() | MbufFlags::TX_VLAN);
        }
        Some(level.by)
    }

    /// The headers of the packet as it lies at this level.
    pub(super) fn headers(&self, mbuf: &Mbuf) -> Layers {
        let innermost = self.depth.checked_sub(1);
        let bits = innermost.and_then(|last| self.levels.get(usize::from(last)));
        match bits.map(|bits| Level::unpack(*bits)) {
            Some(Level { is_ip: true, .. }) => parse_ip_layers(mbuf.data()),
            _ => parse_layers(mbuf.data()),
        }
    }
}

#[cfg(test)]
mod tests {
    use linecard_hal::{Mempool, MempoolConfig, TxOffload};

    use super::*;

    #[test]
    fn in_and_out_again() {
        let pool = Mempool::new(MempoolConfig::new("nest", 4)).unwrap();
        let mut mbuf = pool.alloc().unwrap();
        mbuf.append(100).unwrap()[42] = 0x45;
        mbuf.set_flags(MbufFlags::TX_VLAN | MbufFlags::TX_UDP_CKSUM);
        mbuf.set_tx_offload(TxOffload {
            l2_len: 50,
            l3_len: 20,
            ..TxOffload::default()
        });
        let mut nest = Nest::default();
        nest.enter(&mut mbuf, 30, true, 42).unwrap();
        assert_eq!((mbuf.data()[0], mbuf.tx_offload().l2_len), (0x45, 8));
        assert_eq!(
            mbuf.flags() & MbufFlags::TX_REQUESTS,
            MbufFlags::TX_UDP_CKSUM
        );
        nest.enter(&mut mbuf, 2, false, 20).unwrap();
        assert!(!mbuf.flags().intersects(MbufFlags::TX_REQUESTS));
        assert_eq!(nest.leave(&mut mbuf), Some(2));
        assert!(!nest.is_outermost() && nest.headers(&mbuf).malformed);
        assert_eq!(nest.leave(&mut mbuf), Some(30));
        assert_eq!((mbuf.frame_len(), mbuf.flags()), (100, MbufFlags::TX_VLAN));
        nest.enter(&mut mbuf, 3, false, 0).unwrap();
        assert!(nest.is_outermost());
        assert_eq!(nest.leave(&mut mbuf), None);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let pool = Mempool::new(MempoolConfig::new("nest", 4)).unwrap();
        let mut mbuf = pool.alloc().unwrap();
        mbuf.append(60).unwrap();
        let mut nest = Nest::default();
        assert_eq!(nest.enter(&mut mbuf, 0, true, 61), Err(NoFurther::TooShort));
        for _ in 0..MOST_LEVELS {
            nest.enter(&mut mbuf, 0, true, 1).unwrap();
        }
        assert_eq!(nest.enter(&mut mbuf, 0, true, 1), Err(NoFurther::TooDeep));
        assert_eq!(mbuf.frame_len(), 60 - MOST_LEVELS);
        assert!(size_of::<Nest>() <= 20);
    }
}
