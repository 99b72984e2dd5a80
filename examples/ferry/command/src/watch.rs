//! The terminal: a bar while it runs, and Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use super::progress::Progress;

/// Shows progress on standard error, and knows whether somebody wants it to end.
pub(super) struct Watch {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Ctrl-C and SIGTERM end the run in order; a second one at once.
    pub(super) fn new() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        ctrlc::set_handler(move || {
            if asked.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        })
        .context("cannot catch Ctrl-C")?;
        let style = "{wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} to go";
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(style)?);
        Ok(Self { bar, stop })
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        let total = progress.total.load(Ordering::Relaxed);
        if total > 0 {
            self.bar.set_length(total);
            let bytes = progress.bytes.load(Ordering::Relaxed);
            self.bar.set_position(bytes.min(total));
        }
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn done(&self) {
        self.bar.finish_and_clear();
    }
}
