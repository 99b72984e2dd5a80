//! Writing capture files so that whatever happens, what is on the disk is a whole file.
//!
//! Records are collected in memory and given to the system only at record boundaries, in one write: when
//! 64 KiB have come together, when the worker is idle or does its maintenance (about ten times a second),
//! at stop and on drop. So a process that is killed loses at most the records of the last tenth of a
//! second, and the file ends with a complete record.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use byteorder_slice::LittleEndian;
use linecard_hal::{Mbuf, Way};
use pcap_file::pcap::{PcapHeader, RawPcapPacket};
use pcap_file::pcapng::Block;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::SectionHeaderBlock;
use pcap_file::{DataLink, Endianness, TsResolution};

use crate::read::MAX_FRAME_LEN;

/// Bytes that are collected before they are written.
const SPILL: usize = 64 << 10;

/// A capture file being written.
pub struct Writer {
    path: PathBuf,
    file: File,
    ng: bool,
    /// Interfaces that are described in a pcapng file.
    interfaces: u32,
    /// Whole records that belong to the file.
    ready: Vec<u8>,
    /// Records that may yet be taken back, and where each ends.
    staged: Vec<u8>,
    ends: Vec<usize>,
    scratch: Vec<u8>,
    /// The first failure; nothing is written after it.
    failed: Option<io::Error>,
}

impl Writer {
    /// Creates or empties the file and writes its header. A name that ends in `.pcapng` gives that
    /// format, any other pcap with nanoseconds. What is recorded is of interface 0, which is described here.
    pub fn create(path: &Path, interface: &str) -> io::Result<Self> {
        let mut writer = Self::without_interface(path)?;
        writer.add_interface(interface);
        writer.flush();
        match writer.failed.take() {
            None => Ok(writer),
            Some(error) => Err(error),
        }
    }

    /// The same with no interface yet.
    pub fn without_interface(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let ng = is_ng(path);
        let mut ready = Vec::with_capacity(2 * SPILL);
        if ng {
            section(&mut ready)?;
        } else {
            let header = PcapHeader {
                snaplen: MAX_FRAME_LEN as u32,
                datalink: DataLink::ETHERNET,
                ts_resolution: TsResolution::NanoSecond,
                endianness: Endianness::Little,
                ..PcapHeader::default()
            };
            header.write_to(&mut ready).map_err(io::Error::other)?;
        }
        let mut writer = Self {
            path: path.to_owned(),
            file,
            ng,
            interfaces: 0,
            ready,
            staged: Vec::new(),
            ends: Vec::new(),
            scratch: Vec::new(),
            failed: None,
        };
        writer.flush();
        match writer.failed.take() {
            None => Ok(writer),
            Some(error) => Err(error),
        }
    }

    /// Describes another interface; returns its number. A pcap file has but one.
    pub fn add_interface(&mut self, name: &str) -> u32 {
        if self.ng {
            // Writing to a vector cannot fail.
            let _ = describe(&mut self.ready, name);
        }
        self.interfaces += 1;
        self.interfaces - 1
    }

    /// Adds a record that [`commit`](Self::commit) keeps or forgets.
    pub fn stage(&mut self, mbuf: &Mbuf, (interface, way): (u32, Way), timestamp_ns: u64) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let data = if mbuf.segment_count() == 1 {
            mbuf.data()
        } else {
            scratch.resize(mbuf.frame_len(), 0);
            let n = mbuf.copy_out(0, &mut scratch);
            &scratch[..n]
        };
        self.stage_bytes(data, (interface, way), timestamp_ns);
        self.scratch = scratch;
    }

    /// As [`stage`](Self::stage), of bytes. A frame longer than a record can be is cut, and the record
    /// says how long it was.
    pub fn stage_bytes(&mut self, frame: &[u8], (interface, way): (u32, Way), timestamp_ns: u64) {
        let data = &frame[..frame.len().min(MAX_FRAME_LEN)];
        let original = frame.len() as u32;
        // Writing to a vector cannot fail.
        if self.ng {
            let flags = EnhancedPacketOption::Flags(way as u32);
            let block = Block::EnhancedPacket(EnhancedPacketBlock {
                interface_id: interface,
                timestamp: Duration::from_nanos(timestamp_ns),
                original_len: original,
                data: Cow::Borrowed(data),
                options: if way == Way::Unknown {
                    Vec::new()
                } else {
                    vec![flags]
                },
            });
            let _ = block.write_to::<LittleEndian, _>(&mut self.staged);
        } else {
            let record = RawPcapPacket {
                // 32 bits of seconds: until 2106.
                ts_sec: (timestamp_ns / 1_000_000_000) as u32,
                ts_frac: (timestamp_ns % 1_000_000_000) as u32,
                incl_len: data.len() as u32,
                orig_len: original,
                data: Cow::Borrowed(data),
            };
            let _ = record.write_to::<_, LittleEndian>(&mut self.staged);
        }
        self.ends.push(self.staged.len());
    }

    /// Keeps the first `n` staged records and forgets the others. `false` if the file has failed: then
    /// none is kept.
    pub fn commit(&mut self, n: usize) -> bool {
        let end = n
            .checked_sub(1)
            .and_then(|last| self.ends.get(last))
            .copied()
            .unwrap_or(0);
        if self.failed.is_none() {
            self.ready.extend_from_slice(&self.staged[..end]);
        }
        self.staged.clear();
        self.ends.clear();
        if self.ready.len() >= SPILL {
            self.flush();
        }
        self.failed.is_none()
    }

    /// Gives what was collected to the system.
    pub fn flush(&mut self) {
        if self.ready.is_empty() || self.failed.is_some() {
            return;
        }
        if let Err(error) = self.file.write_all(&self.ready) {
            tracing::warn!(file = %self.path.display(), %error, "cannot write; frames are no longer recorded");
            self.failed = Some(error);
        }
        self.ready.clear();
    }

    /// Flushes, and reports the first failure since the last call.
    pub fn finish(&mut self) -> io::Result<()> {
        self.flush();
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({})", self.path.display())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Whether a file of this name is a pcapng file, in which frames of several interfaces can be told apart.
pub fn is_ng(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("pcapng"))
}

fn section(to: &mut Vec<u8>) -> io::Result<()> {
    let section = SectionHeaderBlock {
        endianness: Endianness::Little,
        major_version: 1,
        minor_version: 0,
        section_length: -1,
        options: Vec::new(),
    };
    Block::SectionHeader(section).write_to::<LittleEndian, _>(to)?;
    Ok(())
}

fn describe(to: &mut Vec<u8>, interface: &str) -> io::Result<()> {
    let described = InterfaceDescriptionBlock {
        linktype: DataLink::ETHERNET,
        snaplen: MAX_FRAME_LEN as u32,
        options: vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed(interface)),
            // Nanoseconds: 10^-9.
            InterfaceDescriptionOption::IfTsResol(9),
        ],
    };
    Block::InterfaceDescription(described).write_to::<LittleEndian, _>(to)?;
    Ok(())
}

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
