//! `linecard sink`: the far end of a generator.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use linecard::control::{Controlled, StreamStatus};
use linecard::engine::Remote;
use linecard::traffic::receiver::{self, Clock, Figures, Handle, Snapshot, receivers};
use linecard::traffic::responder::Addresses;
use linecard::traffic::sink::Sink;
use linecard::{Idle, Report};
use serde_json::{Value, json};

use super::common::{EngineArgs, note};
use super::far::{self, count, stop_on_signals};
use super::forward::EXIT_UNCLEAN;
use super::table::{Cell, Paint, Table, Tone};
use super::watched::ControlArgs;

/// Receive what a generator sends: counts, rates, and by lane what was lost, doubled, overtaken.
#[derive(Debug, Args)]
#[command(after_help = "\
Frames of linecard gen carry a stamp: which lane they are of (a stream, as one worker of the generator sends it), \
which number they have there, and when they were sent. From it the sink tells for each lane what was lost (RFC 7680), \
what came twice (RFC 5560), what was overtaken (RFC 4737), and the jitter (RFC 3550). Latency needs one \
clock for both ends: use linecard gen --receive PORT, or linecard ping and linecard reflect. What is lost at the very end \
of a lane is not seen here, because nothing comes after it: the generator says how many it sent. Frames without a \
stamp are counted by kind. Echo requests of linecard ping and linecard gen to an address of --answer are counted and answered.

Examples:
  linecard sink --port uring:eth1
  linecard sink --port xdp:eth1 --answer 10.0.0.2,10.0.1.0/24    so that a router in between finds it
  linecard sink --port uring:eth1 --count 1000000 --json | jq .counts

Exit codes: 0 all is well, 1 it could not start, 2 wrong usage, 3 it ran, but a worker failed, a frame \
is unaccounted for or an mbuf leaked. Ctrl-C ends it in order and still reports; twice, at once.")]
pub struct SinkArgs {
    /// A port; say it once for each.
    #[arg(long = "port", short = 'p', value_name = "PORT", required = true)]
    ports: Vec<String>,
    /// Addresses to answer ARP, neighbour solicitations and pings for: 10.0.0.2, 10.0.0.0/24, 10.0.0.2-10.0.0.9,
    /// 2001:db8::/64; several with commas between.
    #[arg(long, value_name = "ADDR")]
    answer: Vec<Addresses>,
    /// Stop when so many frames have come, with a stamp or without; those of the same bursts still count.
    #[arg(long, short = 'c', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after this time: 5s, 2min.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Most lanes that are told apart; frames of others are only counted.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    lanes: u32,
    /// How often to show figures; 0s for never.
    #[arg(long, value_name = "D", default_value = "1s", value_parser = humantime::parse_duration)]
    stats_interval: Duration,
    /// Print the result as one JSON object; everything else goes to standard error.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    control: ControlArgs,
}

/// Runs it.
pub fn run(args: &SinkArgs) -> anyhow::Result<ExitCode> {
    let engine = far::engine(&args.engine, &args.ports, Idle::default())?;
    let responders = far::responders(&far::macs(&engine), &args.answer);
    let config = receiver::Config {
        lanes: args.lanes,
        clock: Clock::Foreign,
        ..receiver::Config::default()
    };
    let prepared = args.control.prepare()?;
    let (handle, receivers) = receivers(config, engine.plan().workers.len());
    let mut receivers = receivers.into_iter();
    let sink = |receiver| Box::new(Sink::of_host(receiver, responders.clone())) as _;
    let running = engine.start(|_| receivers.next().map_or_else(nobody, sink))?;
    stop_on_signals(&running)?;
    far::say(args.json, "receiving; Ctrl-C stops and reports\n")?;
    let watched = Watched {
        remote: running.remote(),
        handle: handle.clone(),
        shown: BTreeSet::new(),
    };
    let server = prepared.serve("sink", Box::new(watched))?;
    let mut live = Live::new(&handle);
    far::until_done(
        &running,
        args.duration,
        args.stats_interval,
        || args.count.is_none_or(|count| handle.frames() < count),
        |elapsed| note(&live.line(elapsed)),
    );
    drop(server);
    let report = running.finish();
    let snapshot = handle.snapshot();
    if args.json {
        super::print(&format!("{}\n", to_json(&snapshot, &report)))?;
    } else {
        super::print(&render(&snapshot, &report, Paint::for_stdout()))?;
    }
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_UNCLEAN)
    })
}

