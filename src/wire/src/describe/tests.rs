//! What holds for every description and every packet.

use super::*;
use crate::testing::hex;
use proptest::prelude::*;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

fn bytes_of(text: &str) -> Vec<u8> {
    Headers::standard()
        .expression(text)
        .unwrap()
        .to_bytes()
        .unwrap()
}

fn text_of(first: &str, bytes: &[u8]) -> String {
    Headers::standard().dissect(first, bytes).to_string()
}

/// What is read from what was printed is what was printed.
fn comes_back(headers: &Headers, first: &str, bytes: &[u8]) {
    let found = headers.dissect(first, bytes);
    let text = found.to_string();
    let again = headers
        .expression(&text)
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(
        again
            .to_bytes()
            .unwrap_or_else(|error| panic!("{text}: {error}")),
        bytes,
        "{text}"
    );
    assert_eq!(found.to_expression().to_bytes().unwrap(), bytes, "{text}");
    let _ = found.pretty().to_string();
    assert!(Diff::between(&found, &headers.dissect(first, bytes)).is_empty());
}

#[test]
fn every_table_is_sound() {
    let headers = Headers::standard();
    for header in headers.iter() {
        let name = header.name;
        assert_eq!(headers.find(name), Some(header), "two headers '{name}'");
        let bits: u32 = header.fields.iter().map(|field| field.width_bits).sum();
        assert!(
            bits > 0 && bits.is_multiple_of(8),
            "'{name}' has {bits} bits"
        );
        let mut at = 0;
        for field in header.fixed() {
            assert_eq!(
                (field.offset_bits, header.field(field.name)),
                (at, Some(field)),
                "{name}"
            );
            at += field.width_bits;
            let whole = field.offset_bits.is_multiple_of(8) && field.width_bits.is_multiple_of(8);
            assert!(
                whole || field.is_number() && field.order == Order::Big,
                "{name}.{}",
                field.name
            );
            if let Role::Length {
                of: Measure::Tail(tail),
                ..
            } = field.role
            {
                assert!(
                    header.tails().any(|field| field.name == tail),
                    "{name}.{tail}"
                );
            }
        }
        if let Payload::Always(next) = header.payload {
            assert!(headers.find(next).is_some(), "{name}");
        }
        if let Payload::SelectedIfZero(field) = header.payload {
            assert!(header.field(field).is_some(), "{name}");
        }
    }
}

#[test]
fn what_is_not_said_is_filled_in() {
    assert_eq!(
        bytes_of(
            "eth(dst=ff:ff:ff:ff:ff:ff, src=2:0:0:0:0:1)/arp(sender_ip=192.0.2.1, target_ip=192.0.2.2)"
        ),
        hex(
            "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 000000000000 c0000201 000000000000 c0000202"
        )
    );
    let ping =
        bytes_of("ipv4(src=192.0.2.1, dst=192.0.2.2)/icmp/echo(ident=7, seq=1)/data(\"ping\")");
    let ip = crate::Ipv4::parse(&ping).unwrap();
    assert!(ip.checksum_ok() && ip.protocol() == crate::IpProtocol::ICMP);
    let icmp = crate::Icmpv4::parse(ip.payload()).unwrap();
    assert!(icmp.checksum_ok() && icmp.is_echo_request());
    assert_eq!(
        (icmp.ident(), icmp.seq(), icmp.payload()),
        (7, 1, &b"ping"[..])
    );

    let syn =
        bytes_of("ipv6(src=fe80::1, dst=fe80::2)/tcp(dport=80, flags=syn, options=0x0204_05b4_01)");
    let ip = crate::Ipv6::parse(&syn).unwrap();
    let tcp = crate::Tcp::parse(ip.payload()).unwrap();
    assert_eq!(
        (tcp.header_len(), tcp.options_bytes()),
        (28, &[2, 4, 5, 0xb4, 1, 0, 0, 0][..])
    );
    assert!(tcp.checksum_ok(ip.pseudo()));
}

#[test]
fn what_is_said_is_written_right_or_wrong() {
    let bytes = bytes_of(
        "ipv4(version=5, ihl=15, total_len=9, checksum=0xdead)/udp(len=0, checksum=0)/data(0x00*9)/pad(0xff)",
    );
    assert_eq!(
        (bytes[0], &bytes[2..4], &bytes[10..12]),
        (0x5f, &[0, 9][..], &[0xde, 0xad][..])
    );
    assert_eq!((&bytes[24..28], bytes.len()), (&[0; 4][..], 20 + 8 + 9 + 1));
}

