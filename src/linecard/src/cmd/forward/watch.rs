//! Figures while it runs.

use std::time::{Duration, Instant};

use indicatif::HumanCount;
use linecard::{Report, Running};

use super::Session;
use crate::cmd::common::{Live, rate};

/// How often to look whether it is over.
const LOOK: Duration = Duration::from_millis(20);

/// Waits for the end (duration, signal, packet limit, end of input, failure) and shows figures
/// meanwhile: a live block on a terminal, a line each interval otherwise.
pub(super) fn until_done(running: &Running, session: &Session) {
    let start = Instant::now();
    let mut live = session.stats_interval.map(|every| Figures {
        live: Live::new(every),
        last: running.snapshot(),
    });
    while !running.is_finished() {
        let elapsed = start.elapsed();
        let left = session.duration.map(|d| d.saturating_sub(elapsed));
        if left == Some(Duration::ZERO) {
            break;
        }
        if let Some(live) = &mut live {
            live.show_if_due(running, left);
        }
        std::thread::sleep(left.map_or(LOOK, |l| l.min(LOOK)));
    }
}

/// Shows what happened since the last time, if it is time.
struct Figures {
    live: Live,
    last: Report,
}

impl Figures {
    fn show_if_due(&mut self, running: &Running, left: Option<Duration>) {
        if !self.live.is_due() {
            return;
        }
        let now = running.snapshot();
        self.live.show(&if self.live.is_terminal() {
            block(&self.last, &now, left)
        } else {
            line(&self.last, &now)
        });
        self.last = now;
    }
}

/// One line: all ports in short.
fn line(before: &Report, now: &Report) -> String {
    let seconds = (now.duration_s - before.duration_s).max(1e-9);
    let mut text = format!("{:8.1}s", now.duration_s);
    for (old, new) in before.ports.iter().zip(&now.ports) {
        let drops = |r: &linecard::engine::PortReport| r.drops.values().sum::<u64>();
        text += &format!(
            "  {}: rx {} tx {} pps, drops {}, misses {}",
            new.name,
            rate(new.rx - old.rx, seconds),
            rate(new.tx - old.tx, seconds),
            drops(new) - drops(old),
            new.rx_misses - old.rx_misses,
        );
    }
    text
}

/// A block of lines for a terminal.
fn block(before: &Report, now: &Report, left: Option<Duration>) -> String {
    let seconds = (now.duration_s - before.duration_s).max(1e-9);
    let mut text = format!("{:>10.1} s", now.duration_s);
    if let Some(left) = left {
        text += &format!(", {:.0} s left", left.as_secs_f64().ceil());
    }
    text += "   (Ctrl-C stops and reports)\n";
    text += &format!(
        "{:<24} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10}\n",
        "port", "rx pps", "tx pps", "rx Mbit/s", "tx Mbit/s", "drops", "misses"
    );
    for (old, new) in before.ports.iter().zip(&now.ports) {
        let mbit = |bytes: u64| format!("{:.1}", bytes as f64 * 8e-6 / seconds);
        text += &format!(
            "{:<24} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10}\n",
            new.name,
            rate(new.rx - old.rx, seconds),
            rate(new.tx - old.tx, seconds),
            mbit(new.rx_bytes - old.rx_bytes),
            mbit(new.tx_bytes - old.tx_bytes),
            new.drops.values().sum::<u64>(),
            new.rx_misses,
        );
    }
    for worker in &now.workers {
        text += &format!(
            "worker {} on cpu {}: {:.0} cycles/packet, {:.1} frames/burst, {:.0}% empty polls, {} sleeps\n",
            worker.worker,
            worker.lcore,
            worker.cycles_per_packet,
            worker.burst_avg,
            worker.empty_share * 100.0,
            HumanCount(worker.sleeps),
        );
    }
    text
}
