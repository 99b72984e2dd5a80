//! Frames of templates, held against the dissector.

use proptest::prelude::*;

use linecard_wire::describe::Role;

use super::*;
use crate::stamp::Stamp;

const ADDRESSES: Addresses = Addresses {
    own: MacAddr([2, 0, 0, 0, 0, 1]),
    peer: MacAddr([2, 0, 0, 0, 0, 2]),
};

fn spec(packet: &str, sizes: &str, vary: &[&str]) -> StreamSpec {
    StreamSpec {
        packet: packet.into(),
        sizes: sizes.parse().unwrap(),
        vary: vary.iter().map(|text| text.parse().unwrap()).collect(),
        ..StreamSpec::default()
    }
}

/// So many frames of each size, as one of so many workers sends them.
fn frames(spec: &StreamSpec, each: usize, worker: u64, workers: u64) -> Vec<Vec<u8>> {
    let template = Template::new(spec, ADDRESSES).unwrap();
    let mut columns = template.columns((worker, workers), 0, Pcg64::seed_from_u64(7));
    let mut frames = Vec::new();
    for index in 0..template.sizes().len() {
        let variant = template.variant(index as u16).unwrap();
        for n in 0..each {
            // Whatever was in the buffer before.
            let mut frame = vec![0xa5; variant.len.into()];
            write(variant, &mut columns, &mut frame);
            if template.stamped {
                let stamp = Stamp {
                    lane: 7,
                    sequence: n as u32,
                    sent_ns: 0x1234_5678_9abc * n as u64,
                };
                assert!(stamp.put_at_end_of(&mut frame));
            }
            frames.push(frame);
        }
    }
    frames
}

fn text(frame: &[u8]) -> String {
    Headers::standard().dissect("eth", frame).to_string()
}

/// Every length and checksum is what it should be: none has to be said.
fn assert_right(frame: &[u8]) {
    let headers = Headers::standard();
    let dissection = headers.dissect("eth", frame);
    let expression = dissection.to_expression();
    for (index, layer) in dissection.layers().iter().enumerate() {
        for field in layer.header.fixed() {
            let automatic = matches!(field.role, Role::Checksum(_) | Role::Length { .. });
            let said = expression.value(index, field.name);
            assert!(
                !automatic || said.is_none(),
                "{}.{}: {dissection}",
                layer.header.name,
                field.name
            );
        }
    }
}

#[test]
fn what_is_left_out_is_filled_in() {
    for (packet, starts) in [
        (
            "eth",
            "eth(dst=02:00:00:00:00:02, src=02:00:00:00:00:01)/ipv4(src=198.18.0.1, dst=198.19.0.1)/udp(sport=1024, dport=9)/",
        ),
        (
            "ipv4(dst=10.0.0.2)",
            "eth(dst=02:00:00:00:00:02, src=02:00:00:00:00:01)/ipv4(src=198.18.0.1, dst=10.0.0.2)/udp(sport=1024, dport=9)/",
        ),
        (
            "udp(dport=53)",
            "eth(dst=02:00:00:00:00:02, src=02:00:00:00:00:01)/ipv4(src=198.18.0.1, dst=198.19.0.1)/udp(sport=1024, dport=53)/",
        ),
        (
            "eth/vlan(vid=7)/ipv6",
            "eth(dst=02:00:00:00:00:02, src=02:00:00:00:00:01)/vlan(vid=7)/ipv6(src=2001:2::1, dst=2001:2:0:1::1)/udp(sport=1024, dport=9)/",
        ),
        (
            "eth(dst=ff:ff:ff:ff:ff:ff)/arp",
            "eth(dst=ff:ff:ff:ff:ff:ff, src=02:00:00:00:00:01)/arp(sender_mac=02:00:00:00:00:01, sender_ip=198.18.0.1, target_ip=198.19.0.1)/pad(",
        ),
        (
            "eth(ethertype=0x1234)",
            "eth(dst=02:00:00:00:00:02, src=02:00:00:00:00:01, ethertype=0x1234)/data(",
        ),
        (
            "icmp/echo",
            "eth(dst=02:00:00:00:00:02, src=02:00:00:00:00:01)/ipv4(src=198.18.0.1, dst=198.19.0.1)/icmp",
        ),
    ] {
        let frame = &frames(&spec(packet, "128", &[]), 1, 0, 1)[0];
        assert_eq!(frame.len(), 124);
        assert!(text(frame).starts_with(starts), "{packet}: {}", text(frame));
        assert_right(frame);
    }
}