/// A sink as `linecard top` sees it.
struct Watched {
    remote: Remote,
    handle: Handle,
    /// Lanes that are told one by one.
    shown: BTreeSet<u16>,
}

impl Controlled for Watched {
    fn engine(&self) -> &Remote {
        &self.remote
    }

    fn streams(&mut self) -> Vec<StreamStatus> {
        streams(&self.handle.snapshot(), &mut self.shown)
    }
}

/// The lanes as streams: those that were seen first one by one, the others together. Who is `shown` stays so, and none of
/// the others ever takes its place: no figure goes back because a lane was counted elsewhere before.
fn streams(snapshot: &Snapshot, shown: &mut BTreeSet<u16>) -> Vec<StreamStatus> {
    let mut streams = Vec::new();
    let (mut sent, mut received, mut lost) = (0, 0, 0);
    for (lane, figures) in &snapshot.lanes {
        if shown.len() < SHOWN || shown.contains(lane) {
            shown.insert(*lane);
            streams.push(StreamStatus {
                name: format!("lane {lane}"),
                index: Some(u32::from(*lane)),
                sent: figures.span(),
                received: Some(figures.received),
                lost: Some(figures.lost()),
                ..StreamStatus::default()
            });
        } else {
            sent += figures.span();
            received += figures.received;
            lost += figures.lost();
        }
    }
    if snapshot.lanes.len() > streams.len() {
        streams.push(StreamStatus {
            name: "others".to_owned(),
            sent,
            received: Some(received),
            lost: Some(lost),
            ..StreamStatus::default()
        });
    }
    streams
}

/// For a worker beyond the plan, which there is not.
fn nobody() -> Box<dyn linecard::Stage> {
    use linecard::{DropReason, Mbuf, Verdict};
    Box::new(|_: &mut Mbuf| Verdict::Drop(DropReason::Unclaimed))
}

/// Figures while it runs.
struct Live<'a> {
    handle: &'a Handle,
    last: Snapshot,
    at: Duration,
}

impl<'a> Live<'a> {
    fn new(handle: &'a Handle) -> Self {
        Self {
            handle,
            last: handle.snapshot(),
            at: Duration::ZERO,
        }
    }

    fn line(&mut self, elapsed: Duration) -> String {
        let now = self.handle.snapshot();
        let seconds = (elapsed - self.at).as_secs_f64().max(1e-9);
        let sum = now.sum(|_| true);
        let text = format!(
            "{:8.1}s  {} pps, {:.3} Mbit/s; lanes {}, lost {}, duplicated {}, reordered {}, not ours {}\n",
            elapsed.as_secs_f64(),
            count(((now.frames - self.last.frames) as f64 / seconds) as u64),
            (now.bytes - self.last.bytes) as f64 * 8e-6 / seconds,
            now.lanes.len(),
            count(sum.lost()),
            count(sum.duplicated),
            count(sum.reordered),
            count(now.foreign.sum() + now.beyond),
        );
        (self.last, self.at) = (now, elapsed);
        text
    }
}

fn to_json(snapshot: &Snapshot, report: &Report) -> Value {
    let lane = |(lane, figures): (&u16, &Figures)| {
        json!({
            "lane": lane,
            "received": figures.received,
            "bytes": figures.bytes,
            "lost": figures.lost(),
            "duplicated": figures.duplicated,
            "reordered": figures.reordered,
            "furthest": figures.furthest,
            "astray": figures.astray,
            "resumed": figures.resumed,
            "jitter_ns": figures.jitter_ns,
        })
    };
    json!({
        "duration_s": report.duration_s,
        "frames": snapshot.frames,
        "bytes": snapshot.bytes,
        "counts": snapshot.counts(None),
        "lanes": snapshot.lanes.iter().map(lane).collect::<Vec<_>>(),
        "foreign": {
            "arp": snapshot.foreign.arp,
            "ipv4": snapshot.foreign.ipv4,
            "ipv6": snapshot.foreign.ipv6,
            "other": snapshot.foreign.other,
        },
        "lanes_beyond": snapshot.beyond,
        "latency": null,
        "latency_note": "the sender's clock is not this one: measure with gen --receive, or ping",
        "engine": report,
    })
}

