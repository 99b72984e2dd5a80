//! A whole stack, fed frame by frame.

#![no_main]

#[path = "../../stack/tests/harness/mod.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::stack(data));
