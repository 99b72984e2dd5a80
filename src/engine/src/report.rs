//! The account: what became of every frame.

use std::collections::BTreeMap;
use std::time::Duration;

use linecard_hal::mempool::Leak;
use linecard_hal::{Ledger, LinkState, Mempool, PortInfo, Rung};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::copies;
use crate::counters::WorkerCounters;
use crate::engine::FlowReport;
use crate::placement::Plan;
use crate::protocol::ProtocolReport;
use crate::stage::DropReason;

/// Everything the engine counted, while it runs or at its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// How long it has run.
    pub duration_s: f64,
    /// Each port, in order.
    pub ports: Vec<PortReport>,
    /// Each worker, in order.
    pub workers: Vec<WorkerReport>,
    /// Each mempool.
    pub pools: Vec<PoolReport>,
    /// Each protocol, in order; none if the workers have stages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<ProtocolReport>,
    /// The sums, and whether they balance.
    pub account: Account,
}

/// One port's figures.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PortReport {
    /// The name it was opened with.
    pub name: String,
    /// The driver that has it.
    pub driver: String,
    /// For an `auto:` port, the ladder: which driver has it, and why not a better one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<Rung>,
    /// Whether frames can pass; only while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkState>,
    /// The number of the kernel's interface behind it, if there is one; only while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
    /// Link speed in Mbit/s, if known; only while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_mbps: Option<u32>,
    /// Frames received.
    pub rx: u64,
    /// Bytes received, without FCS.
    pub rx_bytes: u64,
    /// Frames that the device or kernel lost because nobody took them in time.
    pub rx_misses: u64,
    /// Frames that were malformed or did not fit.
    pub rx_errors: u64,
    /// Frames transmitted.
    pub tx: u64,
    /// Bytes transmitted, without FCS.
    pub tx_bytes: u64,
    /// Frames that were copied on their way out, because the device can neither read their memory nor give
    /// it back: those of pools that the port was not given, and of memory outside of any.
    pub tx_copies: u64,
    /// Why, as [`CopyReason::name`](crate::CopyReason::name): how many for each reason. Reasons that did not occur are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tx_copy_reasons: BTreeMap<String, u64>,
    /// Drops by reason. What could not be transmitted counts at the port that it was to leave by,
    /// everything else at the port that received it. Reasons that did not occur are left out.
    pub drops: BTreeMap<String, u64>,
    /// Its flow rules with what they have counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<FlowReport>,
    /// Whatever else the device counted, by its own names; only in the final report.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extended: BTreeMap<String, u64>,
}

/// One worker's figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its number.
    pub worker: u16,
    /// The cpu it is pinned to.
    pub lcore: u32,
    /// The NUMA node of that cpu.
    pub node: u32,
    /// Frames received.
    pub rx: u64,
    /// Frames transmitted.
    pub tx: u64,
    /// Frames that its stage made.
    #[serde(default)]
    pub generated: u64,
    /// When these figures were published, in seconds since the start: about ten times a second. The rates between two
    /// reports are differences of figures over the difference of this.
    #[serde(default)]
    pub counted_s: f64,
    /// Cycles of turns that found frames. Reference cycles.
    #[serde(default)]
    pub busy_cycles: u64,
    /// The same in seconds.
    #[serde(default)]
    pub busy_s: f64,
    /// Seconds in all turns: what is missing it slept.
    #[serde(default)]
    pub awake_s: f64,
    /// Bursts that were not empty.
    #[serde(default)]
    pub bursts: u64,
    /// Frames that waited for room in a transmit queue when this was published.
    #[serde(default)]
    pub waiting: u64,
    /// Frames in its handoff ring at that moment.
    #[serde(default)]
    pub mailbox: u64,
    /// Each of its receive queues, with the transmit queue of the same number.
    #[serde(default)]
    pub queues: Vec<QueueReport>,
    /// Cycles of the busy turns for each frame that entered; 0 if none did. Reference cycles.
    pub cycles_per_packet: f64,
    /// Frames in a burst that was not empty, on average.
    pub burst_avg: f64,
    /// Times that the inputs were asked: once in a turn of the loop, and up to eight times while they give full bursts (64 times
    /// if these only pass).
    pub polls: u64,
    /// Of these, those that found nothing.
    pub empty_polls: u64,
    /// Their share, 0 to 1.
    pub empty_share: f64,
    /// Times it slept.
    pub sleeps: u64,
    /// Frames that crossed to another worker.
    pub handed_out: u64,
    /// Frames that came from another worker.
    pub handed_in: u64,
    /// Requests carried out in software because the port lacks the offload.
    pub software_offloads: u64,
    /// Why it ended early, if it did.
    pub failure: Option<String>,
}

