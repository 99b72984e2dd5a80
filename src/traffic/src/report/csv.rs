//! The figures as one long CSV table; its columns are described in `report`.

use super::escape::csv_field;
use crate::results::{Counts, Distribution, Latency, Recovery, Results, Trial};

const HEADINGS: &str = "test,trial,frame_bytes,at,repetition,figure,value,unit,valid,note";

/// What a row is about, beside its figure.
#[derive(Clone, Default)]
struct About {
    test: &'static str,
    trial: String,
    frame_bytes: f64,
    at: String,
    repetition: String,
    invalid: bool,
    note: String,
}

struct Csv(String);

impl Csv {
    fn figure(&mut self, about: &About, figure: &str, value: impl ToString, unit: &str) {
        let fields = [
            about.test.to_owned(),
            about.trial.clone(),
            about.frame_bytes.to_string(),
            about.at.clone(),
            about.repetition.clone(),
            figure.to_owned(),
            value.to_string(),
            unit.to_owned(),
            (!about.invalid).to_string(),
            about.note.clone(),
        ];
        let fields: Vec<_> = fields.iter().map(|field| csv_field(field)).collect();
        self.0 += &fields.join(",");
        self.0.push_str("\r\n");
    }

    fn maybe(&mut self, about: &About, figure: &str, value: Option<f64>, unit: &str) {
        if let Some(value) = value {
            self.figure(about, figure, value, unit);
        }
    }

    fn repetitions<T: ToString + Copy>(
        &mut self,
        about: &About,
        figure: &str,
        values: &[T],
        unit: &str,
    ) {
        for (value, number) in values.iter().zip(1..) {
            let about = About {
                repetition: i32::to_string(&number),
                ..about.clone()
            };
            self.figure(&about, figure, *value, unit);
        }
    }

    fn distribution(&mut self, about: &About, prefix: &str, all: &Distribution) {
        let mut figure = |name: &str, value: String, unit| {
            self.figure(about, &format!("{prefix}{name}"), value, unit)
        };
        figure("count", all.count.to_string(), "1");
        figure("min", all.min_ns.to_string(), "ns");
        figure("mean", all.mean_ns.to_string(), "ns");
        figure("deviation", all.deviation_ns.to_string(), "ns");
        figure("max", all.max_ns.to_string(), "ns");
        for (share, ns) in &all.quantiles {
            figure(&format!("quantile_{share}"), ns.to_string(), "ns");
        }
    }

    fn latency(&mut self, about: &About, latency: &Latency) {
        self.distribution(about, "latency_", &latency.time);
        self.figure(about, "jitter", latency.jitter_ns, "ns");
    }

    fn counts(&mut self, about: &About, counts: &Counts) {
        for (name, count) in [
            ("sent", counts.sent),
            ("unsent", counts.unsent),
            ("received", counts.received),
            ("lost", counts.lost),
            ("duplicated", counts.duplicated),
            ("reordered", counts.reordered),
            ("late", counts.late),
            ("astray", counts.astray),
            ("foreign", counts.foreign),
            ("receiver_misses", counts.receiver_misses),
        ] {
            self.figure(about, name, count, "frame");
        }
    }

    fn trial(&mut self, trial: &Trial) {
        let about = About {
            test: "trial",
            trial: trial.number.to_string(),
            frame_bytes: trial.frame_bytes,
            at: trial.test.clone(),
            invalid: !trial.is_valid(),
            note: trial.faults.join("; "),
            ..About::default()
        };
        self.maybe(&about, "asked_fps", trial.asked_fps, "frame/s");
        self.figure(&about, "achieved_fps", trial.achieved_fps, "frame/s");
        self.figure(&about, "asked_s", trial.asked_s, "s");
        self.figure(&about, "sent_s", trial.sent_s, "s");
        self.counts(&about, &trial.counts);
        self.figure(&about, "late_frames", trial.pacing.late_frames, "frame");
        self.figure(&about, "latest", trial.pacing.latest_ns, "ns");
        if let Some(gaps) = &trial.pacing.gaps {
            self.distribution(&about, "gap_", gaps);
        }
        if let Some(latency) = &trial.latency {
            self.latency(&about, latency);
        }
    }

