//! What is told of a job: before it, meanwhile, and at its end.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use linecard::{Engine, PortInfo, Report};
use linecard_traffic::generator::{Handle, Job, Limit, Sent, TrainSent};
use linecard_traffic::rate::Layer;
use linecard_traffic::receiver::{self, Figures, Snapshot};
use linecard_traffic::results::{self, Counts, Results, Trial};
use serde::Serialize;

use super::back::sent_by;
use super::{Done, EXIT_NOT_HELD, GenArgs, asked_seconds, name_of};
use crate::cmd::far::time;
use crate::cmd::forward::EXIT_UNCLEAN;
use crate::cmd::table::{Cell, Paint, Table, Tone};

/// By how much a rate may differ from what was asked for.
const TOLERANCE: f64 = 0.001;

/// Drops of frames that were to leave by the port: given to it, and not sent.
const NOT_SENT: [&str; 5] = ["tx_full", "port_down", "tx_error", "bad_offload", "stopped"];

/// What will be sent, and by whom.
pub(super) fn start(engine: &Engine, handle: &Handle, job: &Job) -> String {
    let (setup, infos) = (handle.setup(), engine.ports());
    let limit = match job.limit {
        Limit::Endless => "until it is stopped".to_owned(),
        Limit::Frames(frames) => format!("{frames} frames"),
        Limit::Time(time) => format!("for {}", humantime::format_duration(time)),
    };
    let mut text = format!(
        "{} stream(s) by {} at {}, {} spacing, {limit}\n{}",
        job.streams.len(),
        infos[usize::from(setup.port)].name,
        job.rate,
        job.spacing,
        engine.plan()
    );
    for (index, stream) in job.streams.iter().enumerate().take(8) {
        let what = match &stream.frame {
            Some(frame) => format!("a frame of {} bytes", frame.len() + 4),
            None => format!("{} of {} bytes", stream.packet, stream.sizes),
        };
        let rate = stream
            .rate
            .map_or(String::new(), |rate| format!(", {rate}"));
        text += &format!(
            "stream {index} {}: {what}, {} flow(s){rate}\n",
            stream.name, stream.flows
        );
    }
    if job.streams.len() > 8 {
        text += &format!("… and {} more\n", job.streams.len() - 8);
    }
    for port in &infos {
        for note in &port.notes {
            text += &format!("{}: {note}\n", port.name);
        }
    }
    text
}

/// A line of figures.
pub(super) fn line(last: &Sent, now: &Sent, job: &Job, elapsed: Duration) -> String {
    let seconds = now.last_ns.saturating_sub(last.last_ns.max(now.first_ns)) as f64 * 1e-9;
    let frames = (now.frames - last.frames) as f64;
    let bits = (now.bytes - last.bytes) as f64 * 8.0;
    let per = |n: f64| if seconds > 0.0 { n / seconds } else { 0.0 };
    let left = asked_seconds(job, now.asked_fps).map(|all| {
        format!(
            ", {:.0} s left",
            (all - elapsed.as_secs_f64()).max(0.0).ceil()
        )
    });
    format!(
        "{:8.1}s  {} pps, {}bit/s (layer 2), sent {}, unsent {}, late {}{}",
        elapsed.as_secs_f64(),
        scaled(per(frames)),
        scaled(per(bits)),
        now.frames,
        now.unsent,
        now.pacing.late_frames,
        left.unwrap_or_default(),
    )
}

/// A number with a prefix: 20 k, 1.488 M.
fn scaled(number: f64) -> String {
    match number {
        1e9.. => format!("{:.3} G", number / 1e9),
        1e6.. => format!("{:.3} M", number / 1e6),
        1e3.. => format!("{:.3} k", number / 1e3),
        _ => format!("{number:.1} "),
    }
}

/// Everything about a run.
#[derive(Serialize)]
pub(super) struct Outcome {
    #[serde(flatten)]
    results: Results,
    /// Whether it was sent as it was asked.
    passed: bool,
    /// By how much the rate differs from what was asked for, as a share.
    error: f64,
    /// Frames that the port had taken and then refused: in `streams` they are sent, unless there is only one.
    refused: u64,
    bits_per_second: Bits,
    streams: Vec<Stream>,
    engine: Report,
}

