//! Capture files, and nothing at all.

use std::fs;
use std::path::PathBuf;

use linecard::{Port, PortError};
use linecard_conformance::{Need, Rig, Sink, Source};
use tempfile::TempDir;

use super::Made;

/// Files in a folder of their own.
pub struct FilesRig {
    dir: TempDir,
    ending: &'static str,
    /// The port's name, of input and output.
    name: fn(&str, &str) -> String,
    /// What was written before the last start, of a port that begins its file anew each time.
    before: Option<Vec<Vec<u8>>>,
}

/// A `pcap:` port that reads one file and writes another with this ending.
pub fn pcap(ending: &'static str) -> Made {
    FilesRig::make(ending, |rx, tx| format!("pcap:{rx}?tx={tx}"), true)
}

impl FilesRig {
    pub fn make(ending: &'static str, name: fn(&str, &str) -> String, continues: bool) -> Made {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        Ok(Box::new(Self {
            dir,
            ending,
            name,
            before: (!continues).then(Vec::new),
        }))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Rig for FilesRig {
    fn open(&mut self) -> Result<Box<dyn Port>, PortError> {
        let input = self.file("in.pcap");
        if !input.exists() {
            let _ = self.inject(&[]);
        }
        let output = self.file(&format!("out.{}", self.ending));
        linecard::open(&(self.name)(
            &input.to_string_lossy(),
            &output.to_string_lossy(),
        ))
    }

    fn source(&self) -> Source {
        Source::Recorded
    }

    fn sink(&self) -> Sink {
        Sink::Recorded
    }

    fn lacks(&self, need: Need) -> Option<String> {
        let reason = match need {
            Need::HoldBack => "a file is never full",
            Need::End if self.before.is_some() => {
                "the driver of DPDK does not say that its file has ended"
            }
            Need::Limits | Need::Mtu => "a file takes frames of any length",
            Need::Carrier => "a file has no link to lose",
            Need::Removal => "a file that is open cannot be removed",
            _ => return None,
        };
        Some(reason.into())
    }

    fn inject(&mut self, frames: &[Vec<u8>]) -> Result<usize, String> {
        fs::write(self.file("in.pcap"), written(frames)).map_err(|e| e.to_string())?;
        Ok(frames.len())
    }

    fn stopped(&mut self) -> Result<(), String> {
        if self.before.is_some() {
            let now = self.read()?;
            self.before.get_or_insert_with(Vec::new).extend(now);
        }
        Ok(())
    }

    fn collect(&mut self) -> Result<Vec<Vec<u8>>, String> {
        match &self.before {
            Some(all) => Ok(all.clone()),
            None => self.read(),
        }
    }
}

impl FilesRig {
    fn read(&self) -> Result<Vec<Vec<u8>>, String> {
        let bytes = fs::read(self.file(&format!("out.{}", self.ending)));
        let bytes = bytes.map_err(|e| e.to_string())?;
        let frames = if self.ending == "pcapng" {
            read_pcapng(&bytes)
        } else {
            read_pcap(&bytes)
        };
        frames.ok_or_else(|| "the file that was written cannot be read".into())
    }
}

/// A pcap file (draft-ietf-opsawg-pcap): nanoseconds, little-endian, Ethernet.
fn written(frames: &[Vec<u8>]) -> Vec<u8> {
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let mut file = words(&[0xa1b2_3c4d, 0x0004_0002, 0, 0, 262_144, 1]);
    for (frame, n) in frames.iter().zip(1u32..) {
        let len = frame.len() as u32;
        file.extend(words(&[1_700_000_000, n, len, len]));
        file.extend_from_slice(frame);
    }
    file
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(word) as usize)
}

fn read_pcap(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < bytes.len() {
        let (captured, original) = (word(bytes, at + 8)?, word(bytes, at + 12)?);
        if captured != original {
            return None;
        }
        frames.push(bytes.get(at + 16..at + 16 + captured)?.to_vec());
        at += 16 + captured;
    }
    Some(frames)
}

/// The enhanced packet blocks (type 6) of a pcapng file.
fn read_pcapng(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let (kind, len) = (word(bytes, at)?, word(bytes, at + 4)?);
        if kind == 6 {
            let captured = word(bytes, at + 20)?;
            frames.push(bytes.get(at + 28..at + 28 + captured)?.to_vec());
        }
        at += len.max(12);
    }
    Some(frames)
}

/// A port that makes frames and discards them.
pub struct NullRig(&'static str);

/// Such a port by name.
pub fn null(name: &'static str) -> Made {
    Ok(Box::new(NullRig(name)))
}

impl Rig for NullRig {
    fn open(&mut self) -> Result<Box<dyn Port>, PortError> {
        linecard::open(self.0)
    }

    fn source(&self) -> Source {
        Source::Endless
    }

    fn sink(&self) -> Sink {
        Sink::Nowhere
    }

    fn lacks(&self, need: Need) -> Option<String> {
        let reason = match need {
            Need::Inject => "receives frames of its own, for ever",
            Need::Collect => "discards what it sends, unseen",
            Need::HoldBack => "discards what it sends and is never full",
            Need::Mtu => "has no MTU of its own",
            Need::Carrier => "has no link to lose",
            Need::Removal => "has no device to remove",
            _ => return None,
        };
        Some(reason.into())
    }
}
