//! The procedures against a device that is arithmetic.

use super::*;

const LINE: f64 = 10e9 / (8.0 * 84.0);

fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings {
        sizes: vec![64],
        ..Settings::strict()
    };
    change(&mut settings);
    settings
}

fn run(model: Model, settings: Settings) -> (Results, Duration) {
    let mut model = model;
    let (results, ended) = Bench::new(settings, &mut model, &mut ()).run();
    assert_eq!(ended, Ok(()));
    (results, model.took)
}

#[test]
fn to_the_letter_everything_is_found() {
    let model = Model {
        capacity_fps: 1e6,
        buffer: 512,
        reset: Duration::from_secs(3),
        ..Model::default()
    };
    let strict = settings(|s| s.tests = Test::ALL.to_vec());
    let (results, took) = run(model, strict);
    assert!(
        results.complete && results.warnings.is_empty(),
        "{:?}",
        results.warnings
    );

    let throughput = &results.throughput[0];
    let fps = throughput.fps.unwrap();
    assert!((995e3..=1000e3).contains(&fps), "{throughput:?}");
    assert_eq!(throughput.limit, "device");
    assert_eq!(throughput.line_fps, Some(LINE));

    let latency = &results.latency[0];
    assert_eq!(latency.repetitions_ns, [50_000.0; 20]);
    assert_eq!(latency.fps, fps);

    let shares: Vec<_> = results
        .frame_loss
        .iter()
        .map(|at| (at.share * 100.0).round())
        .collect();
    assert_eq!(
        shares,
        [100.0, 90.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0, 20.0, 10.0]
    );
    for at in &results.frame_loss {
        let right = (1.0 - 1e6 / at.fps).max(0.0);
        assert!((at.loss_ratio - right).abs() < 1e-5, "{at:?}");
    }

    let burst = &results.back_to_back[0];
    assert_eq!(burst.repetitions.len(), 50);
    assert!(
        (burst.buffer_frames.unwrap() - 512.0).abs() <= 1.0,
        "{burst:?}"
    );
    assert!(burst.frames > 512.0);

    assert_eq!(results.recovery[0].repetitions_ns, [0.0; 3]);
    let reset = results.reset[0].mean_ns / 1e9;
    assert!((reset - 3.0).abs() < 0.001, "{reset}");

    // Every trial with its waits: the plan's estimate is of the same kind.
    assert!(took > Duration::from_secs(3600));
    let numbers: Vec<_> = results.trials.iter().map(|t| t.number).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32));
}

#[test]
fn quick_finds_both_goals_in_seconds_of_trials() {
    let quick = Settings {
        sizes: vec![64],
        ..Settings::quick()
    };
    let (results, took) = run(Model::default(), quick.clone());
    let [ndr, pdr] = &results.throughput[..] else {
        panic!("{:?}", results.throughput);
    };
    assert!((995e3..=1000e3).contains(&ndr.fps.unwrap()), "{ndr:?}");
    let right = 1e6 / 0.995;
    assert!(
        (right * 0.995..=right).contains(&pdr.fps.unwrap()),
        "{pdr:?}"
    );
    assert_eq!(ndr.repetitions.len(), 3);
    // The truth is in the interval, though each search says the same.
    for (found, right) in [(ndr, 1e6), (pdr, right)] {
        let (low, high) = found.between.unwrap();
        assert!(low <= found.fps.unwrap() && found.fps.unwrap() <= high);
        assert!(low <= right && right <= high, "{found:?}");
    }
    assert!(took < Duration::from_secs(600), "{took:?}");

    let plan = Plan::of(&quick, Some(10e9));
    let ratio = plan.takes().as_secs_f64() / took.as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "{plan:?} {took:?}");
    assert!(plan.trials() > 20);
}

#[test]
fn the_generators_limit_is_never_taken_for_the_devices() {
    let model = Model {
        capacity_fps: 5e6,
        generator_fps: Some(300e3),
        ..Model::default()
    };
    for link in [Some(10e9), None] {
        let model = Model {
            link_bits_per_second: link,
            ..model.clone()
        };
        let (results, _) = run(model, settings(|s| s.tests = Test::ALL[..5].to_vec()));
        let throughput = &results.throughput[0];
        assert_eq!(throughput.limit, "generator");
        assert!(
            (290e3..300e3).contains(&throughput.fps.unwrap()),
            "{throughput:?}"
        );
        assert!(results.warnings.iter().any(|w| w.contains("lower bound")));
        // A burst that nothing was lost of says nothing of a buffer.
        assert_eq!(results.back_to_back[0].buffer_frames, None);
        assert!(
            results
                .warnings
                .iter()
                .any(|w| w.contains("cannot be overloaded"))
        );
        assert!(results.recovery.is_empty());
    }
}

