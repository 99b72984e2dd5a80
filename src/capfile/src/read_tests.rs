//! Tests of reading: every format, both byte orders, and every way to be broken.

use super::*;
use linecard_hal::Way;

use crate::write::Writer;
use proptest::prelude::*;

/// All frames of a file with their times, how many were skipped, and how it ended.
type Found = (Vec<(u64, Vec<u8>)>, usize, Option<Broken>);

fn read(bytes: &[u8]) -> Result<Found, OpenError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.pcap");
    std::fs::write(&path, bytes).unwrap();
    let mut reader = Reader::open(&path)?;
    let (mut frames, mut skipped) = (Vec::new(), 0);
    loop {
        match reader.next(|r| (r.timestamp_ns.unwrap_or(0), r.data.to_vec())) {
            Step::Frame(frame) => frames.push(frame),
            Step::Skipped => skipped += 1,
            Step::End => return Ok((frames, skipped, None)),
            Step::Broken(broken) => return Ok((frames, skipped, Some(broken))),
        }
    }
}

fn word(value: u32, big: bool) -> [u8; 4] {
    if big {
        value.to_be_bytes()
    } else {
        value.to_le_bytes()
    }
}

fn pcap(big: bool, nanos: bool, linktype: u32, frames: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let magic = if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let mut out = word(magic, big).to_vec();
    out.extend(if big { [0, 2, 0, 4] } else { [2, 0, 4, 0] });
    for field in [0, 0, 65_535, linktype] {
        out.extend(word(field, big));
    }
    for (sec, frac, data) in frames {
        for field in [*sec, *frac, data.len() as u32, data.len() as u32] {
            out.extend(word(field, big));
        }
        out.extend(*data);
    }
    out
}

fn block(kind: u32, big: bool, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let len = word(body.len() as u32 + 12, big);
    [&word(kind, big)[..], &len, &body, &len].concat()
}

fn section(big: bool) -> Vec<u8> {
    let version = if big { [0, 1, 0, 0] } else { [1, 0, 0, 0] };
    block(
        SECTION,
        big,
        &[&word(0x1a2b_3c4d, big)[..], &version, &[0xff; 8]].concat(),
    )
}

/// An interface with the resolution `resolution`, or without one.
fn interface(big: bool, linktype: u8, resolution: Option<u8>) -> Vec<u8> {
    let mut body = if big {
        vec![0, linktype, 0, 0]
    } else {
        vec![linktype, 0, 0, 0]
    };
    body.extend([0; 4]);
    if let Some(r) = resolution {
        body.extend(if big { [0, 9, 0, 1] } else { [9, 0, 1, 0] });
        body.extend([r, 0, 0, 0]);
        body.extend([0; 4]);
    }
    block(INTERFACE, big, &body)
}

fn enhanced(big: bool, interface: u32, units: u64, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let len = data.len() as u32;
    for field in [interface, (units >> 32) as u32, units as u32, len, len] {
        body.extend(word(field, big));
    }
    body.extend(data);
    block(ENHANCED_PACKET, big, &body)
}

const A: [u8; 60] = [0xaa; 60];
const B: [u8; 15] = [0xbb; 15];

#[test]
fn pcap_of_both_orders_and_units() {
    for big in [false, true] {
        for (nanos, ns) in [(false, 5_000), (true, 5)] {
            let file = pcap(big, nanos, 1, &[(7, 5, &A), (8, 0, &B)]);
            let (frames, skipped, broken) = read(&file).unwrap();
            let expected = [
                (7_000_000_000 + ns, A.to_vec()),
                (8_000_000_000, B.to_vec()),
            ];
            assert_eq!(frames, expected);
            assert_eq!((skipped, broken), (0, None));
        }
    }
}

#[test]
fn pcapng_of_both_orders_resolutions_and_sections() {
    for big in [false, true] {
        let mut file = section(big);
        file.extend(interface(big, 1, None)); // microseconds
        file.extend(interface(big, 1, Some(9)));
        file.extend(interface(big, 1, Some(0x80 | 10))); // 1/1024 s
        file.extend(interface(big, 101, None)); // raw IP
        file.extend(enhanced(big, 0, 1_000_007, &A));
        file.extend(enhanced(big, 1, 1 << 40, &B));
        file.extend(enhanced(big, 2, 1536, &B));
        file.extend(enhanced(big, 3, 0, &A));
        file.extend(block(0x99, big, &[1, 2, 3, 4]));
        let mut simple = word(B.len() as u32, big).to_vec();
        simple.extend(B);
        file.extend(block(SIMPLE_PACKET, big, &simple));
        // A second section in the other byte order.
        file.extend(section(!big));
        file.extend(interface(!big, 1, Some(3)));
        file.extend(enhanced(!big, 0, 2, &A));
        let (frames, skipped, broken) = read(&file).unwrap();
        assert_eq!(broken, None);
        assert_eq!(skipped, 1, "the frame that is not Ethernet");
        let times: Vec<u64> = frames.iter().map(|f| f.0).collect();
        assert_eq!(times, [1_000_007_000, 1 << 40, 1_500_000_000, 0, 2_000_000]);
        assert_eq!(frames[3].1, B);
    }
}

