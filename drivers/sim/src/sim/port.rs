//! One port of a link: control plane.

use std::sync::atomic::Ordering;

use linecard_hal::{
    LinkState, MbufFlags, Mempool, Offloads, Port, PortConfig, PortError, PortErrorKind, PortInfo,
    QueuePair,
};

use super::link::Link;
use super::queue::{SimRx, SimTx};
use crate::common::{check_config, check_pools, mac_of, not_configured, still_running};

/// One end of a [`Link`]. See the [module](super) for what it does.
pub struct SimPort {
    link: Link,
    end: usize,
    config: Option<PortConfig>,
}

/// Everything that an unfinished frame may ask for.
const TX_OFFLOADS: Offloads = Offloads::TX_IPV4_CKSUM
    .union(Offloads::TX_UDP_CKSUM)
    .union(Offloads::TX_TCP_CKSUM)
    .union(Offloads::TX_TCP_SEG)
    .union(Offloads::TX_UDP_SEG)
    .union(Offloads::TX_VLAN_INSERT);
/// What a receiver of such frames must be ready for.
const RX_OFFLOADS: Offloads = Offloads::RX_SUPER_FRAMES
    .union(Offloads::RX_VLAN_STRIP)
    .union(Offloads::RX_CKSUM);

impl SimPort {
    pub(crate) fn new(link: Link, end: usize) -> Self {
        Self {
            link,
            end,
            config: None,
        }
    }

    /// The link that this is an end of.
    pub fn handle(&self) -> Link {
        self.link.clone()
    }

    fn name(&self) -> &str {
        &self.link.0.config.names[self.end]
    }

    fn peer(&self) -> usize {
        1 - self.end
    }

    fn offloads(&self) -> Offloads {
        let mut offloads = Offloads::RX_SCATTER | Offloads::TX_MULTI_SEGS;
        if self.link.0.config.offload {
            offloads |= TX_OFFLOADS | RX_OFFLOADS;
        }
        if self.link.0.directions[self.peer()].is_impaired() {
            offloads |= Offloads::RX_TIMESTAMP;
        }
        match &self.config {
            // One queue needs no hash, so none is computed.
            Some(config) if config.queues > 1 => {
                (offloads | Offloads::RX_RSS_HASH) & config.offloads
            }
            Some(config) => offloads & config.offloads,
            None if self.link.0.config.max_queues > 1 => offloads | Offloads::RX_RSS_HASH,
            None => offloads,
        }
    }

    /// Whether receive queues can sleep: not in virtual time, which only the test moves.
    fn can_wait(&self) -> bool {
        self.link.0.config.clock.is_real() || !self.link.0.directions[self.peer()].is_impaired()
    }

    fn notes(&self) -> Vec<String> {
        let shared = &self.link.0;
        let mut notes = vec![format!("linked to {}", shared.config.names[self.peer()])];
        if let Some(channel) = shared.directions[self.end].channel() {
            notes.push(format!(
                "sends with {:?}, seed={}",
                channel.impairments(),
                shared.config.seed
            ));
        }
        notes
    }
}

impl Port for SimPort {
    fn info(&self) -> PortInfo {
        PortInfo {
            name: self.name().to_owned(),
            driver: "sim",
            mac: Some(mac_of(self.name())),
            mtu: self.link.0.config.mtu,
            node: None,
            speed_mbps: self.link.0.directions[self.end]
                .channel()
                .and_then(|c| c.impairments().rate)
                .map(|rate| u32::try_from(rate.bits_per_s / 1_000_000).unwrap_or(u32::MAX)),
            speed_is_nominal: false,
            max_queues: self.link.0.config.max_queues,
            // Received mbufs are the sender's; only copies come from the receiver's pool, and those may
            // be chains.
            data_room: 64,
            offloads: self.offloads(),
            can_wait: self.can_wait(),
            notes: self.notes(),
            rungs: Vec::new(),
        }
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        let state = &self.link.0.ends[self.end];
        if state.out.load(Ordering::Acquire) > 0 {
            return Err(still_running(self.name()));
        }
        check_config(self.name(), config, self.link.0.config.max_queues)?;
        if self.link.0.config.offload && !config.offloads.contains(RX_OFFLOADS) {
            let missing = (RX_OFFLOADS - config.offloads).names().join(", ");
            let what =
                format!("a link with offload=1 delivers unfinished frames, but {missing} is off");
            return Err(PortError::new(self.name(), PortErrorKind::Config, what)
                .remedy("switch it on, or open the link with offload=0"));
        }
        state.queues.store(config.queues, Ordering::Release);
        self.config = Some(config.clone());
        Ok(())
    }