/// On both layers.
#[derive(Serialize)]
struct Bits {
    layer_1: f64,
    layer_2: f64,
}

/// What was sent of a stream.
#[derive(Default, Serialize)]
struct Stream {
    name: String,
    sent: u64,
    bytes: u64,
    #[serde(flatten)]
    back: Option<Returned>,
}

/// What came back of a stream.
#[derive(Clone, Default, Serialize)]
struct Returned {
    received: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    mean_ns: f64,
    min_ns: u64,
    max_ns: u64,
    jitter_ns: f64,
}

impl Outcome {
    pub(super) fn new(args: &GenArgs, done: &Done<'_>, engine: Report) -> Self {
        let &Done {
            job,
            handle,
            receive,
            complete,
            ..
        } = done;
        let mut sent = handle.sent();
        let port = &engine.ports[usize::from(handle.setup().port)];
        let refused: u64 = NOT_SENT.iter().filter_map(|why| port.drops.get(*why)).sum();
        let mean_bytes = sent.bytes as f64 / sent.frames.max(1) as f64;
        let refused = take_out(&mut sent, refused);
        let seconds = sent.last_ns.saturating_sub(sent.first_ns) as f64 * 1e-9;
        let mut trial = trial(job, &sent, seconds, mean_bytes, complete);
        let snapshot = done.back.figures().map(receiver::Handle::snapshot);
        if let (Some(figures), Some(snapshot), Some(port)) =
            (done.back.figures(), &snapshot, receive)
        {
            let port = &engine.ports[usize::from(port)];
            let counts = snapshot.counts(Some(&sent_by(&sent.lanes)));
            trial.counts = Counts {
                sent: sent.frames,
                unsent: sent.unsent,
                lost: counts.lost.saturating_sub(refused),
                receiver_misses: port.rx_misses,
                ..counts
            };
            if port.rx_misses > 0 {
                let what =
                    "frames were lost by the port that receives: what came back is not known";
                trial.faults.push(format!("{} {what}", port.rx_misses));
            }
            let jitter = snapshot.sum(|_| true).jitter_ns;
            trial.latency = Some(figures.times().latency(jitter));
        }
        Self {
            passed: trial.is_valid() && engine.is_clean(),
            error: sent.error(),
            bits_per_second: Bits {
                layer_1: sent.achieved_fps * Layer::One.bits(mean_bytes),
                layer_2: sent.achieved_fps * Layer::Two.bits(mean_bytes),
            },
            refused,
            streams: streams(job, &sent, refused, snapshot.as_ref()),
            results: Results {
                format: results::FORMAT,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                command: std::env::args().collect(),
                duration_s: engine.duration_s,
                complete,
                ports: ports(done.infos, handle.setup().port, receive),
                settings: settings(args, job),
                trials: vec![trial],
                ..Results::default()
            },
            engine,
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        if !self.engine.is_clean() {
            ExitCode::from(EXIT_UNCLEAN)
        } else if !self.passed {
            ExitCode::from(EXIT_NOT_HELD)
        } else {
            ExitCode::SUCCESS
        }
    }

    pub(super) fn render(&self, paint: Paint) -> String {
        let trial = &self.results.trials[0];
        let mut text = format!("\n{} frames in {:.3} s\n", trial.counts.sent, trial.sent_s);
        text += &self.rates(trial).render(paint);
        text += &format!(
            "\nunsent {}, late {} (latest by {}), mean frame {:.1} bytes\n",
            trial.counts.unsent,
            trial.pacing.late_frames,
            time(trial.pacing.latest_ns as f64),
            trial.frame_bytes
        );
        if let Some(gaps) = &trial.pacing.gaps {
            let quantiles: Vec<_> = gaps
                .quantiles
                .iter()
                .map(|(share, ns)| format!("{}% {}", share * 100.0, time(*ns as f64)))
                .collect();
            text += &format!(
                "gaps between bursts: mean {}, deviation {}; {}\n",
                time(gaps.mean_ns),
                time(gaps.deviation_ns),
                quantiles.join(", ")
            );
        }
        text += &self.by_stream(paint);
        if self.refused > 0 && self.streams.len() > 1 {
            text += &format!(
                "the port refused {} frames and does not say of which stream: here they are sent\n",
                self.refused
            );
        }
        let a = &self.engine.account;
        if a.unaccounted != 0 || !self.engine.is_clean() {
            let line = format!(
                "{} frames unaccounted for, or a worker failed: see --json",
                a.unaccounted
            );
            text += &format!("{}\n", paint.tone(&line, Tone::Bad));
        }
        for fault in &trial.faults {
            text += &format!(
                "{}\n",
                paint.tone(&format!("not as asked: {fault}"), Tone::Bad)
            );
        }
        if self.passed {
            text += &format!("{}\n", paint.tone("sent as asked", Tone::Good));
        }
        text
    }

    /// What was sent of each stream and what came back; of a single one only the latter.
    fn by_stream(&self, paint: Paint) -> String {
        if self.streams.iter().all(|s| s.back.is_none()) {
            if self.streams.len() < 2 {
                return String::new();
            }
            let mut table = Table::new(&["stream", ">sent", ">bytes"]);
            for s in &self.streams {
                table
                    .row([s.name.clone(), s.sent.to_string(), s.bytes.to_string()].map(Cell::from));
            }
            return format!("\n{}", table.render(paint));
        }
        let mut table = Table::new(&[
            "stream",
            ">sent",
            ">received",
            ">lost",
            ">duplicated",
            ">reordered",
            ">latency",
            ">least",
            ">most",
            ">jitter",
        ]);
        for s in &self.streams {
            let Some(back) = &s.back else { continue };
            let bad = |n: u64| {
                Cell::toned(
                    n.to_string(),
                    if n == 0 { Tone::Plain } else { Tone::Caution },
                )
            };
            table.row([
                Cell::from(s.name.clone()),
                Cell::from(s.sent.to_string()),
                Cell::from(back.received.to_string()),
                bad(back.lost),
                bad(back.duplicated),
                bad(back.reordered),
                Cell::from(time(back.mean_ns)),
                Cell::from(time(back.min_ns as f64)),
                Cell::from(time(back.max_ns as f64)),
                Cell::from(time(back.jitter_ns)),
            ]);
        }
        format!("\n{}", table.render(paint))
    }

    fn rates(&self, trial: &Trial) -> Table {
        let mut table = Table::new(&[
            "",
            ">frames/s",
            ">bit/s layer 2",
            ">bit/s layer 1",
            ">error",
        ]);
        let bits = |fps: f64, layer: Layer| scaled(fps * layer.bits(trial.frame_bytes));
        let row = |name: &'static str, fps: f64, error: String| {
            [
                Cell::from(name),
                Cell::from(scaled(fps)),
                Cell::from(bits(fps, Layer::Two)),
                Cell::from(bits(fps, Layer::One)),
                Cell::from(error),
            ]
        };
        if let Some(asked) = trial.asked_fps {
            table.row(row("asked", asked, String::new()));
        }
        if trial.sent_s == 0.0 {
            // One burst has no rate.
            return table;
        }
        let error = trial
            .asked_fps
            .map(|_| format!("{:+.4}%", self.error * 100.0));
        table.row(row(
            "achieved",
            trial.achieved_fps,
            error.unwrap_or_default(),
        ));
        table
    }
}

