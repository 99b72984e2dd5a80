//! No bytes make a parser or an accessor panic, and nothing points outside of the bytes.

use core::hint::black_box;
use linecard_wire::ipv4::options::Ipv4Options;
use linecard_wire::tcp::options::TcpOptions;
use linecard_wire::*;

/// Parses `data` as a frame and, beginning at its first byte, as every single protocol.
pub(crate) fn parse(data: &[u8]) {
    black_box(parse_layers(data));
    ethernet(data);
    arp(data);
    ipv4(data);
    ipv6(data);
    icmp(data);
    udp(data);
    tcp(data);
    tcp_options(data);
    ipv4_options(data);
    sums(data);
}

/// `part` is a piece of `whole`, not only equal to one.
fn inside(whole: &[u8], part: &[u8]) {
    let (whole, part) = (whole.as_ptr_range(), part.as_ptr_range());
    assert!(whole.start <= part.start && part.end <= whole.end);
}

fn ethernet(data: &[u8]) {
    let parsed = Ethernet::parse(data);
    assert_eq!(parsed.is_ok(), data.len() >= 14);
    assert_eq!(
        EthernetMut::parse(&mut data.to_vec()).is_ok(),
        parsed.is_ok()
    );
    let Ok(frame) = parsed else { return };
    inside(data, frame.payload());
    black_box((
        frame.src().is_local(),
        frame.dst().is_broadcast(),
        frame.ethertype().is_length(),
    ));
    let Ok(untagged) = frame.untagged() else {
        return;
    };
    inside(data, untagged.payload());
    assert_eq!(untagged.l2_len() + untagged.payload().len(), data.len());
    for tag in untagged.tags() {
        assert!(tag.vid() < 4096 && tag.priority() < 8 && tag.tpid.is_vlan());
        black_box(tag.drop_eligible());
    }
    match untagged.ethertype() {
        EtherType::IPV4 => ipv4(untagged.payload()),
        EtherType::IPV6 => ipv6(untagged.payload()),
        EtherType::ARP => arp(untagged.payload()),
        _ => {}
    }
}

fn arp(data: &[u8]) {
    let Ok(packet) = ArpPacket::parse(data) else {
        return;
    };
    let reply = packet.reply(packet.target_mac());
    assert_eq!(
        (reply.sender_ip(), reply.target_ip()),
        (packet.target_ip(), packet.sender_ip())
    );
    assert_eq!(reply.operation(), ArpOperation::REPLY);
    assert_eq!(reply.target_mac(), packet.sender_mac());
    black_box((packet.operation(), packet.is_gratuitous()));
}

fn ipv4(data: &[u8]) {
    let parsed = Ipv4::parse(data);
    let mut copy = data.to_vec();
    assert_eq!(Ipv4Mut::parse(&mut copy).err(), parsed.err());
    let partial = Ipv4::parse_partial(data);
    assert_eq!(Ipv4Mut::parse_partial(&mut copy).err(), partial.err());
    let Ok(ip) = partial else {
        assert!(parsed.is_err());
        return;
    };
    inside(data, ip.payload());
    inside(data, ip.options_bytes());
    assert_eq!(
        (ip.version(), ip.header_len()),
        (4, 20 + ip.options_bytes().len())
    );
    assert!(ip.fragment_offset() % 8 == 0 && ip.dscp() < 64 && ip.ecn() < 4);
    assert_eq!(
        ip.is_fragment(),
        ip.more_fragments() || ip.fragment_offset() != 0
    );
    assert_eq!(
        ip.checksum_ok(),
        super::naive_sum(&data[..ip.header_len()]) == 0xffff
    );
    black_box((
        ip.src(),
        ip.dst(),
        ip.ident(),
        ip.dont_fragment(),
        ip.checksum(),
    ));
    ipv4_options(ip.options_bytes());
    match parsed {
        Ok(whole) => {
            assert_eq!(whole.payload(), ip.payload());
            assert_eq!(
                usize::from(ip.total_len()),
                ip.header_len() + ip.payload().len()
            );
        }
        Err(_) => assert!(usize::from(ip.total_len()) > data.len()),
    }

    // A checksum that is right stays right.
    let mut mutable = Ipv4Mut::parse_partial(&mut copy).unwrap();
    mutable.fill_checksum();
    assert!(mutable.view().checksum_ok());
    let ttl = mutable.ttl();
    assert_eq!(mutable.decrement_ttl(), (ttl > 1).then(|| ttl - 1));
    mutable.swap();
    assert!(mutable.view().checksum_ok());
    upper(ip.protocol(), ip.payload());
}

fn ipv6(data: &[u8]) {
    let parsed = Ipv6::parse(data);
    let mut copy = data.to_vec();
    assert_eq!(Ipv6Mut::parse(&mut copy).err(), parsed.err());
    let partial = Ipv6::parse_partial(data);
    assert_eq!(Ipv6Mut::parse_partial(&mut copy).err(), partial.err());
    let Ok(ip) = partial else {
        assert!(parsed.is_err());
        return;
    };
    inside(data, ip.payload());
    assert!(ip.version() == 6 && ip.dscp() < 64 && ip.ecn() < 4 && ip.flow_label() < 1 << 20);
    black_box((ip.src(), ip.dst(), ip.hop_limit()));
    let mut count = 0;
    for extension in ip.extensions() {
        count += 1;
        let Ok(extension) = extension else { break };
        inside(data, extension.body());
        assert!(extension.kind().is_extension());
        black_box((
            extension.segments_left(),
            extension.fragment(),
            extension.next(),
        ));
        for (_, data_of) in extension.options().flatten() {
            inside(data, data_of);
        }
    }
    assert!(count <= ipv6::ext::MAX_EXTENSIONS + 1);
    let Ok(found) = ip.upper() else { return };
    inside(data, found.payload);
    assert_eq!(found.ext_len + found.payload.len(), ip.payload().len());
    upper(found.protocol, found.payload);
}

