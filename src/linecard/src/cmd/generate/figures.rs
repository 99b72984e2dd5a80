//! The figures of a job that is over.

use std::collections::BTreeMap;

use linecard::PortInfo;
use linecard_traffic::generator::{Job, Limit, Sent, TrainSent};
use linecard_traffic::receiver::{Figures, Snapshot};
use linecard_traffic::results::{self, Counts, Trial};
use serde::Serialize;

use super::progress::scaled;
use super::{GenArgs, asked_seconds, name_of};

/// By how much a rate may differ from what was asked for.
const TOLERANCE: f64 = 0.001;

/// What was sent of a stream.
#[derive(Default, Serialize)]
pub(super) struct Stream {
    pub(super) name: String,
    /// Frames that left; unknown if the port refused some, and there are several streams of which they may be.
    pub(super) sent: Option<u64>,
    /// Frames that were given to the port, …
    pub(super) given: u64,
    /// … and their bytes; of a single stream, only of those that left.
    pub(super) bytes: u64,
    #[serde(flatten)]
    pub(super) back: Option<Returned>,
}

/// What came back of a stream.
#[derive(Clone, Default, Serialize)]
pub(super) struct Returned {
    pub(super) received: u64,
    /// Unknown if what was sent is.
    pub(super) lost: Option<u64>,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    pub(super) mean_ns: f64,
    pub(super) min_ns: u64,
    pub(super) max_ns: u64,
    pub(super) jitter_ns: f64,
}

/// What the port had taken and did not send, or never took, is not sent, whatever was thought before. Returns how
/// many frames those are. How even the gaps were is not known then: which frames are missing between the others is not.
pub(super) fn take_out(sent: &mut Sent, refused: u64) -> u64 {
    let refused = refused.min(sent.frames);
    let left = sent.frames - refused;
    let share = left as f64 / sent.frames.max(1) as f64;
    sent.bytes = (sent.bytes as f64 * share).round() as u64;
    sent.achieved_fps *= share;
    sent.frames = left;
    sent.unsent += refused;
    if refused > 0 {
        sent.pacing.evenness = None;
    }
    refused
}

pub(super) fn trial(
    job: &Job,
    sent: &Sent,
    seconds: f64,
    mean_bytes: f64,
    complete: bool,
) -> Trial {
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
        "asked for {}pps{whose}, {}pps were sent: {:+.3} per cent",
        scaled(asked),
        scaled(asked * (1.0 + error)),
        error * 100.0
    ))
}

pub(super) fn streams(
    job: &Job,
    sent: &Sent,
    refused: u64,
    snapshot: Option<&Snapshot>,
) -> Vec<Stream> {
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
            stream.given += lane.next - lane.first;
            stream.bytes += lane.bytes;
        }
    }
    // Of which stream the refused frames are is plain if there is only one.
    if let [only] = &mut streams[..] {
        only.sent = Some(only.given.saturating_sub(refused));
        only.bytes = sent.bytes;
    } else if refused == 0 {
        streams.iter_mut().for_each(|s| s.sent = Some(s.given));
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
        back.lost = stream.sent.map(|sent| sent.saturating_sub(back.received));
        back.mean_ns /= received;
        back.jitter_ns /= received;
        stream.back = Some(back);
    }
    streams
}

impl Stream {
    /// What was sent, or the most that it can be.
    pub(super) fn shown(&self) -> String {
        match self.sent {
            Some(sent) => sent.to_string(),
            None => format!("≤ {}", self.given),
        }
    }
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

pub(super) fn ports(infos: &[PortInfo], transmit: u16, receive: Option<u16>) -> Vec<results::Port> {
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

pub(super) fn settings(args: &GenArgs, job: &Job) -> BTreeMap<String, String> {
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
    use linecard_traffic::results::Evenness;
    use linecard_traffic::stream::StreamSpec;

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
        let lost = streams[0].back.as_ref().unwrap().lost;
        assert_eq!(
            (streams[0].sent, streams[0].bytes, lost),
            (Some(0), 0, Some(0))
        );
        let mut half = sent();
        half.pacing.evenness = Some(Evenness::default());
        assert_eq!(take_out(&mut half, 1500), 1500);
        assert_eq!(of(&half), (1500, 96_000, 1500, 5e3));
        assert_eq!(half.pacing.evenness, None);
        half.pacing.evenness = Some(Evenness::default());
        take_out(&mut half, 0);
        assert!(half.pacing.evenness.is_some());
        let trial = trial(&job, &half, 0.3, 64.0, true);
        assert_eq!((trial.counts.sent, trial.counts.unsent), (1500, 1500));
        assert!(!trial.is_valid());
    }

    #[test]
    fn nobody_knows_of_which_of_two_streams_the_refused_frames_are() {
        let job = Job {
            streams: vec![StreamSpec::default(); 2],
            ..Job::default()
        };
        let mut both = sent();
        both.lanes.push(LaneSent {
            lane: 1,
            stream: 1,
            ..both.lanes[0].clone()
        });
        let nothing = Snapshot::default();
        let of = |stream: &Stream| {
            (
                stream.sent,
                stream.shown(),
                stream.back.as_ref().unwrap().lost,
            )
        };
        for stream in streams(&job, &both, 0, Some(&nothing)) {
            assert_eq!(of(&stream), (Some(3000), "3000".into(), Some(3000)));
        }
        for stream in streams(&job, &both, 1, Some(&nothing)) {
            assert_eq!(of(&stream), (None, "≤ 3000".into(), None));
        }
    }
}
