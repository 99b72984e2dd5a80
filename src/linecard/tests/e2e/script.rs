//! `linecard script`, as a person runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn scripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scripts");
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all
}

fn script(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linecard"));
    command.arg("script").args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_example_is_as_expected() {
    let files = scripts();
    let words: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    assert!(words.len() >= 3);
    let output = script(&words);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}\n{}", text(&output.stderr));
    assert!(
        out.ends_with(&format!("{} scripts, 0 not as expected\n", words.len())),
        "{out}"
    );
}

/// Each example with one thing in it changed: it has to fail, and to say where and why.
#[test]
fn scripts_that_should_fail_do() {
    let dir = tempfile::tempdir().unwrap();
    let good = std::fs::read_to_string(
        scripts()
            .into_iter()
            .find(|f| f.ends_with("echo.pkt"))
            .unwrap(),
    )
    .unwrap();
    let number = |of: &str| good.lines().position(|line| line.contains(of)).unwrap() as u64 + 1;
    for (from, to, line, said, field) in [
        // Another answer, another port, no answer, one too many, one too early.
        (
            "> $back/udp(sport=7, dport=4000)/data(\"hello\")",
            "> $back/udp(sport=7, dport=4000)/data(\"hallo\")",
            0,
            "another packet",
            "data",
        ),
        (
            "> $back/udp(sport=7, dport=4001)",
            "> $back/udp(sport=7, dport=4009)",
            0,
            "another packet",
            "udp.dport",
        ),
        (
            "> $back/udp(sport=7, dport=4002)",
            "> $back/tcp(sport=7)",
            0,
            "another packet",
            "after ipv4",
        ),
        (
            "dport=8)",
            "dport=7)",
            number("silence"),
            "no line expects",
            "",
        ),
        ("+1s silence", "+1s > $back/udp", 0, "sent nothing", ""),
        (
            "> $back/udp(sport=7, dport=4000)",
            "+1ms..2ms > $back/udp(sport=7, dport=4000)",
            0,
            "1ms too early",
            "",
        ),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        let line = if line > 0 { line } else { number(from) };
        let file = dir.path().join("bad.pkt");
        std::fs::write(&file, bad).unwrap();
        let file = file.to_str().unwrap();
        let output = script(&[file, "--json"]);
        assert_eq!(
            output.status.code(),
            Some(3),
            "{to}: {}",
            text(&output.stderr)
        );
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let failure = &report["failure"];
        assert_eq!(failure["line"], line, "{to}: {failure}");
        assert!(
            failure["what"].as_str().unwrap().contains(said),
            "{to}: {failure}"
        );
        let fields: Vec<&str> = failure["differences"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|d| d["field"].as_str())
            .collect();
        assert!(
            field.is_empty() || fields.contains(&field),
            "{to}: {fields:?}"
        );
        // For people the same.
        let out = text(&script(&[file]).stdout);
        assert!(
            out.contains("NOT AS EXPECTED") && out.contains(said) && out.contains(field),
            "{out}"
        );
    }
}

#[test]
fn scripts_that_make_no_sense_are_told_where() {
    let dir = tempfile::tempdir().unwrap();
    for (content, said) in [
        (
            "run echo\n< eth/ipvx",
            "bad.pkt:2: eth/ipvx: at character 5",
        ),
        (
            "run eko",
            "bad.pkt:1: run eko: there is no such kind, but ask, caller, calls, echo, ferry, ferry-client, host, probe",
        ),
        (
            "\n< eth/ipv4(src=$who)",
            "bad.pkt:2: $who stands for nothing yet",
        ),
        ("3< eth/ipv4", "bad.pkt:1: there is no port 3, but 0 to 0"),
        ("now < eth", "bad.pkt:1: \"now\": neither"),
    ] {
        let file = dir.path().join("bad.pkt");
        std::fs::write(&file, content).unwrap();
        let output = script(&[file.to_str().unwrap()]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{content}: {error}");
        assert!(error.contains(said), "{content}: {error}");
    }
}
