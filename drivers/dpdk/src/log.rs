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
            keep(&mut complaints(), line);
        }
    }
}

/// Keeps the latest complaints, each once in a row.
fn keep(complaints: &mut VecDeque<String>, line: &str) {
    if complaints.back().is_some_and(|last| last == line) {
        return;
    }
    if complaints.len() == KEPT {
        complaints.pop_front();
    }
    complaints.push_back(line.to_owned());
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
        // A list of our own: other tests make DPDK complain, and forget it.
        let mut kept = VecDeque::new();
        for n in [0, 1, 2, 3, 3, 4, 5, 5] {
            keep(&mut kept, &format!("EAL: no {n}"));
        }
        assert_eq!(kept, [2, 3, 4, 5].map(|n| format!("EAL: no {n}")));
    }
}