    fn recovery(&mut self, test: &'static str, recovery: &Recovery) {
        let about = About {
            test,
            frame_bytes: recovery.frame_bytes.into(),
            at: format!("cause={}", recovery.cause),
            ..About::default()
        };
        self.figure(&about, "mean", recovery.mean_ns, "ns");
        self.repetitions(&about, "time", &recovery.repetitions_ns, "ns");
    }
}

/// All figures as one long table.
pub fn csv(results: &Results) -> String {
    let mut csv = Csv(format!("{HEADINGS}\r\n"));
    throughput(&mut csv, results);
    for latency in &results.latency {
        let about = About {
            test: "latency",
            frame_bytes: latency.frame_bytes.into(),
            at: format!("fps={}", latency.fps),
            ..About::default()
        };
        csv.latency(&about, &latency.latency);
        csv.repetitions(&about, "mean", &latency.repetitions_ns, "ns");
    }
    for loss in &results.frame_loss {
        let about = About {
            test: "frame_loss",
            frame_bytes: loss.frame_bytes.into(),
            at: format!("share={}", loss.share),
            ..About::default()
        };
        csv.figure(&about, "fps", loss.fps, "frame/s");
        csv.figure(&about, "loss_ratio", loss.loss_ratio, "1");
    }
    for burst in &results.back_to_back {
        let about = About {
            test: "back_to_back",
            frame_bytes: burst.frame_bytes.into(),
            ..About::default()
        };
        csv.figure(&about, "frames", burst.frames, "frame");
        csv.figure(&about, "fps", burst.fps, "frame/s");
        csv.maybe(&about, "buffer_frames", burst.buffer_frames, "frame");
        csv.maybe(&about, "buffer", burst.buffer_ns, "ns");
        csv.repetitions(&about, "frames", &burst.repetitions, "frame");
    }
    results
        .recovery
        .iter()
        .for_each(|r| csv.recovery("recovery", r));
    results.reset.iter().for_each(|r| csv.recovery("reset", r));
    for stream in &results.streams {
        let about = About {
            test: "stream",
            at: stream.name.clone(),
            ..About::default()
        };
        csv.counts(&about, &stream.counts);
        csv.figure(&about, "bytes", stream.bytes, "byte");
        if let Some(latency) = &stream.latency {
            csv.latency(&about, latency);
        }
    }
    results.trials.iter().for_each(|trial| csv.trial(trial));
    csv.0
}

fn throughput(csv: &mut Csv, results: &Results) {
    for found in &results.throughput {
        let about = About {
            test: "throughput",
            frame_bytes: found.frame_bytes.into(),
            at: format!("loss_goal={}", found.loss_goal),
            note: match found.limit.as_str() {
                "" => String::new(),
                limit => format!("limited by {limit}"),
            },
            ..About::default()
        };
        csv.maybe(&about, "fps", found.fps, "frame/s");
        csv.maybe(&about, "low_fps", found.between.map(|b| b.0), "frame/s");
        csv.maybe(&about, "high_fps", found.between.map(|b| b.1), "frame/s");
        csv.maybe(&about, "line_fps", found.line_fps, "frame/s");
        csv.figure(&about, "trials", found.trials, "1");
        csv.repetitions(&about, "fps", &found.repetitions, "frame/s");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Throughput;

    #[test]
    fn every_row_has_every_column() {
        let results = Results {
            throughput: vec![Throughput {
                frame_bytes: 64,
                fps: Some(1.5e6),
                repetitions: vec![1.4e6, 1.6e6],
                limit: "device".to_owned(),
                ..Throughput::default()
            }],
            trials: vec![Trial {
                number: 1,
                test: "throughput".to_owned(),
                faults: vec!["unsent".to_owned(), "=late".to_owned()],
                ..Trial::default()
            }],
            ..Results::default()
        };
        let text = csv(&results);
        assert!(text.contains(
            "throughput,,64,loss_goal=0,,fps,1500000,frame/s,true,limited by device\r\n"
        ));
        assert!(text.contains("throughput,,64,loss_goal=0,2,fps,1600000,frame/s,true,"));
        assert!(text.contains("trial,1,0,throughput,,lost,0,frame,false,unsent; =late\r\n"));
        for line in text.lines() {
            assert_eq!(line.split(',').count(), 10, "{line}");
        }
    }
}
