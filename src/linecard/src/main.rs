//! The `linecard` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cmd;

/// Moves packets between network interfaces without the kernel's network stack.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Fwd(cmd::fwd::FwdArgs),
    Run(cmd::run::RunArgs),
    Config(cmd::config::ConfigArgs),
    Doctor(cmd::doctor::DoctorArgs),
    Topo(cmd::topo::TopoArgs),
    Ports(cmd::interfaces::PortsArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Fwd(args) => cmd::fwd::run(&args),
        Command::Run(args) => cmd::run::run(&args),
        Command::Config(args) => cmd::config::run(&args),
        Command::Doctor(args) => cmd::doctor::run(&args),
        Command::Topo(args) => cmd::topo::run(&args, &cmd::topo::port_demand),
        Command::Ports(args) => cmd::interfaces::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
