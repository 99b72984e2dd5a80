//! `linecard ctl`: changes what a running engine does.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use linecard::control::{
    self, CaptureRequest, CaptureStatus, ClientError, Reply, Request, RuleStatus,
};

use super::table::{Cell, Paint, Table};

/// The exit code when the engine was found and refused.
const EXIT_REFUSED: u8 = 3;

/// Change what a running engine does: its rate, its flow rules, what it logs; start captures; stop it.
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "ACTION",
    subcommand_help_heading = "Actions",
    after_help = "\
Examples:
  linecard ctl list                                   the engines that run here
  linecard ctl rate 20kpps                            of the generator that runs here
  linecard ctl edge rules add '0: proto=udp => drop'  at port 0 of the one named edge
  linecard ctl rules list
  linecard ctl rules remove 2
  linecard ctl capture start /tmp/a.pcapng --filter 'udp port 53'
  linecard ctl 4711 status --json | jq .report.ports
  linecard ctl stop

Exit codes: 0 done, 1 there is no such engine or it does not answer, 2 wrong usage, 3 the engine refused."
)]
pub struct CtlArgs {
    /// The engine: its name, its process's number, or the path of its socket; the only one if left out.
    #[arg(value_name = "ENGINE")]
    engine: Option<String>,
    #[command(subcommand)]
    action: Action,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the engines that run here
    List,
    /// Show what has happened since the start
    Status,
    /// Send at another rate: 20kpps, 5Gbps, 40%, max
    Rate {
        /// The rate, as linecard gen takes it.
        rate: String,
    },
    /// List, add or remove flow rules
    Rules {
        #[command(subcommand)]
        rules: Rules,
    },
    /// Log from this level on: error, warn, info, debug, trace; or directives such as linecard_af_xdp=debug
    Log {
        /// The level or the directives.
        filter: String,
    },
    /// Record frames to a file
    Capture {
        #[command(subcommand)]
        capture: Capture,
    },
    /// Stop it in order, as Ctrl-C does
    Stop,
}

#[derive(Debug, Subcommand)]
enum Rules {
    /// List them, with what they have counted
    List,
    /// Add one, behind those that are there: 'PORT: FIELD=VALUE … => ACTION', as for linecard fwd --flow
    Add {
        /// The rule.
        rule: String,
    },
    /// Remove one
    Remove {
        /// Its number, as listed.
        rule: u64,
    },
}

#[derive(Debug, Subcommand)]
enum Capture {
    /// Begin
    Start {
        /// The file, pcapng.
        file: PathBuf,
        /// Only frames that match, in tcpdump's language.
        #[arg(long, value_name = "EXPR")]
        filter: Option<String>,
        /// Only so many bytes of each frame.
        #[arg(long, value_name = "BYTES")]
        snap: Option<u32>,
        /// Only this port, by its number from 0; say it once for each.
        #[arg(long = "port", value_name = "N")]
        ports: Vec<u16>,
    },
    /// End
    Stop,
    /// Show how it is
    Status,
}