/// Lanes that are shown one by one.
const SHOWN: usize = 40;

fn render(snapshot: &Snapshot, report: &Report, paint: Paint) -> String {
    let seconds = report.duration_s.max(1e-9);
    let mut text = format!(
        "\n{:.3} s: {} frames, {} bytes with FCS; {} pps, {:.3} Mbit/s on average\n",
        report.duration_s,
        count(snapshot.frames),
        count(snapshot.bytes),
        count((snapshot.frames as f64 / seconds) as u64),
        snapshot.bytes as f64 * 8e-6 / seconds,
    );
    if snapshot.lanes.is_empty() {
        text += "no frame had a stamp of linecard gen\n";
    } else {
        text += &lanes(snapshot).render(paint);
        if snapshot.lanes.len() > SHOWN {
            let more = snapshot.lanes.len() - SHOWN;
            text += &format!("and {more} lanes more, which --json has\n");
        }
        text += "latency is not known: the sender's clock is not this one\n";
    }
    let foreign = &snapshot.foreign;
    if foreign.sum() > 0 {
        text += &format!(
            "without a stamp: ARP {}, IPv4 {}, IPv6 {}, other {}\n",
            foreign.arp, foreign.ipv4, foreign.ipv6, foreign.other
        );
    }
    if snapshot.beyond > 0 {
        text += &format!(
            "of lanes for which there was no room: {}; more with --lanes\n",
            count(snapshot.beyond)
        );
    }
    for port in &report.ports {
        if port.rx_misses > 0 {
            let line = format!(
                "{}: {} frames missed, so some of what is lost was lost here\n",
                port.name,
                count(port.rx_misses)
            );
            text += &paint.tone(&line, Tone::Caution);
        }
    }
    text
}

/// Lane by lane, and the sum.
fn lanes(snapshot: &Snapshot) -> Table {
    let mut table = Table::new(&[
        "lane",
        ">received",
        ">lost",
        ">duplicated",
        ">reordered",
        ">by at most",
        ">astray",
        ">jitter",
    ]);
    let alarming = |n: u64| {
        let tone = if n == 0 { Tone::Faint } else { Tone::Caution };
        Cell::toned(count(n), tone)
    };
    let mut row = |name: String, figures: &Figures| {
        table.row([
            Cell::from(name),
            count(figures.received).into(),
            alarming(figures.lost()),
            alarming(figures.duplicated),
            alarming(figures.reordered),
            alarming(figures.furthest),
            alarming(figures.astray),
            far::time(figures.jitter_ns).into(),
        ]);
    };
    for (lane, figures) in snapshot.lanes.iter().take(SHOWN) {
        row(lane.to_string(), figures);
    }
    if snapshot.lanes.len() > 1 {
        row("all".to_owned(), &snapshot.sum(|_| true));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_streams_and_none_is_left_out() {
        let figures = Figures {
            next: 10,
            received: 7,
            ..Figures::default()
        };
        let mut shown = BTreeSet::new();
        let mut streams = |from: u16| {
            let until = 10 + SHOWN as u16 + 3;
            let snapshot = Snapshot {
                lanes: (from..until).map(|lane| (lane, figures)).collect(),
                ..Snapshot::default()
            };
            streams(&snapshot, &mut shown)
        };
        let of = |stream: &StreamStatus| {
            let name = stream.name.clone();
            (name, stream.sent, stream.received, stream.lost)
        };
        let ten = streams(10);
        assert_eq!(ten.len(), SHOWN + 1);
        assert_eq!(of(&ten[0]), ("lane 10".into(), 10, Some(7), Some(3)));
        assert_eq!(of(&ten[SHOWN]), ("others".into(), 30, Some(21), Some(9)));
        // Who comes later is one of the others, whatever its number.
        let eight = streams(8);
        assert_eq!(eight[..SHOWN], ten[..SHOWN]);
        assert_eq!(of(&eight[SHOWN]), ("others".into(), 50, Some(35), Some(15)));
    }
}