/// What the port had taken and did not send, or never took, is not sent, whatever was thought before. Returns how
/// many frames those are.
fn take_out(sent: &mut Sent, refused: u64) -> u64 {
    let refused = refused.min(sent.frames);
    let left = sent.frames - refused;
    let share = left as f64 / sent.frames.max(1) as f64;
    sent.bytes = (sent.bytes as f64 * share).round() as u64;
    sent.achieved_fps *= share;
    sent.frames = left;
    sent.unsent += refused;
    refused
}

fn trial(job: &Job, sent: &Sent, seconds: f64, mean_bytes: f64, complete: bool) -> Trial {
    let mut faults = Vec::new();
    let asked_s = asked_seconds(job, sent.asked_fps).unwrap_or(seconds);
    if sent.frames == 0 {
        faults.push("nothing was sent".to_owned());
    }
    if sent.unsent > 0 {
        faults.push(format!(
            "{} frames were due and not sent: the port takes no more, or this machine cannot do more",
            sent.unsent
        ));
    }
    faults.extend(
        sent.trains
            .iter()
            .filter_map(|train| rate_fault(job, sent, train)),
    );
    if let Limit::Frames(frames) = job.limit
        && complete
        && sent.frames + sent.unsent != frames
    {
        faults.push(format!(
            "{frames} frames were asked for, {} were sent",
            sent.frames
        ));
    }
    Trial {
        number: 1,
        test: "gen".to_owned(),
        frame_bytes: mean_bytes,
        asked_fps: sent.asked_fps,
        achieved_fps: sent.achieved_fps,
        asked_s,
        sent_s: seconds,
        counts: Counts {
            sent: sent.frames,
            unsent: sent.unsent,
            ..Counts::default()
        },
        pacing: sent.pacing.clone(),
        faults,
        ..Trial::default()
    }
}

