//! `null:` ports: endless receiving of a template frame, transmitted frames discarded.
//!
//! The yardstick for everything between two ports: what `null:` → `null:` costs is what the mempool,
//! the worker's loop and the stage cost. It does for a frame what DPDK's `net_null` does: an mbuf is
//! taken from the pool and its length is set; on transmit it is given back.
//!
//! By default (`copy=0`) no frame bytes are written while it runs. Every buffer that is in the pool when
//! the port starts gets the template once, at the pool's headroom, so that the frames are valid at
//! first (`net_null` leaves whatever is there). What a stage writes into a frame is still there when its
//! buffer comes round again. `copy=1` writes the template into each frame as it is received, as a device
//! would, and costs accordingly.
//!
//! | option | meaning | default |
//! | --- | --- | --- |
//! | `size=BYTES` | length of the frames without FCS, 14 to 65,407 | 64 |
//! | `flows=N` | how many source ports the frames take in turn, 1 to 4,096 | 1 |
//! | `count=N` | end after `N` frames over all queues | endless |
//! | `copy=0\|1` | write the template into every frame | 0 |
//!
//! A null port transmits anything, whatever is still asked for a frame: it is discarded unseen. It cannot
//! be waited on, because it always has traffic.

use linecard_hal::{
    Burst, LinkState, Mempool, Offloads, Port, PortConfig, PortError, PortErrorKind, PortInfo,
    PortName, QueuePair, QueueState, RxQueue, RxStats, TxQueue, TxStats,
};

use crate::common::{bytes_of, check_config, check_pools, check_stopped, mac_of, not_configured};
use crate::template;
use crate::units::Switch;

const MAX_QUEUES: u16 = 128;
const MAX_FLOWS: u16 = 4096;
/// Largest data room of a pool with the usual headroom.
const MAX_SIZE: u16 = 65_407;
const OPTIONS: [&str; 4] = ["size", "flows", "count", "copy"];

/// What a null port is to receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NullConfig {
    /// Bytes of each frame, without FCS.
    pub size: u16,
    /// Flows that the frames belong to, in turn.
    pub flows: u16,
    /// Frames after which it ends, over all queues.
    pub count: Option<u64>,
    /// Whether every frame's bytes are written when it is received.
    pub copy: bool,
}

impl Default for NullConfig {
    fn default() -> Self {
        Self {
            size: 64,
            flows: 1,
            count: None,
            copy: false,
        }
    }
}

/// A port that receives a template for ever and discards what it transmits. See the [module](self).
#[derive(Debug)]
pub struct NullPort {
    name: String,
    options: NullConfig,
    config: Option<PortConfig>,
    running: bool,
}

impl NullPort {
    /// A null port; `name` is for tables and errors.
    pub fn new(name: impl Into<String>, options: NullConfig) -> Result<Self, PortError> {
        let name = name.into();
        let wrong = |what: String| Err(PortError::new(&name, PortErrorKind::Config, what));
        if !(14..=MAX_SIZE).contains(&options.size) {
            return wrong(format!(
                "a size of {} is not between 14 and {MAX_SIZE}",
                options.size
            ));
        }
        if !(1..=MAX_FLOWS).contains(&options.flows) {
            return wrong(format!(
                "{} flows are not between 1 and {MAX_FLOWS}",
                options.flows
            ));
        }
        Ok(Self {
            name,
            options,
            config: None,
            running: false,
        })
    }

    /// The port that `name` describes.
    pub fn open(mut name: PortName) -> Result<Self, PortError> {
        let default = NullConfig::default();
        let options = NullConfig {
            size: name.take("size")?.unwrap_or(default.size),
            flows: name.take("flows")?.unwrap_or(default.flows),
            count: name.take("count")?,
            copy: name.take::<Switch>("copy")?.is_some_and(|s| s.0),
        };
        name.finish(&OPTIONS)?;
        Self::new(name.full(), options)
    }

    fn templates(&self) -> Box<[Vec<u8>]> {
        let size = usize::from(self.options.size);
        (0..self.options.flows)
            .map(|flow| template::frame(size, flow))
            .collect()
    }
}

