//! `linecard config`: what `linecard run` reads, checked, explained and shown.
//!
//! The file is read by [`read`](self::read) into a draft, the variables of
//! [`environment`](self::environment) are laid over it, and [`load`](self::load) checks the whole.
//! The scalar keys are one table, in [`keys`](self::keys). Serde's own derive would stop at the
//! first mistake; here every value is taken by itself with its place, so that all of them are
//! listed at once.

mod environment;
mod given;
mod keys;
mod load;
mod ports;
mod problem;
mod protocols;
mod read;
mod show;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

#[cfg(feature = "dpdk")]
pub use self::keys::Pages;
pub use self::load::Config;
use self::ports::forwards;
use self::problem::Problem;
pub use self::problem::Problems;
use self::show::Shown;
use super::table::Paint;

/// A file with every key, which is also in the examples.
pub const EXAMPLE: &str = include_str!("config/example.toml");

/// Checks, explains and shows what `linecard run` reads.
#[derive(Args, Debug)]
#[command(
    about = "Check a configuration file, show what it comes to, or print an example",
    long_about = "Check a configuration file, show what it comes to, or print an example.\n\n\
        A file says in sections what linecard fwd is told by options: [[port]], [forward] or \
        [[protocol]], [engine], [pool], [dpdk]. A variable LINECARD_SECTION_KEY takes precedence over the key of its \
        section, so that one file serves several machines.",
    after_help = "Examples:\n  \
        linecard config example > linecard.toml    begin with every key, explained\n  \
        linecard config check linecard.toml        every mistake, with its line\n  \
        linecard config show linecard.toml         every value, and where it comes from\n  \
        LINECARD_ENGINE_BURST=64 linecard config show linecard.toml"
)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Check(CheckArgs),
    Show(ShowArgs),
    Example(ExampleArgs),
}

#[derive(Args, Debug)]
#[command(
    about = "Say whether a file could be run, and everything that is wrong with it",
    long_about = "Say whether a file could be run, and everything that is wrong with it.\n\n\
        The environment counts, as it does for linecard run. No port is opened: whether an \
        interface is there and may be used is for linecard ports and linecard run --dry-run to \
        say.",
    after_help = "Exit status: 0 if it could be run, 1 if not.\n\n\
        Examples:\n  \
        linecard config check linecard.toml\n  \
        linecard config check linecard.toml --json | jq -r '.problems[].place'"
)]
struct CheckArgs {
    /// The configuration file
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
#[command(
    about = "Show every value that would be used, and where it comes from",
    after_help = "Examples:\n  \
        linecard config show linecard.toml\n  \
        linecard config show linecard.toml --json | jq '.settings[] | select(.origin != \"default\")'"
)]
struct ShowArgs {
    /// The configuration file
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
#[command(
    about = "Print a file with every key, explained",
    after_help = "Example:\n  \
        linecard config example > linecard.toml"
)]
struct ExampleArgs {}

/// Runs it.
pub fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let text = match &args.command {
        Command::Example(_) => EXAMPLE.to_owned(),
        Command::Show(args) => {
            let shown = Shown::new(&Config::load(&args.file)?);
            if args.json {
                serde_json::to_string_pretty(&shown)? + "\n"
            } else {
                shown.render(Paint::for_stdout())
            }
        }
        Command::Check(args) => {
            let verdict = Config::load(&args.file);
            let answer = Answer::new(&verdict);
            let text = match &verdict {
                _ if args.json => serde_json::to_string_pretty(&answer)?,
                Ok(config) => format!("{}: ok: {}", config.file, summary(config)),
                Err(problems) => problems.to_string(),
            };
            super::print(&(text + "\n"))?;
            return Ok(if answer.ok {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What `config check --json` prints.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    file: &'a str,
    ok: bool,
    ports: Option<usize>,
    pairs: Option<usize>,
    protocols: Option<usize>,
    problems: &'a [Problem],
}

impl<'a> Answer<'a> {
    fn new(verdict: &'a Result<Config, Problems>) -> Self {
        match verdict {
            Ok(config) => Self {
                file: &config.file,
                ok: true,
                ports: Some(config.ports.len()),
                pairs: Some(config.pairs.len()),
                protocols: Some(config.protocols.len()),
                problems: &[],
            },
            Err(problems) => Self {
                file: &problems.file,
                ok: false,
                ports: None,
                pairs: None,
                protocols: None,
                problems: &problems.list,
            },
        }
    }
}

/// A configuration in one line.
fn summary(config: &Config) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let settings = &config.settings;
    let mut parts = vec![count(config.ports.len(), "port")];
    if config.protocols.is_empty() {
        if forwards(settings.mode) {
            parts.push(count(config.pairs.len(), "pair"));
        }
        parts.push(format!("mode {}", settings.mode));
    } else {
        let kinds: Vec<&str> = config
            .protocols
            .iter()
            .map(|p| p.value.kind.as_str())
            .collect();
        let protocols = count(kinds.len(), "protocol");
        parts.push(format!("{protocols} ({})", kinds.join(", ")));
    }
    parts.push(count(config.workers(), "worker"));
    parts.push(format!("burst {}", settings.engine.burst));
    parts.push(format!("idle {}", settings.engine.idle));
    parts.push(match settings.duration {
        Some(duration) => format!("for {}", humantime::format_duration(duration)),
        None => "until Ctrl-C".to_owned(),
    });
    parts.join(", ")
}
