//! Replays every checked-in fuzz input, and runs the checks of the fuzz targets on random frames.
//!
//! `LINECARD_WRITE_SEEDS=1 cargo test -p linecard-wire --test regressions` writes the inputs of
//! `harness/seeds.rs` to `src/fuzz`. What a fuzzer finds goes to `src/fuzz/regressions/TARGET/`
//! by hand, under any name.

mod harness;

use harness::TARGETS;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// Runs a check and names the input if it fails.
fn replay(target: &str, check: fn(&[u8]), name: &str, input: &[u8]) {
    let result = std::panic::catch_unwind(|| check(input));
    assert!(
        result.is_ok(),
        "{target} fails on {name} ({} bytes)",
        input.len()
    );
}

#[test]
fn every_checked_in_input_passes() {
    if !fuzz_dir().is_dir() {
        return; // The crate is tested outside of its repository.
    }
    for (target, check) in TARGETS {
        let mut count = 0;
        for kind in ["seeds", "regressions"] {
            let dir = fuzz_dir().join(kind).join(target);
            for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
                let path = entry.unwrap().path();
                let input = fs::read(&path).unwrap();
                replay(target, check, &path.display().to_string(), &input);
                count += 1;
            }
        }
        assert!(count > 0, "no inputs for {target}");
    }
}

#[test]
fn generated_inputs_are_checked_in_and_pass() {
    let write = std::env::var_os("LINECARD_WRITE_SEEDS").is_some();
    let present = fuzz_dir().is_dir();
    let lists = [
        ("seeds", harness::seeds::seeds()),
        ("regressions", harness::seeds::nasty()),
    ];
    for (kind, list) in lists {
        for (target, name, input) in list {
            let (_, check) = TARGETS
                .into_iter()
                .find(|(known, _)| *known == target)
                .unwrap();
            replay(target, check, name, &input);
            let path = fuzz_dir().join(kind).join(target).join(name);
            if write {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &input).unwrap();
            } else if present {
                let stored = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                assert_eq!(stored, input, "{}", path.display());
            }
        }
    }
}

/// A well-formed frame with some bytes changed and its end moved.
fn damaged(target: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let frames: Vec<Vec<u8>> = harness::seeds::seeds()
        .into_iter()
        .filter(|(for_target, ..)| *for_target == target)
        .map(|(_, _, input)| input)
        .collect();
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5);
    (prop::sample::select(frames), changes, -3isize..20).prop_map(|(mut frame, changes, longer)| {
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        frame.resize(frame.len().saturating_add_signed(longer), 0xa5);
        frame
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_frames_parse(frame in damaged("parse")) {
        harness::parse(&frame);
    }

    #[test]
    fn damaged_frames_flow(frame in damaged("flow")) {
        harness::flow(&frame);
    }

    #[test]
    fn damaged_requests_are_answered_or_refused(frame in damaged("echo_reply")) {
        harness::reply(&frame);
    }

    #[test]
    fn damaged_super_frames_are_segmented_or_refused(frame in damaged("segment")) {
        harness::segment(&frame);
    }

    #[test]
    fn damaged_packets_come_back_from_text(frame in damaged("describe")) {
        harness::describe(&frame);
    }

    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        for (_, check) in TARGETS {
            check(&bytes);
        }
    }
}