impl Port for NullPort {
    fn info(&self) -> PortInfo {
        PortInfo {
            name: self.name.clone(),
            driver: "null",
            mac: Some(mac_of(&self.name)),
            mtu: 65_535,
            node: None,
            speed_mbps: None,
            speed_is_nominal: false,
            max_queues: MAX_QUEUES,
            data_room: self.options.size,
            offloads: Offloads::TX_IPV4_CKSUM
                | Offloads::TX_UDP_CKSUM
                | Offloads::TX_TCP_CKSUM
                | Offloads::TX_TCP_SEG
                | Offloads::TX_UDP_SEG
                | Offloads::TX_VLAN_INSERT
                | Offloads::TX_MULTI_SEGS,
            can_wait: false,
            notes: vec![if self.options.copy {
                "copy=1: every frame's bytes are written".into()
            } else {
                "copy=0: bytes are written once, when the port starts".into()
            }],
            rungs: Vec::new(),
        }
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        check_stopped(&self.name, self.running)?;
        check_config(&self.name, config, MAX_QUEUES)?;
        self.config = Some(config.clone());
        Ok(())
    }

    fn mbufs_per_queue(&self) -> usize {
        0
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        check_stopped(&self.name, self.running)?;
        let config = self
            .config
            .as_ref()
            .ok_or_else(|| not_configured(&self.name))?;
        check_pools(&self.name, config, pools)?;
        let templates = self.templates();
        for (i, pool) in pools.iter().enumerate() {
            let room = pool.config().data_room;
            if room < self.options.size {
                let what = format!(
                    "frames of {} bytes, but a data room of {room}",
                    self.options.size
                );
                return Err(PortError::new(&self.name, PortErrorKind::Pool, what)
                    .remedy("use a smaller size= or a pool with a larger data room"));
            }
            if !pools[..i].iter().any(|earlier| earlier.same(pool)) {
                write_all(pool, &templates);
            }
        }
        let queues = u64::from(config.queues);
        let share = |i: u64| {
            self.options
                .count
                .map(|n| n / queues + u64::from(i < n % queues))
        };
        self.running = true;
        Ok((0..queues)
            .zip(pools)
            .map(|(i, pool)| QueuePair {
                rx: Box::new(NullRx {
                    pool: pool.clone(),
                    port: config.index,
                    headroom: pool.config().headroom,
                    size: self.options.size,
                    left: share(i).unwrap_or(u64::MAX),
                    templates: if self.options.copy {
                        templates.clone()
                    } else {
                        Box::default()
                    },
                    next: 0,
                    stats: RxStats::default(),
                }),
                tx: Box::new(NullTx {
                    stats: TxStats::default(),
                }),
            })
            .collect())
    }

    fn stop(&mut self) -> Result<(), PortError> {
        self.running = false;
        Ok(())
    }

    fn link(&self) -> LinkState {
        LinkState::Up
    }
}

/// Writes the templates, in turn, into every buffer that is in the pool.
fn write_all(pool: &Mempool, templates: &[Vec<u8>]) {
    let free = pool.config().size.saturating_sub(pool.in_use());
    let mut all = Burst::with_capacity(free);
    pool.alloc_burst(&mut all, free);
    for (mbuf, template) in all.iter_mut().zip(templates.iter().cycle()) {
        if let Some(bytes) = mbuf.append(template.len()) {
            bytes.copy_from_slice(template);
        }
    }
}

struct NullRx {
    pool: Mempool,
    port: u16,
    headroom: u16,
    size: u16,
    left: u64,
    /// Empty unless every frame is written.
    templates: Box<[Vec<u8>]>,
    next: usize,
    stats: RxStats,
}

impl NullRx {
    #[cold]
    fn write(&mut self, burst: &mut Burst, start: usize) {
        for mbuf in &mut burst.as_mut_slice()[start..] {
            if let Some(bytes) = mbuf.data_mut() {
                bytes.copy_from_slice(&self.templates[self.next]);
            }
            self.next = (self.next + 1) % self.templates.len();
        }
    }
}

