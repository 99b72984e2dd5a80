//! Replies of another length than their requests.

use std::sync::{Arc, Mutex};

use linecard_hal::MbufFlags;
use linecard_wire::{IpProtocol, Ipv4, Ipv4Mut, Ipv6, Udp, UdpMut, parse_layers};
use proptest::prelude::*;

use super::frames::{IPV6, Made, Spec};
use super::*;
use crate::DropReason;

/// A frame whose checksums are right.
fn right(spec: Spec) -> Made {
    let mut made = spec.make();
    let (header, udp) = made.bytes[made.l3..made.end].split_at_mut(made.l4 - made.l3);
    let pseudo = if spec.kind == IPV6 {
        Ipv6::parse_partial(header).unwrap().pseudo()
    } else {
        let mut ip = Ipv4Mut::parse_partial(header).unwrap();
        ip.fill_checksum();
        ip.view().pseudo()
    };
    if spec.protocol == IpProtocol::UDP.0 {
        UdpMut::parse(udp).unwrap().fill_checksum(pseudo);
    }
    made
}

/// Cuts the last bytes of a packet off, and chains them to it again.
fn in_two_segments(packet: &mut Packet<'_>, bytes: usize, out: &mut Outbox) {
    let mut tail = out.alloc().unwrap();
    let at = packet.frame_len() - bytes;
    tail.append(bytes)
        .unwrap()
        .copy_from_slice(&packet.data()[at..]);
    assert!(packet.trim(bytes));
    packet.chain(tail).unwrap();
}

/// What a protocol that does this sends for that frame, and why it dropped it if it did.
fn answers(
    frame: Vec<u8>,
    claim: Claim,
    act: impl FnMut(u64, Packet<'_>, &mut Outbox) -> Verdict + Send + 'static,
) -> (Vec<Vec<u8>>, Report) {
    let a = TestPort::new("a", 1, vec![frame]);
    let mut act = Some(act);
    let protocols = Protocols::new()
        .with(move |_| Fake::new("it", claim.clone(), act.take().expect("one worker")));
    let report = run(std::slice::from_ref(&a), 1, protocols);
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.protocols[0].faults, 0, "{:?}", report.protocols[0]);
    (a.sent(), report)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_reply_is_a_whole_datagram_of_its_own(
        vlan in proptest::option::of(1u16..4095),
        six: bool,
        long: bool,
        padding in 0usize..30,
        cut in 0usize..57,
        reply in proptest::collection::vec(any::<u8>(), 0..1400),
    ) {
        let kind = if six { IPV6 } else { super::frames::IPV4 };
        let spec = Spec { vlan, kind, long, padding, fill: 7, ..Spec::udp(9) };
        let made = right(spec);
        let (sent, _) = answers(made.bytes.clone(), Claim::udp(9), {
            let reply = reply.clone();
            move |_, mut packet, out| {
                assert!(packet.checksums_ok());
                if cut > 0 {
                    in_two_segments(&mut packet, cut + padding, out);
                    assert!(packet.checksums_ok());
                }
                assert_eq!(packet.payload_in(&mut [0; 100]), [7; 56]);
                assert_eq!(packet.payload_in(&mut [0; 20])[..20], [7; 20]);
                packet.reply(&reply, out)
            }
        });
        prop_assert_eq!(sent.len(), 1);
        let sent = &sent[0];
        prop_assert_eq!(sent.len(), made.l4 + 8 + reply.len());
        prop_assert!(!parse_layers(sent).malformed);
        let turned = |bytes: &[u8]| [&bytes[6..12], &bytes[..6]].concat();
        prop_assert_eq!(&turned(sent), &made.bytes[..12]);
        prop_assert_eq!(&sent[12..made.l3], &made.bytes[12..made.l3]);
        let (udp, pseudo) = if six {
            let ip = Ipv6::parse(&sent[made.l3..]).unwrap();
            prop_assert_eq!((ip.src().octets()[15], ip.hop_limit()), (2, 64));
            (&sent[made.l4..], ip.pseudo())
        } else {
            let ip = Ipv4::parse(&sent[made.l3..]).unwrap();
            prop_assert!(ip.checksum_ok());
            prop_assert_eq!((ip.src().octets()[3], ip.ttl()), (4, 64));
            (ip.payload(), ip.pseudo())
        };
        let udp = Udp::parse(udp).unwrap();
        prop_assert!(udp.checksum_ok(pseudo) && udp.checksum() != 0);
        prop_assert_eq!((udp.src_port(), udp.dst_port(), udp.payload()), (9, 1, &reply[..]));
    }

    /// One bit of the IP header or of what it carries is wrong, and it is seen, also in the second segment.
    #[test]
    fn what_was_damaged_is_seen(six: bool, bit in 0usize..(20 + 64) * 8, cut in 0usize..57) {
        let kind = if six { IPV6 } else { super::frames::IPV4 };
        let mut made = right(Spec { kind, ..Spec::udp(9) });
        // IPv6 has no checksum over its header but for the addresses.
        let from = if six { made.l4 - 16 } else { made.l3 };
        made.bytes[from + bit / 8 % (made.end - from)] ^= 1 << (bit % 8);
        answers(made.bytes, Claim::udp(9), move |_, mut packet, out| {
            if cut > 0 {
                in_two_segments(&mut packet, cut, out);
            }
            assert!(!packet.checksums_ok());
            Verdict::Consume
        });
    }
}

