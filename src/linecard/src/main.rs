//! The `linecard` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cmd;

/// Moves packets between network interfaces without the kernel's network stack.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Start with `linecard doctor`, then `linecard ports`, then `linecard fwd --help`.
`linecard top` watches what runs, `linecard ctl` steers it.
LINECARD_LOG=debug prints what the drivers do, on standard error."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Fwd(cmd::fwd::FwdArgs),
    Gen(Box<cmd::generate::GenArgs>),
    Sink(cmd::sink::SinkArgs),
    Reflect(cmd::reflect::ReflectArgs),
    Ping(cmd::ping::PingArgs),
    Run(cmd::run::RunArgs),
    Capture(cmd::capture::CaptureArgs),
    Bench(cmd::bench::BenchArgs),
    Replay(cmd::replay::ReplayArgs),
    Config(cmd::config::ConfigArgs),
    Doctor(cmd::doctor::DoctorArgs),
    Topo(cmd::topo::TopoArgs),
    Sim(cmd::sim::SimArgs),
    Script(cmd::script::ScriptArgs),
    Ports(cmd::interfaces::PortsArgs),
    Bind(cmd::bind::BindArgs),
    Unbind(cmd::bind::UnbindArgs),
    Top(cmd::top::TopArgs),
    Ctl(cmd::ctl::CtlArgs),
    Dissector(cmd::dissector::DissectorArgs),
    Report(cmd::report::ReportArgs),
}

fn main() -> ExitCode {
    cmd::watched::log_to_stderr();
    let result = match Cli::parse().command {
        Command::Fwd(args) => cmd::fwd::run(&args),
        Command::Gen(args) => cmd::generate::run(&args),
        Command::Sink(args) => cmd::sink::run(&args),
        Command::Reflect(args) => cmd::reflect::run(&args),
        Command::Ping(args) => cmd::ping::run(&args),
        Command::Run(args) => cmd::run::run(&args),
        Command::Capture(args) => cmd::capture::run(&args),
        Command::Bench(args) => cmd::bench::run(&args),
        Command::Replay(args) => cmd::replay::run(&args),
        Command::Config(args) => cmd::config::run(&args),
        Command::Doctor(args) => cmd::doctor::run(&args),
        Command::Topo(args) => cmd::topo::run(&args, &cmd::topo::port_demand),
        Command::Script(args) => cmd::script::run(&args),
        Command::Sim(args) => cmd::sim::run(&args),
        Command::Ports(args) => cmd::interfaces::run(&args),
        Command::Bind(args) => cmd::bind::run_bind(&args),
        Command::Unbind(args) => cmd::bind::run_unbind(&args),
        Command::Top(args) => cmd::top::run(&args),
        Command::Ctl(args) => cmd::ctl::run(&args),
        Command::Dissector(args) => cmd::dissector::run(&args),
        Command::Report(args) => cmd::report::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
