//! What is checked of arbitrary bytes. The fuzz targets, the regression tests and the property
//! tests all call these functions; each panics if something does not hold. What results are
//! compared with is written plainly and shares no code with the crate.

#![allow(dead_code, reason = "each of its users takes a part")]

mod describe;
mod flow;
mod parse;
pub(crate) mod seeds;
mod segment;

pub(crate) use describe::describe;
pub(crate) use flow::flow;
pub(crate) use parse::parse;
pub(crate) use segment::segment;

use linecard_wire::offload::{ChecksumState, fill_checksums, verify_checksums};
use linecard_wire::*;

/// A named check.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All checks, by the names of their fuzz targets.
pub(crate) const TARGETS: [Target; 5] = [
    ("parse", parse),
    ("segment", segment),
    ("echo_reply", reply),
    ("flow", flow),
    ("describe", describe),
];

/// The one's complement sum, word by word.
pub(crate) fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of a layer 4 header and payload with its pseudo header; `0xffff` is right.
pub(crate) fn naive_l4_sum(addresses: &[u8], protocol: u8, l4: &[u8]) -> u16 {
    let mut bytes = addresses.to_vec();
    bytes.extend_from_slice(&(l4.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, protocol]);
    bytes.extend_from_slice(l4);
    naive_sum(&bytes)
}

/// An echo request becomes a valid reply, or the frame is untouched. The first byte says whether
/// checksums are made right first; no fuzzer finds them by chance.
pub(crate) fn reply(data: &[u8]) {
    let Some((control, frame)) = data.split_first() else {
        return;
    };
    let mut frame = frame.to_vec();
    if control & 1 == 1 {
        let layers = parse_layers(&frame);
        let _ = fill_checksums(&mut frame, &layers);
    }
    let before = frame.clone();
    let Ok(echo) = echo_reply(&mut frame) else {
        assert_eq!(frame, before);
        return;
    };
    let (old, new) = (parse_layers(&before), parse_layers(&frame));
    assert_eq!((old, old.malformed), (new, false));
    let report = verify_checksums(&frame, &new).unwrap();
    assert_eq!(report.l4, ChecksumState::Good);
    assert_ne!(report.ip, ChecksumState::Bad);
    let key = FlowKey::parse(&frame).unwrap();
    assert_eq!(key.reversed(), FlowKey::parse(&before).unwrap());
    assert_eq!((&frame[..6], &frame[6..12]), (&before[6..12], &before[..6]));
    // Everything but addresses, TTL, type and checksums is as it was.
    let (l3, l4) = (new.l3_offset(), new.l4_offset());
    assert_eq!(frame[l4 + 4..], before[l4 + 4..]);
    assert_eq!(frame[12..l3], before[12..l3]);
    let icmp = Icmpv4::parse(&frame[l4..]).unwrap();
    assert_eq!(
        (icmp.ident(), icmp.seq(), icmp.code()),
        (echo.ident, echo.seq, 0)
    );
    let ttl_at = if new.l3 == L3::Ipv4 { 8 } else { 7 };
    assert_eq!(frame[l3 + ttl_at], echo::REPLY_TTL);
    // And it is not answered again.
    assert_eq!(echo_reply(&mut frame), Err(EchoRefusal::NotEchoRequest));
}
