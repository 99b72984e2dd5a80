//! What is checked of a stack that is fed arbitrary frames. The fuzz target, the regression test and the
//! property tests all call [`stack`]; it panics if something does not hold.
//!
//! Input is a list of records: kind, length (two bytes), bytes. Most records are frames; others let time pass
//! or have the stack send. Addresses and checksums are mended first, if the record says so: no fuzzer finds
//! them by chance.

#![allow(dead_code, reason = "each of its users takes a part")]

pub(crate) mod seeds;

use std::net::IpAddr;

use linecard_hal::{Mbuf, Mempool, MempoolConfig};
use linecard_stack::*;
use linecard_wire::offload::{ChecksumState, fill_checksums, verify_checksums};
use linecard_wire::*;

/// Whose stack it is, and who talks with it.
pub(crate) const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
pub(crate) const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const US4: &str = "192.0.2.9";
pub(crate) const PEER4: &str = "192.0.2.1";
pub(crate) const US6: &str = "2001:db8::9";
pub(crate) const PEER6: &str = "2001:db8::1";

/// Kinds of records: the lowest two bits, and what else is to be done with a frame.
pub(crate) const FRAME: u8 = 0;
pub(crate) const PAUSE: u8 = 1;
pub(crate) const SEND: u8 = 2;
pub(crate) const MEND: u8 = 0x80;

const POOL: usize = 512;
/// The longest frame that the link takes, either way.
const LONGEST: usize = 14 + 1500;
/// Frames that a record may set off, at most: the fragments of a reply, or all that waited, and the like.
const MOST_ANSWERS: usize = 256;

struct Lab {
    pool: Mempool,
    answers: usize,
}

impl Host for Lab {
    fn pool(&self) -> &Mempool {
        &self.pool
    }

    fn emit(&mut self, port: u16, frame: Mbuf) {
        assert_eq!(port, 0);
        self.answers += 1;
        assert!(self.answers <= MOST_ANSWERS);
        well_formed(&frame);
    }
}

/// What leaves is fit to be seen.
fn well_formed(frame: &Mbuf) {
    let bytes: Vec<u8> = frame.segments().flatten().copied().collect();
    let layers = parse_layers(&bytes);
    let ethernet = Ethernet::parse(&bytes).unwrap();
    assert_eq!(ethernet.src(), US);
    assert!(bytes.len() <= LONGEST, "{}", bytes.len());
    assert!(layers.l3 != L3::Other, "{layers:?}");
    if layers.malformed || layers.is_fragment() || layers.l3 == L3::Arp {
        // A payload that we were given to send may be anything.
        return;
    }
    let report = verify_checksums(&bytes, &layers).unwrap();
    assert_ne!(report.ip, ChecksumState::Bad, "{bytes:02x?}");
    if matches!(layers.l4, L4::Icmpv4 | L4::Icmpv6) {
        assert_ne!(report.l4, ChecksumState::Bad, "{bytes:02x?}");
    }
}

/// Feeds a stack.
pub(crate) fn stack(data: &[u8]) {
    let interface = InterfaceConfig {
        detect: data.first().is_some_and(|first| first & 4 != 0),
        ..InterfaceConfig::new(0, US)
    };
    let interface = interface
        .address("192.0.2.9/24".parse().unwrap())
        .address("2001:db8::9/64".parse().unwrap());
    let config = StackConfig {
        interfaces: vec![interface],
        neighbors: NeighborConfig {
            entries: 16,
            incomplete: 4,
            ..NeighborConfig::default()
        },
        reassembly: ReassemblyConfig {
            datagrams: 16,
            fragments: 64,
            ..ReassemblyConfig::default()
        },
        ..StackConfig::default()
    };
    let mut stack = Stack::new(config, Secret::from_seed(1), 0).unwrap();
    let mut pool = MempoolConfig::new("fuzz", POOL);
    pool.cache = 0;
    let pool = Mempool::new(pool).unwrap();
    let mut lab = Lab { pool, answers: 0 };
    let mut now = 0u64;
    let mut rest = data;
    while let [kind, high, low, after @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        // A pause has a length, and no bytes.
        let taken = if kind & 3 == PAUSE { 0 } else { len };
        let (record, next) = after.split_at(taken.min(after.len()));
        rest = next;
        lab.answers = 0;
        match kind & 3 {
            PAUSE => {
                now += len as u64 * 10_000_000;
                stack.poll(now, &mut lab);
            }
            SEND => send(&mut stack, &mut lab, record, now),
            _ => receive(&mut stack, &mut lab, record, kind & MEND != 0, now),
        }
        assert!(lab.pool.in_use() <= stack.most_mbufs());
        assert!(stack.neighbors().count() <= 16);
    }
    // Everything that waits is given up in time.
    for _ in 0..10_000 {
        let Some(due) = stack.deadline_ns() else {
            break;
        };
        now = now.max(due);
        lab.answers = 0;
        stack.poll(now, &mut lab);
    }
    assert_eq!((stack.deadline_ns(), lab.pool.in_use()), (None, 0));
}

