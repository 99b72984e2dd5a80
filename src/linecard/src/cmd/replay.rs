//! `linecard replay`: the frames of a capture file, sent again.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use linecard::{DropReason, Engine, Idle, Mbuf, Report, Running, Stage, Verdict};
use linecard_traffic::filter::Filter;
use linecard_traffic::rate::Rate;
use linecard_traffic::replay::{Replay, ReplayConfig, ReplayStats, Rewrite, Timing};
use serde::Serialize;

use super::capture::parse_size;
use super::common::{EngineArgs, asked_to_stop, note};
use super::forward::EXIT_UNCLEAN;
use super::generate;
use super::watched::ControlArgs;

/// How often to look whether it is over.
const LOOK: Duration = Duration::from_millis(5);

/// Send the frames of a capture file: as far apart as they were captured, faster or slower, at a rate, or as
/// fast as the port takes them.
#[derive(Debug, Args)]
#[command(after_help = "\
The file is pcap or pcapng, in any byte order and unit of time, and may be larger than the memory.

Examples:
  linecard replay in.pcap --port uring:eth1                    with the file's own times
  linecard replay in.pcapng --port xdp:eth1 --speed 2x
  linecard replay in.pcap --port uring:eth1 --rate 20kpps --loop forever --duration 60s
  linecard replay in.pcap --port dpdk:0000:3b:00.0 --max --workers 2 --loop 100 --json
  linecard replay in.pcap --port uring:eth1 --filter 'udp port 53' --rewrite 'dst-mac=02:00:00:00:00:07'
  linecard replay in.pcap --port uring:eth1 --rewrite '10.0.0.0/8=192.0.0.0/8,port 80=8080'
  linecard replay two.pcapng --port uring:eth1 --port uring:eth2 --map 0=0,1=1
  zstdcat in.pcap.zst | linecard replay - --port uring:eth1

Frames that leave when the next one is already due are counted as late, and the latest is told.

Exit codes: 0 all is well, 1 it could not start, 2 wrong usage, 3 it ran, but the file is broken, frames were refused by \
the port, or a worker failed. Ctrl-C ends it in order and still reports; twice, at once.")]
pub struct ReplayArgs {
    /// The capture file; - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A port; say it once for each. All frames leave by the first, unless --map says otherwise.
    #[arg(long = "port", short = 'p', value_name = "PORT", required = true)]
    ports: Vec<String>,
    /// By which port the frames of the file's interfaces leave, both by number from 0: 0=0,1=1.
    #[arg(long, value_name = "I=P,…", value_parser = parse_map)]
    map: Option<Map>,
    /// So many times as fast as captured: 1.0, 2x, 0.1.
    #[arg(long, value_name = "X", default_value = "1", value_parser = parse_speed)]
    speed: f64,
    /// At this rate instead: 20kpps, 5Gbps, 40% of the link.
    #[arg(long, value_name = "RATE", conflicts_with = "speed")]
    rate: Option<Rate>,
    /// The speed of the link, where the port does not know it (for rates in per cent): 10G, 2.5G, 100M.
    #[arg(long, value_name = "SPEED", value_parser = generate::parse_speed)]
    link_speed: Option<f64>,
    /// As fast as the port takes them; the same as --rate max.
    #[arg(long, conflicts_with_all = ["speed", "rate"])]
    max: bool,
    /// How often to replay the file: a number, or forever.
    #[arg(long = "loop", value_name = "N", default_value = "1", value_parser = parse_passes)]
    passes: Passes,
    /// Which frames, as for tcpdump; all if left out.
    #[arg(long, short = 'f', value_name = "EXPR")]
    filter: Option<Filter>,
    /// What to change, checksums included: src-mac=MAC, dst-mac=MAC, NET=NET, port N=N, with commas in
    /// between.
    #[arg(long, value_name = "RULES")]
    rewrite: Option<Rewrite>,
    /// Stop after so many frames.
    #[arg(long, short = 'c', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after this time: 5s, 2min.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Memory of each worker for reading ahead.
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = parse_size)]
    buffer: u64,
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