#[test]
fn a_size_too_small_names_the_least() {
    let error = Template::new(&spec("ipv6/udp", "64", &[]), ADDRESSES).unwrap_err();
    assert!(error.contains("84 is the least size"), "{error}");
    let mut unstamped = spec("ipv6/udp", "66", &[]);
    unstamped.stamp = false;
    assert!(Template::new(&unstamped, ADDRESSES).is_ok());
    let error = Template::new(&spec("ipv4/udp/pad(0x00)", "64", &[]), ADDRESSES).unwrap_err();
    assert!(error.contains("--no-stamp"), "{error}");
}

#[test]
fn fields_step_as_they_are_told() {
    let vary = ["udp.sport=10..12 & ipv4.src=10.0.0.1..10.0.0.3 then udp.dport=[5, 7]"];
    let read = |frame: &Vec<u8>| {
        (
            u16::from_be_bytes([frame[34], frame[35]]),
            frame[29],
            frame[37],
        )
    };
    let all = |worker, workers| -> Vec<_> {
        frames(&spec("eth/ipv4/udp", "64", &vary), 12, worker, workers)
            .iter()
            .map(read)
            .collect()
    };
    let once = [
        (10, 1, 5),
        (11, 2, 5),
        (12, 3, 5),
        (10, 1, 7),
        (11, 2, 7),
        (12, 3, 7),
    ];
    assert_eq!(all(0, 1), [once, once].concat());
    // Two workers have every other one.
    let (a, b) = (all(0, 2), all(1, 2));
    let both: Vec<_> = a
        .iter()
        .zip(&b)
        .flat_map(|(a, b)| [*a, *b])
        .take(12)
        .collect();
    assert_eq!(both, [once, once].concat());
}

#[test]
fn so_many_flows_there_are() {
    for (packet, flows, src) in [
        ("eth/ipv4/udp", 1000, 26),
        ("eth/ipv4/tcp", 100_000, 26),
        ("eth/ipv4/icmp", 77, 26),
        ("eth/ipv6/udp", 64_513, 22),
    ] {
        let mut spec = spec(packet, "128", &[]);
        spec.flows = flows;
        let ports = src + 4 + if src == 22 { 28 } else { 4 };
        let seen: std::collections::HashSet<Vec<u8>> = frames(&spec, 200_000, 0, 1)
            .into_iter()
            .inspect(|frame| {
                if frame[12] == 0 {
                    assert_right(frame)
                }
            })
            .map(|frame| [&frame[src..src + 16], &frame[ports..ports + 2]].concat())
            .collect();
        assert_eq!(seen.len(), flows as usize, "{packet}");
    }
    let mut spec = spec("eth/ipv4(src=255.255.255.250)/udp", "64", &[]);
    spec.flows = 1_000_000;
    let error = Template::new(&spec, ADDRESSES).unwrap_err();
    assert!(error.contains("255.255.255.250"), "{error}");
}

#[test]
fn a_field_at_the_end_of_a_frame_changes_with_its_checksum() {
    // The checksum is the last word: what is worked out in blocks reaches further than the frame does.
    let mut spec = spec(
        "eth/ipv6/udp",
        "66",
        &["udp.sport=1..100", "ipv6.hop_limit=1..9"],
    );
    spec.stamp = false;
    for (n, frame) in (0..100).zip(frames(&spec, 100, 0, 1)) {
        assert_eq!((frame.len(), frame[55], frame[21]), (62, n + 1, n % 9 + 1));
        assert_right(&frame);
    }
}

#[test]
fn a_checksum_said_stays_as_it_is_said() {
    let vary = ["udp.sport=1..100"];
    for frame in frames(&spec("eth/ipv4/udp(checksum=0)", "64", &vary), 100, 0, 1) {
        assert_eq!(frame[40..42], [0, 0]);
    }
}

