//! From two statuses to sheets: what happened in between, by the second.

use std::collections::HashMap;

use linecard::control::{Status, StreamStatus};
use linecard::engine::{PortReport, QueueReport, WorkerReport};
use linecard::hal::LinkState;

use super::sheet::{Figure, Sheet};
use crate::cmd::table::Tone;

/// Bytes that a frame has on the wire beside those that are counted: FCS; preamble and gap as well.
const LAYER_2: u64 = 4;
const LAYER_1: u64 = 24;

/// Two statuses of one engine; without the first one, what happened since the start.
#[derive(Debug, Clone, Copy)]
pub struct Between<'a> {
    pub before: Option<&'a Status>,
    pub now: &'a Status,
}

/// All sheets, in order.
#[derive(Debug, Clone, Default)]
pub struct Sheets {
    pub ports: Sheet,
    pub workers: Sheet,
    pub pools: Sheet,
    pub queues: Sheet,
    pub drops: Sheet,
    pub rules: Sheet,
    pub protocols: Sheet,
    pub streams: Sheet,
}

impl Sheets {
    pub fn new(between: Between<'_>) -> Self {
        Self {
            ports: between.ports(),
            workers: between.workers(),
            pools: between.pools(),
            queues: between.queues(),
            drops: between.drops(),
            rules: between.rules(),
            protocols: between.protocols(),
            streams: between.streams(),
        }
    }

    pub fn all(&self) -> [&Sheet; 8] {
        [
            &self.ports,
            &self.workers,
            &self.queues,
            &self.pools,
            &self.drops,
            &self.rules,
            &self.protocols,
            &self.streams,
        ]
    }
}

