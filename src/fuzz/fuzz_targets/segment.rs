//! The TCP and UDP segmenters on arbitrary super-frames.

#![no_main]

#[path = "../../wire/tests/harness/mod.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::segment(data));
