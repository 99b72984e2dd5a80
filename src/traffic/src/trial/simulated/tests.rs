//! The real generator and the real receiver against devices whose figures are known, honest ones and liars.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::results::{Results, Trial};
use crate::rfc2544::{Bench, Settings, Test};
use crate::trial::{Fault, Load, Tester, Tolerance, TrialSpec, Waits, check};

const MS: Duration = Duration::from_millis(1);

fn tester(device: &str) -> SimTester {
    SimTester::new(&device.parse().unwrap(), TesterConfig::default()).unwrap()
}

fn spec(load: Load, time: Duration) -> TrialSpec {
    TrialSpec {
        test: "throughput",
        frame_bytes: 64,
        load,
        duration: time,
        then: None,
        reset_after: None,
        latency: true,
        waits: Waits {
            before: MS * 10,
            settle: MS * 100,
            after: MS * 100,
        },
    }
}

/// A trial at a rate for a time, and nothing in its figures against it.
fn run(tester: &mut SimTester, fps: f64, time: Duration) -> Trial {
    let trial = tester.run(&spec(Load::Rate(fps), time)).unwrap();
    assert_eq!(trial.faults, Vec::<String>::new());
    assert_eq!(check(&trial, &Tolerance::default()), []);
    trial
}

#[test]
fn a_trial_is_exact() {
    let mut same = tester("capacity=20kpps,latency=50us");
    let trial = run(&mut same, 20_000.0, MS * 1000);
    assert_eq!((trial.counts.sent, trial.counts.lost), (20_000, 0));
    assert!(
        (trial.achieved_fps - 20_000.0).abs() < 0.1,
        "{}",
        trial.achieved_fps
    );
    let latency = trial.latency.unwrap();
    assert_eq!(latency.time.count, 20_000);
    assert_eq!((latency.time.min_ns, latency.time.max_ns), (50_000, 50_000));
    assert_eq!(latency.jitter_ns, 0.0);
    assert_eq!(trial.pacing.late_frames, 0);

    let trial = run(&mut same, 40_000.0, MS * 1000);
    // Half of it, but for the buffer.
    assert!(
        (20_000 - 65..=20_000 - 63).contains(&trial.counts.lost),
        "{:?}",
        trial.counts
    );
    // Nothing of the one is counted with the other.
    assert_eq!(run(&mut same, 1000.0, MS * 100).counts.lost, 0);
}

#[test]
fn a_burst_is_at_the_speed_of_the_link() {
    let mut tester = tester("capacity=100kpps,buffer=64");
    let mut lost = |frames| {
        let trial = tester.run(&spec(Load::Burst(frames), MS)).unwrap();
        assert_eq!(check(&trial, &Tolerance::default()), []);
        assert_eq!(trial.counts.sent, frames);
        if frames > 1 {
            assert!(
                (trial.achieved_fps / 14_880_952.0 - 1.0).abs() < 0.05,
                "{}",
                trial.achieved_fps
            );
        }
        trial.counts.lost
    };
    assert_eq!((lost(1), lost(64), lost(164)), (0, 0, 99));
}

#[test]
fn who_drops_late_is_found_out() {
    let mut late = tester("drop_after=800ms");
    assert_eq!(run(&mut late, 10_000.0, MS * 500).counts.lost, 0);
    assert_eq!(run(&mut late, 10_000.0, MS * 1000).counts.lost, 20);
    let mut beyond = tester("drop_beyond=5000");
    assert_eq!(run(&mut beyond, 10_000.0, MS * 400).counts.lost, 0);
    assert_eq!(run(&mut beyond, 10_000.0, MS * 1000).counts.lost, 50);
}

#[test]
fn copies_do_not_make_up_for_what_is_lost() {
    let counts = run(&mut tester("duplicate=10"), 10_000.0, MS * 1000).counts;
    assert_eq!((counts.sent, counts.received), (10_000, 9000));
    assert_eq!((counts.lost, counts.duplicated), (1000, 1000));
}

#[test]
fn no_trial_has_to_learn_where_its_lanes_begin() {
    let mut tester = tester("capacity=20kpps");
    assert_eq!(tester.begins_at(), [0]);
    run(&mut tester, 1000.0, MS * 100);
    assert_eq!(tester.begins_at(), [100]);
}

#[test]
fn disorder_is_told_and_is_no_loss() {
    let counts = run(&mut tester("reorder=100"), 1000.0, MS * 1000).counts;
    assert_eq!((counts.lost, counts.duplicated), (0, 0));
    assert!((9..=10).contains(&counts.reordered), "{counts:?}");
}

