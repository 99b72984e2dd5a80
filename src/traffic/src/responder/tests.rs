use linecard_hal::{Mempool, MempoolConfig};
use linecard_wire::{IcmpHeader, Icmpv4Mut, Ipv4Header, Ipv4Mut, icmpv4};
use proptest::prelude::*;

use super::*;

const ME: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn pool() -> Mempool {
    Mempool::new(MempoolConfig::new("responder", 64)).expect("a pool")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn at(mac: MacAddr, addresses: &str, find: Option<(&str, &str)>) -> Responder {
    Responder::new(Config {
        port: 0,
        mac,
        addresses: addresses.parse().expect("addresses"),
        pings: true,
        find: find.map(|(wanted, from)| (ip(wanted), ip(from))),
    })
}

/// One asks and the other answers; then the one has found the other.
fn find(wanted: &str, from: &str, addresses: &str) {
    let pool = pool();
    let mut asker = at(PEER, from, Some((wanted, from)));
    let mut other = at(ME, addresses, None);
    let mut mbuf = pool.alloc().expect("an mbuf");
    asker.ask(&mut mbuf).expect("a question");
    assert!(mbuf.frame_len() >= LEAST);
    assert_eq!(other.answer(&mut mbuf), Answer::Reply);
    let ethernet = Ethernet::parse(mbuf.data()).expect("a frame");
    assert_eq!((ethernet.dst(), ethernet.src()), (PEER, ME));
    assert!(asker.is_asking());
    assert_eq!(asker.answer(&mut mbuf), Answer::Told);
    assert_eq!(asker.found().mac(), Some(ME));
    assert!(!asker.is_asking());
}

#[test]
fn two_responders_find_each_other() {
    find("10.0.0.2", "10.0.0.1", "10.0.0.0/24");
    find("2001:db8::2", "2001:db8::1", "2001:db8::2");
}

#[test]
fn what_is_not_here_is_not_answered() {
    let pool = pool();
    for (wanted, from, addresses) in [
        ("10.0.0.2", "10.0.0.1", "10.0.0.3"),
        ("2001:db8::2", "2001:db8::1", "2001:db8::3"),
    ] {
        let mut mbuf = pool.alloc().expect("an mbuf");
        at(PEER, from, Some((wanted, from)))
            .ask(&mut mbuf)
            .expect("a question");
        let before = mbuf.data().to_vec();
        assert_eq!(at(ME, addresses, None).answer(&mut mbuf), Answer::Nothing);
        assert_eq!(mbuf.data(), before);
    }
}

#[test]
fn a_solicitation_without_a_source_is_answered_to_all() {
    let pool = pool();
    let mut mbuf = pool.alloc().expect("an mbuf");
    let message = NeighborMessage {
        kind: NEIGHBOR_SOLICITATION,
        flags: NeighborFlags::default(),
        target: "2001:db8::2".parse().expect("an address"),
        mac: None,
    };
    let frame = mbuf.append(14 + 40 + message.wire_len()).expect("room");
    let header = EthernetHeader::new(PEER, MacAddr::BROADCAST, EtherType::IPV6);
    EthernetMut::emit(frame, &header).expect("room");
    let group = nd::solicited_node(message.target);
    put_message(frame, 14, (Ipv6Addr::UNSPECIFIED, group), &message).expect("room");
    assert_eq!(at(ME, "2001:db8::2", None).answer(&mut mbuf), Answer::Reply);
    let (src, from, answer) = neighbor_message(mbuf.data(), 14).expect("an advertisement");
    assert_eq!((src, from), (message.target, ME));
    assert_eq!((answer.mac, answer.flags.solicited), (Some(ME), false));
    let ip = Ipv6::parse(&mbuf.data()[14..]).expect("a packet");
    assert_eq!(ip.dst(), nd::ALL_NODES);
}

#[test]
fn pings_to_our_addresses_are_answered() {
    let pool = pool();
    let mut frame = vec![0; 14 + 28];
    let header = EthernetHeader::new(PEER, ME, EtherType::IPV4);
    let mut ethernet = EthernetMut::emit(&mut frame, &header).expect("room");
    let header = Ipv4Header::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), IpProtocol::ICMP);
    let mut packet = Ipv4Mut::emit(ethernet.payload_mut(), &header, &[], 8).expect("room");
    let echo = IcmpHeader::echo(icmpv4::ECHO_REQUEST, 1, 2);
    Icmpv4Mut::emit(packet.payload_mut(), &echo)
        .expect("room")
        .fill_checksum();
    for (addresses, answer) in [("10.0.0.2", Answer::Reply), ("10.0.0.3", Answer::Nothing)] {
        let mut mbuf = pool.alloc().expect("an mbuf");
        mbuf.append(frame.len())
            .expect("room")
            .copy_from_slice(&frame);
        let mut responder = at(ME, addresses, None);
        assert_eq!(responder.answer(&mut mbuf), answer);
        assert_eq!(responder.answered(), u64::from(answer == Answer::Reply));
    }
}

proptest! {
    #[test]
    fn any_bytes(kind in 0..6_usize, bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let pool = pool();
        let mut frame = bytes;
        let starts = [&[0x08, 0x06][..], &[0x08, 0], &[0x86, 0xdd], &[0x81, 0, 0, 1, 0x86, 0xdd], &[0x88, 0xa8, 0, 1, 8, 6], &[]];
        for (at, byte) in (12..).zip(starts[kind]) {
            if let Some(place) = frame.get_mut(at) {
                *place = *byte;
            }
        }
        let mut mbuf = pool.alloc().expect("an mbuf");
        mbuf.append(frame.len()).expect("room").copy_from_slice(&frame);
        let mut responder = at(ME, "0.0.0.0/0,::/0", Some(("::1", "::2")));
        responder.answer(&mut mbuf);
    }
}