#[test]
fn trials_of_a_few_frames_are_refused() {
    for time in [Duration::from_nanos(1), Duration::from_micros(10)] {
        let short = settings(|s| {
            s.tests = vec![Test::Throughput, Test::FrameLoss];
            (s.trial, s.first_trial) = (time, time);
        });
        let (results, _) = run(Model::default(), short);
        assert!(results.throughput.is_empty() && results.frame_loss.is_empty());
        assert!(results.trials.is_empty());
        let why = &results.warnings[0];
        assert!(
            why.contains("is refused") && why.contains("200 are"),
            "{why}"
        );
    }
    // Nor does a search end at a rate of which too few are sent for one of them to be lost.
    let quick = Settings {
        sizes: vec![64],
        tests: vec![Test::Throughput],
        ..Settings::quick()
    };
    let slow = Model {
        capacity_fps: 10.0,
        buffer: 0,
        ..Model::default()
    };
    let (results, _) = run(slow, quick);
    assert!(results.throughput.iter().all(|found| found.fps.is_none()));
    for trial in &results.trials {
        assert!(trial.counts.sent >= 200, "{trial:?}");
    }
}

#[test]
fn a_link_is_a_limit_too() {
    let model = Model {
        capacity_fps: 20e6,
        ..Model::default()
    };
    let (results, _) = run(model, settings(|s| s.tests = vec![Test::Throughput]));
    assert_eq!(results.throughput[0].limit, "link");
    assert_eq!(results.throughput[0].fps, Some(LINE));
}

#[test]
fn a_dead_device_is_said_to_be_one() {
    let model = Model {
        capacity_fps: 0.0,
        buffer: 0,
        ..Model::default()
    };
    for search in [Search::Binary, Search::MultipleLossRatio] {
        let (results, _) = run(model.clone(), settings(|s| s.search = search));
        assert!(results.throughput.is_empty());
        assert_eq!(
            results
                .trials
                .iter()
                .filter(|t| t.test == "throughput")
                .count(),
            2
        );
        let said = |text: &str| results.warnings.iter().any(|w| w.contains(text));
        assert!(said("anything between the ports"), "{:?}", results.warnings);
        assert!(said("latency with frames of 64 bytes is refused"));
    }
}

#[test]
fn a_dead_device_has_no_loss_rate() {
    let model = Model {
        capacity_fps: 0.0,
        buffer: 0,
        ..Model::default()
    };
    let (results, _) = run(model, settings(|s| s.tests = vec![Test::FrameLoss]));
    assert!(results.frame_loss.is_empty(), "{:?}", results.frame_loss);
    let why = &results.warnings[0];
    assert!(why.contains("anything between the ports"), "{why}");
}

#[test]
fn a_device_that_always_loses_some_has_no_throughput() {
    struct Leaky(Model);
    impl Tester for Leaky {
        fn run(&mut self, spec: &TrialSpec) -> Result<Trial, TesterError> {
            let mut trial = self.0.run(spec)?;
            assert!(trial.asked_fps.is_none_or(|fps| fps > 1.0));
            trial.counts.lost += 1;
            trial.counts.received -= 1;
            Ok(trial)
        }

        fn max_fps(&self, frame_bytes: u16) -> Option<f64> {
            self.0.max_fps(frame_bytes)
        }
    }
    for search in [Search::Binary, Search::MultipleLossRatio] {
        let mut leaky = Leaky(Model::default());
        let only = settings(|s| {
            s.search = search;
            s.tests = vec![Test::Throughput];
        });
        let (results, _) = Bench::new(only, &mut leaky, &mut ()).run();
        assert_eq!(results.throughput[0].fps, None);
        assert!(
            results.warnings[0].contains("at no rate"),
            "{:?}",
            results.warnings
        );
    }
}

/// A tester whose trials have something against them for a while, or that ends after some.
struct Flaky {
    model: Model,
    bad: u32,
    left: u32,
    ran: u32,
}

impl Tester for Flaky {
    fn run(&mut self, spec: &TrialSpec) -> Result<Trial, TesterError> {
        if self.left == 0 {
            return Err(TesterError::Interrupted);
        }
        self.left -= 1;
        self.ran += 1;
        let mut trial = self.model.run(spec)?;
        if self.bad > 0 {
            self.bad -= 1;
            trial.counts.receiver_misses = 7;
        }
        Ok(trial)
    }

    fn max_fps(&self, frame_bytes: u16) -> Option<f64> {
        self.model.max_fps(frame_bytes)
    }
}

fn flaky(bad: u32, left: u32) -> Flaky {
    Flaky {
        model: Model::default(),
        bad,
        left,
        ran: 0,
    }
}

