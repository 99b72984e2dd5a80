//! Reading capture files, record by record.
//!
//! The `pcap-file` crate finds the records and keeps track of pcapng sections; what is inside a packet
//! record is read here, because the crate takes every pcapng time for nanoseconds (the usual unit is the
//! microsecond, and files say so) and refuses a pcap frame that the capture has cut short.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::{DataLink, PcapError, TsResolution};

/// An Ethernet header.
const MIN_FRAME_LEN: usize = 14;

/// The longest frame that is believed: libpcap's limit for a record (`MAXIMUM_SNAPLEN`).
pub const MAX_FRAME_LEN: usize = 262_144;

/// One frame of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Nanoseconds since 1970, if the file says when.
    pub timestamp_ns: Option<u64>,
    /// Its bytes.
    pub data: &'a [u8],
    /// The frame was longer on the wire.
    pub cut: bool,
    /// The number of its interface in this section of the file; 0 in a pcap file.
    pub interface: u32,
}

/// What the next record of a file is.
#[derive(Debug)]
pub enum Step<R> {
    /// A frame, and what the caller made of it.
    Frame(R),
    /// A frame that is not Ethernet, or not of a possible length.
    Skipped,
    /// The file ends here, as it should.
    End,
    /// The file is broken here.
    Broken(Broken),
}

/// Where a file is broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The byte at which the broken record begins.
    pub offset: u64,
    /// What is wrong with it.
    pub what: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at byte {}: {}", self.offset, self.what)
    }
}

/// Where the bytes of a file come from.
pub type Input = Box<dyn Read + Send>;

/// A capture file of either format, at the next record.
pub struct Reader {
    format: Format,
    /// Where the next record starts.
    offset: u64,
}

enum Format {
    Pcap {
        file: PcapReader<Input>,
        nanos_per_unit: u64,
    },
    PcapNg {
        file: PcapNgReader<Input>,
        big_endian: bool,
        interfaces: Vec<Interface>,
    },
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    ethernet: bool,
    snaplen: u32,
    /// `if_tsresol`: a power of ten, or of two if the top bit is set.
    resolution: u8,
    /// `if_tsoffset`, which is signed (draft-ietf-opsawg-pcapng, section 4.2).
    offset_s: i64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader(at byte {})", self.offset)
    }
}

impl Reader {
    /// Where the next record begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Opens a file and reads its header. The error is either the system's or where the file is broken.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::new(Box::new(File::open(path).map_err(OpenError::System)?))
    }

    /// As [`open`](Self::open), of bytes from wherever.
    pub fn new(mut input: Input) -> Result<Self, OpenError> {
        let mut head = [0; 12];
        match input.read_exact(&mut head) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(OpenError::broken(
                    0,
                    "the file is shorter than any header".into(),
                ));
            }
            Err(e) => return Err(OpenError::System(e)),
        }
        let file: Input = Box::new(Cursor::new(head).chain(input));
        let [t0, t1, t2, t3, l0, l1, l2, l3, order, ..] = head;
        // The section header's type reads the same in both byte orders; its magic tells which it is.
        if [t0, t1, t2, t3] != SECTION.to_be_bytes() {
            return Self::pcap(file);
        }
        let len = [l0, l1, l2, l3];
        let big = order == 0x1a;
        Self::pcapng(
            file,
            if big {
                u32::from_be_bytes(len)
            } else {
                u32::from_le_bytes(len)
            },
        )
    }

    fn pcap(file: Input) -> Result<Self, OpenError> {
        let file = PcapReader::new(file).map_err(|e| OpenError::broken(0, explain(&e)))?;
        let header = file.header();
        if header.datalink != DataLink::ETHERNET {
            let what = format!("its frames are {:?}, not Ethernet", header.datalink);
            return Err(OpenError::broken(20, what));
        }
        let nanos_per_unit = if header.ts_resolution == TsResolution::NanoSecond {
            1
        } else {
            1000
        };
        Ok(Self {
            format: Format::Pcap {
                file,
                nanos_per_unit,
            },
            offset: 24,
        })
    }

    fn pcapng(file: Input, header_len: u32) -> Result<Self, OpenError> {
        let file = PcapNgReader::new(file).map_err(|e| OpenError::broken(0, explain(&e)))?;
        let big_endian = file.section().endianness.is_big();
        let format = Format::PcapNg {
            file,
            big_endian,
            interfaces: Vec::new(),
        };
        Ok(Self {
            format,
            offset: u64::from(header_len),
        })
    }

    /// Reads the next record and gives its frame to `take`.
    pub fn next<R>(&mut self, take: impl FnOnce(Record<'_>) -> R) -> Step<R> {
        let offset = self.offset;
        let result = match &mut self.format {
            Format::Pcap {
                file,
                nanos_per_unit,
            } => next_pcap(file, *nanos_per_unit, take),
            Format::PcapNg {
                file,
                big_endian,
                interfaces,
            } => next_pcapng(file, big_endian, interfaces, &mut self.offset, take),
        };
        match result {
            Ok((step, len)) => {
                self.offset += len;
                step
            }
            Err(what) => Step::Broken(Broken {
                offset: offset.max(self.offset),
                what,
            }),
        }
    }
}