impl RxQueue for NullRx {
    #[inline]
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let start = burst.len();
        let want = (burst.room() as u64).min(self.left) as usize;
        let n = self.pool.alloc_burst(burst, want);
        for mbuf in &mut burst.as_mut_slice()[start..] {
            // Fits: the data room was checked when the port started.
            let _ = mbuf.set_data(self.headroom, self.size);
            mbuf.set_port(self.port);
        }
        if !self.templates.is_empty() {
            self.write(burst, start);
        }
        // Endless is u64::MAX, which outlasts any machine.
        self.left -= n as u64;
        self.stats.packets += n as u64;
        self.stats.misses += (want - n) as u64;
        n
    }

    fn maintain(&mut self) -> QueueState {
        if self.left == 0 {
            QueueState::Finished
        } else {
            QueueState::Up
        }
    }

    fn finished(&self) -> bool {
        self.left == 0
    }

    fn stats(&mut self) -> RxStats {
        RxStats {
            bytes: self.stats.packets * u64::from(self.size),
            ..self.stats
        }
    }
}

struct NullTx {
    stats: TxStats,
}

impl TxQueue for NullTx {
    #[inline]
    fn transmit(&mut self, burst: &mut Burst) -> usize {
        let n = burst.len();
        self.stats.bytes += bytes_of(burst);
        self.stats.packets += n as u64;
        burst.clear();
        n
    }

    fn stats(&mut self) -> TxStats {
        self.stats
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use linecard_hal::MempoolConfig;

    fn pool(size: usize) -> Mempool {
        Mempool::new(MempoolConfig::new("null", size)).unwrap()
    }

    fn open(name: &str) -> Result<NullPort, PortError> {
        NullPort::open(name.parse()?)
    }

    fn start(name: &str, pool: &Mempool, queues: u16) -> Vec<QueuePair> {
        let mut port = open(name).unwrap();
        port.configure(&PortConfig {
            queues,
            index: 5,
            ..PortConfig::default()
        })
        .unwrap();
        port.start(&vec![pool.clone(); usize::from(queues)])
            .unwrap()
    }

    #[test]
    fn frames_are_the_template_with_and_without_copy() {
        for name in ["null:", "null:?copy=1", "null:?size=1514&flows=3"] {
            let pool = pool(64);
            let mut queues = start(name, &pool, 1);
            let mut burst = Burst::with_capacity(32);
            assert_eq!(queues[0].rx.receive(&mut burst), 32);
            let mut ports = std::collections::BTreeSet::new();
            for mbuf in &burst {
                let data = mbuf.data();
                let flow = u16::from_be_bytes([data[34], data[35]]) - 1024;
                assert_eq!(data, template::frame(data.len(), flow));
                assert_eq!(mbuf.port(), 5);
                ports.insert(flow);
            }
            assert_eq!(ports.len(), if name.contains("flows") { 3 } else { 1 });
            assert_eq!(queues[0].tx.transmit(&mut burst), 32);
            assert_eq!(pool.in_use(), 0);
            let (rx, tx) = (queues[0].rx.stats(), queues[0].tx.stats());
            assert_eq!((rx.packets, rx.bytes), (tx.packets, tx.bytes));
        }
    }

    #[test]
    fn count_is_shared_out_and_ends() {
        let pool = pool(64);
        let mut queues = start("null:?count=7", &pool, 2);
        let mut burst = Burst::with_capacity(32);
        let mut total = 0;
        for pair in &mut queues {
            assert!(!pair.rx.finished());
            total += pair.rx.receive(&mut burst);
            assert!(pair.rx.finished());
            assert_eq!(pair.rx.maintain(), QueueState::Finished);
            assert_eq!(pair.rx.receive(&mut burst), 0);
        }
        assert_eq!(total, 7);
    }

    #[test]
    fn an_empty_pool_is_a_miss() {
        let pool = pool(16);
        let mut queues = start("null:", &pool, 1);
        let mut burst = Burst::with_capacity(32);
        assert_eq!(queues[0].rx.receive(&mut burst), 16);
        assert_eq!(queues[0].rx.stats().misses, 16);
    }

    #[test]
    fn wrong_options_say_so() {
        for (name, says) in [
            ("null:?size=13", "size of 13"),
            ("null:?size=70000", "size=70000"),
            ("null:?flows=0", "0 flows"),
            ("null:?copy=2", "copy=2"),
            ("null:?speed=1", "unknown option"),
        ] {
            let error = open(name).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(name), "{error}");
        }
        let mut port = open("null:?size=9000").unwrap();
        assert!(port.start(&[pool(8)]).is_err());
        port.configure(&PortConfig::default()).unwrap();
        let error = port.start(&[pool(8)]).unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Pool);
        assert!(
            port.configure(&PortConfig {
                queues: 0,
                ..PortConfig::default()
            })
            .is_err()
        );
    }
}
