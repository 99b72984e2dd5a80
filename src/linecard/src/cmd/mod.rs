//! The subcommands. Each is a `clap::Args` and a function that runs it.

// This folder belongs to the binary, where nothing is reachable from outside; its items are `pub`
// all the same, so that each file says what the others may use.
#![allow(unreachable_pub)]

pub mod doctor;
pub mod interfaces;
pub mod table;
pub mod topo;