/// Runs it.
pub fn run(args: &CtlArgs) -> anyhow::Result<ExitCode> {
    let Some(request) = args.action.request()? else {
        return list(args.json);
    };
    let mut client = control::find(args.engine.as_deref())?;
    match client.ask(request) {
        Ok(reply) => super::print(&say(reply, args.json)?)?,
        Err(ClientError::Refused(why)) => {
            if args.json {
                super::print(&format!("{}\n", serde_json::json!({ "error": why })))?;
            }
            eprintln!("error: {}: {why}", client.hello.name);
            return Ok(ExitCode::from(EXIT_REFUSED));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

impl Action {
    /// What is to be asked; `None` if nobody in particular is.
    fn request(&self) -> anyhow::Result<Option<Request>> {
        Ok(Some(match self {
            Self::List => return Ok(None),
            Self::Status => Request::Status,
            Self::Rate { rate } => Request::Rate { rate: rate.clone() },
            Self::Rules { rules } => match rules {
                Rules::List => Request::Rules,
                Rules::Add { rule } => Request::AddRule { rule: rule.clone() },
                Rules::Remove { rule } => Request::RemoveRule { rule: *rule },
            },
            Self::Log { filter } => Request::Log {
                filter: filter.clone(),
            },
            Self::Capture { capture } => match capture {
                Capture::Start {
                    file,
                    filter,
                    snap,
                    ports,
                } => Request::CaptureStart(CaptureRequest {
                    file: whole_path(file)?,
                    filter: filter.clone(),
                    snap: *snap,
                    ports: ports.clone(),
                }),
                Capture::Stop => Request::CaptureStop,
                Capture::Status => Request::Capture,
            },
            Self::Stop => Request::Stop,
        }))
    }
}

/// The engine may run in another directory.
fn whole_path(file: &std::path::Path) -> anyhow::Result<String> {
    let path = std::path::absolute(file)?;
    let text = path.to_str();
    let text = text.with_context(|| format!("{}: not a name in UTF-8", path.display()))?;
    Ok(text.to_owned())
}

fn list(json: bool) -> anyhow::Result<ExitCode> {
    let found = control::list();
    if json {
        let hellos: Vec<_> = found.iter().map(|found| &found.hello).collect();
        super::print(&(serde_json::to_string(&hellos)? + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        return Err(ClientError::Nobody(control::directory()).into());
    }
    let mut table = Table::new(&["name", "command", ">pid", "socket"]);
    for found in found {
        table.row([
            Cell::from(found.hello.name),
            Cell::from(found.hello.command),
            Cell::from(found.hello.pid.to_string()),
            Cell::from(found.path.display().to_string()),
        ]);
    }
    super::print(&table.render(Paint::for_stdout()))?;
    Ok(ExitCode::SUCCESS)
}

fn say(reply: Reply, json: bool) -> anyhow::Result<String> {
    if json {
        let text = match &reply {
            Reply::Status(status) => serde_json::to_string(status)?,
            Reply::Rules(rules) => serde_json::to_string(rules)?,
            other => serde_json::to_string(other)?,
        };
        return Ok(text + "\n");
    }
    Ok(match reply {
        Reply::Status(status) => super::top::since_start(&status),
        Reply::Rules(rules) => rules_table(&rules),
        Reply::Added(rule) => format!("rule {rule}\n"),
        Reply::Capture(status) => capture_text(&status),
        Reply::Done(what) => format!("{what}\n"),
        Reply::Error(why) => format!("{why}\n"),
    })
}

fn rules_table(rules: &[RuleStatus]) -> String {
    if rules.is_empty() {
        return "no flow rules\n".to_owned();
    }
    let mut table = Table::new(&[
        ">rule",
        "port",
        "matches => action",
        ">packets",
        ">bytes",
        "problem",
    ]);
    let count = |n: Option<u64>| n.map_or_else(|| "not counted".to_owned(), |n| n.to_string());
    for rule in rules {
        table.row([
            Cell::from(rule.rule.to_string()),
            Cell::from(format!("{}: {}", rule.port, rule.port_name)),
            Cell::from(rule.text.clone()),
            Cell::from(count(rule.packets)),
            Cell::from(count(rule.bytes)),
            Cell::from(rule.problem.clone().unwrap_or_default()),
        ]);
    }
    table.render(Paint::for_stdout())
}

fn capture_text(status: &CaptureStatus) -> String {
    let state = match (&status.problem, status.running) {
        (Some(problem), _) => format!("ended: {problem}"),
        (None, true) => "running".to_owned(),
        (None, false) => "ended".to_owned(),
    };
    let CaptureStatus {
        file,
        frames,
        drops,
        missed,
        ..
    } = status;
    format!("{file}: {state}, {frames} frames, {drops} dropped, {missed} missed\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CtlArgs,
    }

    fn parsed(line: &str) -> CtlArgs {
        let words = ["ctl"].into_iter().chain(line.split('|'));
        Line::try_parse_from(words)
            .unwrap_or_else(|e| panic!("{line}: {e}"))
            .args
    }

    #[test]
    fn the_engine_may_be_left_out() {
        let request = |line: &str| parsed(line).action.request().unwrap();
        let rate = Request::Rate {
            rate: "20kpps".into(),
        };
        assert_eq!(request("rate|20kpps"), Some(rate.clone()));
        assert_eq!(parsed("rate|20kpps").engine, None);
        assert_eq!(request("edge|rate|20kpps"), Some(rate));
        assert_eq!(parsed("edge|rate|20kpps").engine.as_deref(), Some("edge"));
        let add = request("./a.sock|rules|add|0: proto=udp => drop|--json");
        let rule = "0: proto=udp => drop".to_owned();
        assert_eq!(add, Some(Request::AddRule { rule }));
        assert!(parsed("7|rules|remove|3|--json").json);
        assert_eq!(request("list"), None);
        assert!(Line::try_parse_from(["ctl", "edge"]).is_err());
    }

    #[test]
    fn captures_are_where_the_asker_is() {
        let Some(Request::CaptureStart(asked)) = parsed("capture|start|a.pcapng|--port|1")
            .action
            .request()
            .unwrap()
        else {
            panic!("a start");
        };
        assert!(asked.file.starts_with('/') && asked.file.ends_with("/a.pcapng"));
        assert_eq!(asked.ports, [1]);
    }

    #[test]
    fn all_that_a_capture_lost_is_told() {
        let status = CaptureStatus {
            file: "a".into(),
            frames: 5,
            drops: 2,
            missed: 3,
            problem: Some("the reader of the pipe has gone".into()),
            ..CaptureStatus::default()
        };
        assert_eq!(
            capture_text(&status),
            "a: ended: the reader of the pipe has gone, 5 frames, 2 dropped, 3 missed\n"
        );
    }
}
