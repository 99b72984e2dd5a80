//! Two ports with a simulated device between them, in virtual time.
//!
//! A frame is on the link for as long as its bytes take, one after the other, so a generator that sends as fast as it
//! can is as fast as the link. The link begins with a frame when the device has it, so the device's latency is all that
//! there is.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linecard_hal::{
    Burst, LinkState, Mbuf, Mempool, Offloads, Port, PortConfig, PortError, PortErrorKind,
    PortInfo, QueuePair, RxQueue, RxStats, SimClock, TxQueue, TxStats,
};

use super::{Device, DeviceSpec, Fate};
use crate::FCS_BYTES;
use crate::rate::Layer;

/// Frames that wait for the link at most.
const RING: u64 = 64;

/// The largest burst of an engine.
const MOST_BURST: usize = 512;

/// What is between the two ports.
#[derive(Debug, Clone)]
pub struct Wire(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: SimClock,
    spec: DeviceSpec,
    /// By the port that sends.
    directions: [Mutex<Direction>; 2],
}

/// From one port to the other.
#[derive(Debug)]
struct Direction {
    device: Device,
    /// When the link has room for the next frame, with the fraction that adds up.
    link_free_ns: f64,
    /// A frame had to wait for the link.
    is_full: bool,
    /// What will come out, in the order in which it does.
    coming: VecDeque<(u64, Mbuf)>,
    /// Copies that no mbuf was there for.
    missed: u64,
}

/// Two ports with a device between them.
pub fn ports(spec: &DeviceSpec, clock: &SimClock) -> (Wire, [Box<dyn Port>; 2]) {
    let direction = || {
        Mutex::new(Direction {
            device: Device::new(spec.clone()),
            link_free_ns: 0.0,
            is_full: false,
            coming: VecDeque::new(),
            missed: 0,
        })
    };
    let wire = Wire(Arc::new(Shared {
        clock: clock.clone(),
        spec: spec.clone(),
        directions: [direction(), direction()],
    }));
    let port = |end| -> Box<dyn Port> {
        Box::new(DutPort {
            wire: wire.clone(),
            end,
            index: 0,
        })
    };
    let both = [port(0), port(1)];
    (wire, both)
}

impl Wire {
    fn from(&self, end: usize) -> MutexGuard<'_, Direction> {
        self.0.directions[end]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// When something happens next: a frame comes out, or a link has room for one that waits.
    pub fn next_ns(&self) -> Option<u64> {
        let next = |direction: MutexGuard<'_, Direction>| {
            let room = direction.is_full.then_some(direction.link_free_ns as u64);
            let out = direction.coming.front().map(|(at, _)| *at);
            room.into_iter().chain(out).min()
        };
        let each = [next(self.from(0)), next(self.from(1))];
        each.into_iter().flatten().min()
    }

    /// Resets the device: what it has is lost, and for a while all that comes.
    pub fn reset(&self) {
        let now = self.0.clock.now_ns();
        for end in [0, 1] {
            let mut direction = self.from(end);
            direction.device.reset(now);
            direction.coming.clear();
        }
    }

    /// Loses all that is between the ports.
    pub fn clear(&self) {
        for end in [0, 1] {
            self.from(end).coming.clear();
        }
    }

    /// What the device is.
    pub fn spec(&self) -> &DeviceSpec {
        &self.0.spec
    }
}

impl Direction {
    /// Sends a frame, which the device has in the same moment.
    fn send(&mut self, mbuf: Mbuf, now_ns: u64, ns_a_byte: f64, pool: &Mempool) {
        let frame_bytes = mbuf.frame_len() as u16 + FCS_BYTES;
        let arrives = self.link_free_ns.max(now_ns as f64);
        self.link_free_ns = arrives + Layer::One.bits(f64::from(frame_bytes)) / 8.0 * ns_a_byte;
        match self.device.arrives(arrives as u64, frame_bytes) {
            Fate::Dropped => drop(mbuf),
            Fate::Leaves(at) => self.insert(at, mbuf),
            Fate::Twice(at, again) => {
                match copy(&mbuf, pool) {
                    Some(copy) => self.insert(again, copy),
                    None => self.missed += 1,
                }
                self.insert(at, mbuf);
            }
        }
    }