/// Both layers have a length. UDP's ends the payload, and IP's is not less.
#[test]
fn a_datagram_ends_where_both_headers_say() {
    for (ip_less, udp_less, wanted) in [(0, 0, 56), (0, 6, 50), (6, 6, 50), (6, 0, 50)] {
        let mut made = Spec {
            kind: IPV6,
            fill: 7,
            ..Spec::udp(9)
        }
        .make();
        let (ip, udp) = (made.l3 + 4, made.l4 + 4);
        let shorten = |bytes: &mut [u8], by: u16| {
            let len = u16::from_be_bytes([bytes[0], bytes[1]]) - by;
            bytes[..2].copy_from_slice(&len.to_be_bytes());
        };
        shorten(&mut made.bytes[udp..], udp_less);
        let pseudo = Ipv6::parse(&made.bytes[made.l3..]).unwrap().pseudo();
        let datagram = &mut made.bytes[made.l4..made.end];
        UdpMut::parse(datagram).unwrap().fill_checksum(pseudo);
        shorten(&mut made.bytes[ip..], ip_less);
        answers(made.bytes, Claim::udp(9), move |_, mut packet, _| {
            assert_eq!(packet.payload(), &vec![7; wanted]);
            assert_eq!(packet.payload_mut().map(|bytes| bytes.len()), Some(wanted));
            assert_eq!(packet.checksums_ok(), ip_less <= udp_less);
            Verdict::Consume
        });
    }
}

#[test]
fn a_protocol_of_its_own_number_has_no_ports_to_exchange() {
    let made = right(Spec {
        protocol: 253,
        ..Spec::default()
    });
    let (sent, _) = answers(
        made.bytes,
        Claim::ip_protocol(IpProtocol(253)),
        |_, mut packet, out| packet.reply(b"here", out),
    );
    let ip = Ipv4::parse(&sent[0][14..]).unwrap();
    assert!(ip.checksum_ok());
    assert_eq!(
        (ip.protocol(), ip.payload()),
        (IpProtocol(253), &b"here"[..])
    );
}

#[test]
fn what_has_no_such_reply_is_dropped() {
    let tcp = Spec {
        protocol: 6,
        ..Spec::udp(9)
    };
    for (spec, claim, bytes, reason) in [
        (tcp, Claim::tcp(9), 4, DropReason::Malformed),
        (Spec::udp(9), Claim::udp(9), 4000, DropReason::NoMbuf),
    ] {
        let (sent, report) = answers(spec.make().bytes, claim, move |_, mut packet, out| {
            let verdict = packet.reply(&vec![0; bytes], out);
            assert_eq!(verdict, Verdict::Drop(reason));
            verdict
        });
        assert_eq!((sent.len(), report.account.drops), (0, 1));
    }
}

/// What was asked of a port for the request is not asked for the reply: its checksum is there.
#[test]
fn requests_to_the_port_end_with_the_packet_that_had_them() {
    let made = right(Spec::udp(9));
    let (sent, _) = answers(made.bytes, Claim::udp(9), |_, mut packet, out| {
        let asked = MbufFlags::TX_UDP_SEG | MbufFlags::TX_UDP_CKSUM | MbufFlags::RX_L4_CKSUM_NONE;
        let flags = packet.flags() | asked;
        packet.set_flags(flags);
        assert!(packet.checksums_ok());
        let verdict = packet.reply(b"one", out);
        assert!(!packet.flags().intersects(asked));
        verdict
    });
    let ip = Ipv4::parse(&sent[0][14..]).unwrap();
    assert!(Udp::parse(ip.payload()).unwrap().checksum_ok(ip.pseudo()));
}

#[test]
fn groups_are_known_by_frame_and_by_packet() {
    let groups = Arc::new(Mutex::new(Vec::new()));
    for (mac, ip) in [
        ([2, 0, 0, 0, 0, 2], [10, 1, 2, 4]),
        ([255; 6], [10, 1, 2, 4]),
        ([1, 0, 94, 0, 0, 1], [10, 1, 2, 4]),
        ([2, 0, 0, 0, 0, 2], [224, 0, 0, 1]),
        ([2, 0, 0, 0, 0, 2], [255; 4]),
    ] {
        let mut made = Spec::udp(9).make();
        made.bytes[..6].copy_from_slice(&mac);
        made.bytes[30..34].copy_from_slice(&ip);
        let found = groups.clone();
        answers(made.bytes, Claim::udp(9), move |_, packet, _| {
            found.lock().unwrap().push(packet.is_for_a_group());
            Verdict::Consume
        });
    }
    assert_eq!(*groups.lock().unwrap(), [false, true, true, true, true]);
}
