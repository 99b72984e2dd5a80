//! Frames of capture files, as templates.

use std::fs::File;
use std::path::Path;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};

use crate::FCS_BYTES;
use crate::size::GREATEST;
use crate::stream::{JobError, StreamSpec};

/// The first frames of a capture file (pcap or pcapng, Ethernet), `most` at most, each as a stream that is otherwise
/// like `like`. A file that is broken somewhere gives those before.
///
/// # Errors
/// The file cannot be read, or has no frame that could be sent.
pub fn read(path: &Path, most: usize, like: &StreamSpec) -> Result<Vec<StreamSpec>, JobError> {
    let fail = |what: String| JobError::File {
        path: path.to_owned(),
        what,
    };
    let open = || File::open(path).map_err(|error| fail(error.to_string()));
    let mut frames = Vec::new();
    let took = match PcapReader::new(open()?) {
        Ok(reader) => of_pcap(reader, most, &mut frames),
        // Neither is told by its name.
        Err(_) => of_pcapng(open()?, most, &mut frames),
    };
    if let (Err(error), true) = (&took, frames.is_empty()) {
        return Err(fail(format!("no capture file of Ethernet frames: {error}")));
    }
    if frames.is_empty() {
        return Err(fail("it has no frame that could be sent".into()));
    }
    Ok((0..)
        .zip(frames)
        .map(|(number, frame)| StreamSpec {
            name: format!("frame {}", number + 1),
            frame: Some(frame),
            ..like.clone()
        })
        .collect())
}

/// Adds a frame, if it is one that can be sent as it was.
fn add(frames: &mut Vec<Vec<u8>>, data: &[u8], original_len: u32) {
    let most = usize::from(GREATEST - FCS_BYTES);
    if data.len() == original_len as usize && (14..=most).contains(&data.len()) {
        frames.push(data.to_vec());
    }
}

fn of_pcap(
    mut reader: PcapReader<File>,
    most: usize,
    frames: &mut Vec<Vec<u8>>,
) -> Result<(), PcapError> {
    if reader.header().datalink != DataLink::ETHERNET {
        return Err(PcapError::InvalidField("its frames are not Ethernet"));
    }
    while frames.len() < most
        && let Some(packet) = reader.next_packet()
    {
        let packet = packet?;
        add(frames, &packet.data, packet.orig_len);
    }
    Ok(())
}

fn of_pcapng(file: File, most: usize, frames: &mut Vec<Vec<u8>>) -> Result<(), PcapError> {
    let mut reader = PcapNgReader::new(file)?;
    let mut ethernet = Vec::new();
    while frames.len() < most
        && let Some(block) = reader.next_block()
    {
        match block? {
            Block::SectionHeader(_) => ethernet.clear(),
            Block::InterfaceDescription(interface) => {
                ethernet.push(interface.linktype == DataLink::ETHERNET);
            }
            Block::EnhancedPacket(packet)
                if ethernet.get(packet.interface_id as usize) == Some(&true) =>
            {
                add(frames, &packet.data, packet.original_len);
            }
            Block::SimplePacket(packet) if ethernet.first() == Some(&true) => {
                add(frames, &packet.data, packet.original_len);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// A pcap file of frames of these lengths.
    fn pcap(lengths: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        for word in [0, 0, 65_535, 1] {
            bytes.extend(u32::to_le_bytes(word));
        }
        for len in lengths {
            for word in [1, 2, *len, *len] {
                bytes.extend(u32::to_le_bytes(word));
            }
            bytes.extend(vec![*len as u8; *len as usize]);
        }
        bytes
    }

    #[test]
    fn frames_become_streams() {
        let like = StreamSpec {
            stamp: false,
            ..StreamSpec::default()
        };
        let streams = read(file(&pcap(&[60, 1514, 3, 100])).path(), 10, &like).unwrap();
        let lengths = streams.iter().map(|s| s.frame.as_ref().unwrap().len());
        assert_eq!(lengths.collect::<Vec<_>>(), [60, 1514, 100]);
        assert!(!streams[0].stamp && streams[2].name == "frame 3");
        assert_eq!(
            read(file(&pcap(&[60; 9])).path(), 4, &like).unwrap().len(),
            4
        );
    }

    #[test]
    fn what_is_no_capture_is_said_and_what_is_cut_gives_what_it_has() {
        let like = StreamSpec::default();
        for bytes in [&b""[..], b"not a capture file", &pcap(&[]), &pcap(&[2])] {
            let error = read(file(bytes).path(), 10, &like).unwrap_err();
            assert!(matches!(error, JobError::File { .. }), "{error}");
        }
        let whole = pcap(&[60, 60]);
        let cut = read(file(&whole[..whole.len() - 7]).path(), 10, &like).unwrap();
        assert_eq!(cut.len(), 1);
        assert!(read(Path::new("/nonexistent"), 1, &like).is_err());
    }
}
