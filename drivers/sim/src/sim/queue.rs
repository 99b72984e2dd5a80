//! The queues of a sim port: data plane.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linecard_hal::{
    Burst, Mbuf, MbufFlags, Offloads, PortConfig, QueueState, RxQueue, RxStats, TxQueue, TxStats,
};
use linecard_wire::vlan::{TAG_LEN, remove_tag};
use linecard_wire::{EtherType, FlowKey, parse_layers, queue_for, symmetric_hash};
use nix::sys::timerfd::TimerFd;

use super::link::{Link, RingIn, RingOut, add};
use super::port::received;
use crate::common::{bytes_of, retain_from, sendable};

/// Ethernet and two VLAN tags.
const MAX_L2_LEN: usize = 14 + 8;

/// Receives what the peer has sent.
pub(crate) struct SimRx {
    link: Link,
    end: usize,
    queue: usize,
    /// Always there until drop.
    outlet: Option<RingOut>,
    port: u16,
    /// Flags of the sender that are kept.
    offload: bool,
    keep: MbufFlags,
    /// What it sleeps on, if the wire is impaired: kept, so that it stays open.
    timer: Option<Arc<TimerFd>>,
    stats: RxStats,
}

impl SimRx {
    pub(crate) fn new(
        link: &Link,
        end: usize,
        queue: usize,
        outlet: RingOut,
        config: &PortConfig,
        offloads: Offloads,
    ) -> Self {
        link.0.ends[end].out.fetch_add(1, Ordering::AcqRel);
        let mut keep = MbufFlags::empty();
        keep.set(
            MbufFlags::RX_RSS_HASH,
            offloads.contains(Offloads::RX_RSS_HASH),
        );
        keep.set(
            MbufFlags::RX_TIMESTAMP,
            offloads.contains(Offloads::RX_TIMESTAMP),
        );
        Self {
            link: link.clone(),
            end,
            queue,
            outlet: Some(outlet),
            port: config.index,
            offload: link.0.config.offload,
            keep,
            timer: None,
            stats: RxStats::default(),
        }
    }

    /// Turns the sender's flags into the receiver's.
    #[inline(always)]
    fn arrive(&mut self, mbufs: &mut [Mbuf]) {
        for mbuf in mbufs {
            let sent = mbuf.flags();
            let kept = sent & self.keep;
            mbuf.set_flags(if self.offload {
                received(sent) | kept
            } else {
                kept
            });
            if self.offload && !sent.contains(MbufFlags::TX_VLAN) {
                strip(mbuf);
            }
            mbuf.set_port(self.port);
            self.stats.bytes += mbuf.frame_len() as u64;
        }
    }
}

/// Takes the outer tag off, as a NIC does. Not if the bytes are shared with a clone: they are not ours to move.
fn strip(mbuf: &mut Mbuf) {
    let tpid = mbuf.data().get(12..14);
    let service = tpid == Some(&EtherType::QINQ.0.to_be_bytes()[..]);
    if !service && tpid != Some(&EtherType::VLAN.0.to_be_bytes()[..]) {
        return;
    }
    let Some(Ok(Some(tag))) = mbuf.data_mut().map(remove_tag) else {
        return;
    };
    let _taken = mbuf.adjust(TAG_LEN);
    mbuf.set_vlan_tci(tag.tci);
    let stripped = MbufFlags::RX_VLAN | MbufFlags::RX_VLAN_STRIPPED | MbufFlags::TX_VLAN;
    mbuf.set_flags(mbuf.flags() | stripped);
    if service {
        mbuf.set_flags(mbuf.flags() | MbufFlags::VLAN_8021AD);
    }
    let mut lengths = mbuf.tx_offload();
    lengths.l2_len = lengths.l2_len.saturating_sub(TAG_LEN as u16);
    mbuf.set_tx_offload(lengths);
}

