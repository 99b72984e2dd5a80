//! Progress of a benchmark: each trial a line, and the time that is left.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use linecard_traffic::report;
use linecard_traffic::results::{Results, Trial};
use linecard_traffic::rfc2544::{Plan, Test, Watch};
use linecard_traffic::trial::{Load, TrialSpec};

use super::show;

/// On standard error: the result alone goes to standard output.
pub struct Progress {
    bar: ProgressBar,
    /// How long all of it is to take.
    takes: Duration,
    /// How long the trials until now were to take.
    done: Duration,
    trials: u32,
    planned: u32,
    /// Where the report is written after each step.
    place: Option<PathBuf>,
    began: Instant,
    /// Seconds of the run that is gone on with.
    before: f64,
    trouble: Option<String>,
}

impl Progress {
    /// A run as planned, which writes what it has to a place.
    pub fn new(plan: &Plan, place: Option<&Path>, began: Instant) -> Self {
        let takes = plan.takes();
        let bar = ProgressBar::with_draw_target(
            Some(takes.as_millis() as u64),
            ProgressDrawTarget::stderr(),
        );
        // The template is ours, and right.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:24} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            bar,
            takes,
            done: Duration::ZERO,
            trials: 0,
            planned: plan.trials(),
            place: place.map(Path::to_owned),
            began,
            before: 0.0,
            trouble: None,
        }
    }

    /// Says what begins.
    pub fn describe(&mut self, results: &Results, before: f64) {
        self.before = before;
        let is_simulated = results.ports.iter().any(|port| port.driver == "simulated");
        let ports: Vec<_> = results
            .ports
            .iter()
            .map(|port| format!("{} ({})", port.name, port.role))
            .collect();
        self.say(format!(
            "{}: about {} trials, {}{}; Ctrl-C ends it with what there is",
            ports.join(", "),
            self.planned,
            show::about(self.takes),
            if is_simulated { " of virtual time" } else { "" },
        ));
        for warning in &results.warnings {
            self.say(format!("warning: {warning}"));
        }
    }

    fn say(&self, text: String) {
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }

    fn left(&self) -> Duration {
        self.takes.saturating_sub(self.done)
    }

    /// It is over.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Watch for Progress {
    fn begins(&mut self, spec: &TrialSpec) {
        let load = match spec.load {
            Load::Rate(fps) => show::rate(fps),
            Load::Max => "as fast as it goes".to_owned(),
            Load::Burst(frames) => format!("{frames} frames back to back"),
        };
        self.bar.set_message(format!(
            "{} {} B, {load}; {} left",
            spec.test,
            spec.frame_bytes,
            show::about(self.left())
        ));
    }

    fn ended(&mut self, trial: &Trial, takes: Duration) {
        self.done += takes;
        self.trials += 1;
        // A plan is a guess: one trial more does not make it finished.
        self.takes = self.takes.max(self.done);
        self.bar.set_length(self.takes.as_millis() as u64);
        self.bar.set_position(self.done.as_millis() as u64);
        self.say(show::trial(trial));
    }

    fn step(&mut self, _: Test, results: &Results) {
        let Some(place) = &self.place else { return };
        let mut results = results.clone();
        results.duration_s = self.before + self.began.elapsed().as_secs_f64();
        // Said once, and tried again with each step; the last one is what counts.
        if let Err(error) = results.write(report::Files::at(place).json)
            && self.trouble.is_none()
        {
            let error = error.to_string();
            self.say(format!("warning: {error}"));
            self.trouble = Some(error);
        }
    }
}
