//! Ports for this crate's own tests: queues in plain memory, no driver.

use std::any::Any;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use linecard_hal::flow::{FlowCount, FlowId, FlowRule, FlowRules};
use linecard_hal::passage::{self, Forwarder};
use linecard_hal::{
    Burst, LinkState, Mbuf, Mempool, Offloads, Port, PortConfig, PortError, PortErrorKind,
    PortInfo, QueuePair, QueueState, RxQueue, RxStats, TxQueue, TxStats,
};
use nix::sys::eventfd::EventFd;

/// What a test sees of a port.
#[derive(Default)]
pub(crate) struct Wire {
    /// Frames to be received, by queue.
    pub(crate) arriving: Vec<VecDeque<Vec<u8>>>,
    /// Frames that were transmitted, by queue.
    pub(crate) sent: Vec<Vec<Vec<u8>>>,
    /// How many frames a transmit queue takes before it is full for good.
    pub(crate) room: usize,
    /// How many the next calls take at most; those behind, as many as there is room for.
    pub(crate) takes: VecDeque<usize>,
    /// Frames that the device accepts and then refuses.
    pub(crate) refuse: u64,
    /// Whether receive ends when nothing is left.
    pub(crate) ends: bool,
    /// Frames that went from a receive queue straight to a transmit queue.
    pub(crate) passed: usize,
}

#[derive(Clone)]
pub(crate) struct TestPort {
    pub(crate) name: String,
    pub(crate) queues: u16,
    pub(crate) offloads: Offloads,
    pub(crate) wire: Arc<Mutex<Wire>>,
    /// Flow rules that it has; `None` if it takes none.
    pub(crate) rules: Option<Rules>,
    /// Whether a worker can wait for its frames. It waits in vain: nothing says that one has arrived.
    pub(crate) silent: bool,
    index: u16,
}

/// A device with room for two flow rules.
#[derive(Clone, Default)]
pub(crate) struct Rules(pub(crate) Arc<Mutex<Vec<FlowRule>>>);

impl FlowRules for Rules {
    fn validate(&mut self, rule: &FlowRule) -> Result<(), PortError> {
        if self.0.lock().unwrap().len() < 2 {
            return Ok(());
        }
        let what = format!("no room for the rule {rule}");
        Err(PortError::new("test", PortErrorKind::Unsupported, what))
    }

    fn create(&mut self, rule: &FlowRule) -> Result<FlowId, PortError> {
        self.validate(rule)?;
        let mut rules = self.0.lock().unwrap();
        rules.push(rule.clone());
        Ok(FlowId(rules.len() as u64))
    }

    fn destroy(&mut self, _: FlowId) -> Result<(), PortError> {
        Ok(())
    }

    fn query(&mut self, id: FlowId) -> Result<Option<FlowCount>, PortError> {
        let count = FlowCount {
            packets: id.0,
            bytes: 60 * id.0,
        };
        Ok(Some(count))
    }

    fn flush(&mut self) -> Result<(), PortError> {
        self.0.lock().unwrap().clear();
        Ok(())
    }
}

impl TestPort {
    /// A port that receives `frames` on its first queue and then ends.
    pub(crate) fn new(name: &str, queues: u16, frames: Vec<Vec<u8>>) -> Self {
        let mut arriving = vec![VecDeque::new(); queues as usize];
        arriving[0] = frames.into();
        let sent = vec![Vec::new(); queues as usize];
        let wire = Wire {
            arriving,
            sent,
            room: usize::MAX,
            takes: VecDeque::new(),
            refuse: 0,
            ends: true,
            passed: 0,
        };
        Self {
            name: name.into(),
            queues,
            offloads: Offloads::TX_MULTI_SEGS,
            wire: Arc::new(Mutex::new(wire)),
            rules: None,
            silent: false,
            index: 0,
        }
    }

    pub(crate) fn boxed(&self) -> Box<dyn Port> {
        Box::new(self.clone())
    }

    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        self.wire.lock().unwrap().sent.concat()
    }
}

