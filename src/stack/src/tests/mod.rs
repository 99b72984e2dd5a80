//! The stack as a whole, frame by frame, in made-up time; and two stacks that talk with each other.

use std::collections::VecDeque;
use std::net::Ipv6Addr;

use linecard_hal::{Mbuf, Mempool};
use linecard_wire::offload::{ChecksumState, fill_checksums, verify_checksums};
use linecard_wire::*;

use crate::testing::{PEER, US, bytes, ethernet, ip, mbuf, packet, pool};
use crate::*;

mod kin;
mod link;
mod packets;
mod pair;

const SECOND: u64 = 1_000_000_000;
const US4: &str = "192.0.2.9";
const PEER4: &str = "192.0.2.1";
const US6: &str = "2001:db8::9";
const PEER6: &str = "2001:db8::1";

/// Whoever hosts a stack: keeps what it emits.
struct Lab {
    pool: Mempool,
    sent: VecDeque<Vec<u8>>,
}

impl Host for Lab {
    fn pool(&self) -> &Mempool {
        &self.pool
    }

    fn emit(&mut self, port: u16, frame: Mbuf) {
        assert_eq!(port, 0);
        let frame = bytes(&frame);
        let layers = parse_layers(&frame);
        assert!(!layers.malformed, "{frame:02x?}");
        if layers.is_ip() && !layers.is_fragment() {
            let report = verify_checksums(&frame, &layers).unwrap();
            assert_ne!(report.l4, ChecksumState::Bad, "{frame:02x?}");
            assert_ne!(report.ip, ChecksumState::Bad, "{frame:02x?}");
        }
        self.sent.push_back(frame);
    }
}

fn config(mac: MacAddr, addresses: &[&str], detect: bool) -> StackConfig {
    let interface = InterfaceConfig {
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        detect,
        ..InterfaceConfig::new(0, mac)
    };
    StackConfig {
        interfaces: vec![interface],
        ..StackConfig::default()
    }
}

/// A stack that has its addresses already, and has said so.
fn stack() -> (Stack, Lab) {
    let config = config(US, &["192.0.2.9/24", "2001:db8::9/64"], false);
    let mut stack = Stack::new(config, Secret::from_seed(1), 0).unwrap();
    let mut lab = Lab {
        pool: pool(1024),
        sent: VecDeque::new(),
    };
    run(&mut stack, &mut lab, 10 * SECOND);
    lab.sent.clear();
    (stack, lab)
}

/// Calls at each deadline up to `until`.
fn run(stack: &mut Stack, lab: &mut Lab, until: u64) {
    while let Some(now) = stack.deadline_ns().filter(|now| *now <= until) {
        stack.poll(now, lab);
    }
}

/// Twenty seconds after the beginning, when all addresses are there.
const NOW: u64 = 20 * SECOND;

/// What became of a frame, with the mbuf if there is one.
#[derive(Debug)]
enum Came {
    Reply(Mbuf),
    Deliver(Mbuf),
    Consume,
    Kept,
    Drop(Reason),
    Pass,
}

fn receive(stack: &mut Stack, lab: &mut Lab, frame: &[u8]) -> Came {
    receive_at(stack, lab, frame, NOW)
}

fn receive_at(stack: &mut Stack, lab: &mut Lab, frame: &[u8], now: u64) -> Came {
    let mut frame = mbuf(&lab.pool, frame);
    loop {
        let layers = parse_layers(frame.data());
        return match stack.receive(&mut frame, &layers, now, lab) {
            Received::Reply => Came::Reply(frame),
            Received::Deliver => Came::Deliver(frame),
            Received::Consume => Came::Consume,
            Received::Drop(reason) => Came::Drop(reason),
            Received::Pass => Came::Pass,
            Received::Fragment(fragment) => match stack.reassemble(frame, &fragment, now, lab) {
                Reassembled::Kept => Came::Kept,
                Reassembled::Drop(_, reason) => Came::Drop(reason),
                Reassembled::Whole(whole) => {
                    frame = whole;
                    continue;
                }
            },
        };
    }
}

fn why(received: Came) -> Option<Reason> {
    match received {
        Came::Drop(reason) => Some(reason),
        _ => None,
    }
}

fn arp(operation: ArpOperation, sender: (MacAddr, &str), target: (MacAddr, &str)) -> Vec<u8> {
    let v4 = |text: &str| text.parse().unwrap();
    let packet = ArpPacket::new(
        operation,
        (sender.0, v4(sender.1)),
        (target.0, v4(target.1)),
    );
    let mut body = [0; 28];
    packet.emit(&mut body).unwrap();
    let dst = if operation == ArpOperation::REPLY {
        US
    } else {
        MacAddr::BROADCAST
    };
    ethernet(sender.0, dst, EtherType::ARP, &body)
}

const NOBODY: MacAddr = MacAddr([0; 6]);

fn nd_frame(src: &str, dst: &str, message: &NeighborMessage, hops: u8) -> Vec<u8> {
    let mut body = vec![0; message.wire_len()];
    message.emit(&mut body).unwrap();
    let mut frame = packet(ip(src), ip(dst), IpProtocol::ICMPV6, None, &body);
    frame[14 + 7] = hops;
    let dst = dst.parse::<Ipv6Addr>().unwrap();
    if dst.is_multicast() {
        frame[..6].copy_from_slice(&nd::multicast_mac(dst.into()).0);
    }
    checked(frame)
}

fn checked(mut frame: Vec<u8>) -> Vec<u8> {
    let layers = parse_layers(&frame);
    fill_checksums(&mut frame, &layers).unwrap();
    frame
}

fn solicitation(target: &str, mac: Option<MacAddr>) -> NeighborMessage {
    NeighborMessage {
        kind: icmpv6::NEIGHBOR_SOLICITATION,
        flags: NeighborFlags::default(),
        target: target.parse().unwrap(),
        mac,
    }
}

fn advertisement(target: &str, mac: MacAddr, solicited: bool) -> NeighborMessage {
    NeighborMessage {
        kind: icmpv6::NEIGHBOR_ADVERTISEMENT,
        flags: NeighborFlags {
            router: false,
            solicited,
            replace: true,
        },
        target: target.parse().unwrap(),
        mac: Some(mac),
    }
}

fn known(stack: &Stack, address: &str) -> Option<(NeighborState, Option<MacAddr>)> {
    let found = stack
        .neighbors()
        .find(|(key, ..)| key.address == ip(address));
    found.map(|(_, state, mac)| (state, mac))
}

/// An echo request with so many bytes.
fn ping(v6: bool, len: usize) -> Vec<u8> {
    let (src, dst) = if v6 { (PEER6, US6) } else { (PEER4, US4) };
    let (kind, protocol) = if v6 {
        (128, IpProtocol::ICMPV6)
    } else {
        (8, IpProtocol::ICMP)
    };
    let mut body = vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1];
    body.extend((0..len).map(|i| i as u8));
    checked(packet(ip(src), ip(dst), protocol, None, &body))
}