/// The frames of an input.
pub(crate) fn frames(data: &[u8]) -> Vec<Vec<u8>> {
    let (mut frames, mut rest) = (Vec::new(), data);
    while let [kind, high, low, after @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let taken = if kind & 3 == PAUSE { 0 } else { len };
        let (record, next) = after.split_at(taken.min(after.len()));
        if kind & 3 == FRAME {
            frames.push(record.to_vec());
        }
        rest = next;
    }
    frames
}

fn send(stack: &mut Stack, lab: &mut Lab, record: &[u8], now: u64) {
    let [last, body @ ..] = record else { return };
    let to: IpAddr = match last & 1 {
        0 => format!("192.0.2.{last}").parse().unwrap(),
        _ => format!("2001:db8::{last:x}").parse().unwrap(),
    };
    let mut payload = lab.pool.alloc().unwrap();
    let body = &body[..body.len().min(1900)];
    payload.append(body.len()).unwrap().copy_from_slice(body);
    let outgoing = Outgoing {
        dont_fragment: last & 2 != 0,
        ..Outgoing::new(to, IpProtocol(253))
    };
    let _ = stack.send(payload, &outgoing, now, lab);
}

/// As a port would have received it, and as its worker would treat it.
fn receive(stack: &mut Stack, lab: &mut Lab, record: &[u8], mend: bool, now: u64) {
    let record = &record[..record.len().min(LONGEST)];
    let mut frame = lab.pool.alloc().unwrap();
    frame.append(record.len()).unwrap().copy_from_slice(record);
    frame.set_port(0);
    if mend {
        mend_frame(frame.data_mut().unwrap());
    }
    let question = frame.frame_len();
    for turn in 0.. {
        assert!(turn < 2, "what is whole stays whole");
        let layers = parse_layers(frame.data());
        match stack.receive(&mut frame, &layers, now, lab) {
            Received::Reply => {
                assert!(turn == 1 || frame.frame_len() == question);
                well_formed(&frame);
            }
            Received::Deliver => {
                assert!(layers.is_ip() && !layers.is_fragment() && !layers.malformed);
                let problem = Problem::PortUnreachable;
                stack.report(&frame, &layers, problem, now, lab);
            }
            Received::Fragment(fragment) => match stack.reassemble(frame, &fragment, now, lab) {
                Reassembled::Whole(whole) => {
                    frame = whole;
                    continue;
                }
                Reassembled::Kept | Reassembled::Drop(..) => {}
            },
            Received::Consume | Received::Drop(_) | Received::Pass => {}
        }
        return;
    }
}

/// Has the frame come to us, with right checksums.
pub(crate) fn mend_frame(frame: &mut [u8]) {
    let layers = parse_layers(frame);
    if let Ok(mut ethernet) = EthernetMut::parse(frame)
        && !ethernet.dst().is_multicast()
    {
        ethernet.set_dst(US);
    }
    let _ = fill_checksums(frame, &layers);
    if layers.l3 == L3::Ipv4
        && let Ok(mut ip) = Ipv4Mut::parse_partial(&mut frame[layers.l3_offset()..])
    {
        ip.fill_checksum();
    }
}
