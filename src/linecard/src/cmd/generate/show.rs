//! `linecard gen --show`: the first frames, without any port.

use std::process::ExitCode;

use linecard::wire::MacAddr;
use linecard::wire::describe::Headers;
use linecard_traffic::generator::Job;
use linecard_traffic::template::{Addresses, first_frames};

use super::GenArgs;

/// Prints the first frames of each stream.
pub(super) fn run(args: &GenArgs, job: &Job, frames: usize) -> anyhow::Result<ExitCode> {
    let addresses = Addresses {
        own: MacAddr([2, 0, 0, 0, 1, 0]),
        peer: args.peer.unwrap_or(MacAddr([2, 0, 0, 0, 0, 1])),
    };
    let headers = Headers::standard();
    let mut text = String::new();
    let mut json = Vec::new();
    for (number, stream) in job.streams.iter().enumerate() {
        let name = if stream.name.is_empty() {
            number.to_string()
        } else {
            stream.name.clone()
        };
        let shown = first_frames(stream, addresses, frames, args.seed)
            .map_err(|what| anyhow::anyhow!("stream {name}: {what}"))?;
        for frame in shown {
            let dissection = headers.dissect("eth", &frame);
            let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
            if args.json {
                json.push(serde_json::json!({
                    "stream": name, "size": frame.len() + 4, "packet": dissection.to_string(), "bytes": hex,
                }));
            } else {
                text += &format!("stream {name}, {} bytes: {dissection}\n", frame.len() + 4);
                for (at, line) in (0..).step_by(32).zip(hex.as_bytes().chunks(64)) {
                    text += &format!("  {at:04x}  {}\n", String::from_utf8_lossy(line));
                }
            }
        }
    }
    if args.json {
        text = serde_json::to_string(&json)? + "\n";
    }
    crate::cmd::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