/// What is wrong with the rate of streams that share a schedule.
fn rate_fault(job: &Job, sent: &Sent, train: &TrainSent) -> Option<String> {
    let (asked, error) = (train.asked_fps?, sent.error_of(train));
    if error.abs() <= TOLERANCE {
        return None;
    }
    let names = train.streams.iter().take(8);
    let names = names.filter_map(|index| Some(name_of((*index, job.streams.get(*index)?))));
    let whose = match sent.trains.len() {
        1 => String::new(),
        _ => format!(" of stream {}", names.collect::<Vec<_>>().join(", ")),
    };
    Some(format!(
        "asked for {asked:.1} frames a second{whose}, {:.1} were sent: {:+.3} per cent",
        asked * (1.0 + error),
        error * 100.0
    ))
}

fn streams(job: &Job, sent: &Sent, refused: u64, snapshot: Option<&Snapshot>) -> Vec<Stream> {
    let mut streams: Vec<_> = job
        .streams
        .iter()
        .enumerate()
        .map(|named| Stream {
            name: name_of(named),
            ..Stream::default()
        })
        .collect();
    for lane in &sent.lanes {
        if let Some(stream) = streams.get_mut(lane.stream) {
            stream.sent += lane.next - lane.first;
            stream.bytes += lane.bytes;
        }
    }
    // Of which stream the refused frames are is plain if there is only one.
    if let [only] = &mut streams[..] {
        only.sent = only.sent.saturating_sub(refused);
        only.bytes = sent.bytes;
    }
    let Some(snapshot) = snapshot else {
        return streams;
    };
    let mut back = vec![Returned::default(); streams.len()];
    for lane in &sent.lanes {
        if let (Some(back), Some(figures)) =
            (back.get_mut(lane.stream), snapshot.lanes.get(&lane.lane))
        {
            back.add(figures);
        }
    }
    for (stream, mut back) in streams.iter_mut().zip(back) {
        let received = back.received.max(1) as f64;
        back.lost = stream.sent.saturating_sub(back.received);
        back.mean_ns /= received;
        back.jitter_ns /= received;
        stream.back = Some(back);
    }
    streams
}

impl Returned {
    /// Adds a lane: means are sums until all are there.
    fn add(&mut self, lane: &Figures) {
        if lane.received == 0 {
            return;
        }
        self.min_ns = if self.received == 0 {
            lane.min_ns
        } else {
            self.min_ns.min(lane.min_ns)
        };
        self.max_ns = self.max_ns.max(lane.max_ns);
        self.received += lane.received;
        self.duplicated += lane.duplicated;
        self.reordered += lane.reordered;
        self.mean_ns += lane.sum_ns as f64;
        self.jitter_ns += lane.jitter_ns * lane.received as f64;
    }
}

