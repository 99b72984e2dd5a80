//! `linecard bench rfc2544`: in virtual time to the figure, and through a forwarder on real interfaces.

use std::fs;
use std::path::Path;
use std::process::Command;

use linecard_traffic::results::Results;
use serde_json::Value;

use crate::control::{Top, assert_of, path_in};
use crate::lab::{Ended, LINECARD, Lab, Process, wait_until};

/// Two cables in one namespace: `t0` to `d0` and `d1` to `t1`. The device is, or is not, between `d0` and `d1`.
fn cables() -> Lab {
    let lab = Lab::new();
    for (tester, device) in [("t0", "d0"), ("t1", "d1")] {
        lab.here.sh(&format!(
            "ip link add name {tester} type veth peer name {device}"
        ));
        for end in [tester, device] {
            lab.here.sh(&format!(
                "ip link set dev {end} addrgenmode none arp off up"
            ));
        }
    }
    lab
}

const PORTS: [&str; 6] = [
    "bench",
    "rfc2544",
    "--port",
    "uring:t0",
    "--receive",
    "uring:t1",
];

/// The device: a forwarder that nobody watches.
const DEVICE: [&str; 10] = [
    "fwd",
    "--port",
    "uring:d0",
    "--port",
    "uring:d1",
    "--idle",
    "sleep",
    "--no-control",
    "--stats-interval",
    "100ms",
];

/// As short as it can be, at a rate that any machine does, and not particular about it: on a busy one nobody is held up for
/// longer than a trial settles, or not each time.
const SHORT: [&str; 30] = [
    "--max-rate",
    "2kpps",
    "--tolerance",
    "90%",
    "--attempts",
    "20",
    "--precision",
    "20%",
    "--sizes",
    "64",
    "--trial",
    "100ms",
    "--first-trial",
    "100ms",
    "--repetitions",
    "1",
    "--latency-repetitions",
    "1",
    "--burst-time",
    "10ms",
    "--burst-repetitions",
    "1",
    "--wait",
    "10ms",
    "--settle",
    "250ms",
    "--rest",
    "1ms",
    "--workers",
    "1",
];

fn bench(lab: &Lab, args: &[&str]) -> Process {
    lab.linecard(&[&PORTS[..], &SHORT[..], &["--idle", "sleep"], args].concat())
}

fn results(ended: &Ended) -> Results {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}\n{ended:#?}"))
}

/// What needs no interfaces needs no laboratory.
fn linecard(args: &[&str]) -> Process {
    let mut command = Command::new(LINECARD);
    command.args(["bench", "rfc2544"]).args(args);
    Process::start(command)
}

fn simulate(args: &[&str]) -> Process {
    linecard(&[&["--simulate"], args].concat())
}

#[test]
fn a_simulated_device_is_measured_to_the_figure() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("new/");
    let ended = simulate(&[
        "capacity=20kpps,buffer=64,latency=50us,link=50Mbps,reset=100ms",
        "--sizes",
        "64",
        "--trial",
        "1s",
        "--repetitions",
        "1",
        "--latency-repetitions",
        "2",
        "--burst-time",
        "50ms",
        "--burst-repetitions",
        "2",
        "--recovery-repetitions",
        "1",
        "--json",
        "--test",
        "throughput,latency,loss,back-to-back,recovery,reset",
        "--output",
        place.to_str().unwrap(),
    ])
    .end();
    assert_eq!(ended.code, 0, "{ended:#?}");
    // What there is after each step is written, too.
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    let results = results(&ended);
    assert!(results.complete);
    let near = |fps: Option<f64>, right: f64| (fps.unwrap() / right - 1.0).abs() <= 0.005;
    let [ndr, pdr] = &results.throughput[..] else {
        panic!("{results:#?}")
    };
    assert!(
        near(ndr.fps, 20_000.0) && near(pdr.fps, 20_000.0 / 0.995),
        "{results:#?}"
    );
    assert_eq!(
        (ndr.loss_goal, pdr.loss_goal, ndr.limit.as_str()),
        (0.0, 0.005, "device")
    );
    assert_eq!(results.latency[0].latency.time.min_ns, 50_000);
    let buffer = results.back_to_back[0].buffer_frames.unwrap();
    assert!((buffer - 64.0).abs() <= 1.0, "{buffer}");
    assert_eq!(results.recovery.len(), 1);
    assert!(
        (results.reset[0].mean_ns - 1e8).abs() < 5e6,
        "{:?}",
        results.reset
    );
    assert!(results.settings.contains_key("precision") && results.machine.cores > 0);
}

