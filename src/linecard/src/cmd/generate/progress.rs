//! What is told of a job before it and meanwhile.

use std::time::Duration;

use linecard::Engine;
use linecard_traffic::generator::{Handle, Job, Limit, Sent};

use super::asked_seconds;

/// What will be sent, and by whom.
pub(super) fn start(engine: &Engine, handle: &Handle, job: &Job) -> String {
    let (setup, infos) = (handle.setup(), engine.ports());
    let limit = match job.limit {
        Limit::Endless => "until it is stopped".to_owned(),
        Limit::Frames(frames) => format!("{frames} frames"),
        Limit::Time(time) => format!("for {}", humantime::format_duration(time)),
    };
    let own = job.streams.iter().filter(|stream| stream.rate.is_some());
    let rate = match own.count() {
        0 => format!("at {}", job.rate),
        n if n == job.streams.len() => "at rates of their own".to_owned(),
        n => format!("at {}, {n} of them at rates of their own", job.rate),
    };
    let mut text = format!(
        "{} stream(s) by {} {rate}, {} spacing, {limit}\n{}",
        job.streams.len(),
        infos[usize::from(setup.port)].name,
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
pub(super) fn scaled(number: f64) -> String {
    match number {
        1e9.. => format!("{:.3} G", number / 1e9),
        1e6.. => format!("{:.3} M", number / 1e6),
        1e3.. => format!("{:.3} k", number / 1e3),
        _ => format!("{number:.1} "),
    }
}