#[test]
fn a_bad_trial_is_repeated_and_a_test_of_bad_trials_is_refused() {
    let mut tester = flaky(2, u32::MAX);
    let only = settings(|s| s.tests = vec![Test::Throughput]);
    let (results, _) = Bench::new(only.clone(), &mut tester, &mut ()).run();
    assert!(results.throughput[0].fps.is_some());
    assert!(!results.trials[0].is_valid() && !results.trials[1].is_valid());
    assert!(
        results.warnings[0].contains("2 of"),
        "{:?}",
        results.warnings
    );

    let mut tester = flaky(3, u32::MAX);
    let (results, ended) = Bench::new(only, &mut tester, &mut ()).run();
    assert_eq!(ended, Ok(()));
    assert!(results.throughput.is_empty());
    let why = &results.warnings[0];
    assert!(
        why.contains("refused") && why.contains("our own receiver lost 7 frames"),
        "{why}"
    );
}

#[test]
fn one_stall_does_not_lower_the_ceiling() {
    /// Its first trial is cut short, or its link was down meanwhile.
    struct Stalled(Model, u32, Option<&'static str>);
    impl Tester for Stalled {
        fn run(&mut self, spec: &TrialSpec) -> Result<Trial, TesterError> {
            let mut trial = self.0.run(spec)?;
            if self.1 > 0 {
                self.1 -= 1;
                trial.achieved_fps /= 2.0;
                trial.faults.extend(self.2.map(str::to_owned));
            }
            Ok(trial)
        }

        fn max_fps(&self, frame_bytes: u16) -> Option<f64> {
            self.0.max_fps(frame_bytes)
        }
    }
    let model = Model {
        capacity_fps: 20e6,
        ..Model::default()
    };
    for (stalls, why) in [(1, None), (2, Some("the link of eth1 was down"))] {
        let mut tester = Stalled(model.clone(), stalls, why);
        let only = settings(|s| s.tests = vec![Test::Throughput]);
        let (results, _) = Bench::new(only, &mut tester, &mut ()).run();
        let found = &results.throughput[0];
        assert_eq!((found.fps, found.limit.as_str()), (Some(LINE), "link"));
    }
}

#[test]
fn who_goes_on_repeats_nothing_and_comes_to_the_same_end() {
    let all = settings(|s| s.tests = Test::ALL.to_vec());
    let mut whole = flaky(0, u32::MAX);
    let (expected, _) = Bench::new(all.clone(), &mut whole, &mut ()).run();
    for until in [0, 1, 7, 40] {
        let mut first = flaky(0, until);
        let (partial, ended) = Bench::new(all.clone(), &mut first, &mut ()).run();
        assert_eq!(ended, Err(TesterError::Interrupted));
        assert!(!partial.complete);
        assert_eq!(partial.trials.len(), until as usize);
        // As a file has it.
        let partial: Results =
            serde_json::from_str(&serde_json::to_string(&partial).unwrap()).unwrap();
        let mut nobody = ();
        let mut second = flaky(0, u32::MAX);
        let bench = Bench::new(all.clone(), &mut second, &mut nobody).resumed(partial.trials);
        let (results, ended) = bench.run();
        assert_eq!(ended, Ok(()));
        assert_eq!(second.ran + until, whole.ran);
        assert_eq!(results.throughput, expected.throughput);
        assert_eq!(results.back_to_back, expected.back_to_back);
        assert_eq!(results.warnings, expected.warnings);
    }
}

#[test]
fn trials_of_another_run_are_not_believed() {
    let all = settings(|s| s.tests = vec![Test::Throughput]);
    let mut tester = flaky(0, u32::MAX);
    let mut nobody = ();
    let other = Trial {
        test: "latency".to_owned(),
        ..Trial::default()
    };
    let bench = Bench::new(all, &mut tester, &mut nobody).resumed(vec![other]);
    let (results, _) = bench.run();
    assert!(
        results.warnings[0].contains("run again"),
        "{:?}",
        results.warnings
    );
    assert!(results.throughput[0].fps.is_some());
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_value() {
    for (change, says) in [
        (
            (|s| s.trial = Duration::ZERO) as fn(&mut Settings),
            "no time",
        ),
        (|s| s.loss_goals = vec![1.5], "150%"),
        (|s| s.trial = Duration::MAX, "longer than a day"),
        (|s| s.waits.after = Duration::MAX, "longer than a day"),
        (|s| s.repetitions = 30_000_000, "more than 1000"),
        (|s| s.sizes = vec![63], "63"),
        (|s| s.precision = 0.0, "precision"),
        (|s| s.repetitions = 0, "1 is the least"),
        (|s| s.loss_step = 0.9, "90%"),
        (|s| s.sizes.clear(), "no size"),
    ] {
        let error = settings(change).check().unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(Settings::quick().check(), Ok(()));
    assert_eq!(Settings::strict().check(), Ok(()));
}
