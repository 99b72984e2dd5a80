//! `parse_layers`, flow keys and hashes against the views.

#![no_main]

#[path = "../../wire/tests/harness/mod.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::flow(data));
