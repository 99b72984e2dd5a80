//! The stack as a whole, frame by frame, in made-up time; and two stacks that talk with each other.

use std::collections::VecDeque;
use std::net::Ipv6Addr;

use linecard_hal::{Mbuf, Mempool};
use linecard_wire::offload::{ChecksumState, fill_checksums, verify_checksums};
use linecard_wire::*;
use proptest::prelude::*;

use crate::testing::{PEER, US, bytes, ethernet, ip, mbuf, packet, pool};
use crate::*;

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

#[test]
fn an_arp_request_is_answered_and_remembered() {
    let (mut stack, mut lab) = stack();
    let request = arp(ArpOperation::REQUEST, (PEER, PEER4), (NOBODY, US4));
    let Came::Reply(reply) = receive(&mut stack, &mut lab, &request) else {
        panic!("no reply");
    };
    let reply = bytes(&reply);
    assert_eq!(reply[..12], [PEER.0, US.0].concat());
    let answer = ArpPacket::parse(&reply[14..]).unwrap();
    assert_eq!(
        (answer.sender_mac(), answer.sender_ip()),
        (US, US4.parse().unwrap())
    );
    assert_eq!(
        known(&stack, PEER4),
        Some((NeighborState::Stale, Some(PEER)))
    );

    // For somebody else, or from another network: nothing is remembered.
    let request = arp(
        ArpOperation::REQUEST,
        (PEER, "192.0.2.3"),
        (NOBODY, "192.0.2.7"),
    );
    assert!(matches!(
        receive(&mut stack, &mut lab, &request),
        Came::Consume
    ));
    let request = arp(ArpOperation::REQUEST, (PEER, "198.51.100.1"), (NOBODY, US4));
    assert!(matches!(
        receive(&mut stack, &mut lab, &request),
        Came::Reply(_)
    ));
    assert_eq!(stack.neighbors().count(), 1);
    // A probe is answered, so that the prober learns that the address is taken.
    let probe = arp(ArpOperation::REQUEST, (PEER, "0.0.0.0"), (NOBODY, US4));
    assert!(matches!(
        receive(&mut stack, &mut lab, &probe),
        Came::Reply(_)
    ));
}

#[test]
fn arp_from_those_who_cannot_be() {
    let (mut stack, mut lab) = stack();
    for (mac, address, want) in [
        (MacAddr::BROADCAST, PEER4, Reason::BadSource),
        (NOBODY, PEER4, Reason::BadSource),
        (US, PEER4, Reason::BadSource),
        (PEER, "224.0.0.1", Reason::BadSource),
        (PEER, "192.0.2.255", Reason::BadSource),
        (PEER, US4, Reason::AddressConflict),
    ] {
        let mut frame = arp(ArpOperation::REQUEST, (mac, address), (NOBODY, US4));
        frame[6..12].copy_from_slice(&PEER.0);
        assert_eq!(
            why(receive(&mut stack, &mut lab, &frame)),
            Some(want),
            "{mac} {address}"
        );
    }
    assert_eq!(stack.neighbors().count(), 0);
    // The address was defended, once.
    let frame = arp(ArpOperation::REPLY, (PEER, US4), (US, US4));
    receive(&mut stack, &mut lab, &frame);
    assert_eq!((stack.counters().conflicts, lab.sent.len()), (2, 1));
    let announced = ArpPacket::parse(&lab.sent[0][14..]).unwrap();
    assert!(announced.is_gratuitous() && announced.sender_mac() == US);
    assert_eq!(stack.counters().drops.total(), 7);
}