#[test]
fn times_have_a_signed_offset() {
    for (offset, seconds) in [(-3600_i64, 400), (3600, 7600), (-5000, 0), (i64::MIN, 0)] {
        // Ethernet, no limit; option 14 of 8 bytes, the end of options.
        let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0, 14, 0, 8, 0];
        body.extend(offset.to_le_bytes());
        body.extend([0; 4]);
        let file = [
            section(false),
            block(INTERFACE, false, &body),
            enhanced(false, 0, 4_000_000_000, &A),
        ];
        let (frames, _, broken) = read(&file.concat()).unwrap();
        assert_eq!((frames[0].0, broken), (seconds * 1_000_000_000, None));
    }
}

#[test]
fn frames_before_a_break_are_read_and_the_offset_is_told() {
    let whole = pcap(false, true, 1, &[(1, 0, &A), (2, 0, &A)]);
    let (frames, _, broken) = read(&whole[..whole.len() - 1]).unwrap();
    assert_eq!(frames.len(), 1);
    assert_eq!(broken.unwrap().offset, 24 + 76);

    let mut file = [
        section(false),
        interface(false, 1, None),
        enhanced(false, 0, 0, &A),
    ]
    .concat();
    let good = file.len() as u64;
    file.extend(enhanced(false, 5, 0, &A));
    let (frames, _, broken) = read(&file).unwrap();
    assert_eq!(frames.len(), 1);
    let broken = broken.unwrap();
    assert_eq!(broken.offset, good);
    assert!(broken.what.contains("interface 5"), "{broken}");
}

#[test]
fn files_that_are_nothing_say_so() {
    for (bytes, says) in [
        (&b"ab"[..], "shorter"),
        (
            b"hello, this is not a capture file at all",
            "not a capture file",
        ),
        (
            &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0][..],
            "ends in the middle",
        ),
        (&pcap(false, false, 101, &[])[..], "not Ethernet"),
    ] {
        match read(bytes) {
            Err(OpenError::Broken(broken)) => assert!(broken.what.contains(says), "{broken}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn tiny_and_cut_frames() {
    let mut file = pcap(false, true, 1, &[(1, 0, &A[..13]), (1, 0, &A)]);
    let cut = file.len() - A.len() - 4;
    file[cut] = 200; // the original length of the second
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.pcap");
    std::fs::write(&path, &file).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    assert!(matches!(reader.next(|_| ()), Step::Skipped));
    assert!(matches!(reader.next(|r| r.cut), Step::Frame(true)));
    assert!(matches!(reader.next(|_| ()), Step::End));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        frames in prop::collection::vec((0..4_000_000_000_000_000_000_u64, 14..3000_usize), 0..40),
        ng: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(if ng { "x.pcapng" } else { "x.pcap" });
        let mut writer = Writer::create(&path, "x").unwrap();
        for (time, len) in &frames {
            writer.stage_bytes(&vec![*len as u8; *len], (0, Way::In), *time);
            writer.stage_bytes(b"taken back", (0, Way::Out), *time);
            prop_assert!(writer.commit(1));
        }
        drop(writer);
        let (read, skipped, broken) = read(&std::fs::read(&path).unwrap()).unwrap();
        prop_assert_eq!((skipped, broken), (0, None));
        prop_assert_eq!(read.len(), frames.len());
        for ((time, data), (wrote, len)) in read.iter().zip(&frames) {
            prop_assert_eq!((*time, data), (*wrote, &vec![*len as u8; *len]));
        }
    }

    /// Whatever is in the file: no panic, and an end.
    #[test]
    fn damaged_files_end(at in 0..400_usize, value: u8, cut in 0..400_usize, ng: bool) {
        let mut file = if ng {
            let blocks = [section(false), interface(false, 1, Some(9)), enhanced(false, 0, 9, &A)];
            let more = [enhanced(false, 0, 8, &B), section(true), interface(true, 1, None)];
            [blocks.concat(), more.concat(), enhanced(true, 0, 9, &A)].concat()
        } else {
            pcap(true, false, 1, &[(1, 2, &A), (3, 4, &B), (5, 6, &A)])
        };
        let at = at % file.len();
        file[at] = value;
        file.truncate(file.len().saturating_sub(cut % 100));
        let _ = read(&file);
    }
}