impl Port for TestPort {
    fn info(&self) -> PortInfo {
        PortInfo {
            name: self.name.clone(),
            driver: "test",
            mac: None,
            mtu: 1500,
            node: None,
            speed_mbps: None,
            speed_is_nominal: false,
            max_queues: self.queues,
            data_room: 2048,
            offloads: self.offloads,
            can_wait: false,
            notes: Vec::new(),
            rungs: Vec::new(),
        }
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        self.index = config.index;
        self.queues = config.queues;
        Ok(())
    }

    fn mbufs_per_queue(&self) -> usize {
        64
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        assert_eq!(pools.len(), self.queues as usize);
        let pair = |(queue, pool): (usize, &Mempool)| QueuePair {
            rx: Box::new(Rx {
                queue,
                port: self.index,
                pool: pool.clone(),
                wire: self.wire.clone(),
                never: self.silent.then(|| EventFd::new().unwrap()),
                stats: RxStats::default(),
            }),
            tx: Box::new(Tx {
                queue,
                wire: self.wire.clone(),
                stats: TxStats::default(),
            }),
        };
        Ok(pools.iter().enumerate().map(pair).collect())
    }

    fn stop(&mut self) -> Result<(), PortError> {
        Ok(())
    }

    fn link(&self) -> LinkState {
        LinkState::Up
    }

    fn flow_rules(&mut self) -> Option<&mut dyn FlowRules> {
        self.rules.as_mut().map(|rules| rules as _)
    }
}

struct Rx {
    queue: usize,
    port: u16,
    pool: Mempool,
    wire: Arc<Mutex<Wire>>,
    /// What is never readable.
    never: Option<EventFd>,
    stats: RxStats,
}

impl RxQueue for Rx {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let mut wire = self.wire.lock().unwrap();
        let mut n = 0;
        while burst.room() > 0 && !wire.arriving[self.queue].is_empty() {
            let Some(mut mbuf) = self.pool.alloc() else {
                break;
            };
            let frame = wire.arriving[self.queue].pop_front().unwrap();
            mbuf.append(frame.len()).unwrap().copy_from_slice(&frame);
            mbuf.set_port(self.port);
            self.stats.packets += 1;
            self.stats.bytes += frame.len() as u64;
            burst.push(mbuf).unwrap();
            n += 1;
        }
        n
    }

    fn forwarder(&self) -> Forwarder {
        |passages, most, is_over| {
            passage::by_bursts(passages, most, is_over);
            for passage in passages {
                let rx = (&mut *passage.rx as &mut dyn Any).downcast_mut::<Self>();
                rx.unwrap().wire.lock().unwrap().passed += passage.done.sent as usize;
            }
        }
    }

    fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        self.never.as_ref().map(EventFd::as_fd)
    }

    fn finished(&self) -> bool {
        let wire = self.wire.lock().unwrap();
        wire.ends && wire.arriving[self.queue].is_empty()
    }

    fn maintain(&mut self) -> QueueState {
        if self.finished() {
            QueueState::Finished
        } else {
            QueueState::Up
        }
    }

    fn stats(&mut self) -> RxStats {
        self.stats
    }
}

struct Tx {
    queue: usize,
    wire: Arc<Mutex<Wire>>,
    stats: TxStats,
}

impl TxQueue for Tx {
    fn transmit(&mut self, burst: &mut Burst) -> usize {
        let mut wire = self.wire.lock().unwrap();
        let most = wire.takes.pop_front().unwrap_or(usize::MAX);
        let n = burst.len().min(wire.room).min(most);
        wire.room -= n;
        for mbuf in burst.iter().take(n) {
            if wire.refuse > 0 {
                wire.refuse -= 1;
                self.stats.errors += 1;
                continue;
            }
            self.stats.packets += 1;
            self.stats.bytes += mbuf.frame_len() as u64;
            wire.sent[self.queue].push(bytes(mbuf));
        }
        burst.free_front(n);
        n
    }

    fn stats(&mut self) -> TxStats {
        self.stats
    }
}

/// The whole frame.
pub(crate) fn bytes(mbuf: &Mbuf) -> Vec<u8> {
    mbuf.segments().flatten().copied().collect()
}
