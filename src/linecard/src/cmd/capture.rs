//! `linecard capture`: what ports receive, written down.

mod links;

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use linecard::engine::tap::{Direction, MOST_BYTES};
use linecard::modes::{self, Mode, ModeConfig};
use linecard::{Engine, EngineConfig, Idle, Offloads, Report, Running};
use linecard_traffic::capture::{CaptureConfig, CaptureStats, Ended, Rotation, Session, Target};
use linecard_traffic::filter::Filter;
use serde::Serialize;

use super::common::{EngineArgs, asked_to_stop, note};
use super::forward::EXIT_UNCLEAN;
use super::watched::ControlArgs;
use links::Links;

/// How often to look whether it is over.
const LOOK: Duration = Duration::from_millis(50);

/// How many of these between two looks at the ports' devices.
const LOOKS_AT_LINKS: u32 = 4;

/// How long a port may gather frames: they come with their times, and nobody waits for one, so fewer wake-ups
/// are better than early ones.
const GATHER: Duration = Duration::from_millis(10);

/// How long a frame may be on its way to the engine: it is gathered, and the kernel's timer is late.
const GRACE: Duration = Duration::from_millis(20);

/// Capture what ports receive to a file, a ring of files or a pipe, until the count, the duration or
/// Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
The file is pcapng with times in nanoseconds: Wireshark, tshark, capinfos and linecard replay read it. \
A filter is written as for tcpdump, and means the same: 'udp port 53 and not net 10.0.0.0/8'.

Examples:
  linecard capture --port uring:eth1 --write out.pcapng
  linecard capture --port xdp:eth1 --filter 'tcp port 80 or 443' --count 1000 --write web.pcapng
  linecard capture --port uring:eth1 --write ring.pcapng --rotate-size 100M --files 10
  linecard capture --port uring:eth1 --filter arp | tshark -r -
  linecard capture --port uring:eth1 | wireshark -k -i -
  linecard capture --port dpdk:0000:3b:00.0 --snaplen 128 --duration 10s --write x.pcapng --json

What was not captured is counted: missed (by the device or the kernel, before us), dropped (writing was \
behind: a larger --buffer or a faster disk), lost (the disk was full, or nobody read the pipe).

A port whose device is removed is captured from again when it is back.

Exit codes: 0 all is well, 1 it could not start, 2 wrong usage, 3 it ran, but could not write all of it, a port \
was gone for some time, or a worker failed. Ctrl-C ends it in order, with a whole file; twice, at once.")]
pub struct CaptureArgs {
    /// A port; say it once for each.
    #[arg(long = "port", short = 'p', value_name = "PORT", required = true)]
    ports: Vec<String>,
    /// The file to write, or - for standard output, which is where it goes if nothing is said and that
    /// is not a terminal.
    #[arg(long, short = 'w', value_name = "FILE")]
    write: Option<PathBuf>,
    /// Which frames, as for tcpdump; all if left out.
    #[arg(long, short = 'f', value_name = "EXPR")]
    filter: Option<Filter>,
    /// Bytes of each frame at most.
    #[arg(long, short = 's', value_name = "BYTES", default_value_t = MOST_BYTES as u32, value_parser = clap::value_parser!(u32).range(1..=MOST_BYTES as i64))]
    snaplen: u32,
    /// Stop after so many frames.
    #[arg(long, short = 'c', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after this time: 5s, 2min.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Begin a new file before one grows larger than this: 100M.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    rotate_size: Option<u64>,
    /// Begin a new file when one is so old, if there are frames in it: 60s.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    rotate_time: Option<Duration>,
    /// Keep only the newest N files.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    files: Option<u32>,
    /// Memory of each worker for what is not yet written: 64M.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_size)]
    buffer: u64,
    /// A remark to put into the file.
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// How often to show figures; 0s for never.
    #[arg(long, value_name = "D", default_value = "1s", value_parser = humantime::parse_duration)]
    stats_interval: Duration,
    /// Print the result as one JSON object: on standard error, if the frames go to standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    control: ControlArgs,
}