    /// Most come out behind all others.
    fn insert(&mut self, at: u64, mbuf: Mbuf) {
        let place = match self.coming.back() {
            Some((last, _)) if *last > at => self.coming.partition_point(|(other, _)| *other <= at),
            _ => self.coming.len(),
        };
        self.coming.insert(place, (at, mbuf));
    }
}

fn copy(mbuf: &Mbuf, pool: &Mempool) -> Option<Mbuf> {
    let mut copy = pool.alloc()?;
    copy.append(mbuf.data().len())?.copy_from_slice(mbuf.data());
    Some(copy)
}

/// A port of a simulated device.
#[derive(Debug)]
pub struct DutPort {
    wire: Wire,
    end: usize,
    index: u16,
}

impl Port for DutPort {
    fn info(&self) -> PortInfo {
        let bits = self.wire.spec().link_bits_per_second;
        PortInfo {
            name: format!("simulated:{}", self.end),
            driver: "simulated",
            mac: Some([2, 0, 0, 0, 0, self.end as u8 + 1]),
            mtu: 1500,
            node: None,
            speed_mbps: Some((bits / 1e6).round().clamp(1.0, f64::from(u32::MAX)) as u32),
            speed_is_nominal: false,
            max_queues: 1,
            data_room: 2048,
            offloads: Offloads::empty(),
            can_wait: false,
            notes: vec!["a device in virtual time".to_owned()],
            rungs: Vec::new(),
        }
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        self.index = config.index;
        Ok(())
    }

    fn mbufs_per_queue(&self) -> usize {
        self.wire.spec().held() as usize + RING as usize
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        let [pool] = pools else {
            let what = format!("{} queues, but there is one", pools.len());
            return Err(
                PortError::new(self.info().name, PortErrorKind::Config, what)
                    .remedy("use one worker"),
            );
        };
        Ok(vec![QueuePair {
            rx: Box::new(Rx {
                wire: self.wire.clone(),
                from: 1 - self.end,
                port: self.index,
                stats: RxStats::default(),
            }),
            tx: Box::new(Tx {
                wire: self.wire.clone(),
                end: self.end,
                pool: pool.clone(),
                kept: Burst::with_capacity(MOST_BURST),
                stats: TxStats::default(),
            }),
        }])
    }

    fn stop(&mut self) -> Result<(), PortError> {
        self.wire.clear();
        Ok(())
    }

    fn link(&self) -> LinkState {
        LinkState::Up
    }
}

struct Rx {
    wire: Wire,
    from: usize,
    port: u16,
    stats: RxStats,
}

impl RxQueue for Rx {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let now = self.wire.0.clock.now_ns();
        let mut direction = self.wire.from(self.from);
        let before = burst.len();
        while burst.room() > 0 && direction.coming.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, mut mbuf)) = direction.coming.pop_front() else {
                break;
            };
            mbuf.set_port(self.port);
            self.stats.packets += 1;
            self.stats.bytes += mbuf.frame_len() as u64;
            // There is room.
            let _ = burst.push(mbuf);
        }
        self.stats.misses = direction.missed;
        burst.len() - before
    }

    fn stats(&mut self) -> RxStats {
        self.stats
    }
}

struct Tx {
    wire: Wire,
    end: usize,
    pool: Mempool,
    /// What the link has no room for, for a moment.
    kept: Burst,
    stats: TxStats,
}

impl TxQueue for Tx {
    fn transmit(&mut self, burst: &mut Burst) -> usize {
        let now = self.wire.0.clock.now_ns();
        let ns_a_byte = 8e9 / self.wire.spec().link_bits_per_second;
        let mut direction = self.wire.from(self.end);
        let ring_ns = RING as f64 * Layer::One.bits(64.0) / 8.0 * ns_a_byte;
        let mut room = true;
        let mut sent = 0;
        for mbuf in burst.drain() {
            room &= direction.link_free_ns - now as f64 <= ring_ns;
            if room {
                sent += 1;
                self.stats.bytes += mbuf.frame_len() as u64;
                direction.send(mbuf, now, ns_a_byte, &self.pool);
            } else {
                // As large as the burst was.
                let _ = self.kept.push(mbuf);
            }
        }
        direction.is_full = !room;
        for mbuf in self.kept.drain() {
            let _ = burst.push(mbuf);
        }
        self.stats.packets += sent as u64;
        sent
    }

    fn stats(&mut self) -> TxStats {
        self.stats
    }
}