#[test]
fn a_frame_far_behind_is_not_taken_for_a_lost_one() {
    // 100 ms behind, which at this rate is further than the least window.
    let far = "capacity=1Mpps,reorder=1000";
    let spec = spec(Load::Rate(900_000.0), MS * 150);
    let mut forgetful = tester(far);
    let trial = forgetful.run(&spec).unwrap();
    assert!(trial.counts.astray > 0, "{:?}", trial.counts);
    let faults = check(&trial, &Tolerance::default());
    assert_eq!(faults, [Fault::Astray(trial.counts.astray)]);

    let config = TesterConfig {
        settle: spec.waits.settle,
        ..TesterConfig::default()
    };
    let mut tester = SimTester::new(&far.parse().unwrap(), config).unwrap();
    let trial = tester.run(&spec).unwrap();
    assert_eq!((trial.counts.lost, trial.counts.astray), (0, 0));
    assert!(trial.counts.reordered > 100, "{:?}", trial.counts);
    assert_eq!(check(&trial, &Tolerance::default()), []);
}

#[test]
fn a_stall_costs_frames_or_time_and_both_are_seen() {
    let mut small = tester("stall=20ms/200ms,buffer=16");
    assert!(run(&mut small, 10_000.0, MS * 1000).counts.lost > 500);
    let mut large = tester("stall=20ms/200ms,buffer=1000");
    let trial = run(&mut large, 10_000.0, MS * 1000);
    assert_eq!(trial.counts.lost, 0);
    let longest = trial.latency.unwrap().time.max_ns;
    assert!((19_000_000..=20_000_000).contains(&longest), "{longest}");
}

#[test]
fn what_comes_after_the_trial_is_late_and_not_received() {
    let mut tester = tester("capacity=10kpps,late=100/2s");
    let first = run(&mut tester, 1000.0, MS * 1000);
    assert_eq!((first.counts.lost, first.counts.late), (10, 0));
    // The next trial sees them come, and does not take them for its own.
    let second = run(&mut tester, 1000.0, MS * 2500);
    assert_eq!(second.counts.late, 10, "{:?}", second.counts);
    assert!(second.counts.received + second.counts.lost == second.counts.sent);
    assert_eq!(second.counts.duplicated, 0);
}

#[test]
fn a_device_that_goes_on_for_long_is_not_settled() {
    let mut tester = tester("capacity=1kpps,buffer=60000");
    let trial = tester.run(&spec(Load::Rate(10_000.0), MS * 5000)).unwrap();
    assert!(
        trial.faults[0].contains("time to settle"),
        "{:?}",
        trial.faults
    );
}

#[test]
fn stopped_in_the_middle_it_ends_at_once() {
    let stop = Arc::new(AtomicBool::new(false));
    let config = TesterConfig {
        stop: stop.clone(),
        ..TesterConfig::default()
    };
    let mut tester = SimTester::new(&DeviceSpec::default(), config).unwrap();
    stop.store(true, Ordering::Relaxed);
    let trial = tester.run(&spec(Load::Rate(1000.0), MS * 1000));
    assert_eq!(trial, Err(TesterError::Interrupted));
}

fn settings(tests: &[Test]) -> Settings {
    Settings {
        tests: tests.to_vec(),
        sizes: vec![64],
        trial: MS * 2000,
        latency_trial: MS * 500,
        latency_repetitions: 2,
        burst: MS * 20,
        burst_repetitions: 3,
        recovery_trial: MS * 1000,
        recovery_repetitions: 1,
        waits: Waits {
            before: MS * 10,
            settle: MS * 100,
            after: MS * 100,
        },
        ..Settings::strict()
    }
}

fn bench(device: &str, settings: Settings) -> Results {
    let mut tester = tester(device);
    let (results, ended) = Bench::new(settings, &mut tester, &mut ()).run();
    assert_eq!(ended, Ok(()));
    results
}

#[test]
fn every_figure_of_a_known_device_is_found() {
    let device = "capacity=20kpps,buffer=64,latency=50us,link=50Mbps,reset=300ms";
    let results = bench(device, settings(&Test::ALL));
    assert!(results.warnings.is_empty(), "{:?}", results.warnings);
    let found = results.throughput[0].fps.unwrap();
    assert!((found / 20_000.0 - 1.0).abs() <= 0.005, "{found}");
    assert_eq!(results.throughput[0].limit, "device");

    // The last frame of a trial may have to wait while the rate is a little above the capacity.
    let latency = &results.latency[0].latency.time;
    assert_eq!(latency.min_ns, 50_000);
    assert!(latency.mean_ns < 50_000.0 + 64.0 * 50_000.0);

    for at in &results.frame_loss {
        let right = (1.0 - 20_000.0 / at.fps).max(0.0);
        assert!((at.loss_ratio - right).abs() < 0.002, "{at:?}");
    }
    let without = results
        .frame_loss
        .iter()
        .filter(|at| at.loss_ratio == 0.0)
        .count();
    assert_eq!(without, 2);

    let burst = &results.back_to_back[0];
    assert!(
        (burst.buffer_frames.unwrap() - 64.0).abs() <= 1.0,
        "{burst:?}"
    );
    assert!(results.recovery[0].mean_ns <= 2e6, "{:?}", results.recovery);
    let reset = results.reset[0].mean_ns / 1e9;
    // And the frames that the device had in hand.
    assert!((0.299..=0.305).contains(&reset), "{reset}");
}