/// What of a later figure is new. A figure that went back, as a device's may that was reset, counts as nothing.
fn since(now: u64, before: Option<u64>) -> f64 {
    now.saturating_sub(before.unwrap_or(0)) as f64
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

impl<'a> Between<'a> {
    /// Seconds between the moments when the workers counted, which are not those when they were asked.
    fn seconds(&self) -> f64 {
        let workers = &self.now.report.workers;
        let spans = (0..workers.len()).map(|index| self.seconds_of(index));
        let spans: Vec<f64> = spans.filter(|span| *span > 0.0).collect();
        match spans.len() {
            0 => {
                let before = self.before.map_or(0.0, |b| b.report.duration_s);
                self.now.report.duration_s - before
            }
            n => spans.iter().sum::<f64>() / n as f64,
        }
    }

    fn seconds_of(&self, worker: usize) -> f64 {
        let before = self.worker_before(worker).map_or(0.0, |w| w.counted_s);
        self.now.report.workers[worker].counted_s - before
    }

    fn worker_before(&self, index: usize) -> Option<&'a WorkerReport> {
        self.before.and_then(|b| b.report.workers.get(index))
    }

    fn port_before(&self, index: usize) -> Option<&'a PortReport> {
        self.before.and_then(|b| b.report.ports.get(index))
    }

    /// Frames received and sent by all ports, each second.
    pub fn total_pps(&self) -> (f64, f64) {
        let sum = |status: &Status, of: fn(&PortReport) -> u64| -> u64 {
            status.report.ports.iter().map(of).sum()
        };
        let pps = |of| {
            let before = self.before.map(|b| sum(b, of));
            ratio(since(sum(self.now, of), before), self.seconds())
        };
        (pps(|p| p.rx), pps(|p| p.tx))
    }

    fn ports(&self) -> Sheet {
        let mut sheet = Sheet::new(
            "ports",
            &[
                ("port", 19),
                ("link", 4),
                (">rx pps", 6),
                (">L1 bit", 6),
                (">L2 bit", 6),
                (">tx pps", 6),
                (">L1 bit", 6),
                (">L2 bit", 6),
                (">miss/s", 6),
                (">drop/s", 6),
            ],
        );
        let seconds = self.seconds();
        for (index, now) in self.now.report.ports.iter().enumerate() {
            let before = self.port_before(index);
            let by_second = |of: &dyn Fn(&PortReport) -> u64| {
                Figure::number(ratio(since(of(now), before.map(of)), seconds))
            };
            let bits = |rx: bool, extra: u64| {
                by_second(&|p: &PortReport| {
                    let (bytes, frames) = if rx {
                        (p.rx_bytes, p.rx)
                    } else {
                        (p.tx_bytes, p.tx)
                    };
                    (bytes + frames * extra) * 8
                })
            };
            let (link, tone) = match now.link {
                Some(LinkState::Up) => ("up", Tone::Good),
                Some(LinkState::Down) => ("down", Tone::Bad),
                Some(LinkState::Gone) => ("gone", Tone::Bad),
                None => ("", Tone::Plain),
            };
            sheet.row([
                Figure::text(&now.name),
                Figure::text(link).toned(tone),
                by_second(&|p| p.rx),
                bits(true, LAYER_1),
                bits(true, LAYER_2),
                by_second(&|p| p.tx),
                bits(false, LAYER_1),
                bits(false, LAYER_2),
                by_second(&|p| p.rx_misses).alarming(Tone::Bad),
                by_second(&|p| p.drops.values().sum()).alarming(Tone::Caution),
            ]);
        }
        sheet
    }

    fn workers(&self) -> Sheet {
        let mut sheet = Sheet::new(
            "workers",
            &[
                (">worker", 6),
                (">cpu", 4),
                (">rx pps", 6),
                (">tx pps", 6),
                (">cycles", 6),
                (">busy", 5),
                (">awake", 5),
                (">burst", 5),
                (">sleep/s", 7),
                (">cross/s", 7),
                (">mail", 5),
                (">wait", 5),
            ],
        );
        for (index, now) in self.now.report.workers.iter().enumerate() {
            let before = self.worker_before(index);
            let seconds = self.seconds_of(index);
            let new = |of: fn(&WorkerReport) -> u64| since(of(now), before.map(of));
            let by_second = |of| Figure::number(ratio(new(of), seconds));
            let share = |of: fn(&WorkerReport) -> f64| {
                let new = of(now) - before.map_or(0.0, of);
                ratio(new, seconds).clamp(0.0, 1.0)
            };
            let frames = new(|w| w.rx + w.generated + w.handed_in);
            let busy = share(|w| w.busy_s);
            let tone = if busy > 0.9 {
                Tone::Caution
            } else {
                Tone::Plain
            };
            let number = match now.failure {
                Some(_) => Figure::count(now.worker.into()).toned(Tone::Bad),
                None => Figure::count(now.worker.into()),
            };
            sheet.row([
                number,
                Figure::count(now.lcore.into()),
                by_second(|w| w.rx),
                by_second(|w| w.tx),
                Figure::number(ratio(new(|w| w.busy_cycles), frames)),
                Figure::percent(busy).toned(tone),
                Figure::percent(share(|w| w.awake_s)),
                Figure::number(ratio(new(|w| w.rx), new(|w| w.bursts))),
                by_second(|w| w.sleeps),
                by_second(|w| w.handed_out),
                Figure::count(now.mailbox),
                Figure::count(now.waiting).alarming(Tone::Caution),
            ]);
        }
        sheet
    }

    fn queues(&self) -> Sheet {
        let mut sheet = Sheet::new(
            "queues",
            &[
                ("port", 20),
                (">queue", 5),
                (">worker", 6),
                (">rx pps", 8),
                (">of port", 7),
                (">tx pps", 8),
                (">miss/s", 7),
            ],
        );
        for (index, worker) in self.now.report.workers.iter().enumerate() {
            let seconds = self.seconds_of(index);
            for (place, now) in worker.queues.iter().enumerate() {
                let before = self.worker_before(index).and_then(|w| w.queues.get(place));
                let new = |of: fn(&QueueReport) -> u64| since(of(now), before.map(of));
                let by_second = |of| Figure::number(ratio(new(of), seconds));
                let port = usize::from(now.port);
                let of_port = self
                    .now
                    .report
                    .ports
                    .get(port)
                    .map_or(0.0, |p| since(p.rx, self.port_before(port).map(|p| p.rx)));
                let ports = &self.now.report.ports;
                sheet.row([
                    Figure::text(ports.get(port).map_or("", |p| &p.name)),
                    Figure::count(now.queue.into()),
                    Figure::count(worker.worker.into()),
                    by_second(|q| q.rx),
                    Figure::percent(ratio(new(|q| q.rx), of_port)),
                    by_second(|q| q.tx),
                    by_second(|q| q.rx_misses).alarming(Tone::Bad),
                ]);
            }
        }
        sheet
    }

    fn pools(&self) -> Sheet {
        let mut sheet = Sheet::new(
            "pools",
            &[
                ("pool", 16),
                (">mbufs", 9),
                (">used", 9),
                (">free", 9),
                (">least free", 10),
                (">exhausted", 9),
                ("page", 8),
            ],
        );
        for pool in &self.now.report.pools {
            let ledger = &pool.ledger;
            let free = ledger.size.saturating_sub(ledger.in_use);
            let least = ledger.size.saturating_sub(pool.peak_in_use);
            let tone = if least * 10 < ledger.size {
                Tone::Caution
            } else {
                Tone::Plain
            };
            sheet.row([
                Figure::text(&ledger.name),
                Figure::count(ledger.size as u64),
                Figure::count(ledger.in_use as u64),
                Figure::count(free as u64),
                Figure::count(least as u64).toned(tone),
                Figure::count(ledger.exhausted).alarming(Tone::Bad),
                Figure::text(&ledger.page),
            ]);
        }
        sheet
    }

    fn drops(&self) -> Sheet {
        let columns = [
            ("port", 20),
            ("reason", 20),
            (">drop/s", 9),
            (">frames", 14),
        ];
        let mut sheet = Sheet::new("drops", &columns);
        let seconds = self.seconds();
        for (index, port) in self.now.report.ports.iter().enumerate() {
            let before = self.port_before(index);
            for (reason, frames) in &port.drops {
                let last = before.map(|p| p.drops.get(reason).copied().unwrap_or(0));
                let new = ratio(since(*frames, last), seconds);
                sheet.row([
                    Figure::text(&port.name),
                    Figure::text(reason),
                    Figure::number(new).alarming(Tone::Caution),
                    Figure::count(*frames),
                ]);
            }
        }
        sheet
    }

    fn rules(&self) -> Sheet {
        let columns = [
            (">rule", 4),
            ("port", 16),
            ("matches => action", 34),
            (">pps", 7),
            (">frames", 12),
        ];
        let mut sheet = Sheet::new("flow rules", &columns);
        let before = self.before.map(|b| b.rules()).unwrap_or_default();
        let seconds = self.seconds();
        for rule in self.now.rules() {
            let last = before.iter().find(|b| b.rule == rule.rule);
            let (pps, frames) = match (rule.packets, &rule.problem) {
                (_, Some(problem)) => (Figure::default(), Figure::text(problem).toned(Tone::Bad)),
                (None, None) => (Figure::default(), Figure::text("not counted")),
                (Some(frames), None) => {
                    let new = since(frames, last.and_then(|l| l.packets));
                    (Figure::number(ratio(new, seconds)), Figure::count(frames))
                }
            };
            sheet.row([
                Figure::count(rule.rule),
                Figure::text(&rule.port_name),
                Figure::text(&rule.text),
                pps,
                frames,
            ]);
        }
        sheet
    }

    fn protocols(&self) -> Sheet {
        let columns = [
            ("protocol", 16),
            (">in pps", 8),
            (">out pps", 8),
            (">cross/s", 8),
            (">drop/s", 8),
            (">no mbuf", 8),
            (">panics", 7),
        ];
        let mut sheet = Sheet::new("protocols", &columns);
        let seconds = self.seconds();
        for (index, now) in self.now.report.protocols.iter().enumerate() {
            let before = self.before.and_then(|b| b.report.protocols.get(index));
            let by_second =
                |now: u64, before: Option<u64>| Figure::number(ratio(since(now, before), seconds));
            let drops = |p: &linecard::protocol::ProtocolReport| p.drops.values().sum::<u64>();
            sheet.row([
                Figure::text(&now.name),
                by_second(now.received, before.map(|p| p.received)),
                by_second(now.sent, before.map(|p| p.sent)),
                by_second(now.crossed, before.map(|p| p.crossed)),
                by_second(drops(now), before.map(drops)).alarming(Tone::Caution),
                Figure::count(now.no_mbuf).alarming(Tone::Caution),
                Figure::count(now.faults).alarming(Tone::Bad),
            ]);
        }
        sheet
    }

    fn streams(&self) -> Sheet {
        let columns = [
            ("stream", 16),
            ("asked for", 12),
            (">tx pps", 8),
            (">unsent", 9),
            (">late", 9),
            (">rx pps", 8),
            (">lost", 9),
        ];
        let mut sheet = Sheet::new("streams", &columns);
        let seconds = self.seconds();
        // Not by place: a sink has its lanes in order, and new ones come before others. Nor by looking through all, as a
        // generator may have thousands.
        let known = |stream: &'a StreamStatus| ((&stream.name, stream.index), stream);
        let before = self.before.iter().flat_map(|b| &b.streams);
        let before: HashMap<_, _> = before.map(known).collect();
        for now in &self.now.streams {
            let before = before.get(&known(now).0);
            let rx = now
                .received
                .map(|n| since(n, before.and_then(|b| b.received)));
            sheet.row([
                Figure::text(&now.name),
                Figure::text(&now.rate),
                Figure::number(ratio(since(now.sent, before.map(|b| b.sent)), seconds)),
                Figure::count(now.unsent).alarming(Tone::Bad),
                Figure::count(now.late).alarming(Tone::Caution),
                rx.map_or_else(Figure::default, |n| Figure::number(ratio(n, seconds))),
                now.lost
                    .map_or_else(Figure::default, |n| Figure::count(n).alarming(Tone::Bad)),
            ]);
        }
        sheet
    }
}

/// One line: who it is, and for how long.
pub fn headline(status: &Status) -> String {
    let hello = &status.hello;
    let seconds = status.report.duration_s as u64;
    let capture = match &status.capture {
        Some(capture) if capture.running => format!(", capturing to {}", capture.file),
        _ => String::new(),
    };
    format!(
        "linecard {} {} (pid {}), up {}:{:02}:{:02}{capture}",
        hello.command,
        hello.name,
        hello.pid,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
    )
}
