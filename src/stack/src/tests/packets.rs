//! IP, ping, errors, fragments, frame by frame; routes and configurations.

use super::*;

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

/// Sets "don't fragment".
fn undivided(mut frame: Vec<u8>) -> Vec<u8> {
    let mut ip = Ipv4Mut::parse(&mut frame[14..]).unwrap();
    ip.set_dont_fragment(true);
    ip.fill_checksum();
    frame
}

#[test]
fn what_is_too_long_is_refused_at_once() {
    let (mut stack, mut lab) = stack();
    for to in [PEER4, PEER6] {
        let outgoing = Outgoing::new(ip(to), IpProtocol(253));
        let payload = mbuf(&lab.pool, &[0; 1500]);
        let sent = stack.send(payload, &outgoing, NOW, &mut lab);
        assert_eq!((sent, lab.sent.len()), (Err(Reason::TooBig), 0));
    }
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
            // Some senders forbid to cut again what they have cut; it is no reason not to cut the reply.
            let frame = if v6 { frame } else { undivided(frame) };
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