#[test]
fn trials_as_short_as_the_device_allows_find_it_too() {
    let device = "capacity=1Mpps,buffer=4,latency=50us,link=2Gbps,reset=20ms";
    let quick = Settings {
        tests: Test::ALL.to_vec(),
        sizes: vec![64],
        ..Settings::quick()
    };
    let quick = quick.of_device(&device.parse().unwrap());
    assert!(quick.trial <= MS * 10 && quick.recovery_trial == MS * 40);
    let results = bench(device, quick);
    let [ndr, pdr] = &results.throughput[..] else {
        panic!("{:?}", results.throughput);
    };
    for (found, right) in [(ndr, 1e6), (pdr, 1e6 / 0.995)] {
        let fps = found.fps.unwrap();
        assert!((fps / right - 1.0).abs() <= 0.005, "{found:?}");
    }
    let burst = &results.back_to_back[0];
    assert!(
        (burst.buffer_frames.unwrap() - 4.0).abs() <= 1.0,
        "{burst:?}"
    );
    let reset = results.reset[0].mean_ns / 1e6;
    assert!((19.9..=21.0).contains(&reset), "{reset}");
}

#[test]
fn a_liar_that_counts_frames_has_the_time_to_count_them() {
    let only = Settings {
        tests: vec![Test::Throughput],
        sizes: vec![64],
        repetitions: 1,
        max_rate: Some("100kpps".parse().unwrap()),
        precision: 0.05,
        ..Settings::quick()
    };
    for (device, beyond) in [("drop_beyond=5000", 5000.0), ("late=20000/1s", 20_000.0)] {
        let settings = only.clone().of_device(&device.parse().unwrap());
        let trial = settings.trial;
        let results = bench(device, settings);
        // A rate so low that a trial ends before the lie is told, or none.
        let found = results.throughput.first().and_then(|found| found.fps);
        let ndr = found.unwrap_or(0.0);
        assert!(
            ndr <= beyond / 5.0,
            "{device}: {ndr} in trials of {trial:?}"
        );
    }
}

#[test]
fn a_highest_rate_has_trials_with_frames_enough() {
    let quick = Settings {
        tests: vec![Test::Throughput, Test::FrameLoss],
        sizes: vec![64],
        repetitions: 1,
        max_rate: Some("1kpps".parse().unwrap()),
        ..Settings::quick()
    };
    for device in ["capacity=1Mpps,buffer=64", "capacity=290pps,buffer=1"] {
        let settings = quick.clone().of_device(&device.parse().unwrap());
        assert!(settings.trial <= quick.trial);
        let results = bench(device, settings);
        assert!(results.throughput[0].fps.unwrap() > 285.0, "{results:#?}");
        assert!(results.frame_loss.len() >= 2);
    }
}

#[test]
fn latency_below_capacity_is_the_devices_to_the_nanosecond() {
    let quick = Settings {
        tests: vec![Test::Latency],
        max_rate: Some("10kpps".parse().unwrap()),
        ..settings(&[])
    };
    let results = bench("capacity=20kpps,latency=123us", quick);
    assert_eq!(results.latency[0].repetitions_ns, [123_000.0; 2]);
    assert_eq!(results.latency[0].latency.time.max_ns, 123_000);
}

#[test]
fn no_liar_has_a_throughput_that_it_does_not_have() {
    let only = Settings {
        max_rate: Some("4kpps".parse().unwrap()),
        ..settings(&[Test::Throughput])
    };
    for device in [
        "loss=1000",
        "duplicate=500",
        "drop_after=500ms",
        "drop_beyond=200",
        "stall=50ms/500ms,buffer=8",
        "late=100/1s,capacity=5kpps",
    ] {
        let results = bench(device, only.clone());
        let found = results.throughput.first().and_then(|found| found.fps);
        // It may forward so few frames that none of them is the one that it loses.
        assert!(found.is_none_or(|fps| fps < 600.0), "{device}: {found:?}");
        let first = &results.trials[0];
        assert!(first.counts.lost > 0 || !first.is_valid(), "{device}");
    }
}

#[test]
fn quick_is_right_about_loss_too() {
    let quick = Settings {
        sizes: vec![64],
        tests: vec![Test::Throughput],
        first_trial: MS * 100,
        trial: MS * 1000,
        waits: settings(&[]).waits,
        ..Settings::quick()
    };
    let results = bench("capacity=20kpps,buffer=8,link=50Mbps", quick);
    let [ndr, pdr] = &results.throughput[..] else {
        panic!()
    };
    assert!(
        (ndr.fps.unwrap() / 20_000.0 - 1.0).abs() <= 0.005,
        "{ndr:?}"
    );
    assert!(
        (pdr.fps.unwrap() / (20_000.0 / 0.995) - 1.0).abs() <= 0.006,
        "{pdr:?}"
    );
}
