//! A status as metrics: OpenMetrics 1.0, or Prometheus' text format 0.0.4.
//!
//! The two differ in three things: what a counter's description is called, units, and the last line.

use std::fmt::Write as _;

use linecard_engine::Report;
use linecard_hal::LinkState;

use super::message::{Status, StreamStatus};

/// The two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    Open,
    /// Prometheus' own, 0.0.4.
    Text,
}

impl Format {
    /// What HTTP calls it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All metrics of a status.
pub fn render(status: &Status, format: Format) -> String {
    let mut page = Page {
        text: String::new(),
        format,
    };
    let report = &status.report;
    let hello = &status.hello;
    page.family("linecard_build", "info", "What runs.").value(
        &[("version", &hello.linecard), ("command", &hello.command)],
        1,
    );
    page.gauge(
        "linecard_uptime_seconds",
        "Time since the engine was started.",
    )
    .value(&[], report.duration_s);
    ports(&mut page, report);
    workers(&mut page, report);
    pools(&mut page, report);
    rules(&mut page, status);
    protocols(&mut page, report);
    streams(&mut page, status);
    capture(&mut page, status);
    if format == Format::Open {
        page.text += "# EOF\n";
    }
    page.text
}

fn ports(page: &mut Page, report: &Report) {
    let counters: Listed<linecard_engine::PortReport, u64, 7> = [
        ("rx_packets", "Frames received.", |p| p.rx),
        ("rx_bytes", "Bytes received, without FCS.", |p| p.rx_bytes),
        (
            "rx_missed_packets",
            "Frames lost because nobody took them in time.",
            |p| p.rx_misses,
        ),
        (
            "rx_error_packets",
            "Frames received that were malformed or did not fit.",
            |p| p.rx_errors,
        ),
        ("tx_packets", "Frames transmitted.", |p| p.tx),
        ("tx_bytes", "Bytes transmitted, without FCS.", |p| {
            p.tx_bytes
        }),
        (
            "tx_copied_packets",
            "Frames copied on their way out.",
            |p| p.tx_copies,
        ),
    ];
    for (name, help, of) in counters {
        let mut family = page.counter(&format!("linecard_port_{name}"), help);
        for port in &report.ports {
            family.value(&[("port", &port.name)], of(port));
        }
    }
    let mut family = page.counter(
        "linecard_port_dropped_packets",
        "Frames discarded, by reason.",
    );
    for port in &report.ports {
        for (reason, frames) in &port.drops {
            family.value(&[("port", &port.name), ("reason", reason)], *frames);
        }
    }
    let mut family = page.gauge("linecard_port_up", "Whether frames can pass.");
    for port in &report.ports {
        if let Some(link) = port.link {
            let up = u64::from(link == LinkState::Up);
            family.value(&[("port", &port.name)], up);
        }
    }
}

fn workers(page: &mut Page, report: &Report) {
    let counters: Listed<linecard_engine::WorkerReport, u64, 10> = [
        ("rx_packets", "Frames received.", |w| w.rx),
        ("tx_packets", "Frames transmitted.", |w| w.tx),
        ("generated_packets", "Frames made by the stage.", |w| {
            w.generated
        }),
        ("rx_bursts", "Bursts that were not empty.", |w| w.bursts),
        ("polls", "Times that the inputs were asked.", |w| w.polls),
        ("empty_polls", "Times that they gave nothing.", |w| {
            w.empty_polls
        }),
        ("sleeps", "Times it slept.", |w| w.sleeps),
        (
            "handed_out_packets",
            "Frames that crossed to another worker.",
            |w| w.handed_out,
        ),
        (
            "handed_in_packets",
            "Frames that came from another worker.",
            |w| w.handed_in,
        ),
        (
            "busy_cycles",
            "Reference cycles of turns that found frames.",
            |w| w.busy_cycles,
        ),
    ];
    let ids: Vec<_> = report
        .workers
        .iter()
        .map(|w| w.worker.to_string())
        .collect();
    for (name, help, of) in counters {
        let mut family = page.counter(&format!("linecard_worker_{name}"), help);
        for (worker, id) in report.workers.iter().zip(&ids) {
            family.value(&[("worker", id)], of(worker));
        }
    }
    let mut family = page.counter(
        "linecard_worker_busy_seconds",
        "Time in turns that found frames.",
    );
    for (worker, id) in report.workers.iter().zip(&ids) {
        family.value(&[("worker", id)], worker.busy_s);
    }
    let mut family = page.counter("linecard_worker_awake_seconds", "Time in all turns.");
    for (worker, id) in report.workers.iter().zip(&ids) {
        family.value(&[("worker", id)], worker.awake_s);
    }
    let mut family = page.gauge(
        "linecard_worker_mailbox_packets",
        "Frames in its handoff ring.",
    );
    for (worker, id) in report.workers.iter().zip(&ids) {
        family.value(&[("worker", id)], worker.mailbox);
    }
    let queues: Listed<linecard_engine::QueueReport, u64, 3> = [
        ("rx_packets", "Frames received.", |q| q.rx),
        (
            "rx_missed_packets",
            "Frames lost because nobody took them in time.",
            |q| q.rx_misses,
        ),
        ("tx_packets", "Frames transmitted.", |q| q.tx),
    ];
    for (name, help, of) in queues {
        let mut family = page.counter(&format!("linecard_queue_{name}"), help);
        for (worker, id) in report.workers.iter().zip(&ids) {
            for queue in &worker.queues {
                let port = report.ports.get(usize::from(queue.port));
                let port = port.map_or("", |port| port.name.as_str());
                let number = queue.queue.to_string();
                let labels = [("port", port), ("queue", &number), ("worker", id)];
                family.value(&labels, of(queue));
            }
        }
    }
}

fn pools(page: &mut Page, report: &Report) {
    let gauges: Listed<linecard_engine::PoolReport, usize, 3> = [
        ("size_mbufs", "Mbufs in the pool.", |p| p.ledger.size),
        ("in_use_mbufs", "Mbufs that somebody holds.", |p| {
            p.ledger.in_use
        }),
        (
            "peak_in_use_mbufs",
            "The most that any report saw in use.",
            |p| p.peak_in_use,
        ),
    ];
    for (name, help, of) in gauges {
        let mut family = page.gauge(&format!("linecard_pool_{name}"), help);
        for pool in &report.pools {
            family.value(&[("pool", &pool.ledger.name)], of(pool) as u64);
        }
    }
    let counters: Listed<linecard_engine::PoolReport, u64, 3> = [
        ("allocated_mbufs", "Mbufs allocated.", |p| {
            p.ledger.allocated
        }),
        ("freed_mbufs", "Mbufs given back.", |p| p.ledger.freed),
        (
            "exhausted_mbufs",
            "Mbufs that were asked for and not to be had.",
            |p| p.ledger.exhausted,
        ),
    ];
    for (name, help, of) in counters {
        let mut family = page.counter(&format!("linecard_pool_{name}"), help);
        for pool in &report.pools {
            family.value(&[("pool", &pool.ledger.name)], of(pool));
        }
    }
}

fn rules(page: &mut Page, status: &Status) {
    let counted: Vec<_> = status
        .rules()
        .into_iter()
        .filter(|r| r.packets.is_some())
        .collect();
    if counted.is_empty() {
        return;
    }
    let mut family = page.counter("linecard_rule_packets", "Frames that matched a flow rule.");
    for rule in &counted {
        let number = rule.rule.to_string();
        let labels = [
            ("port", rule.port_name.as_str()),
            ("rule", &number),
            ("text", &rule.text),
        ];
        family.value(&labels, rule.packets.unwrap_or(0));
    }
}

fn protocols(page: &mut Page, report: &Report) {
    let counters: Listed<linecard_engine::protocol::ProtocolReport, u64, 5> = [
        (
            "received_packets",
            "Packets that a protocol was given.",
            |p| p.received,
        ),
        ("sent_packets", "Packets of its own that left it.", |p| {
            p.sent
        }),
        (
            "crossed_packets",
            "Packets that crossed to their worker.",
            |p| p.crossed,
        ),
        (
            "no_mbuf",
            "Times that it wanted an mbuf and the pool was empty.",
            |p| p.no_mbuf,
        ),
        ("faults", "Panics that were contained.", |p| p.faults),
    ];
    if report.protocols.is_empty() {
        return;
    }
    for (name, help, of) in counters {
        let mut family = page.counter(&format!("linecard_protocol_{name}"), help);
        for protocol in &report.protocols {
            family.value(&[("protocol", &protocol.name)], of(protocol));
        }
    }
    let mut family = page.counter(
        "linecard_protocol_dropped_packets",
        "What it dropped for reasons of its own.",
    );
    for protocol in &report.protocols {
        for (reason, packets) in &protocol.drops {
            family.value(
                &[("protocol", &protocol.name), ("reason", reason)],
                *packets,
            );
        }
    }
}

fn streams(page: &mut Page, status: &Status) {
    if status.streams.is_empty() {
        return;
    }
    type Figure = (
        &'static str,
        &'static str,
        &'static str,
        fn(&StreamStatus) -> Option<u64>,
    );
    let figures: [Figure; 3] = [
        (
            "sent_packets",
            "counter",
            "Frames sent; of a sink's lane as far as the numbers in its frames tell.",
            |s| Some(s.sent),
        ),
        ("received_packets", "counter", "Frames received.", |s| {
            s.received
        }),
        // What comes late, or out of order, is no longer lost: it may fall.
        (
            "lost_packets",
            "gauge",
            "Frames sent and not received, as far as is known.",
            |s| s.lost,
        ),
    ];
    for (name, kind, help, of) in figures {
        if status.streams.iter().all(|stream| of(stream).is_none()) {
            continue;
        }
        let mut family = page.family(&format!("linecard_stream_{name}"), kind, help);
        for stream in &status.streams {
            let Some(frames) = of(stream) else { continue };
            // Two streams may have the same name.
            let index = stream.index.map(|index| index.to_string());
            let mut labels = vec![("stream", stream.name.as_str())];
            labels.extend(index.as_deref().map(|index| ("index", index)));
            family.value(&labels, frames);
        }
    }
    if status.streams.iter().all(|stream| stream.rate.is_empty()) {
        return;
    }
    // Known of all streams of a generator together: see `StreamStatus`.
    let unsent: u64 = status.streams.iter().map(|s| s.unsent).sum();
    let late: u64 = status.streams.iter().map(|s| s.late).sum();
    page.counter(
        "linecard_generator_unsent_packets",
        "Frames that should have been sent by now.",
    )
    .value(&[], unsent);
    page.counter(
        "linecard_generator_late_packets",
        "Frames that were sent late.",
    )
    .value(&[], late);
}

fn capture(page: &mut Page, status: &Status) {
    let Some(capture) = &status.capture else {
        return;
    };
    let counters = [
        ("packets", "Frames recorded.", capture.frames),
        (
            "dropped_packets",
            "Frames not recorded, because the file could not follow.",
            capture.drops,
        ),
        (
            "missed_packets",
            "Frames that the device or the kernel lost before they were seen.",
            capture.missed,
        ),
    ];
    for (name, help, frames) in counters {
        page.counter(&format!("linecard_capture_{name}"), help)
            .value(&[], frames);
    }
    page.gauge("linecard_capture_running", "Whether frames are recorded.")
        .value(&[], u64::from(capture.running));
}

/// Metrics of one kind of thing: names, descriptions, where the figures are.
type Listed<T, V, const N: usize> = [(&'static str, &'static str, fn(&T) -> V); N];

/// What is being written.
struct Page {
    text: String,
    format: Format,
}

/// Units that are said as such.
const UNITS: [&str; 5] = ["packets", "bytes", "seconds", "mbufs", "cycles"];

impl Page {
    fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) -> Family<'_> {
        let sample = match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        };
        let (described, kind) = match self.format {
            Format::Open => (name, kind),
            // It has no type for what only has labels.
            Format::Text if kind == "info" => (sample.as_str(), "gauge"),
            Format::Text => (sample.as_str(), kind),
        };
        let _: std::fmt::Result = writeln!(self.text, "# TYPE {described} {kind}");
        let unit = UNITS
            .iter()
            .find(|unit| name.ends_with(&format!("_{unit}")));
        if let Some(unit) = unit.filter(|_| self.format == Format::Open) {
            let _: std::fmt::Result = writeln!(self.text, "# UNIT {described} {unit}");
        }
        let _: std::fmt::Result = writeln!(self.text, "# HELP {described} {help}");
        Family { page: self, sample }
    }
}

/// One metric and its description.
struct Family<'a> {
    page: &'a mut Page,
    sample: String,
}

impl Family<'_> {
    fn value(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let text = &mut self.page.text;
        *text += &self.sample;
        for (n, (name, value)) in labels.iter().enumerate() {
            *text += if n == 0 { "{" } else { "," };
            let _: std::fmt::Result = write!(text, "{name}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _: std::fmt::Result = writeln!(text, " {value}");
    }
}

/// A label's value: names of ports may have anything in them.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for c in value.chars() {
        match c {
            '\\' => text += "\\\\",
            '"' => text += "\\\"",
            '\n' => text += "\\n",
            c => text.push(c),
        }
    }
    text
}