fn ports(infos: &[PortInfo], transmit: u16, receive: Option<u16>) -> Vec<results::Port> {
    (0..)
        .zip(infos)
        .map(|(index, info)| results::Port {
            name: info.name.clone(),
            role: match (index == transmit, Some(index) == receive) {
                (true, true) => "both",
                (true, false) => "transmit",
                _ => "receive",
            }
            .to_owned(),
            driver: info.driver.to_owned(),
            link_bits_per_second: info.speed_mbps.map(|mbps| f64::from(mbps) * 1e6),
            link_is_nominal: info.speed_is_nominal && info.speed_mbps.is_some(),
            notes: info.notes.clone(),
        })
        .collect()
}

fn settings(args: &GenArgs, job: &Job) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::from([
        ("rate".to_owned(), job.rate.to_string()),
        ("spacing".to_owned(), job.spacing.to_string()),
        ("seed".to_owned(), job.seed.to_string()),
        ("streams".to_owned(), job.streams.len().to_string()),
        (
            "catch_up".to_owned(),
            humantime::format_duration(job.catch_up).to_string(),
        ),
    ]);
    if let [only] = &job.streams[..] {
        settings.insert("packet".to_owned(), only.packet.clone());
        settings.insert("size".to_owned(), only.sizes.to_string());
        settings.insert("flows".to_owned(), args.flows.to_string());
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use linecard_traffic::generator::LaneSent;

    /// 3000 frames of 64 bytes, as asked.
    fn sent() -> Sent {
        let lane = LaneSent {
            lane: 0,
            stream: 0,
            first: 0,
            next: 3000,
            bytes: 192_000,
        };
        Sent {
            frames: 3000,
            bytes: 192_000,
            asked_fps: Some(1e4),
            achieved_fps: 1e4,
            first_ns: 5,
            last_ns: 300_000_005,
            lanes: vec![lane],
            trains: vec![TrainSent {
                streams: vec![0],
                asked_fps: Some(1e4),
                is_even: true,
                frames: 3000,
            }],
            ..Sent::default()
        }
    }

    #[test]
    fn a_rate_that_is_not_held_is_a_fault() {
        let job = Job::default();
        assert!(trial(&job, &sent(), 0.3, 64.0, true).is_valid());
        let mut slow = sent();
        slow.achieved_fps = 9950.0;
        let faults = trial(&job, &slow, 0.3, 64.0, true).faults;
        assert!(faults[0].contains("-0.500 per cent"), "{faults:?}");
        slow.trains[0].is_even = false;
        assert!(trial(&job, &slow, 0.3, 64.0, true).is_valid());
    }

    #[test]
    fn one_burst_has_no_error() {
        let once = Sent {
            last_ns: 5,
            achieved_fps: 0.0,
            ..sent()
        };
        assert_eq!(once.error(), 0.0);
        assert!(trial(&Job::default(), &once, 0.0, 64.0, true).is_valid());
    }

    #[test]
    fn what_the_port_refused_is_nowhere_sent() {
        let job = Job::default();
        let mut all = sent();
        assert_eq!(take_out(&mut all, 5000), 3000);
        let of = |sent: &Sent| (sent.frames, sent.bytes, sent.unsent, sent.achieved_fps);
        assert_eq!(of(&all), (0, 0, 3000, 0.0));
        let nothing = Snapshot::default();
        let streams = streams(&job, &all, 3000, Some(&nothing));
        let lost = streams[0].back.as_ref().map(|back| back.lost);
        assert_eq!((streams[0].sent, streams[0].bytes, lost), (0, 0, Some(0)));
        let mut half = sent();
        assert_eq!(take_out(&mut half, 1500), 1500);
        assert_eq!(of(&half), (1500, 96_000, 1500, 5e3));
        let trial = trial(&job, &half, 0.3, 64.0, true);
        assert_eq!((trial.counts.sent, trial.counts.unsent), (1500, 1500));
        assert!(!trial.is_valid());
    }
}