#[test]
fn packets_print_as_short_as_can_be() {
    for text in [
        "eth(src=02:00:00:00:00:01)/vlan(vid=5)/ipv4(dst=10.0.0.2)/udp(dport=53)/data(\"a\\\"b,)/\")",
        "eth(ethertype=qinq)/vlan/vlan/ipv6(src=fe80::1)/icmp6(type=echo_reply)/echo(ident=9)",
        "eth/ipv4(df=0, mf=1)/udp(sport=1, len=2008, checksum=0x0102)/data(0xab*1472)",
        "eth/ipv4(frag=185, protocol=udp)/data(0xab*528)",
        "eth/arp(op=reply)/pad(0x00*18)",
        "eth/ipv6/ip6_frag(mf=1, ident=0x00000007)/tcp(seq=1, flags=syn|ack, options=0x020405b4)/data(0x0001)",
        "eth/ipv4/icmp(code=3)/icmp_error/ipv4(ttl=1)/udp(dport=33434)",
        "eth/ipv6(hop_limit=255)/icmp6/nd_ns(target=fe80::2)/nd_option(type=source_lladdr, body=0x020000000001)",
        "eth/data",
    ] {
        let text = text.trim_end_matches("/data");
        assert_eq!(text_of("eth", &bytes_of(text)), text);
        comes_back(&Headers::standard(), "eth", &bytes_of(text));
    }
    assert_eq!(text_of("eth", &[1, 2, 3]), "data(0x010203)");
    assert_eq!(text_of("eth", &[]), "data(0x)");
}

#[test]
fn endless_headers_end() {
    let headers = Headers::standard();
    let tunnels = [
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 4, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]
    .repeat(3000);
    for (first, bytes) in [("nd_option", &[0; 65000][..]), ("ipv4", &tunnels)] {
        let found = headers.dissect(first, bytes);
        assert_eq!(found.layers().len(), MAX_LAYERS);
        comes_back(&headers, first, bytes);
    }
}

#[test]
fn errors_say_where_and_what_would_be_right() {
    let wrong = [
        ("eth//udp", 4, "the name of a header"),
        ("eth/ipx", 4, "there is no header 'ipx'; there are eth vlan"),
        ("eth udp", 4, "behind '/'"),
        (
            "udp(port=5)",
            4,
            "'udp' has no field 'port'; it has sport, dport",
        ),
        ("udp(dport)", 9, "'dport' is followed by '='"),
        (
            "udp(dport=x)",
            10,
            "'x' is no value of 'dport': it is a number",
        ),
        (
            "udp(dport=65536)",
            10,
            "65536 is too large for 'dport', which has 16 bits: 65535 at most",
        ),
        ("udp(dport=+1)", 10, "'+1' is no value"),
        ("udp(dport=1", 11, "',' and the next field"),
        ("udp(dport=1, dport=2)", 13, "said twice"),
        ("icmp(type=ping)", 10, "a number, or echo_reply"),
        (
            "tcp(flags=syn|fun)",
            10,
            "'fun' is no value of 'flags': a number, or fin, syn",
        ),
        ("ipv4(dst=10.0.0)", 9, "no IPv4 address"),
        ("ipv6(dst=10.0.0.1)", 9, "no IPv6 address"),
        ("eth(dst=02:00)", 8, "no Ethernet address"),
        ("eth(dst=2:0:0:0:0:+1)", 8, "no Ethernet address"),
        ("data", 4, "bytes in parentheses"),
        ("data(0x123)", 5, "odd number"),
        ("data(0xgg)", 5, "other characters"),
        ("data(\"\\q\")", 5, "after \\ comes"),
        ("data(0x00*9999999)", 5, "longer than"),
        ("data(0x00)/udp", 11, "nothing but pad()"),
        ("pad(0x00)/udp", 10, "pad() is the end"),
        ("", 0, "the name of a header"),
    ];
    for (text, at, what) in wrong {
        let error = Headers::standard().expression(text).expect_err(text);
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.what.contains(what), "{text}: {error}");
    }
    let long = Headers::standard()
        .expression("eth/ipv4/data(0x00*70000)")
        .unwrap();
    let error = long.to_bytes().unwrap_err();
    assert_eq!(
        error.to_string(),
        "at character 5: 'ipv4.total_len' cannot say how long this is"
    );
}

