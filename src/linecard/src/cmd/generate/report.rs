//! What is told of a job at its end.

use std::process::ExitCode;

use linecard::Report;
use linecard_traffic::rate::Layer;
use linecard_traffic::receiver;
use linecard_traffic::results::{self, Counts, Evenness, Results, Trial};
use serde::Serialize;

use super::back::sent_by;
use super::by_stream;
use super::figures::{Stream, ports, settings, streams, take_out, trial};
use super::progress::scaled;
use super::{Done, EXIT_NOT_HELD, GenArgs};
use crate::cmd::far::time;
use crate::cmd::forward::EXIT_UNCLEAN;
use crate::cmd::table::{Cell, Paint, Table, Tone};

/// Drops of frames that were to leave by the port: given to it, and not sent. And what that means.
const NOT_SENT: [(&str, &str); 5] = [
    ("tx_full", "it had no room"),
    ("port_down", "it was down or gone"),
    ("tx_error", "it says that it could not send them"),
    ("bad_offload", "it cannot send such"),
    ("stopped", "it did not take them before the end"),
];

/// The least gap whose evenness says something in text: of a shorter one the widest step is all or most, and bursts are
/// within it as well.
const LEAST_GAP_NS: f64 = 1000.0;

/// How even the gaps were, if they are long enough.
fn evenness(even: &Evenness) -> String {
    if even.asked_ns < LEAST_GAP_NS {
        return String::new();
    }
    let within = even.within.iter();
    let within: Vec<_> = within
        .map(|(ns, share)| format!("±{ns} ns {:.1}%", share * 100.0))
        .collect();
    format!(
        "gaps between frames: {:.2}% back to back; within {} of {}\n",
        even.back_to_back * 100.0,
        within.join(", "),
        time(even.asked_ns)
    )
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
    /// Frames that were given to the port and did not leave. It does not say of which streams they are.
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
        let reasons: Vec<_> = NOT_SENT
            .iter()
            .filter_map(|(why, means)| Some((*means, *port.drops.get(*why)?)))
            .collect();
        let refused = reasons.iter().map(|(_, frames)| frames).sum();
        let mean_bytes = sent.bytes as f64 / sent.frames.max(1) as f64;
        let refused = take_out(&mut sent, refused);
        let seconds = sent.last_ns.saturating_sub(sent.first_ns) as f64 * 1e-9;
        let mut trial = trial(job, &sent, seconds, mean_bytes, complete);
        trial.faults.extend(
            reasons
                .iter()
                .map(|(means, frames)| format!("{} refused {frames} frames: {means}", port.name)),
        );
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
        if let Some(even) = &trial.pacing.evenness {
            text += &evenness(even);
        }
        text += &by_stream::render(&self.streams, paint);
        if self.refused > 0 && self.streams.len() > 1 {
            text += &format!(
                "the port refused {} frames and does not say of which stream: each sent so many at most\n",
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
        if let Some(hint) = self.hint() {
            text += &format!("{}\n", paint.tone(&hint, Tone::Caution));
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

    /// What to look for when frames left and not one came back: nothing about the rate is wrong then.
    fn hint(&self) -> Option<String> {
        let receive = |port: &&results::Port| port.role != "transmit";
        let port = self.results.ports.iter().find(receive)?;
        let came = |s: &Stream| s.back.as_ref().is_some_and(|back| back.received > 0);
        let sent = self.results.trials[0].counts.sent > 0;
        (sent && !self.streams.iter().any(came)).then(|| {
            format!(
                "nothing came back to {}: is there anything that forwards these frames or sends them back? A linecard reflect \
                 takes those to its own address (--peer)",
                port.name
            )
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_gaps_have_no_evenness() {
        let even = |asked_ns| Evenness {
            asked_ns,
            gaps: 4,
            back_to_back: 0.25,
            within: vec![(64, 0.5), (512, 0.75)],
        };
        assert_eq!(
            evenness(&even(2000.0)),
            "gaps between frames: 25.00% back to back; within ±64 ns 50.0%, ±512 ns 75.0% of 2.00 µs\n"
        );
        assert!(!evenness(&even(1000.0)).is_empty());
        assert_eq!(evenness(&even(999.0)), "");
    }
}