/// How often; `None` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Passes(Option<u64>);

/// By interface: the port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Map(Vec<u16>);

/// Runs it.
pub fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let map = args.map.as_ref().map_or(&[][..], |map| &map.0);
    if let Some(port) = map
        .iter()
        .find(|port| usize::from(**port) >= args.ports.len())
    {
        anyhow::bail!(
            "--map names port {port}, and there are {}: add --port, or count from 0",
            args.ports.len()
        );
    }
    let ports = linecard::open_all(args.ports.iter().map(String::as_str))?;
    let engine = Engine::new(ports, args.engine.config(Idle::Spin))?;
    let config = ReplayConfig {
        timing: match (args.max, args.rate) {
            (true, _) => Timing::Rate(Rate::Max),
            (false, Some(rate)) => Timing::Rate(rate),
            (false, None) => Timing::Original(args.speed),
        },
        link_bits_per_second: args.link_speed,
        passes: args.passes.0,
        filter: args.filter.clone(),
        rewrite: args.rewrite.clone().unwrap_or_default(),
        count: args.count,
        ports: map.to_vec(),
        buffer_bytes: usize::try_from(args.buffer)?,
        ..ReplayConfig::new(&args.file)
    };
    let workers = engine.plan().workers.len();
    let (replay, stages) = Replay::start(config, &engine.ports(), workers)?;
    let asked = asked_to_stop()?;
    let prepared = args.control.prepare()?;
    let mut stages = stages.into_iter();
    // There is one for each worker.
    let running = engine.start(|_| {
        let idle = || Box::new(|_: &mut Mbuf| Verdict::Drop(DropReason::Mode)) as Box<dyn Stage>;
        stages.next().unwrap_or_else(idle)
    })?;
    let server = prepared.serve("replay", Box::new(running.remote()))?;
    watch(args, &replay, &running, &asked);
    drop(server);
    replay.stop();
    let report = running.finish();
    say(&replay.stats(), &report, args.json)
}

/// Waits for the end and shows figures meanwhile.
fn watch(args: &ReplayArgs, replay: &Replay, running: &Running, asked: &AtomicBool) {
    let start = Instant::now();
    let (mut shown, mut last) = (start, replay.stats());
    while !replay.is_done() && !running.is_finished() && !asked.load(Ordering::Relaxed) {
        let left = args.duration.map(|d| d.saturating_sub(start.elapsed()));
        if left == Some(Duration::ZERO) {
            break;
        }
        std::thread::sleep(left.map_or(LOOK, |l| l.min(LOOK)));
        let elapsed = shown.elapsed();
        if args.stats_interval.is_zero() || elapsed < args.stats_interval {
            continue;
        }
        let now = replay.stats();
        note(&format!(
            "{:8.1}s  sent {} ({:.0} pps), late {}, the latest by {:.1} µs\n",
            start.elapsed().as_secs_f64(),
            now.sent,
            (now.sent - last.sent) as f64 / elapsed.as_secs_f64(),
            now.late_frames,
            now.latest_ns as f64 / 1e3,
        ));
        (last, shown) = (now, Instant::now());
    }
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Told<'a> {
    replay: &'a ReplayStats,
    #[serde(flatten)]
    report: &'a Report,
}

