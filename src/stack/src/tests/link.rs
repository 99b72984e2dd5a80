//! ARP and neighbour discovery, frame by frame, and the rules against poisoning.

use super::*;

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
    // On its way to somebody else: a promiscuous port sees it, and learns nothing from it.
    let mut request = arp(ArpOperation::REQUEST, (PEER, "192.0.2.4"), (NOBODY, US4));
    request[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x77]);
    let came = receive(&mut stack, &mut lab, &request);
    assert_eq!(why(came), Some(Reason::NotForUs));
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