#[test]
fn a_liar_is_refused_or_loses() {
    let ended = simulate(&[
        "late=50/1s,capacity=20kpps",
        "--sizes",
        "64",
        "--trial",
        "500ms",
        "--max-rate",
        "2kpps",
        "--test",
        "throughput",
        "--json",
    ])
    .end();
    let results = results(&ended);
    assert!(
        results
            .throughput
            .iter()
            .all(|found| found.fps.is_none_or(|fps| fps < 500.0)),
        "{results:#?}"
    );
    assert!(results.trials[0].counts.lost > 0 || !results.trials[0].is_valid());
}

#[test]
fn through_a_forwarder() {
    let lab = cables();
    let forwarder = lab.linecard(&DEVICE).ready();
    let place = tempfile::tempdir().unwrap();
    let output = format!("{}/", place.path().display());
    let args = [
        "--json",
        "--output",
        &output,
        "--test",
        "throughput,latency,loss,back-to-back",
    ];
    let ended = bench(&lab, &args).end();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let results = results(&ended);
    assert!(results.complete);
    assert!(results.throughput[0].fps.is_some(), "{results:#?}");
    assert_eq!(results.ports[0].name, "uring:t0");
    assert_eq!(results.ports[1].role, "receive");
    // The 10 Gbit/s of a veth are nobody's line rate.
    assert!(results.ports[0].link_is_nominal, "{:?}", results.ports);
    assert_eq!(results.throughput[0].line_fps, None);
    let said = |warning: &String| warning.contains("uring:t0 ends in this machine");
    assert!(results.warnings.iter().any(said), "{:?}", results.warnings);
    let latency = &results.latency[0].latency.time;
    assert!(
        latency.count > 0 && latency.min_ns > 0 && latency.min_ns <= latency.max_ns,
        "{latency:?}"
    );
    assert_eq!(results.back_to_back.len(), 1);
    assert!(results.frame_loss.len() >= 2);
    for trial in results.trials.iter().filter(|trial| trial.is_valid()) {
        let counts = &trial.counts;
        assert_eq!(counts.sent, counts.received + counts.lost, "{trial:?}");
        assert!(counts.sent > 0, "{trial:?}");
    }
    let file = Results::read(place.path().join("report.json")).unwrap();
    assert_eq!(file, results);
    assert!(place.path().join("report.html").exists() && place.path().join("report.csv").exists());
    assert_eq!(forwarder.interrupt().code, 0);
}

#[test]
fn a_forwarder_that_is_killed_and_started_again_is_timed() {
    // It is back in a tenth of a second; on a busy machine, which has to have the time, a trial takes longer.
    let timed = reset_within("1500ms", 1.5e9) || reset_within("10s", 10e9);
    assert!(timed, "the forwarder was not back in time");
}

#[test]
fn a_benchmark_is_watched_and_stopped() {
    let place = tempfile::tempdir().unwrap();
    let path = path_in(&place);
    let lab = cables();
    let _forwarder = lab.linecard(&DEVICE).ready();
    // Longer than anybody waits for: it ends because it is told to.
    let long = ["--trial", "1h", "--first-trial", "1h", "--sizes", "64"];
    let usual = ["--max-rate", "2kpps", "--workers", "1", "--idle", "sleep"];
    let more = ["--json", "--control", &path];
    let bench = lab.linecard(&[&PORTS[..], &long, &usual, &more].concat());
    let mut top = Top::at(&path);
    let port =
        |status: &Value, port: usize, key: &str| status["report"]["ports"][port][key].as_u64();
    let seen = top.until("frames through the device", |status| {
        port(status, 0, "tx") > Some(100) && port(status, 1, "rx") > Some(100)
    });
    assert_of(&seen, "bench", &["uring:t0", "uring:t1"]);
    top.stop();
    let ended = bench.end();
    assert_eq!(ended.code, 3, "{ended:#?}");
    assert!(!results(&ended).complete, "{ended:#?}");
}

/// Whether the forwarder was back before the trial was over.
fn reset_within(trial: &str, trial_ns: f64) -> bool {
    let lab = cables();
    let forwarder = lab.linecard(&DEVICE).ready();
    // The one that runs, also when it is tried again.
    let place = tempfile::tempdir().unwrap();
    let pid = place.path().join("pid");
    fs::write(&pid, forwarder.pid().to_string()).unwrap();
    // The new one is the command itself, so it ends with the benchmark.
    let reset = format!(
        "kill -9 $(cat {pid}); echo $$ >{pid}; exec {LINECARD} {}",
        DEVICE.join(" "),
        pid = pid.display(),
    );
    let args = [
        "--json",
        "--test",
        "reset",
        "--reset-command",
        &reset,
        "--recovery-trial",
        trial,
        "--recovery-repetitions",
        "1",
    ];
    let ended = bench(&lab, &args).end();
    assert_eq!(forwarder.end().code, 128 + 9);
    let results = results(&ended);
    let late = |warning: &String| warning.contains("give it longer with --recovery-trial");
    // Or the generator itself was held up, each time.
    let not_believed = ended.code == 3 && results.reset.is_empty();
    if results.warnings.iter().any(late) || not_believed {
        return false;
    }
    assert_eq!(ended.code, 0, "{ended:#?}");
    let [reset] = &results.reset[..] else {
        panic!("{results:#?}");
    };
    assert!(reset.mean_ns > 0.0 && reset.mean_ns < trial_ns, "{reset:?}");
    let trial = results.trials.iter().find(|t| t.test == "reset").unwrap();
    assert!(
        trial.counts.lost > 0 && trial.counts.received > 0,
        "{trial:?}"
    );
    true
}

