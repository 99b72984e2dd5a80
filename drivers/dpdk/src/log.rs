//! DPDK's messages, through `tracing`; the latest complaints are kept for our own errors.

use std::collections::VecDeque;
use std::sync::Mutex;

/// Levels of DPDK that are complaints: up to this one errors, the next one warnings.
const ERROR: u32 = 4;
const WARNING: u32 = 5;
const NOTICE: u32 = 6;

/// How many complaints are kept.
const KEPT: usize = 4;

static COMPLAINTS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

fn complaints() -> std::sync::MutexGuard<'static, VecDeque<String>> {
    COMPLAINTS
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Takes a message of DPDK.
pub(crate) fn line(level: u32, text: &str) {
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        match level {
            // What is tried and fails is reported by whoever tried it, with these words.
            ..=ERROR => tracing::info!(target: "dpdk", "{line}"),
            WARNING..=NOTICE => tracing::debug!(target: "dpdk", "{line}"),
            _ => tracing::trace!(target: "dpdk", "{line}"),
        }
        // Said after each refusal, and by us as well.
        let echo = ["Driver cannot attach", "Failed to attach device on primary"];
        if level <= ERROR && !echo.iter().any(|text| line.contains(text)) {
            let mut complaints = complaints();
            if complaints.back().is_some_and(|last| last == line) {
                continue;
            }
            if complaints.len() == KEPT {
                complaints.pop_front();
            }
            complaints.push_back(line.to_owned());
        }
    }
}

/// A device has asked for something, on DPDK's own thread.
pub(crate) fn event(port: u16, removed: bool) {
    let what = if removed {
        "the device was removed: its queues end"
    } else {
        "the device asks to be reset: it is down until then"
    };
    tracing::error!(target: "dpdk", port, "{what}");
}

/// Forgets what was complained about before.
pub(crate) fn forget() {
    complaints().clear();
}

/// What was complained about since, in one line; empty if nothing was.
pub(crate) fn since() -> String {
    let all: Vec<String> = complaints().drain(..).collect();
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_complaints_are_kept() {
        forget();
        line(7, "all is well\n");
        for n in 0..6 {
            line(ERROR, &format!("EAL: no {n}\n"));
        }
        let text = since();
        assert!(
            text.contains("no 5") && text.contains("no 2") && !text.contains("well"),
            "{text}"
        );
    }
}