impl RxQueue for SimRx {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let start = burst.len();
        let direction = &self.link.0.directions[1 - self.end];
        let n = if let Some(mut channel) = direction.channel() {
            channel.receive(self.queue, burst, self.link.0.config.clock.now_ns())
        } else {
            let n = self
                .outlet
                .as_mut()
                .map_or(0, |outlet| outlet.pop_burst(burst));
            if n > 0 {
                add(&direction.delivered[self.queue], n);
            }
            n
        };
        self.arrive(&mut burst.as_mut_slice()[start..]);
        self.stats.packets += n as u64;
        n
    }

    fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        let direction = &self.link.0.directions[1 - self.end];
        if let Some(mut channel) = direction.channel() {
            let clock = &self.link.0.config.clock;
            if !clock.is_real() {
                return None;
            }
            self.timer = channel.sleep(self.queue, clock.now_ns());
            return self.timer.as_ref().map(|timer| timer.as_fd());
        }
        let outlet = self.outlet.as_ref()?;
        direction.bells[self.queue].prepare_sleep(|| outlet.is_empty())
    }

    fn maintain(&mut self) -> QueueState {
        if self.link.is_up() {
            QueueState::Up
        } else {
            QueueState::Down
        }
    }

    fn stats(&mut self) -> RxStats {
        self.stats
    }
}

impl Drop for SimRx {
    fn drop(&mut self) {
        let direction = &self.link.0.directions[1 - self.end];
        direction.receivers.store(0, Ordering::Release);
        if let Some(mut channel) = direction.channel() {
            channel.close();
        }
        if let Some(mut outlet) = self.outlet.take() {
            direction.flush(&mut outlet);
            direction.put_outlet(self.queue, outlet);
        }
        self.link.0.ends[self.end]
            .out
            .fetch_sub(1, Ordering::AcqRel);
    }
}

/// Sends to the peer.
pub(crate) struct SimTx {
    link: Link,
    end: usize,
    queue: usize,
    rings: Vec<RingIn>,
    /// Frames on their way to several receive queues: those of one burst, and what a full ring left.
    stages: Vec<Burst>,
    /// Mbufs in `stages`.
    staged: usize,
    inbox: Burst,
    accepted: MbufFlags,
    max_frame_len: usize,
    stats: TxStats,
}

impl SimTx {
    pub(crate) fn new(
        link: &Link,
        end: usize,
        queue: usize,
        config: &PortConfig,
        accepted: MbufFlags,
        rings: Vec<RingIn>,
    ) -> Self {
        link.0.ends[end].out.fetch_add(1, Ordering::AcqRel);
        Self {
            link: link.clone(),
            end,
            queue,
            stages: rings
                .iter()
                .map(|_| Burst::with_capacity(config.burst))
                .collect(),
            staged: 0,
            inbox: Burst::with_capacity(config.burst),
            rings,
            accepted,
            max_frame_len: link.0.config.mtu as usize + MAX_L2_LEN,
            stats: TxStats::default(),
        }
    }

    /// Everything to one ring: mbufs change hands, and nothing else happens.
    #[inline(always)]
    fn send_to_one(&mut self, burst: &mut Burst) {
        let direction = &self.link.0.directions[self.end];
        let before = bytes_of(burst);
        let n = self.rings[0].push_burst(burst);
        if n > 0 {
            direction.bells[0].ring_if_asleep();
            add(&direction.senders[self.queue].sent, n);
            self.stats.packets += n as u64;
            self.stats.bytes += before - bytes_of(burst);
        }
    }

    /// Each frame to the ring of its flow. A full ring holds up the whole queue, as a pause frame would,
    /// so that order within a flow is kept and nothing is lost for want of room.
    fn send_by_flow(&mut self, burst: &mut Burst, queues: u16) {
        while self.push_stages() == 0 && !burst.is_empty() {
            self.stats.bytes += bytes_of(burst);
            let n = burst.move_to(&mut self.inbox);
            self.stats.bytes -= bytes_of(burst);
            self.stats.packets += n as u64;
            let sent = &self.link.0.directions[self.end].senders[self.queue];
            add(&sent.sent, n);
            for mut mbuf in self.inbox.drain() {
                let queue = steer(&mut mbuf, queues);
                // Has room: the stages are empty, and each is as large as the inbox.
                let _ = self.stages[usize::from(queue)].push(mbuf);
            }
        }
    }

