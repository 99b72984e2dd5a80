//! Every parser and every accessor on arbitrary bytes.

#![no_main]

#[path = "../../wire/tests/harness/mod.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::parse(data));