fn upper(protocol: IpProtocol, data: &[u8]) {
    match protocol {
        IpProtocol::TCP => tcp(data),
        IpProtocol::UDP => udp(data),
        IpProtocol::ICMP | IpProtocol::ICMPV6 => icmp(data),
        _ => {}
    }
}

fn icmp(data: &[u8]) {
    let Ok(icmp) = Icmpv4::parse(data) else {
        assert!(data.len() < 8 && Icmpv6::parse(data).is_err());
        return;
    };
    inside(data, icmp.payload());
    black_box((
        icmp.kind(),
        icmp.code(),
        icmp.rest(),
        icmp.ident(),
        icmp.seq(),
    ));
    black_box(icmp.is_echo_request());
    assert_eq!(icmp.checksum_ok(), super::naive_sum(data) == 0xffff);
    let icmp = Icmpv6::parse(data).unwrap();
    let pseudo = Pseudo::v6([0x20; 16].into(), [0x21; 16].into());
    let addresses = [[0x20; 16], [0x21; 16]].concat();
    let sum = super::naive_l4_sum(&addresses, 58, data);
    assert_eq!(icmp.checksum_ok(pseudo), sum == 0xffff);
    black_box((icmp.is_error(), icmp.is_echo_request()));
}

fn udp(data: &[u8]) {
    let parsed = Udp::parse(data);
    let mut copy = data.to_vec();
    assert_eq!(UdpMut::parse(&mut copy).err(), parsed.err());
    assert_eq!(
        UdpMut::parse_partial(&mut copy).err(),
        Udp::parse_partial(data).err()
    );
    let pseudo = Pseudo::v6([0x20; 16].into(), [0x21; 16].into());
    if let Ok(udp) = Udp::parse_partial(data) {
        inside(data, udp.payload());
        black_box((udp.src_port(), udp.dst_port(), udp.checksum()));
    }
    let Ok(udp) = parsed else { return };
    let len = usize::from(udp.wire_len());
    assert_eq!(len, 8 + udp.payload().len());
    let addresses = [[0x20; 16], [0x21; 16]].concat();
    let right = super::naive_l4_sum(&addresses, 17, &data[..len]) == 0xffff;
    assert_eq!(udp.checksum_ok(pseudo), right && udp.checksum() != 0);
    let mut udp = UdpMut::parse(&mut copy).unwrap();
    udp.fill_checksum(pseudo);
    udp.swap();
    assert!(udp.view().checksum_ok(pseudo));
}

fn tcp(data: &[u8]) {
    let parsed = Tcp::parse(data);
    let mut copy = data.to_vec();
    assert_eq!(TcpMut::parse(&mut copy).err(), parsed.err());
    let Ok(tcp) = parsed else { return };
    inside(data, tcp.payload());
    inside(data, tcp.options_bytes());
    assert_eq!(tcp.header_len() + tcp.payload().len(), data.len());
    assert_eq!(tcp.header_len(), 20 + tcp.options_bytes().len());
    black_box((
        tcp.src_port(),
        tcp.dst_port(),
        tcp.seq(),
        tcp.ack(),
        tcp.window(),
    ));
    black_box((
        tcp.flags(),
        tcp.urgent(),
        tcp.accurate_ecn(),
        tcp.checksum(),
        tcp.seq_len(),
    ));
    tcp_options(tcp.options_bytes());
    let pseudo = Pseudo::v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let sum = super::naive_l4_sum(&[10, 0, 0, 1, 10, 0, 0, 2], 6, data);
    assert_eq!(tcp.checksum_ok(pseudo), sum == 0xffff);
    let mut tcp = TcpMut::parse(&mut copy).unwrap();
    tcp.fill_checksum(pseudo);
    tcp.swap();
    assert!(tcp.view().checksum_ok(pseudo));
}

fn tcp_options(data: &[u8]) {
    let mut options = TcpOptions::new(data);
    let mut count = 0;
    for option in options.by_ref() {
        count += 1;
        match option {
            Ok(TcpOption::Sack(blocks)) => assert!((1..=4).contains(&blocks.iter().count())),
            Ok(TcpOption::Unknown { data: content, .. }) => inside(data, content),
            other => drop(black_box(other)),
        }
    }
    assert!(count <= data.len() && options.next().is_none());
}

fn ipv4_options(data: &[u8]) {
    let mut options = Ipv4Options::new(data);
    for option in options.by_ref().flatten() {
        inside(data, option.data);
        black_box(option.is_copied());
    }
    assert!(options.next().is_none());
}

/// The sum of the whole, of pieces, and of a rewrite.
fn sums(data: &[u8]) {
    let sum = super::naive_sum(data);
    assert_eq!(Sum::of(data).fold(), sum);
    let at = data
        .first()
        .map_or(0, |first| usize::from(*first) % data.len());
    let mut pieces = Sum::of(&data[..at]);
    pieces.add_bytes(&data[at..]);
    assert_eq!(pieces.fold(), sum);
    let &[a, b, c, d, ..] = data else { return };
    let mut copy = data.to_vec();
    copy.swap(0, 2);
    copy.swap(1, 3);
    assert_eq!(Sum::of(&copy).fold(), sum);
    copy[..2].fill(0xab);
    let (old, new) = (u16::from_be_bytes([c, d]), 0xabab);
    assert_eq!(
        Delta::new().u16(old, new).apply(!sum),
        !super::naive_sum(&copy)
    );
    black_box((a, b));
}