    /// Moves what is staged to the rings; returns how many mbufs are left.
    fn push_stages(&mut self) -> usize {
        let direction = &self.link.0.directions[self.end];
        let mut left = 0;
        for ((stage, ring), bell) in self
            .stages
            .iter_mut()
            .zip(&mut self.rings)
            .zip(&direction.bells)
        {
            if !stage.is_empty() && ring.push_burst(stage) > 0 {
                bell.ring_if_asleep();
            }
            left += stage.len();
        }
        direction.senders[self.queue]
            .staged
            .store(left as u64, Ordering::Relaxed);
        self.staged = left;
        left
    }

    /// Everything onto a wire with impairments, under its lock.
    fn send_impaired(&mut self, burst: &mut Burst, queues: u16) {
        let shared = &self.link.0;
        let Some(mut channel) = shared.directions[self.end].channel() else {
            return;
        };
        let now = shared.config.clock.now_ns();
        self.stats.packets += burst.len() as u64;
        self.stats.bytes += bytes_of(burst);
        for mut mbuf in burst.drain() {
            let queue = if queues > 1 {
                steer(&mut mbuf, queues)
            } else {
                0
            };
            channel.send(mbuf, queue, now);
        }
        channel.wake(now);
    }

    /// The link is down: frames and what is staged go nowhere.
    #[cold]
    fn drop_down(&mut self, burst: &mut Burst) {
        let sent = &self.link.0.directions[self.end].senders[self.queue];
        add(&sent.sent, burst.len());
        add(&sent.down_dropped, burst.len() + self.staged);
        self.staged = 0;
        sent.staged.store(0, Ordering::Relaxed);
        self.stats.errors += burst.len() as u64;
        for stage in &mut self.stages {
            stage.clear();
        }
        burst.clear();
    }
}

/// The receive queue of a frame, by the symmetric hash of its flow, which the mbuf then has.
#[inline]
fn steer(mbuf: &mut Mbuf, queues: u16) -> u16 {
    let data = mbuf.data();
    let hash =
        FlowKey::from_layers(data, &parse_layers(data)).map_or(0, |key| symmetric_hash(&key));
    mbuf.set_rss_hash(hash);
    queue_for(hash, queues)
}

impl TxQueue for SimTx {
    fn transmit(&mut self, burst: &mut Burst) -> usize {
        let before = burst.len();
        if before == 0 {
            return 0;
        }
        let (accepted, max) = (self.accepted, self.max_frame_len);
        if !burst.iter().all(|mbuf| sendable(mbuf, accepted, max)) {
            let refused = retain_from(burst, 0, |mbuf| sendable(mbuf, accepted, max));
            self.stats.errors += refused as u64;
        }
        let direction = &self.link.0.directions[self.end];
        let queues = direction.receivers.load(Ordering::Acquire);
        if queues == 0 || !self.link.0.up.load(Ordering::Relaxed) {
            self.drop_down(burst);
        } else if direction.is_impaired() {
            self.send_impaired(burst, queues);
        } else if queues == 1 && self.staged == 0 {
            self.send_to_one(burst);
        } else {
            self.send_by_flow(burst, queues);
        }
        before - burst.len()
    }

    fn reclaim(&mut self) -> usize {
        if self.staged == 0 {
            0
        } else {
            self.push_stages()
        }
    }

    fn maintain(&mut self) -> QueueState {
        if self.link.is_up() {
            QueueState::Up
        } else {
            QueueState::Down
        }
    }

    fn stats(&mut self) -> TxStats {
        self.stats
    }
}

impl Drop for SimTx {
    fn drop(&mut self) {
        self.drop_down(&mut Burst::with_capacity(0));
        self.link.0.ends[self.end]
            .out
            .fetch_sub(1, Ordering::AcqRel);
    }
}
