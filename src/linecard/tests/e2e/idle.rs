//! Without traffic, workers sleep; the first frame afterwards wakes them and is not lost.

use crate::wire::{B4, Wire};

/// How often a worker slept is known only at the end, so: wake it again and again out of what has
/// become a sleep, with one single frame each time.
fn sleeps_and_wakes(options: &str, idle: &str, workers: &str) {
    let mut wire = Wire::new(
        options,
        &["--idle", idle, "--workers", workers, "--oversubscribe"],
    );
    // So that the only frames are ours.
    wire.a.ping(1, B4);
    for _ in 0..5 {
        wire.linecard.quiet();
        wire.a.ping(1, B4);
    }
    let report = wire.finish();
    assert!(report.workers("sleeps") > 0, "{report:#?}");
    assert_eq!(
        report.port(0).misses() + report.port(1).misses(),
        0,
        "{report:#?}"
    );
}

#[test]
fn adaptive_with_the_mapped_ring() {
    sleeps_and_wakes("?rx=ring", "adaptive", "1");
}

#[test]
fn adaptive_with_multishot_receive() {
    sleeps_and_wakes("?rx=multishot", "adaptive", "1");
}

#[test]
fn adaptive_without_io_uring() {
    sleeps_and_wakes("?rx=mmsg", "adaptive", "1");
}

#[test]
fn sleep_with_the_mapped_ring_and_two_workers() {
    sleeps_and_wakes("?rx=ring", "sleep", "2");
}

#[test]
fn sleep_with_multishot_receive() {
    sleeps_and_wakes("?rx=multishot", "sleep", "1");
}

#[test]
fn sleep_without_io_uring() {
    sleeps_and_wakes("?rx=mmsg", "sleep", "1");
}

#[test]
fn spin_never_sleeps() {
    let wire = Wire::new("", &["--idle", "spin"]);
    wire.a.ping(3, B4);
    let report = wire.finish();
    assert_eq!(report.workers("sleeps"), 0);
}
