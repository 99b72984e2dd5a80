//! The subcommands. Each is a `clap::Args` and a function that runs it.

// This folder belongs to the binary, where nothing is reachable from outside; its items are `pub`
// all the same, so that each file says what the others may use.
#![allow(unreachable_pub)]

pub mod bench;
pub mod bind;
pub mod capture;
pub mod cards;
pub mod common;
pub mod config;
pub mod ctl;
pub mod dissector;
pub mod doctor;
pub mod far;
pub mod forward;
pub mod fwd;
pub mod generate;
pub mod headers;
pub mod interfaces;
pub mod kinds;
pub mod ping;
pub mod reflect;
pub mod replay;
pub mod report;
pub mod run;
pub mod script;
pub mod sim;
pub mod sink;
pub mod table;
pub mod top;
pub mod topo;
pub mod watched;

use std::io::Write;

/// Prints a whole answer. A reader that has seen enough (`| head`) is not an error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