#[test]
fn a_diff_names_fields() {
    let headers = Headers::standard();
    let diff = |a: &str, b: &str| {
        let (a, b) = (bytes_of(a), bytes_of(b));
        Diff::between(&headers.dissect("eth", &a), &headers.dissect("eth", &b)).to_string()
    };
    assert_eq!(diff("eth/ipv4/udp", "eth/ipv4/udp"), "");
    assert_eq!(
        diff(
            "eth/ipv4/icmp/icmp_error/ipv4(ttl=9)",
            "eth/ipv4/icmp(checksum=0)/icmp_error/ipv4(ttl=8, checksum=0)"
        ),
        "  icmp.checksum    0xfcff  0x0000\n  ipv4#2.ttl       9       8\n  ipv4#2.checksum  0x70ee  0x0000\n"
    );
    let text = diff("eth/ipv4/udp/data(\"a\")", "eth/ipv4/tcp(flags=rst)");
    assert!(
        text.contains("ipv4.protocol") && text.contains("after ipv4      udp/data(\"a\")"),
        "{text}"
    );
    assert!(text.contains("tcp(flags=rst)"), "{text}");
}

#[test]
fn an_expression_minds_only_what_it_says() {
    let headers = Headers::standard();
    let mismatches = |wanted: &str, packet: &str| {
        let packet = bytes_of(packet);
        let wanted = headers.expression(wanted).unwrap();
        let diff = wanted.mismatches(&headers, &packet).unwrap();
        diff.list
            .into_iter()
            .map(|difference| difference.what)
            .collect::<Vec<_>>()
    };
    let packet = "eth/ipv4(ttl=9, src=10.0.0.1)/udp(sport=7, dport=53)/data(\"hello\")";
    assert!(mismatches("eth/ipv4(ttl=9)/udp(dport=53)", packet).is_empty());
    assert_eq!(
        mismatches("eth/ipv4(ttl=8)/udp(dport=54)/data(\"hallo\")", packet),
        ["ipv4.ttl", "udp.dport", "data"]
    );
    assert_eq!(mismatches("eth/ipv4/tcp", packet), ["after ipv4"]);
}

#[test]
fn a_page_for_people_says_what_is_wrong() {
    let bytes =
        bytes_of("eth/ipv4(checksum=1, version=6)/udp(checksum=0)/data(\"ping\")/pad(0x0000)");
    let page = Headers::standard()
        .dissect("eth", &bytes)
        .pretty()
        .to_string();
    for line in [
        "eth: Ethernet II, 14 bytes\n  dst        00:00:00:00:00:00\n",
        "  ethertype  ipv4 (0x0800)\n",
        "  version    6  (wrong: 4 expected)\n",
        "  checksum   0x0001  (wrong: 0x1ace expected)\n",
        "  checksum  0x0000  (none)\n",
        "data: 4 bytes\n  0000  70 69 6e 67",
        "pad: 2 bytes\n",
    ] {
        assert!(page.contains(line), "{line:?} is not in\n{page}");
    }
}

