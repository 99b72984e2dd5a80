//! What a device can do, and what of that is switched on.

use linecard_hal::{Offloads, PortConfig};

use super::DpdkPort;
use crate::eal::{self, Pages};
use crate::sys::port::Config;
use crate::tx::ANY_LENGTH;
use crate::{DATA_ROOM, sys};

/// Drivers that hand over frames whose checksums their peer has left unfinished, once they are asked for
/// the state of checksums.
const PARTIAL_CHECKSUMS: [&str; 3] = ["net_virtio", "net_virtio_user", "net_vhost"];

/// Drivers that carry frames of any length, whatever the MTU says.
const MTU_IS_FORMAL: [&str; 6] = [
    "net_null",
    "net_ring",
    "net_pcap",
    "net_memif",
    "net_vhost",
    "net_virtio_user",
];

/// Ethernet's header and two tags.
const MAX_L2_LEN: usize = 14 + 8;

/// The largest data room of a pool with the usual headroom.
const MAX_DATA_ROOM: u16 = 65_407;

impl DpdkPort {
    pub(super) fn driver(&self) -> String {
        let bytes = self.info.driver.map(|c| c as u8);
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// The data room that takes any frame of the MTU in one segment.
    pub(super) fn data_room(&self) -> u16 {
        let frame = u32::from(self.info.mtu) + u32::from(self.info.overhead);
        let least = self.info.min_rx_buffer.max(u32::from(DATA_ROOM));
        if frame <= least || self.can(Offloads::RX_SCATTER) {
            least.min(u32::from(MAX_DATA_ROOM)) as u16
        } else {
            frame.min(u32::from(MAX_DATA_ROOM)) as u16
        }
    }

    /// The longest frame that it sends: with two tags. The MTU of some virtual devices is a formality.
    pub(super) fn longest(&self) -> usize {
        if MTU_IS_FORMAL.contains(&self.driver().as_str()) {
            return ANY_LENGTH;
        }
        usize::from(self.info.mtu) + MAX_L2_LEN
    }

    /// What the device can do, whatever is switched on.
    pub(super) fn able(&self) -> Offloads {
        let mut able = Offloads::from_bits_truncate(self.info.offloads);
        let driver = self.driver();
        if PARTIAL_CHECKSUMS.contains(&driver.as_str()) {
            able -= Offloads::RX_CKSUM;
        }
        if driver == "net_tap" {
            // It cuts super-frames in software, with another idea of their checksum than ours.
            able -= Offloads::TX_TCP_SEG | Offloads::TX_UDP_SEG;
        }
        able
    }

    pub(super) fn can(&self, offload: Offloads) -> bool {
        self.able().contains(offload)
    }

    pub(super) fn offloads(&self) -> Offloads {
        let wanted = self.config.as_ref().map_or(Offloads::all(), |c| c.offloads);
        let mut on = self.able() & wanted;
        // Costs a slower receive function in many drivers, so only where it is needed. Virtual devices
        // hand over chains whatever they were asked for.
        let frame = u32::from(self.info.mtu) + u32::from(self.info.overhead);
        if frame <= u32::from(self.data_room())
            && (!self.target.is_virtual() || self.driver() == "net_null")
        {
            on -= Offloads::RX_SCATTER;
        } else if self.target.is_virtual() {
            on |= Offloads::RX_SCATTER;
        }
        on
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!(
            "{} with its driver {}",
            sys::eal::version(),
            self.driver()
        )];
        notes.push(match eal::pages() {
            Some(Pages::Huge) => "DPDK's own data is in hugepages".into(),
            _ => "no hugepages for DPDK's own data: it runs on ordinary pages".into(),
        });
        if self.target.shares_memory() {
            notes.push("pools are in DPDK's own memory, which the back end maps: no copies".into());
        }
        let wanted = self.config.as_ref().map_or(Offloads::all(), |c| c.offloads);
        let lacking = (wanted - self.able())
            & (Offloads::TX_IPV4_CKSUM
                | Offloads::TX_UDP_CKSUM
                | Offloads::TX_TCP_CKSUM
                | Offloads::TX_TCP_SEG
                | Offloads::TX_UDP_SEG
                | Offloads::TX_VLAN_INSERT
                | Offloads::TX_MULTI_SEGS);
        if !lacking.is_empty() {
            notes.push(format!("in software: {}", lacking.names().join(", ")));
        }
        if !self.info.rss && self.config.as_ref().is_some_and(|c| c.queues > 1) {
            notes
                .push("the device spreads flows over its queues as it likes: it has no RSS".into());
        }
        notes
    }

    pub(super) fn config_for(&self, config: &PortConfig) -> Config {
        let rss = self.info.rss && config.queues > 1;
        let mut offloads = self.offloads();
        if !rss {
            // A driver that spreads nothing has no hash to give, and some refuse to be asked for it.
            offloads -= Offloads::RX_RSS_HASH;
        }
        Config {
            mtu: self.info.mtu,
            offloads: offloads.bits() & self.info.offloads,
            rss,
            lsc: self.info.lsc,
            rmv: self.info.rmv,
            rx_interrupts: true,
            ..Config::default()
        }
    }
}
