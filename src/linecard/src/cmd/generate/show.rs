//! `linecard gen --show`: the first frames, without any port.

use std::process::ExitCode;

use linecard::wire::MacAddr;
use linecard::wire::describe::Headers;
use linecard_traffic::generator::Job;
use linecard_traffic::template::{Addresses, first_frames};

use super::{GenArgs, name_of};

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
        let name = name_of((number, stream));
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
                let packet = short(&dissection.to_string());
                text += &format!("stream {name}, {} bytes: {packet}\n", frame.len() + 4);
                text += &dump(&frame);
            }
        }
    }
    if args.json {
        text = serde_json::to_string(&json)? + "\n";
    }
    crate::cmd::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A packet without most of its payload.
fn short(packet: &str) -> String {
    const MOST: usize = 200;
    match packet.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…)", &packet[..at]),
        None => packet.to_owned(),
    }
}

/// Bytes, 32 to a line; lines like the one before are a star.
fn dump(frame: &[u8]) -> String {
    let (mut text, mut last, mut starred) = (String::new(), None, false);
    for (at, line) in (0..).step_by(32).zip(frame.chunks(32)) {
        if last == Some(line) && at + 32 < frame.len() {
            text += if starred { "" } else { "  *\n" };
            starred = true;
            continue;
        }
        let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("  {at:04x}  {hex}\n");
        (last, starred) = (Some(line), false);
    }
    text
}