    fn mbufs_per_queue(&self) -> usize {
        // All that the peer's rings can hold may be ours, and each transmit queue holds up to a burst
        // while a ring is full. If the peer is not configured yet, it is taken to be as we are.
        let Some(config) = &self.config else { return 0 };
        let own = usize::from(config.queues);
        let peer = usize::from(self.link.0.ends[self.peer()].queues.load(Ordering::Acquire));
        let peer = if peer == 0 { own } else { peer };
        let depth = self.link.0.config.depth.next_power_of_two();
        (peer * depth).div_ceil(own) + config.burst
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        let config = self
            .config
            .clone()
            .ok_or_else(|| not_configured(self.name()))?;
        check_pools(self.name(), &config, pools)?;
        let queues = usize::from(config.queues);
        let shared = &self.link.0;
        let (sends, receives) = (
            &shared.directions[self.end],
            &shared.directions[self.peer()],
        );
        if shared.ends[self.end].out.load(Ordering::Acquire) > 0 {
            return Err(still_running(self.name()));
        }
        let outlets = receives
            .take_outlets(queues)
            .ok_or_else(|| still_running(self.name()))?;
        if let Some(mut channel) = receives.channel() {
            let depth = shared.config.depth.next_power_of_two();
            channel.open(pools[0].clone(), queues, depth);
        }
        let accepted = self.offloads().accepted_requests();
        let mut pairs = Vec::with_capacity(queues);
        for (i, outlet) in outlets.into_iter().enumerate() {
            let rx = SimRx::new(&self.link, self.end, i, outlet, &config, self.offloads());
            let tx = SimTx::new(
                &self.link,
                self.end,
                i,
                &config,
                accepted,
                sends.rings.clone(),
            );
            pairs.push(QueuePair {
                rx: Box::new(rx),
                tx: Box::new(tx),
            });
        }
        // From here on the peer may send.
        receives.receivers.store(config.queues, Ordering::Release);
        Ok(pairs)
    }

    fn stop(&mut self) -> Result<(), PortError> {
        let shared = &self.link.0;
        if shared.ends[self.end].out.load(Ordering::Acquire) > 0 {
            return Err(still_running(self.name()));
        }
        shared.directions[self.peer()]
            .receivers
            .store(0, Ordering::Release);
        if let Some(mut channel) = shared.directions[self.peer()].channel() {
            channel.close();
        }
        for direction in &shared.directions {
            direction.flush_if_stopped();
        }
        Ok(())
    }

    fn link(&self) -> LinkState {
        let both = self
            .link
            .0
            .ends
            .iter()
            .all(|end| end.open.load(Ordering::Acquire));
        if both && self.link.is_up() {
            LinkState::Up
        } else {
            LinkState::Down
        }
    }
}

impl Drop for SimPort {
    fn drop(&mut self) {
        // Fails only while queues are out; they clean up after themselves.
        let _ = self.stop();
        self.link.0.ends[self.end]
            .queues
            .store(0, Ordering::Release);
        self.link.0.ends[self.end]
            .open
            .store(false, Ordering::Release);
    }
}

impl std::fmt::Debug for SimPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimPort({})", self.name())
    }
}

/// What the flags of a frame that was sent are for the one who receives it: what the sender left to its
/// port is still to be done, and what that means to a receiver is added (the rule of
/// [`linecard_hal::offload`]).
#[inline(always)]
pub(crate) fn received(sent: MbufFlags) -> MbufFlags {
    let describes = MbufFlags::TX_IPV4 | MbufFlags::TX_IPV6 | MbufFlags::VLAN_8021AD;
    let mut flags = sent & (MbufFlags::TX_REQUESTS | describes);
    let l4 = MbufFlags::TX_L4_MASK | MbufFlags::TX_TCP_SEG | MbufFlags::TX_UDP_SEG;
    if sent.intersects(l4) {
        flags |= MbufFlags::RX_L4_CKSUM_NONE;
    }
    if sent.intersects(MbufFlags::TX_TCP_SEG | MbufFlags::TX_UDP_SEG) {
        flags |= MbufFlags::RX_LRO;
    }
    if sent.contains(MbufFlags::TX_IP_CKSUM) {
        // Both bits, as for layer 4: not computed, but the data is intact.
        flags |= MbufFlags::RX_IP_CKSUM_GOOD | MbufFlags::RX_IP_CKSUM_BAD;
    }
    if sent.contains(MbufFlags::TX_VLAN) {
        flags |= MbufFlags::RX_VLAN | MbufFlags::RX_VLAN_STRIPPED;
    }
    flags
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn requests_become_what_a_receiver_expects() {
        let tso = MbufFlags::TX_TCP_SEG | MbufFlags::TX_IPV4 | MbufFlags::TX_IP_CKSUM;
        let stale = MbufFlags::RX_RSS_HASH | MbufFlags::RX_TIMESTAMP | MbufFlags::RX_L4_CKSUM_GOOD;
        let got = received(tso | stale);
        assert!(got.contains(tso | MbufFlags::RX_LRO | MbufFlags::RX_L4_CKSUM_NONE));
        assert!(!got.intersects(MbufFlags::RX_RSS_HASH | MbufFlags::RX_TIMESTAMP));
        assert_eq!(received(stale), MbufFlags::empty());
        let tagged = received(MbufFlags::TX_VLAN | MbufFlags::VLAN_8021AD);
        assert!(tagged.contains(MbufFlags::RX_VLAN_STRIPPED | MbufFlags::VLAN_8021AD));
    }
}