#[test]
fn without_a_device_it_says_so_soon() {
    let lab = cables();
    let ended = bench(&lab, &["--json"]).end();
    assert_eq!(ended.code, 3, "{ended:#?}");
    let results = results(&ended);
    let said = |text: &str| {
        results
            .warnings
            .iter()
            .any(|warning| warning.contains(text))
    };
    assert!(said("not one frame came back"), "{:?}", results.warnings);
    assert!(results.throughput.is_empty());
    assert!(
        results
            .trials
            .iter()
            .filter(|t| t.test == "throughput")
            .count()
            <= 6
    );
}

#[test]
fn interrupted_it_reports_and_goes_on_from_there() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("run.json");
    let path = file.to_str().unwrap();
    let device = "capacity=20kpps,buffer=64,link=50Mbps";
    let settings = [
        device,
        "--sizes",
        "64",
        "--trial",
        "2s",
        "--repetitions",
        "1",
        "--latency-repetitions",
        "2",
        "--burst-time",
        "50ms",
        "--burst-repetitions",
        "1",
        "--json",
    ];
    let first = simulate(&[&settings[..], &["--output", path]].concat());
    wait_until("a trial", || first.stderr().contains("   1 throughput"));
    let ended = first.interrupt();
    assert_eq!(ended.code, 3, "{ended:#?}");
    let partial = results(&ended);
    assert!(!partial.complete && !partial.trials.is_empty());
    assert!(ended.stderr.contains("--resume"), "{}", ended.stderr);
    assert_eq!(Results::read(&file).unwrap(), partial);

    let other = simulate(&[&settings[..], &["--resume", path, "--precision", "1%"]].concat()).end();
    assert_eq!(other.code, 1);
    assert!(
        other.stderr.contains("settings must be the same"),
        "{}",
        other.stderr
    );

    let ended = simulate(&[&settings[..], &["--resume", path]].concat()).end();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let whole = results(&ended);
    assert!(whole.complete && whole.trials.len() > partial.trials.len());
    assert_eq!(whole.trials[..partial.trials.len()], partial.trials);
    assert_eq!(whole.started, partial.started);
    assert_eq!(Results::read(Path::new(path)).unwrap(), whole);
    let again = simulate(&[&settings[..], &["--resume", path]].concat()).end();
    assert!(again.stderr.contains("is complete"), "{}", again.stderr);
}

#[test]
fn what_cannot_be_is_said_before_anything_is_opened() {
    for (args, says) in [
        (&["--port", "uring:a"][..], "--receive"),
        (&["--simulate", "speed=9"], "no such option"),
        (&["--simulate", "", "--sizes", "63"], "63"),
        (&["--simulate", "", "--loss-goal", "many"], "0.5%"),
        (&["--simulate", "", "--test", "speed"], "back-to-back"),
        (
            &[
                "--port",
                "uring:a",
                "--receive",
                "uring:b",
                "--test",
                "reset",
            ],
            "--reset-command",
        ),
        (
            &["--port", "uring:a", "--receive", "uring:a"],
            "both uring:a",
        ),
        (
            &["--simulate", "", "--resume", "no/such.json"],
            "no/such.json",
        ),
        (&["--simulate", "", "--packet", "ipv5"], "ipv5"),
    ] {
        let ended = linecard(args).end();
        assert!(matches!(ended.code, 1 | 2), "{args:?} {ended:#?}");
        assert!(ended.stderr.contains(says), "{args:?} {}", ended.stderr);
    }
}

#[test]
fn a_plan_says_how_long_it_takes() {
    let ended = linecard(&["--strict", "--dry-run", "--json"]).end();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let plan: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(plan["seconds"].as_f64().unwrap() > 3600.0);
    assert_eq!(plan["settings"]["latency_repetitions"], "20");
    assert_eq!(plan["settings"]["sizes"], "64,128,256,512,1024,1280,1518");
}