/// One pair of queues' figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueReport {
    /// Its port, by its place.
    pub port: u16,
    /// Its number there.
    pub queue: u16,
    /// Frames received.
    pub rx: u64,
    /// Frames lost because nobody took them in time, where the device counts them by queue.
    pub rx_misses: u64,
    /// Frames transmitted.
    pub tx: u64,
}

/// One mempool's figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PoolReport {
    /// Its books.
    #[serde(flatten)]
    pub ledger: Ledger,
    /// The most mbufs in use that any report of this run saw; between reports it may have been more, and
    /// `exhausted` counts whether it ever ran dry.
    #[serde(default)]
    pub peak_in_use: usize,
    /// Mbufs that did not come back, once everything has stopped.
    pub leaked: usize,
    /// Who held them last: the first few.
    pub leaks: Vec<LeakReport>,
}

/// An mbuf that did not come back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeakReport {
    /// The mbuf.
    #[serde(flatten)]
    pub leak: Leak,
    /// The port that received it last, by name; `None` if it was allocated for transmission.
    pub received_on: Option<String>,
}

/// The sums over all ports and workers:
/// `rx + generated + segmented = tx + delivered + consumed + drops + in_flight`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Frames received.
    pub rx: u64,
    /// Frames made by stages.
    pub generated: u64,
    /// Frames that came from cutting super-frames, beyond those that were cut.
    pub segmented: u64,
    /// Frames transmitted.
    pub tx: u64,
    /// Frames delivered to the application.
    pub delivered: u64,
    /// Frames used up by stages.
    pub consumed: u64,
    /// Frames discarded, by any reason.
    pub drops: u64,
    /// Frames that wait for a transmit queue, cross between workers or are with a device.
    pub in_flight: u64,
    /// What is missing (or, negative, too much). Always 0 at the end, or there is a bug.
    pub unaccounted: i64,
}

impl Account {
    fn balance(mut self, running: bool) -> Self {
        let entered = self.rx + self.generated + self.segmented;
        let left = self.tx + self.delivered + self.consumed + self.drops;
        if running {
            // Workers publish at different moments; what does not add up yet is on its way.
            self.in_flight = entered.saturating_sub(left);
        } else {
            self.unaccounted = entered as i64 - (left + self.in_flight) as i64;
        }
        self
    }
}

impl Report {
    /// Whether every frame is accounted for, every mbuf is home and no worker failed.
    pub fn is_clean(&self) -> bool {
        self.account.unaccounted == 0
            && self.account.in_flight == 0
            && self.pools.iter().all(|p| p.leaked == 0)
            && self.workers.iter().all(|w| w.failure.is_none())
    }
}

/// What a report is made from.
pub(crate) struct Sources<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) infos: &'a [PortInfo],
    pub(crate) pools: &'a [Mempool],
    pub(crate) duration: Duration,
    pub(crate) counters: Vec<WorkerCounters>,
    /// By worker, once it has ended.
    pub(crate) failures: Vec<Option<String>>,
    /// Frames found in mailboxes at the end, by port.
    pub(crate) undelivered: Vec<u64>,
    /// By port.
    pub(crate) flows: Vec<Vec<FlowReport>>,
    /// By port, while it runs, with the interface's number.
    pub(crate) links: Vec<(LinkState, Option<u32>)>,
    /// By pool: the most in use that was ever seen.
    pub(crate) peaks: Vec<usize>,
    /// What else the devices counted, by port; empty while it runs.
    pub(crate) extended: Vec<BTreeMap<String, u64>>,
    pub(crate) protocols: Vec<ProtocolReport>,
    pub(crate) running: bool,
}