/// Runs it.
pub fn run(args: &CaptureArgs) -> anyhow::Result<ExitCode> {
    let (target, to_stdout) = target(args)?;
    let ports = linecard::open_all(args.ports.iter().map(String::as_str))?;
    let engine = Engine::new(ports, engine_config(args))?;
    check_buffer(args.buffer, engine.plan().workers.len(), available_memory())?;
    let mode = ModeConfig::new(&engine.ports());
    let count = engine.ports().len();
    let config = CaptureConfig {
        directions: vec![Direction::Received; count],
        filter: args.filter.clone(),
        snaplen: args.snaplen as usize,
        rotation: Rotation {
            bytes: args.rotate_size,
            time: args.rotate_time,
            files: args.files,
        },
        count: args.count,
        duration: args.duration,
        grace: GRACE,
        buffer_bytes: usize::try_from(args.buffer)?,
        comment: args.comment.clone(),
        ..CaptureConfig::new(count, target)
    };
    let prepared = args.control.prepare()?;
    let asked = asked_to_stop()?;
    let (running, session) = engine.start_after(
        |_| modes::stage(Mode::RxDrop, &mode),
        |taps| Session::start(taps, config),
    )?;
    let session = session?;
    let mut links = Links::default();
    links.look(&running.snapshot().ports);
    // Scripts wait for this line: from here on every frame is captured or counted.
    note("capturing; Ctrl-C stops and reports\n");
    let server = prepared.serve("capture", Box::new(running.remote()))?;
    watch(&session, &running, &asked, args.stats_interval, &mut links);
    drop(server);
    let capture = session.stop();
    note(&links.look(&running.snapshot().ports));
    let report = running.finish();
    let told = Told {
        capture: &capture,
        gone: &links.lost,
        report: &report,
    };
    say(&told, args.json, to_stdout)?;
    let failed = matches!(capture.ended, Some(Ended::Failed(_) | Ended::ReaderHangs));
    Ok(if failed || !links.lost.is_empty() || !report.is_clean() {
        ExitCode::from(EXIT_UNCLEAN)
    } else {
        ExitCode::SUCCESS
    })
}

/// Where to, and whether that is standard output.
fn target(args: &CaptureArgs) -> anyhow::Result<(Target, bool)> {
    let rotates = args.rotate_size.is_some() || args.rotate_time.is_some();
    anyhow::ensure!(
        rotates || args.files.is_none(),
        "--files says how many files to keep, and nothing begins a second one: add --rotate-size 100M or --rotate-time 60s"
    );
    match &args.write {
        Some(path) if path.as_os_str() != "-" => Ok((Target::File(path.clone()), false)),
        _ => {
            let stdout = std::io::stdout();
            anyhow::ensure!(
                args.write.is_some() || !stdout.is_terminal(),
                "a capture is not for a terminal: add --write FILE, or pipe it into a reader (| tshark -r -)"
            );
            anyhow::ensure!(
                !rotates,
                "standard output cannot be rotated: add --write FILE"
            );
            let fd = stdout.as_fd().try_clone_to_owned();
            Ok((Target::Pipe(fd.context("standard output")?), true))
        }
    }
}

/// Refuses buffers that would have the system kill us: they are touched before the first frame.
fn check_buffer(each: u64, workers: usize, available: Option<u64>) -> anyhow::Result<()> {
    // Without /proc at least nothing that no machine has.
    let most = available.unwrap_or(1 << 40) / 2 / workers.max(1) as u64;
    anyhow::ensure!(
        each <= most,
        "--buffer: {workers} worker(s) with {each} bytes each are more than half of the memory that is available; \
         {}M at most",
        most / 1_000_000
    );
    Ok(())
}

