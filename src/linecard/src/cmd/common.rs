//! What commands that move frames have in common: how the engine is to run, signals, figures while it runs.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use linecard::{EngineConfig, Idle};

use super::topo::Lcores;

/// How the engine is to run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// Workers, each on a core of its own; a port gives one queue to each.
    #[arg(long, value_name = "N")]
    workers: Option<u16>,
    /// Exactly these cpus, worker 0 on the first: 2,3 or 4-7.
    #[arg(long, value_name = "LIST")]
    lcores: Option<Lcores>,
    /// Allow several workers on one cpu (for tests; they then wait for one another).
    #[arg(long)]
    oversubscribe: bool,
    /// Frames in a burst at most, 1 to 512.
    #[arg(long, value_name = "N", default_value_t = 32)]
    burst: usize,
    /// What a worker does when there is nothing to do: spin (lowest latency, a whole core), adaptive (polls for
    /// a while, then sleeps), sleep (sleeps at once). Who keeps a rate or measures time spins if nothing is said, others
    /// are adaptive.
    #[arg(long)]
    idle: Option<Idle>,
    /// Mbufs in each pool; the sum of all possible holders if left out.
    #[arg(long, value_name = "N")]
    pool_size: Option<u32>,
    /// Receive only frames for the port's own address.
    #[arg(long)]
    no_promiscuous: bool,
}

impl EngineArgs {
    /// As a configuration, of a command that is idle like this if nobody says.
    pub fn config(&self, idle: Idle) -> EngineConfig {
        EngineConfig {
            workers: self.workers,
            lcores: self.lcores.as_ref().map(|l| l.0.clone()),
            oversubscribe: self.oversubscribe,
            burst: self.burst,
            idle: self.idle.unwrap_or(idle),
            pool_size: self.pool_size,
            promiscuous: !self.no_promiscuous,
            ..EngineConfig::default()
        }
    }
}

/// Has Ctrl-C and SIGTERM end the run in order; a second one ends it at once.
pub fn on_signal(stop: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    let asked = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        stop();
    })
    .context("cannot catch Ctrl-C")
}

/// Whether somebody has asked for the end, by a signal.
pub fn asked_to_stop() -> anyhow::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    let flag = asked.clone();
    on_signal(move || flag.store(true, Ordering::Relaxed))?;
    Ok(asked)
}

/// Prints to standard error. That nobody reads there is no reason to stop.
pub fn note(text: &str) {
    let _: std::io::Result<()> = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Figures while it runs, on standard error: a block that changes on a terminal, a line each time otherwise.
pub struct Live {
    every: Duration,
    bar: ProgressBar,
    shown: Instant,
}

impl Live {
    /// Every so often.
    pub fn new(every: Duration) -> Self {
        // Standard error: the result alone goes to standard output.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // A template without placeholders but the message cannot be wrong.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self {
            every,
            bar,
            shown: Instant::now(),
        }
    }

    /// Whether it is time.
    pub fn is_due(&self) -> bool {
        self.shown.elapsed() >= self.every
    }

    /// Whether somebody looks at a terminal.
    pub fn is_terminal(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Shows them: a line, or on a terminal as many as there are.
    pub fn show(&mut self, text: &str) {
        self.shown = Instant::now();
        if self.is_terminal() {
            self.bar.set_message(text.trim_end().to_owned());
        } else {
            note(&format!("{}\n", text.trim_end()));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// So many frames in so many seconds, a second.
pub fn rate(frames: u64, seconds: f64) -> String {
    HumanCount((frames as f64 / seconds.max(1e-9)) as u64).to_string()
}