impl Sources<'_> {
    pub(crate) fn report(&self) -> Report {
        let ports: Vec<_> = (0..self.plan.ports.len()).map(|i| self.port(i)).collect();
        let sum = |f: fn(&WorkerCounters) -> u64| self.counters.iter().map(f).sum::<u64>();
        let taken = sum(|c| c.ports.iter().map(|p| p.taken).sum());
        let sent_or_refused = sum(|c| c.ports.iter().map(|p| p.tx.packets + p.tx.errors).sum());
        let account = Account {
            rx: sum(|c| c.rx),
            generated: sum(|c| c.generated),
            segmented: sum(|c| c.segmented),
            tx: ports.iter().map(|p| p.tx).sum(),
            delivered: sum(|c| c.delivered),
            consumed: sum(|c| c.consumed),
            drops: ports.iter().flat_map(|p| p.drops.values()).sum(),
            in_flight: taken.saturating_sub(sent_or_refused),
            unaccounted: 0,
        };
        Report {
            duration_s: self.duration.as_secs_f64(),
            workers: (0..self.counters.len()).map(|i| self.worker(i)).collect(),
            pools: (0..self.pools.len())
                .map(|i| self.pool(i, &ports))
                .collect(),
            ports,
            protocols: self.protocols.clone(),
            account: account.balance(self.running),
        }
    }

    fn port(&self, index: usize) -> PortReport {
        let mut port = PortReport {
            name: self.plan.ports[index].name.clone(),
            driver: self
                .infos
                .get(index)
                .map_or("", |info| info.driver)
                .to_owned(),
            rungs: self
                .infos
                .get(index)
                .map_or_else(Vec::new, |info| info.rungs.clone()),
            link: self.links.get(index).map(|(link, _)| *link),
            ifindex: self.links.get(index).and_then(|(_, ifindex)| *ifindex),
            speed_mbps: self
                .infos
                .get(index)
                .and_then(|info| info.speed_mbps)
                .filter(|_| self.running),
            flows: self.flows.get(index).cloned().unwrap_or_default(),
            extended: self.extended.get(index).cloned().unwrap_or_default(),
            ..PortReport::default()
        };
        let mut drops = [0; DropReason::COUNT];
        for counters in &self.counters {
            let p = &counters.ports[index];
            port.rx += p.rx.packets;
            port.rx_bytes += p.rx.bytes;
            port.rx_misses += p.rx.misses;
            port.rx_errors += p.rx.errors;
            port.tx += p.tx.packets;
            port.tx_bytes += p.tx.bytes;
            port.tx_copies += p.tx.copies;
            copies::add(&mut port.tx_copy_reasons, &p.tx);
            drops[DropReason::TxError as usize] += p.tx.errors;
            for (sum, n) in drops.iter_mut().zip(p.drops) {
                *sum += n;
            }
        }
        drops[DropReason::Stopped as usize] += self.undelivered.get(index).copied().unwrap_or(0);
        let named = DropReason::ALL.iter().zip(drops).filter(|(_, n)| *n > 0);
        port.drops = named
            .map(|(reason, n)| (reason.name().to_owned(), n))
            .collect();
        port
    }

    fn worker(&self, index: usize) -> WorkerReport {
        let (plan, c) = (&self.plan.workers[index], &self.counters[index]);
        let seconds = |cycles: u64| cycles as f64 / clock::cycles_per_second() as f64;
        let ratio = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
        WorkerReport {
            worker: plan.id,
            lcore: plan.lcore,
            node: plan.node,
            rx: c.rx,
            tx: c.tx(),
            generated: c.generated,
            counted_s: c.counted_ns as f64 / 1e9,
            busy_cycles: c.busy_cycles,
            busy_s: seconds(c.busy_cycles),
            awake_s: seconds(c.cycles),
            bursts: c.bursts,
            waiting: c.pending,
            mailbox: c.mailbox,
            queues: self.queues(index),
            cycles_per_packet: ratio(c.busy_cycles, c.rx + c.generated + c.handed_in),
            burst_avg: ratio(c.rx, c.bursts),
            polls: c.polls,
            empty_polls: c.empty_polls,
            empty_share: ratio(c.empty_polls, c.polls),
            sleeps: c.sleeps,
            handed_out: c.handed_out,
            handed_in: c.handed_in,
            software_offloads: c.software_offloads,
            failure: self.failures.get(index).cloned().flatten(),
        }
    }

    fn queues(&self, index: usize) -> Vec<QueueReport> {
        let ports = &self.counters[index].ports;
        let queues = self.plan.workers[index].queues.iter();
        queues
            .map(|q| QueueReport {
                port: q.port as u16,
                queue: q.queue,
                rx: ports[q.port].rx.packets,
                rx_misses: ports[q.port].rx.misses,
                tx: ports[q.port].tx.packets,
            })
            .collect()
    }

    fn pool(&self, index: usize, ports: &[PortReport]) -> PoolReport {
        let pool = &self.pools[index];
        let leaks = if self.running {
            Vec::new()
        } else {
            pool.leaks()
        };
        let mut ledger = pool.ledger();
        // Where there is only one node, the pool was not bound to it, but is there all the same.
        ledger.node = ledger.node.or(self.plan.pools.get(index).map(|p| p.node));
        PoolReport {
            peak_in_use: self
                .peaks
                .get(index)
                .copied()
                .unwrap_or(0)
                .max(ledger.in_use),
            ledger,
            leaked: leaks.len(),
            leaks: leaks
                .into_iter()
                .take(8)
                .map(|leak| LeakReport {
                    received_on: leak
                        .port
                        .and_then(|i| ports.get(i as usize))
                        .map(|port| port.name.clone()),
                    leak,
                })
                .collect(),
        }
    }
}