fn say(replay: &ReplayStats, report: &Report, json: bool) -> anyhow::Result<ExitCode> {
    let refused = report.account.drops;
    if json {
        super::print(&(serde_json::to_string(&Told { replay, report })? + "\n"))?;
    } else {
        let mut text = format!(
            "{} frames sent in {:.6} s{}; {} late, the latest by {:.1} µs, {:.1} µs on average\n\
             {} read, {} filtered out, {} cut short by the capture, {} no frames, {} pass(es)\n",
            replay.sent,
            replay.duration_s,
            speed(replay),
            replay.late_frames,
            replay.latest_ns as f64 / 1e3,
            replay.mean_late_ns / 1e3,
            replay.read,
            replay.filtered,
            replay.cut,
            replay.skipped,
            replay.passes,
        );
        for port in &report.ports {
            let drops: Vec<_> = port
                .drops
                .iter()
                .map(|(why, n)| format!("{why} {n}"))
                .collect();
            text += &format!(
                "{}: tx {}, drops {}\n",
                port.name,
                port.tx,
                if drops.is_empty() {
                    "0".to_owned()
                } else {
                    drops.join(", ")
                }
            );
        }
        super::print(&text)?;
    }
    if let Some(broken) = &replay.broken {
        note(&format!(
            "error: {broken}; the {} frames before were sent\n",
            replay.sent
        ));
    }
    if !report.is_clean() {
        note("error: a worker failed, a frame is unaccounted for or an mbuf leaked; see --json\n");
    }
    let is_whole = replay.broken.is_none() && report.account.tx == replay.sent && report.is_clean();
    if report.account.tx != replay.sent {
        note(&format!(
            "warning: the ports took {} of {} frames; drops in all, received ones included: {refused}\n",
            report.account.tx, replay.sent
        ));
    }
    Ok(if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_UNCLEAN)
    })
}

/// Rates, unless there is no time from a first frame to a last.
fn speed(replay: &ReplayStats) -> String {
    if replay.sent < 2 || replay.duration_s == 0.0 {
        return String::new();
    }
    let pps = replay.sent.saturating_sub(1) as f64 / replay.duration_s;
    let gbps = replay.sent_bytes as f64 * 8e-9 / replay.duration_s;
    format!(" ({pps:.0} pps, {gbps:.3} Gbit/s)")
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim_end_matches(['x', 'X']).parse().ok();
    number
        .filter(|speed| speed.is_finite() && *speed > 0.0)
        .ok_or_else(|| format!("{text:?} is not a speed; write 1.0, 2x or 0.1"))
}

fn parse_passes(text: &str) -> Result<Passes, String> {
    match text.parse() {
        _ if text == "forever" => Ok(Passes(None)),
        Ok(passes @ 1..) => Ok(Passes(Some(passes))),
        _ => Err(format!(
            "{text:?} is not a number of passes; write 1 or more, or forever"
        )),
    }
}

fn parse_map(text: &str) -> Result<Map, String> {
    let mut map = Vec::new();
    for pair in text.split(',') {
        let numbers = pair
            .split_once('=')
            .and_then(|(i, p)| Some((i.trim().parse::<u16>().ok()?, p.trim().parse().ok()?)));
        let (interface, port) =
            numbers.ok_or_else(|| format!("{pair:?} is not a pair of numbers; write 0=0,1=1"))?;
        let interface = usize::from(interface);
        if map.len() <= interface {
            map.resize(interface + 1, 0);
        }
        map[interface] = port;
    }
    Ok(Map(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_has_no_rate() {
        let mut replay = ReplayStats {
            sent: 1,
            sent_bytes: 60,
            duration_s: 1e-6,
            ..ReplayStats::default()
        };
        assert_eq!(speed(&replay), "");
        (replay.sent, replay.sent_bytes) = (2, 120);
        assert_eq!(speed(&replay), " (1000000 pps, 0.960 Gbit/s)");
    }

    #[test]
    fn numbers_and_their_errors() {
        assert_eq!(parse_speed("2x"), Ok(2.0));
        assert_eq!(parse_speed("0.1"), Ok(0.1));
        assert_eq!(parse_passes("forever"), Ok(Passes(None)));
        assert_eq!(parse_passes("3"), Ok(Passes(Some(3))));
        assert_eq!(parse_map("0=1,2=1"), Ok(Map(vec![1, 0, 1])));
        for wrong in ["", "x", "0", "-1", "nan", "inf"] {
            assert!(parse_speed(wrong).is_err() && parse_map(wrong).is_err());
        }
        assert!(parse_passes("0").unwrap_err().contains("forever"));
    }
}
