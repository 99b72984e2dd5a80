//! Packets to text and back, and arbitrary text.

#![no_main]

#[path = "../../wire/tests/harness/mod.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::describe(data));
