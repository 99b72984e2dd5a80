//! `linecard bench`: benchmarks by the book.

mod progress;
mod rfc2544;
mod rig;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Measure a device between two ports.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Rfc2544(Box<rfc2544::Rfc2544Args>),
}

/// Runs it.
pub fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Rfc2544(args) => rfc2544::run(args),
    }
}