/// Bytes of memory that the system could give, by its own estimate.
fn available_memory() -> Option<u64> {
    available_in(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn engine_config(args: &CaptureArgs) -> EngineConfig {
    let mut config = args.engine.config(Idle::Adaptive);
    // When each frame came, if the port knows.
    config.offloads |= Offloads::RX_TIMESTAMP;
    config.rx_gather = Some(GATHER);
    config
}

/// Waits for the end and shows figures meanwhile.
fn watch(
    session: &Session,
    running: &Running,
    asked: &AtomicBool,
    every: Duration,
    links: &mut Links,
) {
    let mut shown = Instant::now();
    let mut last = session.stats();
    let mut looks: u32 = 0;
    while !session.is_finished() && !asked.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(LOOKS_AT_LINKS) {
            note(&links.look(&running.snapshot().ports));
        }
        let elapsed = shown.elapsed();
        if every.is_zero() || elapsed < every {
            continue;
        }
        let now = session.stats();
        let pps = (now.written - last.written) as f64 / elapsed.as_secs_f64();
        note(&format!(
            "{:8.1}s  captured {} ({pps:.0} pps), {:.1} MB, missed {}, dropped {}  {}\n",
            running.elapsed().as_secs_f64(),
            now.written,
            now.written_bytes as f64 / 1e6,
            now.missed,
            now.dropped,
            now.file,
        ));
        (last, shown) = (now, Instant::now());
    }
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    capture: &'a CaptureStats,
    /// Ports whose devices were removed for some time.
    gone: &'a [String],
    #[serde(flatten)]
    report: &'a Report,
}

fn say(told: &Told<'_>, json: bool, to_stdout: bool) -> anyhow::Result<()> {
    let Told {
        capture, report, ..
    } = told;
    let mut text = if json {
        serde_json::to_string(told)?
    } else {
        let mut text = format!(
            "{} frames captured of {} seen; missed {} (device or kernel), dropped {} (no room), lost {} (not written)\n{} bytes in {} file(s), the last {}",
            capture.written,
            capture.seen,
            capture.missed,
            capture.dropped,
            capture.lost,
            capture.written_bytes,
            capture.files,
            capture.file,
        );
        match &capture.ended {
            Some(Ended::Failed(error)) => {
                text += &format!(
                    "\nerror: writing {} failed: {error}; the file ends with a whole frame",
                    capture.file
                )
            }
            Some(Ended::ReaderHangs) => {
                text +=
                    "\nerror: the reader of the pipe took nothing; what it had not taken is lost"
            }
            Some(Ended::ReaderGone) => text += "\nthe reader of the pipe has gone",
            _ => {}
        }
        for port in told.gone {
            text += &format!(
                "\nerror: the device of {port} was gone for some time: what came meanwhile is not in the file"
            );
        }
        if !report.is_clean() {
            text += "\nerror: a worker failed, a frame is unaccounted for or an mbuf leaked; see --json";
        }
        text
    };
    text += "\n";
    if to_stdout || !json {
        note(&text);
        return Ok(());
    }
    super::print(&text)
}

/// A number of bytes: `100M`, `64k`, `1G`, in powers of 1,000 as tcpdump's; `MiB` and the like in powers of 1,024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write 100M, 64k or 2GiB");
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(wrong()),
    };
    match number.checked_mul(factor) {
        Some(bytes @ 1..) => Ok(bytes),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_fit_into_memory() {
        let available = available_in("MemFree: 1 kB\nMemAvailable:    4096 kB\n");
        assert_eq!(available, Some(4 << 20));
        assert!(check_buffer(1 << 20, 2, available).is_ok());
        let refused = check_buffer((1 << 20) + 1, 2, available).unwrap_err();
        assert!(refused.to_string().contains("1M at most"), "{refused}");
        assert!(check_buffer(3_000_000_000_000, 1, None).is_err());
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("7", 7),
            ("64k", 64_000),
            ("100M", 100_000_000),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for text in ["", "M", "0", "1x", "-1", "99999999999G"] {
            assert!(parse_size(text).unwrap_err().contains("100M"), "{text}");
        }
    }
}