#[test]
fn frames_of_a_capture_are_sent_as_they_are_but_for_the_stamp() {
    let headers = Headers::standard();
    let packet =
        "eth/ipv4(dst=10.0.0.2)/udp(dport=53)/data(\"0123456789abcdefghijklmnopqrstuvwxyz\")";
    let frame = headers.expression(packet).unwrap().to_bytes().unwrap();
    let mut spec = StreamSpec {
        frame: Some(frame.clone()),
        flows: 10,
        ..StreamSpec::default()
    };
    for sent in frames(&spec, 10, 0, 1) {
        assert_eq!((sent.len(), &sent[42..60]), (frame.len(), &frame[42..60]));
        assert_right(&sent);
        assert!(Stamp::at_end_of(&sent).is_some());
    }
    spec.stamp = false;
    spec.flows = 1;
    assert_eq!(frames(&spec, 1, 0, 1)[0], frame);
    // An ARP request has its stamp in the padding; a short datagram has no room.
    spec.stamp = true;
    spec.frame = Some(headers.expression("eth/arp").unwrap().to_bytes().unwrap());
    assert_eq!(frames(&spec, 1, 0, 1)[0].len(), 60);
    spec.frame = Some(
        headers
            .expression("eth/ipv4/udp/data(\"short\")")
            .unwrap()
            .to_bytes()
            .unwrap(),
    );
    let error = Template::new(&spec, ADDRESSES).unwrap_err();
    assert!(error.contains("--no-stamp"), "{error}");
}

/// What is written over what is under all blocks, if there are one or two, is what is written without that.
fn assert_the_same_over_an_image(spec: &StreamSpec, frames: usize) {
    fn of<const B: usize>(template: &Template, frames: usize) {
        let variant = template.variant(0).unwrap();
        let columns = |keep| template.columns((0, 1), keep, Pcg64::seed_from_u64(7));
        let (mut plain, mut over) = (columns(0), columns(8192));
        let Some(under) = over.under::<B>(variant) else {
            return;
        };
        for _ in 0..frames {
            let mut frames = [(); 2].map(|()| vec![0; variant.len.into()]);
            let [one, other] = &mut frames;
            write(variant, &mut plain, one);
            copy(&variant.image, other);
            over.write_over(&under, other);
            assert_eq!(one, other);
        }
    }
    let template = Template::new(spec, ADDRESSES).unwrap();
    of::<1>(&template, frames);
    of::<2>(&template, frames);
}

const PACKETS: [&str; 7] = [
    "eth/ipv4/udp",
    "eth/vlan/ipv4(options=0x01*8)/tcp/data(0x5a*31)",
    "eth/ipv6/tcp",
    "eth/ipv4/ipv4/udp",
    "eth/ipv4/ipv6/udp/data(\"odd\")",
    "eth/ipv6/icmp6/echo",
    "eth/ipv4/icmp/echo",
];

const FIELDS: [&str; 14] = [
    "ipv4.src=10.0.0.1..10.9.9.9 step 4097",
    "ipv4.dst=random(0.0.0.0..255.255.255.255)",
    "ipv4.ident=0..65535",
    "ipv4.dscp=0..63",
    "ipv4.ttl=[1, 64, 255]",
    "ipv4#2.src=random(0.0.0.0..255.255.255.255)",
    "ipv6.src=2001:db8::..2001:db8::ffff:ffff:ffff:ffff step 1311768467463790321",
    "ipv6.flow_label=random(0..0xfffff)",
    "udp.sport=random(0..65535) & udp.dport=1..65535",
    "tcp.seq=random(0..0xffffffff)",
    "tcp.flags=0..255",
    "eth.src=02:00:00:00:00:00..02:00:ff:ff:ff:ff step 65537",
    "vlan.vid=0..4095",
    "echo.seq=0..65535",
];

