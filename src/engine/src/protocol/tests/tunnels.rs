//! Protocols in protocols.

use linecard_wire::{FlowKey, IpProtocol, Ipv4, checksum};

use super::super::MOST_LEVELS;
use super::frames::Spec;
use super::*;

const IPIP: IpProtocol = IpProtocol(4);

/// IP in IP, so many times, around a datagram to port 7.
fn nested(times: usize) -> Vec<u8> {
    let frame = Spec::udp(7).make().bytes;
    let mut packet = frame[14..].to_vec();
    for _ in 0..times {
        let len = (packet.len() + 20) as u16;
        let mut outer = vec![
            0x45,
            0,
            (len >> 8) as u8,
            len as u8,
            0,
            0,
            0,
            0,
            64,
            IPIP.0,
            0,
            0,
        ];
        outer.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        let sum = checksum(&outer);
        outer[10..12].copy_from_slice(&sum.to_be_bytes());
        outer.extend(packet);
        packet = outer;
    }
    [&frame[..14], &packet].concat()
}

fn ipip(_: u16) -> Fake {
    Fake::new("ipip", Claim::ip_protocol(IPIP), |_, packet, _| {
        Verdict::InnerPacket(packet.layers().payload_offset() as u16)
    })
}

/// Datagrams in frames in datagrams to port 4789, eight bytes of header between.
fn vxlan(_: u16) -> Fake {
    Fake::new("vxlan", Claim::udp(4789), |_, packet, _| {
        Verdict::InnerFrame(packet.layers().payload_offset() as u16 + 8)
    })
}

fn echo(_: u16) -> Fake {
    Fake::echo("echo", Claim::udp(7))
}

#[test]
fn a_reply_leaves_by_the_tunnels_that_its_request_came_by() {
    for times in 0..=MOST_LEVELS {
        let a = TestPort::new("a", 1, vec![nested(times); 40]);
        let report = run(
            std::slice::from_ref(&a),
            1,
            Protocols::new().with(ipip).with(echo),
        );
        assert_eq!(a.sent().len(), 40, "{times}: {report:#?}");
        let mut rest = &a.sent()[0][14..];
        for _ in 0..times {
            let ip = Ipv4::parse(rest).unwrap();
            assert!(ip.checksum_ok());
            assert_eq!((ip.src().octets(), ip.protocol()), ([192, 0, 2, 2], IPIP));
            rest = &rest[20..];
        }
        let frame = [&[0; 12][..], &[8, 0], rest].concat();
        let key = FlowKey::parse(&frame).unwrap();
        assert_eq!(key.to_string(), "UDP 10.1.2.4:7 -> 10.1.2.3:1");
        assert_eq!(report.protocols[0].received, 40 * times as u64);
        assert!(report.is_clean());
    }
}

#[test]
fn sixty_four_levels_are_too_many() {
    let a = TestPort::new("a", 1, vec![nested(64); 10]);
    let report = run(&[a], 1, Protocols::new().with(ipip).with(echo));
    assert_eq!(report.ports[0].drops["nested_too_deep"], 10);
    assert_eq!(report.protocols[0].received, 10 * (MOST_LEVELS as u64 + 1));
    assert!(report.is_clean());
}

#[test]
fn frames_in_datagrams() {
    let inner = Spec::udp(7).make().bytes;
    // Room for the inner frame: made by hand, the payload of 56 bytes is too short.
    let mut outer = Spec::udp(4789).make().bytes;
    outer.truncate(14 + 20 + 8);
    let len = (8 + 8 + inner.len()) as u16;
    outer[16..18].copy_from_slice(&(20 + len).to_be_bytes());
    outer[38..40].copy_from_slice(&len.to_be_bytes());
    outer.extend([8, 0, 0, 0, 0, 0, 5, 0]);
    outer.extend(&inner);
    let cut = outer[..70].to_vec();
    let a = TestPort::new("a", 1, vec![outer.clone(), cut]);
    let report = run(
        std::slice::from_ref(&a),
        1,
        Protocols::new().with(vxlan).with(echo),
    );
    let sent = a.sent();
    assert_eq!((sent.len(), sent[0].len()), (1, outer.len()));
    assert_eq!(FlowKey::parse(&sent[0]).unwrap().src_port(), 4789);
    assert_eq!(FlowKey::parse(&sent[0][50..]).unwrap().src_port(), 7);
    // Inside, what is cut short is malformed as it is outside.
    assert_eq!(report.ports[0].drops["malformed"], 1);
    assert!(report.is_clean());
}

#[test]
fn a_tunnel_that_takes_no_reply() {
    let one_way = |_| {
        let mut fake = ipip(0);
        fake.wrap = Box::new(|_, _, _| Verdict::Pass);
        fake
    };
    let a = TestPort::new("a", 1, vec![nested(1); 10]);
    let report = run(&[a], 1, Protocols::new().with(one_way).with(echo));
    assert_eq!(report.ports[0].drops["no_way_back"], 10);
    // Neither does one that panics, and that is its own fault.
    let broken = |_| {
        let mut fake = ipip(0);
        fake.wrap = Box::new(|_, _, _| panic!("upside down"));
        fake
    };
    let a = TestPort::new("a", 1, vec![nested(1); 10]);
    let report = run(&[a], 1, Protocols::new().with(broken).with(echo));
    assert_eq!(report.ports[0].drops["stage_panic"], 10);
    assert_eq!(
        (report.protocols[0].faults, report.protocols[1].faults),
        (10, 0)
    );
    assert!(report.is_clean());
}