#[test]
fn a_solicitation_is_answered_and_remembered() {
    let (mut stack, mut lab) = stack();
    let group = "ff02::1:ff00:9";
    let frame = nd_frame(PEER6, group, &solicitation(US6, Some(PEER)), 255);
    assert!(matches!(
        receive(&mut stack, &mut lab, &frame),
        Came::Consume
    ));
    let answer = lab.sent.pop_front().unwrap();
    assert_eq!(answer[..12], [PEER.0, US.0].concat());
    let packet = Ipv6::parse(&answer[14..]).unwrap();
    assert_eq!(
        (packet.src(), packet.dst()),
        (US6.parse().unwrap(), PEER6.parse().unwrap())
    );
    assert_eq!(packet.hop_limit(), 255);
    let message = NeighborMessage::parse(&Icmpv6::parse(packet.payload()).unwrap()).unwrap();
    assert_eq!(message, advertisement(US6, US, true));
    assert_eq!(
        known(&stack, PEER6),
        Some((NeighborState::Stale, Some(PEER)))
    );

    // Who tries our address out is told so, and everybody with him.
    let frame = nd_frame("::", group, &solicitation(US6, None), 255);
    receive(&mut stack, &mut lab, &frame);
    let answer = lab.sent.pop_front().unwrap();
    let packet = Ipv6::parse(&answer[14..]).unwrap();
    assert_eq!(packet.dst(), nd::ALL_NODES);
    let message = NeighborMessage::parse(&Icmpv6::parse(packet.payload()).unwrap()).unwrap();
    assert_eq!(message, advertisement(US6, US, false));
}

#[test]
fn neighbor_messages_that_cannot_be() {
    let (mut stack, mut lab) = stack();
    let group = "ff02::1:ff00:9";
    let ask = solicitation(US6, Some(PEER));
    let mut forged = nd_frame(PEER6, group, &ask, 255);
    *forged.last_mut().unwrap() ^= 1;
    let frames = [
        // From beyond a router, or with a wrong checksum.
        (
            nd_frame(PEER6, group, &ask, 254),
            Reason::BadNeighborMessage,
        ),
        (forged, Reason::BadNeighborMessage),
        // From nobody, but with an address, or not to the group.
        (nd_frame("::", group, &ask, 255), Reason::BadNeighborMessage),
        (
            nd_frame("::", US6, &solicitation(US6, None), 255),
            Reason::BadNeighborMessage,
        ),
        // About a group; with a group's address; an answer to everybody that says it was asked for.
        (
            nd_frame(PEER6, US6, &solicitation("ff02::1", Some(PEER)), 255),
            Reason::BadNeighborMessage,
        ),
        (
            nd_frame(
                PEER6,
                group,
                &solicitation(US6, Some(MacAddr::BROADCAST)),
                255,
            ),
            Reason::BadNeighborMessage,
        ),
        (
            nd_frame(PEER6, "ff02::1", &advertisement(PEER6, PEER, true), 255),
            Reason::BadNeighborMessage,
        ),
        // For somebody else's address; about ours.
        (
            nd_frame(PEER6, US6, &solicitation("2001:db8::7", Some(PEER)), 255),
            Reason::NotForUs,
        ),
        (
            nd_frame(PEER6, US6, &advertisement(US6, PEER, true), 255),
            Reason::AddressConflict,
        ),
    ];
    for (i, (frame, want)) in frames.iter().enumerate() {
        assert_eq!(
            why(receive(&mut stack, &mut lab, frame)),
            Some(*want),
            "{i}"
        );
    }
    assert_eq!(stack.neighbors().count(), 0);
    // Even in one fragment (RFC 6980).
    let mut body = vec![0; ask.wire_len()];
    ask.emit(&mut body).unwrap();
    let frame = packet(
        ip(PEER6),
        ip(US6),
        IpProtocol::ICMPV6,
        Some((0, false, 1)),
        &body,
    );
    let received = receive(&mut stack, &mut lab, &frame);
    assert_eq!(why(received), Some(Reason::BadNeighborMessage));
}