/// What is kept is what would be worked out anew, for longer than it takes to begin again.
#[test]
fn frames_that_begin_again_are_the_same_again() {
    // With how many frames one worker has all, and each of two, three and thirty-two.
    let cases: [(&[&str], _); 7] = [
        (&["udp.sport=0..31"], [32, 16, 32, 1]),
        (&["udp.sport=0..99"], [100, 50, 100, 25]),
        (&["udp.sport=0..99", "ipv4.ttl=1..6"], [300, 150, 100, 75]),
        (
            &["udp.sport=1..32 then ipv4.src=10.0.0.1..10.0.0.7"],
            [224, 112, 224, 7],
        ),
        (&["udp.sport=9..29 & ipv4.ttl=1..21"], [21, 21, 7, 21]),
        (&["udp.dport=[53, 80, 443]"], [3, 3, 1, 3]),
        (
            &["udp.sport=0..300", "ipv4.ttl=1..16"],
            [4816, 2408, 4816, 301],
        ),
    ];
    for (vary, periods) in cases {
        let spec = spec("eth/ipv4/udp", "64", vary);
        let template = Template::new(&spec, ADDRESSES).unwrap();
        let variant = template.variant(0).unwrap();
        for (who, period) in [(0, 1), (1, 2), (2, 3), (4, 32)].into_iter().zip(periods) {
            let columns = |keep| template.columns(who, keep, Pcg64::seed_from_u64(3));
            let (mut kept, mut anew) = (columns(1 << 20), columns(0));
            assert_eq!(
                (kept.period(), anew.period()),
                (Some(period), None),
                "{vary:?} {who:?}"
            );
            for n in 0..3 * period + 50 {
                let [one, other] = [&mut kept, &mut anew].map(|columns| {
                    let mut frame = vec![0; variant.len.into()];
                    write(variant, columns, &mut frame);
                    frame
                });
                assert_eq!(one, other, "{vary:?} {who:?}, frame {n}");
            }
        }
        // Of one worker, what can be kept in so many rows as it has there, more than once.
        assert_the_same_over_an_image(&spec, 700);
    }
}

#[test]
fn rows_are_kept_only_where_there_is_room_for_all_and_they_come_again() {
    let period = |size, vary: &[&str], keep| {
        let template = Template::new(&spec("eth/ipv4/udp", size, vary), ADDRESSES).unwrap();
        let columns = template.columns((0, 1), keep, Pcg64::seed_from_u64(3));
        columns.period()
    };
    let ports = ["udp.sport=0..99"];
    assert_eq!(period("64", &ports, 1600), Some(100));
    assert_eq!(period("64", &ports, 1599), None);
    let both = ["udp.sport=0..99 & ipv4.src=10.0.0.0..10.0.0.99"];
    assert_eq!(period("64", &both, 3200), Some(100));
    assert_eq!(period("64", &both, 3199), None);
    // Each size has checksums of its own, and nobody knows what random numbers come next.
    assert_eq!(period("64..65", &ports, 1 << 20), None);
    let random = ["udp.sport=random(0..10)"];
    assert_eq!(period("64", &random, 1 << 20), None);
    // As many values as there are numbers of 64 bits.
    let all = [
        "eth.src=00:00:00:00:00:00..ff:ff:ff:ff:ff:ff",
        "udp.sport=0..65535",
    ];
    assert_eq!(period("64", &all, 1 << 20), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn checksums_are_right_whatever_changes(
        packet in 0..PACKETS.len(), fields in 0u32..1 << FIELDS.len(), size in 0usize..7, flows in 1u32..100_000,
    ) {
        let packet = PACKETS[packet];
        let known = |vary: &&&str| {
            let spec = spec(packet, "256", &[**vary]);
            Template::new(&spec, ADDRESSES).is_ok()
        };
        let chosen = FIELDS.iter().enumerate().filter(|(n, _)| fields >> n & 1 == 1).map(|(_, f)| f);
        let vary: Vec<_> = chosen.filter(known).copied().collect();
        let mut spec = spec(packet, ["64", "100", "132", "160", "161", "512", "200..260"][size], &vary);
        spec.flows = flows;
        if let Err(error) = Template::new(&spec, ADDRESSES) {
            if error.contains("too few") {
                return Ok(());
            }
            prop_assert!(error.contains("in two ways"), "{}", error);
            spec.flows = 1;
        }
        for frame in frames(&spec, 8, 1, 3) {
            assert_right(&frame);
        }
        assert_the_same_over_an_image(&spec, 70);
    }
}
