//! `linecard sim`, as a person runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sim")
}

fn sim(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linecard"));
    command.arg("sim").args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_example_is_as_expected() {
    let mut files: Vec<_> = std::fs::read_dir(examples())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 3);
    for file in files {
        let output = sim(&[file.to_str().unwrap()]);
        let out = text(&output.stdout);
        assert!(
            output.status.success() && out.contains("all as expected"),
            "{out}\n{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn many_seeds_are_counted_and_the_bad_ones_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hard.toml");
    let hard = std::fs::read_to_string(examples().join("loss.toml")).unwrap();
    // About as likely as not.
    let hard = hard.replace("at_least = 860", "at_least = 931");
    std::fs::write(&file, hard).unwrap();
    let words = [file.to_str().unwrap(), "--seeds", "1..24", "--json"];
    let (first, again) = (sim(&words), sim(&words));
    assert_eq!(first.status.code(), Some(3), "{}", text(&first.stderr));
    assert_eq!(text(&first.stdout), text(&again.stdout), "the same runs");
    let report: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(
        (&report["runs"], &report["as_expected"]),
        (&24.into(), &false.into())
    );
    let failed = report["failed"].as_array().unwrap();
    assert_eq!(report["held"].as_u64().unwrap() + failed.len() as u64, 24);
    assert!((1..24).contains(&failed.len()));
    // Each again by itself: the same.
    let seed = failed[0]["seed"].to_string();
    let pcap = dir.path().join("again.pcapng");
    let output = sim(&[
        words[0],
        "--seed",
        &seed,
        "--json",
        "--pcap",
        pcap.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(3));
    let single: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(single["figures"], failed[0]["figures"]);
    assert!(std::fs::metadata(pcap).unwrap().len() > 100_000);
}

#[test]
fn wrong_usage_says_what_to_type() {
    let loss = examples().join("loss.toml");
    let loss = loss.to_str().unwrap();
    for (words, code, said) in [
        (&[][..], 2, "<FILE.toml>"),
        (&[loss, "--seeds", "9..1"], 2, "1..1000"),
        (
            &[loss, "--seeds", "1..2", "--seed", "1"],
            2,
            "cannot be used with",
        ),
        (&[loss, "--pcap", "/nonexistent/frames.pcap"], 1, ".pcapng"),
        (&["missing.toml"], 1, "missing.toml: No such file"),
    ] {
        let output = sim(words);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
        assert!(error.contains(said), "{words:?}: {error}");
    }
}