/// A datagram of ours waits for its neighbour, and leaves when that answers.
#[test]
fn a_packet_waits_for_its_neighbor() {
    for (to, v6) in [(PEER4, false), (PEER6, true)] {
        let (mut stack, mut lab) = stack();
        let outgoing = Outgoing::new(ip(to), IpProtocol(253));
        for n in 0..2u8 {
            let payload = mbuf(&lab.pool, &[n; 100]);
            stack.send(payload, &outgoing, NOW, &mut lab).unwrap();
        }
        assert_eq!(lab.sent.len(), 1);
        let asked = lab.sent.pop_front().unwrap();
        let answer = if v6 {
            assert_eq!(asked[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
            nd_frame(to, US6, &advertisement(to, PEER, true), 255)
        } else {
            assert_eq!(asked[..6], [0xff; 6]);
            arp(ArpOperation::REPLY, (PEER, to), (US, US4))
        };
        assert!(matches!(
            receive(&mut stack, &mut lab, &answer),
            Came::Consume
        ));
        assert_eq!(
            known(&stack, to),
            Some((NeighborState::Reachable, Some(PEER)))
        );
        for n in 0..2u8 {
            let frame = lab.sent.pop_front().unwrap();
            assert_eq!(frame[..12], [PEER.0, US.0].concat());
            assert!(frame.ends_with(&[n; 100]));
        }
        let payload = mbuf(&lab.pool, &[]);
        stack.send(payload, &outgoing, NOW, &mut lab).unwrap();
        assert_eq!((lab.sent.len(), lab.pool.in_use()), (1, 0));
    }
}

#[test]
fn a_silent_neighbor_is_given_up() {
    let (mut stack, mut lab) = stack();
    let outgoing = Outgoing::new(ip(PEER4), IpProtocol(253));
    let payload = mbuf(&lab.pool, &[1; 100]);
    stack.send(payload, &outgoing, NOW, &mut lab).unwrap();
    run(&mut stack, &mut lab, NOW + 10 * SECOND);
    assert_eq!((lab.sent.len(), lab.pool.in_use()), (3, 0));
    assert_eq!(stack.counters().drops.of(Reason::NeighborUnreachable), 1);
}

/// The rules against poisoning, by the frames that are used for it.
#[test]
fn a_neighbor_in_use_is_not_taken_over() {
    let evil = MacAddr([2, 0, 0, 0, 0, 0x66]);
    for v6 in [false, true] {
        let (mut stack, mut lab) = stack();
        let to = if v6 { PEER6 } else { PEER4 };
        let answer = |mac| {
            if v6 {
                nd_frame(PEER6, US6, &advertisement(PEER6, mac, true), 255)
            } else {
                arp(ArpOperation::REPLY, (mac, PEER4), (US, US4))
            }
        };
        // An answer that nobody asked for adds nothing.
        receive(&mut stack, &mut lab, &answer(evil));
        assert_eq!(known(&stack, to), None);
        let outgoing = Outgoing::new(ip(to), IpProtocol(253));
        let payload = mbuf(&lab.pool, &[]);
        stack.send(payload, &outgoing, NOW, &mut lab).unwrap();
        receive(&mut stack, &mut lab, &answer(PEER));
        let later = NOW + 10 * SECOND;
        let claims = if v6 {
            vec![
                answer(evil),
                nd_frame(PEER6, "ff02::1", &advertisement(PEER6, evil, false), 255),
                nd_frame(PEER6, US6, &solicitation(US6, Some(evil)), 255),
            ]
        } else {
            vec![
                answer(evil),
                arp(ArpOperation::REQUEST, (evil, PEER4), (NOBODY, PEER4)),
                arp(ArpOperation::REQUEST, (evil, PEER4), (NOBODY, US4)),
            ]
        };
        lab.sent.clear();
        for frame in &claims {
            receive_at(&mut stack, &mut lab, frame, later);
            assert_eq!(known(&stack, to).unwrap().1, Some(PEER));
        }
        // The true owner was asked, at its own address.
        let asked = lab.sent.iter().filter(|frame| frame[..6] == PEER.0);
        assert_eq!(asked.count(), 1);
        receive_at(&mut stack, &mut lab, &answer(PEER), later);
        assert_eq!(
            known(&stack, to),
            Some((NeighborState::Reachable, Some(PEER)))
        );
    }
}

#[test]
fn pings_are_answered_in_place() {
    let (mut stack, mut lab) = stack();
    for v6 in [false, true] {
        for len in [0, 56, 1400] {
            let Came::Reply(reply) = receive(&mut stack, &mut lab, &ping(v6, len)) else {
                panic!("no reply");
            };
            let reply = bytes(&reply);
            assert_eq!(reply[..12], [PEER.0, US.0].concat());
            let layers = parse_layers(&reply);
            let kind = reply[layers.l4_offset()];
            assert_eq!(kind, if v6 { 129 } else { 0 });
        }
    }
    assert_eq!((stack.counters().echoes, lab.sent.len()), (6, 0));
    // Not for a group, not broken, not for somebody else.
    let mut group = ping(false, 10);
    group[30..34].copy_from_slice(&[192, 0, 2, 255]);
    group[..6].fill(0xff);
    let group = checked(group);
    assert_eq!(
        why(receive(&mut stack, &mut lab, &group)),
        Some(Reason::NotForUs)
    );
    let mut broken = ping(true, 10);
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(
        why(receive(&mut stack, &mut lab, &broken)),
        Some(Reason::BadChecksum)
    );
    let mut other = ping(true, 10);
    other[5] ^= 1;
    assert_eq!(
        why(receive(&mut stack, &mut lab, &other)),
        Some(Reason::NotForUs)
    );
}

/// Puts fragments of one datagram together, whoever sent them.
fn join(frames: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut parts = Vec::new();
    for frame in frames {
        assert!(frame.len() <= 1514);
        let packet = &frame[14..];
        if packet[0] >> 4 == 4 {
            let ip = Ipv4::parse(packet).unwrap();
            assert!(ip.checksum_ok());
            parts.push((
                ip.fragment_offset(),
                ip.more_fragments(),
                ip.payload().to_vec(),
            ));
        } else {
            let upper = Ipv6::parse(packet).unwrap().upper().unwrap();
            let info = upper.fragment.unwrap();
            parts.push((info.offset, info.more, upper.payload.to_vec()));
        }
    }
    let last = parts.len() - 1;
    let mut whole = Vec::new();
    for (i, (at, more, body)) in parts.into_iter().enumerate() {
        assert_eq!((usize::from(at), more), (whole.len(), i < last));
        whole.extend(body);
    }
    whole
}

#[test]
fn a_ping_in_fragments_is_answered_in_fragments() {
    for v6 in [false, true] {
        let (mut stack, mut lab) = stack();
        let frame = ping(v6, 5000);
        let at = parse_layers(&frame).l4_offset();
        let (src, dst) = if v6 { (PEER6, US6) } else { (PEER4, US4) };
        let protocol = if v6 {
            IpProtocol::ICMPV6
        } else {
            IpProtocol::ICMP
        };
        let chunks: Vec<_> = frame[at..].chunks(1232).enumerate().collect();
        for (i, chunk) in chunks.iter().rev() {
            let part = ((i * 1232) as u16, i + 1 < chunks.len(), 77);
            let frame = packet(ip(src), ip(dst), protocol, Some(part), chunk);
            let received = receive(&mut stack, &mut lab, &frame);
            assert!(
                matches!(received, Came::Kept | Came::Consume),
                "{received:?}"
            );
        }
        let reply = join(lab.sent.drain(..));
        assert_eq!(reply[8..], frame[at + 8..]);
        assert_eq!(reply[0], if v6 { 129 } else { 0 });
        if v6 {
            let pseudo = Pseudo::v6(US6.parse().unwrap(), PEER6.parse().unwrap());
            assert!(Icmpv6::parse(&reply).unwrap().checksum_ok(pseudo));
        } else {
            assert!(Icmpv4::parse(&reply).unwrap().checksum_ok());
        }
        let counters = stack.counters();
        assert_eq!(
            (counters.reassembled, counters.echoes, lab.pool.in_use()),
            (1, 1, 0)
        );
    }
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    let (mut stack, mut lab) = stack();
    let frame = ping(true, 100);
    let body = &frame[54..];
    // Something else with the same identification is under way.
    let other = packet(
        ip(PEER6),
        ip(US6),
        IpProtocol::UDP,
        Some((0, true, 5)),
        &[0; 16],
    );
    assert!(matches!(receive(&mut stack, &mut lab, &other), Came::Kept));
    let frame = packet(
        ip(PEER6),
        ip(US6),
        IpProtocol::ICMPV6,
        Some((0, false, 5)),
        body,
    );
    let Came::Reply(reply) = receive(&mut stack, &mut lab, &frame) else {
        panic!("no reply");
    };
    let reply = bytes(&reply);
    assert_eq!(
        Ipv6::parse(&reply[14..]).unwrap().next_header(),
        IpProtocol::ICMPV6
    );
    assert_eq!(reply.len(), 54 + body.len());
}

#[test]
fn fragments_of_fragments_are_refused() {
    let (mut stack, mut lab) = stack();
    let inner: Vec<u8> = [44, 0, 0, 0, 0, 0, 0, 5].repeat(100);
    let frame = packet(
        ip(PEER6),
        ip(US6),
        IpProtocol::FRAGMENT,
        Some((0, false, 5)),
        &inner,
    );
    assert_eq!(
        why(receive(&mut stack, &mut lab, &frame)),
        Some(Reason::BadFragment)
    );
    assert_eq!((stack.counters().reassembled, lab.pool.in_use()), (0, 0));
}

#[test]
fn what_nobody_wants_is_reported_to_its_sender_at_a_bounded_rate() {
    let (mut stack, mut lab) = stack();
    for (src, dst, want) in [(PEER4, US4, [3, 3]), (PEER6, US6, [1, 4])] {
        let frame = packet(
            ip(src),
            ip(dst),
            IpProtocol::UDP,
            None,
            &[0, 1, 0, 2, 0, 8, 0, 0],
        );
        let Came::Deliver(frame) = receive(&mut stack, &mut lab, &frame) else {
            panic!("not delivered");
        };
        let layers = parse_layers(frame.data());
        assert!(stack.report(&frame, &layers, Problem::PortUnreachable, NOW, &mut lab));
        let error = lab.sent.pop_front().unwrap();
        let found = parse_layers(&error);
        assert_eq!(error[..12], [PEER.0, US.0].concat());
        assert_eq!(error[found.l4_offset()..][..2], want);
        assert!(error.ends_with(&frame.data()[14..]));
        // The error itself is nothing to report about.
        let mut back = error.clone();
        back[..12].copy_from_slice(&[US.0, PEER.0].concat());
        let mut sent = 0;
        for _ in 0..200 {
            sent +=
                usize::from(stack.report(&frame, &layers, Problem::PortUnreachable, NOW, &mut lab));
        }
        assert!(sent < 50, "{sent}");
        lab.sent.clear();
        stack.errors = crate::limit::Bucket::new(StackConfig::default().errors);
    }
    let drops = stack.counters().drops;
    assert!(drops.of(Reason::RateLimited) > 300);
}

#[test]
fn ipv6_asks_for_more_reports() {
    let (mut stack, mut lab) = stack();
    let v6 = |protocol, part, body: &[u8]| packet(ip(PEER6), ip(US6), protocol, part, body);
    let unknown_option = [17, 0, 0x9e, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0, 0];
    for (frame, want, pointer, reason) in [
        (
            v6(IpProtocol::DESTINATION, None, &unknown_option),
            [4, 2],
            42,
            Reason::BadOption,
        ),
        // A length that is not a multiple of eight, an end beyond 65,535, a first fragment without the headers.
        (
            v6(IpProtocol::UDP, Some((8, true, 1)), &[0; 12]),
            [4, 0],
            4,
            Reason::BadFragment,
        ),
        (
            v6(IpProtocol::TCP, Some((0, true, 3)), &[0; 16]),
            [4, 3],
            0,
            Reason::BadFragment,
        ),
    ] {
        let received = receive(&mut stack, &mut lab, &frame);
        let later = want[1] == 0;
        assert_eq!(why(received), Some(reason));
        // Nothing is said about fragments but the first.
        match lab.sent.pop_front() {
            None => assert!(later),
            Some(error) => {
                let at = parse_layers(&error).l4_offset();
                assert_eq!(error[at..at + 2], want);
                assert_eq!(error[at + 4..at + 8], [0, 0, 0, pointer]);
            }
        }
    }
}

#[test]
fn a_datagram_that_does_not_come_in_time_is_reported() {
    for (src, dst, want) in [(PEER4, US4, [11, 1]), (PEER6, US6, [3, 1])] {
        let (mut stack, mut lab) = stack();
        let part = Some((0, true, 5));
        let frame = packet(ip(src), ip(dst), IpProtocol::UDP, part, &[0; 64]);
        assert!(matches!(receive(&mut stack, &mut lab, &frame), Came::Kept));
        run(&mut stack, &mut lab, NOW + 100 * SECOND);
        let error = lab.sent.pop_front().unwrap();
        let at = parse_layers(&error).l4_offset();
        assert_eq!(error[at..at + 2], want);
        assert_eq!(lab.pool.in_use(), 0);
    }
}

#[test]
fn frames_that_are_none_of_our_business() {
    let (mut stack, mut lab) = stack();
    let mut tagged = ethernet(PEER, US, EtherType::VLAN, &[0, 1, 8, 0]);
    tagged.extend_from_slice(&ping(false, 0)[14..]);
    assert!(matches!(receive(&mut stack, &mut lab, &tagged), Came::Pass));
    let ptp = ethernet(PEER, US, EtherType::PTP, &[0; 40]);
    assert!(matches!(receive(&mut stack, &mut lab, &ptp), Came::Pass));
    let layers = parse_layers(&ptp);
    let mut elsewhere = mbuf(&lab.pool, &ping(false, 0));
    elsewhere.set_port(7);
    let received = stack.receive(&mut elsewhere, &layers, NOW, &mut lab);
    assert_eq!(received, Received::Pass);
    drop(elsewhere);
    let cut = &ping(false, 0)[..30];
    assert_eq!(
        why(receive(&mut stack, &mut lab, cut)),
        Some(Reason::Malformed)
    );
    for (src, dst, want) in [
        (US4, US4, Reason::BadSource),
        ("127.0.0.1", US4, Reason::BadSource),
        ("192.0.2.255", US4, Reason::BadSource),
        ("::", US6, Reason::BadSource),
        ("ff02::1", US6, Reason::BadSource),
        (PEER4, "192.0.2.10", Reason::NotForUs),
        (PEER6, "ff02::2", Reason::NotForUs),
    ] {
        let frame = packet(
            ip(src),
            ip(dst),
            IpProtocol::UDP,
            None,
            &[0, 1, 0, 2, 0, 8, 0, 0],
        );
        assert_eq!(
            why(receive(&mut stack, &mut lab, &frame)),
            Some(want),
            "{src} {dst}"
        );
    }
    // To us alone in IP, to everybody on the link.
    let mut frame = ping(false, 0);
    frame[..6].fill(0xff);
    assert_eq!(
        why(receive(&mut stack, &mut lab, &frame)),
        Some(Reason::NotForUs)
    );
    let mut frame = ping(false, 0);
    frame[24] ^= 1;
    assert_eq!(
        why(receive(&mut stack, &mut lab, &frame)),
        Some(Reason::BadChecksum)
    );
}

#[test]
fn routes_choose_the_next_hop() {
    let mut config = config(US, &["192.0.2.9/24"], false);
    config.routes = vec![Route {
        prefix: "0.0.0.0/0".parse().unwrap(),
        interface: 0,
        gateway: Some(ip("192.0.2.254")),
        metric: 0,
    }];
    let stack = Stack::new(config, Secret::from_seed(1), 0).unwrap();
    let path = stack.path(ip("203.0.113.5"), None).unwrap();
    assert_eq!((path.next_hop, path.source), (ip("192.0.2.254"), ip(US4)));
    assert_eq!(path.payload_len(), 1480);
    assert_eq!(stack.path(ip(PEER4), None).unwrap().next_hop, ip(PEER4));
    assert_eq!(stack.path(ip("2001:db8::1"), None), Err(Reason::NoRoute));
}

#[test]
fn configurations_that_contradict_themselves_are_refused() {
    let good = config(US, &["192.0.2.9/24"], true);
    let refused = |change: &dyn Fn(&mut StackConfig)| {
        let mut bad = good.clone();
        change(&mut bad);
        Stack::new(bad, Secret::from_seed(1), 0)
            .unwrap_err()
            .to_string()
    };
    let two = refused(&|c| c.interfaces.push(c.interfaces[0].clone()));
    assert!(two.contains("two interfaces are port 0"));
    assert!(refused(&|c| c.interfaces[0].mtu = 1279).contains("1280 is the least"));
    assert!(refused(&|c| c.interfaces[0].mac = MacAddr::BROADCAST).contains("group"));
    let group = "224.0.0.1/24".parse().unwrap();
    assert!(refused(&|c| c.interfaces[0].addresses.push(group)).contains("cannot be a host"));
    let key = NeighborKey {
        interface: 3,
        address: ip(PEER4),
    };
    assert!(refused(&|c| c.permanent.push((key, PEER))).contains("interface 3"));
    let route = Route {
        prefix: "::/0".parse().unwrap(),
        interface: 0,
        gateway: Some(ip(PEER4)),
        metric: 0,
    };
    assert!(refused(&|c| c.routes.push(route)).contains("::/0"));
}

/// A link with two stacks on it.
struct Link {
    ends: [(Stack, Lab); 2],
}

impl Link {
    fn new(configs: [StackConfig; 2], seeds: [u64; 2]) -> Self {
        let [a, b] = configs;
        let end = |config, seed| {
            let lab = Lab {
                pool: pool(1024),
                sent: VecDeque::new(),
            };
            (Stack::new(config, Secret::from_seed(seed), 0).unwrap(), lab)
        };
        Self {
            ends: [end(a, seeds[0]), end(b, seeds[1])],
        }
    }

    /// Carries frames to and fro until none is left; returns what each delivered.
    fn settle(&mut self, now: u64) -> [Vec<Vec<u8>>; 2] {
        let mut delivered = [Vec::new(), Vec::new()];
        loop {
            let from = match self.ends.iter().position(|(_, lab)| !lab.sent.is_empty()) {
                Some(from) => from,
                None => return delivered,
            };
            let frame = self.ends[from].1.sent.pop_front().unwrap();
            let (stack, lab) = &mut self.ends[1 - from];
            match receive_at(stack, lab, &frame, now) {
                Came::Reply(reply) => lab.emit(0, reply),
                Came::Deliver(frame) => delivered[1 - from].push(bytes(&frame)),
                Came::Drop(Reason::BadChecksum | Reason::Malformed) => {
                    panic!("{frame:02x?}")
                }
                _ => {}
            }
        }
    }

    fn run(&mut self, until: u64) {
        loop {
            let due = self
                .ends
                .iter()
                .filter_map(|(stack, _)| stack.deadline_ns())
                .min();
            let Some(now) = due.filter(|now| *now <= until) else {
                return;
            };
            for (stack, lab) in &mut self.ends {
                stack.poll(now, lab);
            }
            self.settle(now);
        }
    }

    fn state(&self, end: usize, address: &str) -> Option<AddressState> {
        let mut all = self.ends[end].0.addresses(0);
        all.find(|(net, _)| net.addr() == ip(address))
            .map(|(_, state)| state)
    }
}

#[test]
fn two_hosts_that_want_the_same_address() {
    for seeds in [[1, 2], [2, 1], [7, 8]] {
        let addresses = ["192.0.2.9/24", "2001:db8::9/64"];
        let configs = [US, PEER].map(|mac| config(mac, &addresses, true));
        let mut link = Link::new(configs, seeds);
        link.run(20 * SECOND);
        for address in [US4, US6] {
            let states = [0, 1].map(|end| link.state(end, address).unwrap());
            assert!(states.contains(&AddressState::Duplicate), "{states:?}");
            assert!(!states.contains(&AddressState::Tentative));
        }
    }
    // One that has it already keeps it.
    let configs = [
        config(US, &["192.0.2.9/24"], false),
        config(PEER, &["192.0.2.9/24"], true),
    ];
    let mut link = Link::new(configs, [1, 2]);
    link.run(20 * SECOND);
    assert_eq!(link.state(0, US4), Some(AddressState::Assigned));
    assert_eq!(link.state(1, US4), Some(AddressState::Duplicate));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What one stack sends, in however many fragments, another one delivers; in both directions, and with any MTU.
    #[test]
    fn what_is_sent_is_delivered(
        v6: bool, lens in proptest::collection::vec(0usize..9000, 1..6), mtu in 68u16..2000,
    ) {
        let addresses = |n: u8| [format!("192.0.2.{n}/24"), format!("2001:db8::{n}/64")];
        let configs = [(US, 9), (PEER, 1)].map(|(mac, n)| {
            let [v4, v6_address] = addresses(n);
            let mut config = config(mac, &[if v6 { &v6_address } else { &v4 }], false);
            config.interfaces[0].link_local = v6;
            config.interfaces[0].mtu = if v6 { mtu.max(1280) } else { mtu };
            config.reassembly.fragments_each = 512;
            config
        });
        let mut link = Link::new(configs, [1, 2]);
        link.run(10 * SECOND);
        for (i, len) in lens.into_iter().enumerate() {
            let from = i % 2;
            let to = [[PEER4, PEER6], [US4, US6]][from][usize::from(v6)];
            let body: Vec<u8> = (0..len).map(|n| (n ^ i) as u8).collect();
            let outgoing = Outgoing { dont_fragment: false, ..Outgoing::new(ip(to), IpProtocol(253)) };
            let (stack, lab) = &mut link.ends[from];
            let mut payload: Option<Mbuf> = None;
            for chunk in body.chunks(1500).rev() {
                let mut part = mbuf(&lab.pool, chunk);
                if let Some(rest) = payload.take() {
                    part.chain(rest).unwrap();
                }
                payload = Some(part);
            }
            let payload = payload.unwrap_or_else(|| mbuf(&lab.pool, &[]));
            stack.send(payload, &outgoing, NOW, lab).unwrap();
            let delivered = link.settle(NOW);
            prop_assert_eq!(delivered[1 - from].len(), 1);
            let frame = &delivered[1 - from][0];
            prop_assert!(frame[14..].ends_with(&body));
            prop_assert_eq!(frame.len(), 14 + if v6 { 40 } else { 20 } + len);
        }
        for (stack, lab) in &link.ends {
            prop_assert_eq!(lab.pool.in_use(), 0);
            prop_assert_eq!(stack.counters().drops.total(), 0);
        }
    }
}
