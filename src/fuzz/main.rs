//! All fuzz targets in one program: libFuzzer and what is fuzzed are built and linked once.
//!
//! Each file in `fuzz_targets` is one, by its name; `build.rs` finds them. `LINECARD_FUZZ_TARGET` says which to run.

#![no_main]

use std::sync::OnceLock;

#[path = "../stack/tests/harness/mod.rs"]
mod stack_harness;
#[path = "../wire/tests/harness/mod.rs"]
mod wire_harness;

mod targets {
    include!(concat!(env!("OUT_DIR"), "/targets.rs"));
}

static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();

fn choose() -> fn(&[u8]) {
    let wanted = std::env::var("LINECARD_FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.iter().find(|(name, _)| *name == wanted);
    let Some((_, target)) = found else {
        let names: Vec<_> = targets::ALL.iter().map(|(name, _)| *name).collect();
        eprintln!(
            "LINECARD_FUZZ_TARGET={wanted:?} is none of {}",
            names.join(", ")
        );
        std::process::exit(2);
    };
    *target
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| CHOSEN.get_or_init(choose)(data));