/// One bit after the other, from the most significant one.
fn naive_read(bytes: &[u8], offset: u32, width: u32) -> u64 {
    (offset..offset + width).fold(0, |value, bit| {
        value << 1 | u64::from(bytes[bit as usize / 8] >> (7 - bit % 8) & 1)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn numbers_lie_bit_by_bit(
        mut bytes in proptest::collection::vec(any::<u8>(), 12), offset in 0u32..24, width in 1u32..=64, value: u64,
    ) {
        let mut field = Field::uint("x", width);
        field.offset_bits = offset;
        let before = bytes.clone();
        prop_assert_eq!(bits::read(&bytes, &field), Some(naive_read(&bytes, offset, width)));
        bits::write(&mut bytes, &field, value).unwrap();
        prop_assert_eq!(naive_read(&bytes, offset, width), value & field.max());
        for bit in (0..96).filter(|bit| !(offset..offset + width).contains(bit)) {
            prop_assert_eq!(naive_read(&bytes, bit, 1), naive_read(&before, bit, 1));
        }
    }

    #[test]
    fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..200), first in 0..standard::ALL.len()) {
        let headers = Headers::standard();
        comes_back(&headers, standard::ALL[first].name, &bytes);
    }

    #[test]
    fn damaged_packets_come_back(
        which in 0usize..7, changes in proptest::collection::vec((0usize..90, any::<u8>()), 0..6), cut in 0usize..60,
    ) {
        let mut bytes = bytes_of([
            "eth/vlan/ipv4(options=0x94040000)/tcp(options=0x0101080a0000000100000002)/data(\"hello, world\")",
            "eth/ipv6/ip6_frag/udp(dport=53)/data(0x00*20)/pad(0x010203)",
            "eth/ipv4/icmp/icmp_error/ipv4/udp(dport=9)/data(0x01020304)",
            "eth/ipv6/icmp6/nd_na/nd_option(type=1, body=0x0102)/nd_option(type=2, body=0x0304)",
            "eth/arp/pad(0x00*18)",
            "eth/ipv4/ipv6/ipv4/udp/data(\"tunnel\")",
            "eth/ipv4/udp/data(\"\\r\\n\\t\\\\\")",
        ][which]);
        for (at, value) in changes {
            let len = bytes.len();
            bytes[at % len] = value;
        }
        bytes.truncate(bytes.len().saturating_sub(cut / 2));
        comes_back(&Headers::standard(), "eth", &bytes);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(eth|ipv4|udp|data|pad|tcp)?[a-z0-9(),=/*\"\\\\x| :.é]{0,40}") {
        if let Ok(packet) = Headers::standard().expression(&text) {
            let _ = packet.to_bytes();
        }
    }

    #[test]
    fn the_views_agree(mut bytes in proptest::collection::vec(any::<u8>(), 80)) {
        // As the views want them to be; everything else is arbitrary.
        let at = |header: &'static Description, name: &str, bytes: &[u8]| {
            Value::read(bytes, header.field(name).unwrap()).unwrap()
        };
        let is = |header, name, bytes: &[u8], number: u64| {
            prop_assert_eq!(at(header, name, bytes), Value::Number(number), "{}", name);
            Ok(())
        };
        let has = |header, name, bytes: &[u8], octets: &[u8]| {
            prop_assert_eq!(at(header, name, bytes), Value::Bytes(octets.into()), "{}", name);
            Ok(())
        };
        let eth = crate::Ethernet::parse(&bytes).unwrap();
        has(&standard::ETH, "dst", &bytes, &eth.dst().0)?;
        has(&standard::ETH, "src", &bytes, &eth.src().0)?;
        is(&standard::ETH, "ethertype", &bytes, eth.ethertype().0.into())?;

        let tagged = crate::vlan::Untagged::parse(crate::EtherType::VLAN, &bytes);
        if let Ok(tagged) = tagged && let [tag] = tagged.tags() {
            is(&standard::VLAN, "pcp", &bytes, tag.priority().into())?;
            is(&standard::VLAN, "dei", &bytes, tag.drop_eligible().into())?;
            is(&standard::VLAN, "vid", &bytes, tag.vid().into())?;
            is(&standard::VLAN, "ethertype", &bytes, tagged.ethertype().0.into())?;
        }



        if let Ok(udp) = crate::Udp::parse_partial(&bytes) {
            is(&standard::UDP, "sport", &bytes, udp.src_port().into())?;
            is(&standard::UDP, "dport", &bytes, udp.dst_port().into())?;
            is(&standard::UDP, "len", &bytes, udp.wire_len().into())?;
            is(&standard::UDP, "checksum", &bytes, udp.checksum().into())?;
        }

        let icmp = crate::Icmpv4::parse(&bytes).unwrap();
        for header in [&standard::ICMP, &standard::ICMP6] {
            is(header, "type", &bytes, icmp.kind().into())?;
            is(header, "code", &bytes, icmp.code().into())?;
            is(header, "checksum", &bytes, icmp.checksum().into())?;
        }
        is(&standard::ECHO, "ident", &bytes[4..], icmp.ident().into())?;
        is(&standard::ECHO, "seq", &bytes[4..], icmp.seq().into())?;

        bytes[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        let arp = crate::ArpPacket::parse(&bytes).unwrap();
        is(&standard::ARP, "op", &bytes, arp.operation().0.into())?;
        has(&standard::ARP, "sender_mac", &bytes, &arp.sender_mac().0)?;
        has(&standard::ARP, "sender_ip", &bytes, &arp.sender_ip().octets())?;
        has(&standard::ARP, "target_mac", &bytes, &arp.target_mac().0)?;
        has(&standard::ARP, "target_ip", &bytes, &arp.target_ip().octets())?;

        (bytes[0], bytes[2], bytes[3]) = (0x45, 0, 70);
        let ip = crate::Ipv4::parse(&bytes).unwrap();
        is(&standard::IPV4, "version", &bytes, ip.version().into())?;
        is(&standard::IPV4, "ihl", &bytes, ip.header_len() as u64 / 4)?;
        is(&standard::IPV4, "dscp", &bytes, ip.dscp().into())?;
        is(&standard::IPV4, "ecn", &bytes, ip.ecn().into())?;
        is(&standard::IPV4, "total_len", &bytes, ip.total_len().into())?;
        is(&standard::IPV4, "ident", &bytes, ip.ident().into())?;
        is(&standard::IPV4, "df", &bytes, ip.dont_fragment().into())?;
        is(&standard::IPV4, "mf", &bytes, ip.more_fragments().into())?;
        is(&standard::IPV4, "frag", &bytes, u64::from(ip.fragment_offset()) / 8)?;
        is(&standard::IPV4, "ttl", &bytes, ip.ttl().into())?;
        is(&standard::IPV4, "protocol", &bytes, ip.protocol().0.into())?;
        is(&standard::IPV4, "checksum", &bytes, ip.checksum().into())?;
        has(&standard::IPV4, "src", &bytes, &ip.src().octets())?;
        has(&standard::IPV4, "dst", &bytes, &ip.dst().octets())?;

        bytes[12] = 0x50 | bytes[12] & 0x0f;
        let tcp = crate::Tcp::parse(&bytes).unwrap();
        is(&standard::TCP, "sport", &bytes, tcp.src_port().into())?;
        is(&standard::TCP, "dport", &bytes, tcp.dst_port().into())?;
        is(&standard::TCP, "seq", &bytes, tcp.seq().into())?;
        is(&standard::TCP, "ack", &bytes, tcp.ack().into())?;
        is(&standard::TCP, "offset", &bytes, tcp.header_len() as u64 / 4)?;
        is(&standard::TCP, "ae", &bytes, tcp.accurate_ecn().into())?;
        is(&standard::TCP, "flags", &bytes, tcp.flags().0.into())?;
        is(&standard::TCP, "window", &bytes, tcp.window().into())?;
        is(&standard::TCP, "checksum", &bytes, tcp.checksum().into())?;
        is(&standard::TCP, "urgent", &bytes, tcp.urgent().into())?;

        (bytes[0], bytes[4], bytes[5]) = (0x60 | bytes[0] & 0x0f, 0, 30);
        let ip = crate::Ipv6::parse(&bytes).unwrap();
        is(&standard::IPV6, "version", &bytes, ip.version().into())?;
        is(&standard::IPV6, "dscp", &bytes, ip.dscp().into())?;
        is(&standard::IPV6, "ecn", &bytes, ip.ecn().into())?;
        is(&standard::IPV6, "flow_label", &bytes, ip.flow_label().into())?;
        is(&standard::IPV6, "payload_len", &bytes, ip.payload_len().into())?;
        is(&standard::IPV6, "next_header", &bytes, ip.next_header().0.into())?;
        is(&standard::IPV6, "hop_limit", &bytes, ip.hop_limit().into())?;
        has(&standard::IPV6, "src", &bytes, &ip.src().octets())?;
        has(&standard::IPV6, "dst", &bytes, &ip.dst().octets())?;
    }
}

#[test]
fn expressions_are_changed_and_stay_right() {
    let headers = Headers::standard();
    let mut packet = headers.expression("eth/ipv4/udp(dport=7)").unwrap();
    assert_eq!(packet.set(2, "dport", Value::Number(70_000)), None);
    assert_eq!(packet.set(2, "ttl", Value::Number(1)), None);
    assert_eq!(packet.set(9, "ttl", Value::Number(1)), None);
    assert_eq!(packet.set(1, "src", Value::Bytes(vec![1, 2, 3])), None);
    assert_eq!(
        packet.set(1, "src", Value::Bytes(vec![10, 0, 0, 1])),
        Some(())
    );
    assert_eq!(packet.set(2, "dport", Value::Number(8)), Some(()));
    packet.insert(1, headers.find("vlan").unwrap());
    packet.set_data(b"ping");
    let text = text_of("eth", &packet.to_bytes().unwrap());
    assert_eq!(
        text,
        "eth/vlan/ipv4(src=10.0.0.1)/udp(dport=8)/data(\"ping\")"
    );
    packet.remove(3);
    packet.remove(1);
    packet.remove(7);
    let text = text_of("eth", &packet.to_bytes().unwrap());
    assert_eq!(text, "eth/ipv4(src=10.0.0.1)/data(\"ping\")");
    assert_eq!(packet.data(), b"ping");
}
