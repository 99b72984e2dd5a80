//! Replays every checked-in fuzz input, and runs the check of the fuzz target on changed ones.
//!
//! `LINECARD_WRITE_SEEDS=1 cargo test -p linecard-stack --test stack_regressions` writes the inputs of
//! `harness/seeds.rs` to `src/fuzz`. What a fuzzer finds goes to `src/fuzz/regressions/stack/` by hand, under
//! any name.

mod harness;

use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

fn dir(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz")
        .join(kind)
        .join("stack")
}

/// Runs the check and names the input if it fails.
fn replay(name: &str, input: &[u8]) {
    let result = std::panic::catch_unwind(|| harness::stack(input));
    assert!(result.is_ok(), "fails on {name} ({} bytes)", input.len());
}

#[test]
fn every_checked_in_input_passes() {
    for kind in ["seeds", "regressions"] {
        // Not there if the crate is tested outside of its repository.
        for entry in fs::read_dir(dir(kind)).into_iter().flatten() {
            let path = entry.unwrap().path();
            replay(&path.display().to_string(), &fs::read(&path).unwrap());
        }
    }
}

#[test]
fn generated_inputs_are_checked_in_and_pass() {
    let write = std::env::var_os("LINECARD_WRITE_SEEDS").is_some();
    let lists = [
        ("seeds", harness::seeds::seeds()),
        ("regressions", harness::seeds::nasty()),
    ];
    for (kind, list) in lists {
        for (name, input) in list {
            replay(name, &input);
            let path = dir(kind).join(name);
            if write {
                fs::create_dir_all(dir(kind)).unwrap();
                fs::write(&path, &input).unwrap();
            } else if dir(kind).is_dir() {
                let stored = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                assert_eq!(stored, input, "{}", path.display());
            }
        }
    }
}

/// Some inputs behind one another, with some bytes changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let all = harness::seeds::seeds()
        .into_iter()
        .chain(harness::seeds::nasty());
    let all: Vec<Vec<u8>> = all.map(|(_, input)| input).collect();
    let chosen = proptest::collection::vec(prop::sample::select(all), 1..5);
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12);
    (chosen, changes).prop_map(|(chosen, changes)| {
        let mut input = chosen.concat();
        for (at, value) in changes {
            let at = at.index(input.len());
            input[at] = value;
        }
        input
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn damaged_inputs(input in damaged()) {
        harness::stack(&input);
    }

    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        harness::stack(&bytes);
    }
}