/// Why a file cannot be read at all.
#[derive(Debug)]
pub enum OpenError {
    /// The system does not let us.
    System(std::io::Error),
    /// It is not a capture file, or not of Ethernet, or its header is broken.
    Broken(Broken),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System(error) => error.fmt(f),
            Self::Broken(broken) => write!(f, "broken {broken}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl OpenError {
    fn broken(offset: u64, what: String) -> Self {
        Self::Broken(Broken { offset, what })
    }
}

type Stepped<R> = Result<(Step<R>, u64), String>;

fn next_pcap<R>(
    file: &mut PcapReader<Input>,
    nanos_per_unit: u64,
    take: impl FnOnce(Record<'_>) -> R,
) -> Stepped<R> {
    let record = match file.next_raw_packet() {
        None => return Ok((Step::End, 0)),
        Some(record) => record.map_err(|e| explain(&e))?,
    };
    let len = 16 + record.data.len() as u64;
    if !plausible(&record.data) {
        return Ok((Step::Skipped, len));
    }
    let units = u64::from(record.ts_frac) * nanos_per_unit;
    let frame = Record {
        timestamp_ns: Some(u64::from(record.ts_sec) * 1_000_000_000 + units),
        data: &record.data,
        cut: record.orig_len as usize > record.data.len(),
        interface: 0,
    };
    Ok((Step::Frame(take(frame)), len))
}

const INTERFACE: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const SECTION: u32 = 0x0a0d_0d0a;

/// Interfaces of one section: a broken file must not make the list grow without bound.
const MAX_INTERFACES: usize = 65_536;

fn next_pcapng<R>(
    file: &mut PcapNgReader<Input>,
    big_endian: &mut bool,
    interfaces: &mut Vec<Interface>,
    offset: &mut u64,
    take: impl FnOnce(Record<'_>) -> R,
) -> Stepped<R> {
    loop {
        let block = match file.next_raw_block() {
            None => return Ok((Step::End, 0)),
            Some(block) => block.map_err(|e| explain(&e))?,
        };
        let len = u64::from(block.initial_len);
        match block.type_ {
            ENHANCED_PACKET | PACKET | SIMPLE_PACKET => {
                let found = packet(block.type_, &block.body, *big_endian, interfaces);
                return Ok(match found? {
                    Some(frame) if plausible(frame.data) => (Step::Frame(take(frame)), len),
                    _ => (Step::Skipped, len),
                });
            }
            SECTION => {
                *big_endian = block.body.starts_with(&[0x1a, 0x2b, 0x3c, 0x4d]);
                interfaces.clear();
            }
            INTERFACE => {
                if interfaces.len() == MAX_INTERFACES {
                    return Err(format!("more than {MAX_INTERFACES} interfaces"));
                }
                let last = file.interfaces().last();
                interfaces.extend(last.map(|described| {
                    let mut interface = Interface {
                        ethernet: described.linktype == DataLink::ETHERNET,
                        snaplen: described.snaplen,
                        resolution: 6,
                        offset_s: 0,
                    };
                    for option in &described.options {
                        match option {
                            InterfaceDescriptionOption::IfTsResol(r) => interface.resolution = *r,
                            // The library reads it unsigned.
                            InterfaceDescriptionOption::IfTsOffset(s) => {
                                interface.offset_s = *s as i64;
                            }
                            _ => {}
                        }
                    }
                    interface
                }));
            }
            // Names, statistics and whatever else: not for us.
            _ => {}
        }
        *offset += len;
    }
}

/// The frame of a packet block (draft-ietf-opsawg-pcapng, sections 4.3, 4.4 and the obsolete A). `None`
/// if its interface is not Ethernet.
fn packet<'a>(
    kind: u32,
    body: &'a [u8],
    big_endian: bool,
    interfaces: &[Interface],
) -> Result<Option<Record<'a>>, String> {
    let word = |at: usize| {
        let bytes = body
            .get(at..at + 4)
            .and_then(|b| <[u8; 4]>::try_from(b).ok());
        let value = bytes.map(if big_endian {
            u32::from_be_bytes
        } else {
            u32::from_le_bytes
        });
        value.ok_or_else(|| "a packet block is too short for its fields".to_owned())
    };
    let id = match kind {
        SIMPLE_PACKET => 0,
        // 16 bits of interface, 16 bits of drop count.
        PACKET if big_endian => word(0)? >> 16,
        PACKET => word(0)? & 0xffff,
        _ => word(0)?,
    };
    let interface = interfaces
        .get(id as usize)
        .ok_or_else(|| format!("a packet of interface {id}, which the file does not describe"))?;
    let (start, captured, original, timestamp_ns) = if kind == SIMPLE_PACKET {
        let original = word(0)?;
        let limit = if interface.snaplen == 0 {
            u32::MAX
        } else {
            interface.snaplen
        };
        (4, original.min(limit), original, None)
    } else {
        let units = u64::from(word(4)?) << 32 | u64::from(word(8)?);
        (20, word(12)?, word(16)?, Some(to_nanos(units, interface)))
    };
    let data = body
        .get(start..)
        .and_then(|rest| rest.get(..captured as usize))
        .ok_or_else(|| format!("a frame of {captured} bytes does not fit its block"))?;
    let frame = Record {
        timestamp_ns,
        data,
        cut: original > captured,
        interface: id,
    };
    Ok(interface.ethernet.then_some(frame))
}

/// Saturates: a time is information, not a reason to refuse a frame.
fn to_nanos(units: u64, interface: &Interface) -> u64 {
    let exponent = u32::from(interface.resolution & 0x7f);
    let units = u128::from(units);
    let nanos = if interface.resolution & 0x80 != 0 {
        (units * 1_000_000_000).checked_shr(exponent).unwrap_or(0)
    } else if exponent <= 9 {
        units * 10_u128.pow(9 - exponent)
    } else {
        10_u128
            .checked_pow(exponent - 9)
            .map_or(0, |scale| units / scale)
    };
    let offset = i128::from(interface.offset_s) * 1_000_000_000;
    let nanos = nanos.saturating_add_signed(offset);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

fn plausible(data: &[u8]) -> bool {
    (MIN_FRAME_LEN..=MAX_FRAME_LEN).contains(&data.len())
}

fn explain(error: &PcapError) -> String {
    match error {
        PcapError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file ends in the middle of a record".into()
        }
        PcapError::IoError(e) => e.to_string(),
        PcapError::IncompleteBuffer => "the file ends in the middle of its header".into(),
        PcapError::InvalidField(field) => format!("not a capture file, or broken ({field})"),
        other => other.to_string(),
    }
}

#[cfg(all(test, not(loom)))]
#[path = "read_tests.rs"]
mod tests;
