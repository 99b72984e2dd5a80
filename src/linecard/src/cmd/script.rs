//! `linecard script`: plays packet scripts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use linecard::simnet::Script;
use linecard::simnet::script::Play;
use serde_json::{Value, json};

use super::table::{Paint, Tone};

/// A packet was not as expected.
const NOT_AS_EXPECTED: u8 = 3;

/// Plays packet scripts: what a host is sent, and what it has to answer.
#[derive(Args, Debug)]
#[command(
    about = "Play packet scripts: what a host is sent, and what it has to answer",
    long_about = "Play packet scripts: what a host is sent, and what it has to answer.\n\n\
        In the manner of packetdrill, on virtual time: a script says which protocols run on the host, sends it \
        packets and says which ones it has to send, when. Every packet counts: one that is missing, or that \
        nobody expects, is a failure, which shows both packets and where they differ, field by field.",
    after_help = "\
Examples:
  linecard script examples/scripts/*.pkt
  linecard script examples/scripts/echo.pkt --pcap echo.pcapng

A script:
  run echo { port = 7 }
  < eth/ipv4(src=10.0.0.1, dst=10.0.0.2)/udp(sport=4000, dport=7)/data(\"hello\")
  > eth/ipv4(src=10.0.0.2, dst=10.0.0.1)/udp(sport=7, dport=4000)/data(\"hello\")
  +1s silence

  +10ms < PACKET     the host is sent this, 10 ms after the line before
  +0..5ms > PACKET   it sends this within 5 ms; what the line does not say does not matter
  let NAME = TEXT    $NAME is this text; as a field's value in a > line, a new $NAME takes what is there

Exit codes: 0 every packet was as expected, 1 a script makes no sense or cannot be read, 2 wrong usage,
3 a packet was not as expected."
)]
pub struct ScriptArgs {
    /// Packet scripts
    #[arg(value_name = "FILE.pkt", required = true)]
    files: Vec<PathBuf>,
    /// Write every packet to this file
    #[arg(long, value_name = "F.pcapng")]
    pcap: Option<PathBuf>,
    /// Print a JSON object for each script, a line each
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &ScriptArgs) -> anyhow::Result<ExitCode> {
    if args.pcap.is_some() && args.files.len() > 1 {
        anyhow::bail!(
            "--pcap is for one FILE.pkt: {} were given",
            args.files.len()
        );
    }
    let kinds = super::kinds::known();
    // A script that makes no sense is found before any is played.
    let scripts: Vec<Script> = args
        .files
        .iter()
        .map(|file| Script::load(file))
        .collect::<Result<_, _>>()?;
    let mut failed = 0;
    for (file, script) in args.files.iter().zip(&scripts) {
        let play = script.play(&kinds, args.pcap.as_deref())?;
        failed += usize::from(play.failure.is_some());
        let text = match args.json {
            true => serde_json::to_string(&json_of(file, &play))? + "\n",
            false => show(file, &play),
        };
        super::print(&text)?;
    }
    if scripts.len() > 1 && !args.json {
        super::print(&format!(
            "{} scripts, {failed} not as expected\n",
            scripts.len()
        ))?;
    }
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(NOT_AS_EXPECTED),
    })
}

fn show(file: &Path, play: &Play) -> String {
    let paint = Paint::for_stdout();
    let verdict = match play.failure {
        None => paint.tone("ok", Tone::Good),
        Some(_) => paint.tone("NOT AS EXPECTED", Tone::Bad),
    };
    let mut text = format!(
        "{}: {verdict}, {} sent, {} as expected, {:?}\n",
        file.display(),
        play.sent,
        play.expected,
        play.duration
    );
    if let Some(failure) = &play.failure {
        for line in failure.to_string().lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn json_of(file: &Path, play: &Play) -> Value {
    let failure = play.failure.as_ref().map(|failure| {
        let differences = failure.differences.iter().flat_map(|diff| &diff.list);
        let differences: Vec<Value> = differences
            .map(|d| json!({"field": d.what, "wanted": d.left, "found": d.right}))
            .collect();
        json!({
            "line": failure.line,
            "at_ns": u64::try_from(failure.at.as_nanos()).unwrap_or(u64::MAX),
            "what": failure.what,
            "wanted": failure.wanted,
            "found": failure.found,
            "differences": differences,
        })
    });
    json!({
        "file": file.display().to_string(),
        "as_expected": play.failure.is_none(),
        "sent": play.sent,
        "expected": play.expected,
        "duration_s": play.duration.as_secs_f64(),
        "failure": failure,
    })
}
