//! `parse_layers`, which reads bytes, finds what the views find; keys and hashes follow from it.

use linecard_wire::offload::{
    ChecksumState, complete_checksum, fill_checksums, seed_checksum, verify_checksums,
};
use linecard_wire::rss::frame_hash;
use linecard_wire::*;

/// Everything that begins with `parse_layers`.
pub(crate) fn flow(frame: &[u8]) {
    let layers = parse_layers(frame);
    let (want, key) = by_views(frame);
    assert_eq!(layers, want);
    assert!(layers.payload_offset() <= frame.len());
    assert_eq!(FlowKey::parse(frame), key);

    let hash = frame_hash(frame, &layers);
    match key {
        None => assert_eq!(hash, 0),
        Some(key) => {
            assert_eq!(hash, plain_hash(&key));
            assert_eq!(symmetric_hash(&key.reversed()), hash);
            assert_eq!(key.canonical(), key.reversed().canonical());
        }
    }
    turned_round(frame, &layers, key);
    checksums(frame, &layers);
}

/// The summary and the key, as the views have them.
fn by_views(frame: &[u8]) -> (Layers, Option<FlowKey>) {
    let mut want = Layers {
        malformed: true,
        ..Layers::default()
    };
    let Ok(ethernet) = Ethernet::parse(frame) else {
        return (want, None);
    };
    (want.ethertype, want.l2_len) = (ethernet.ethertype(), 14);
    let untagged = match ethernet.untagged() {
        Ok(untagged) => untagged,
        Err(error) => {
            // How far it came: both tags if there are too many, else those that are whole.
            let tags = (ethernet.payload().len() / 4).min(2);
            let at = 12 + 4 * tags;
            want.ethertype = EtherType(u16::from_be_bytes([frame[at], frame[at + 1]]));
            (want.l2_len, want.vlan_count) = (14 + 4 * tags as u8, tags as u8);
            want.malformed = error != ParseError::TooManyTags;
            return (want, None);
        }
    };
    want.ethertype = untagged.ethertype();
    want.l2_len = untagged.l2_len() as u8;
    want.vlan_count = untagged.tags().len() as u8;
    want.malformed = false;
    let found = match untagged.ethertype() {
        EtherType::IPV4 => ipv4(untagged.payload(), &mut want),
        EtherType::IPV6 => ipv6(untagged.payload(), &mut want),
        EtherType::ARP => ArpPacket::parse(untagged.payload()).map(|_| {
            (want.l3, want.l3_len) = (L3::Arp, 28);
            None
        }),
        _ => Ok(None),
    };
    want.malformed = found.is_err();
    let key = match found {
        Ok(key) => key,
        // Addresses without ports, if at least the IP header is whole.
        Err(_) if want.l3 == L3::Ipv4 => {
            let ip = Ipv4::parse_partial(untagged.payload()).unwrap();
            Some(FlowKey::v4(ip.src(), ip.dst(), want.protocol, 0, 0))
        }
        Err(_) if want.l3 == L3::Ipv6 => {
            let ip = Ipv6::parse_partial(untagged.payload()).unwrap();
            Some(FlowKey::v6(ip.src(), ip.dst(), want.protocol, 0, 0))
        }
        Err(_) => None,
    };
    let fragment = want.is_fragment();
    (
        want,
        key.map(|key| if fragment { key.into_fragment() } else { key }),
    )
}

fn ipv4(packet: &[u8], want: &mut Layers) -> Result<Option<FlowKey>, ParseError> {
    let ip = Ipv4::parse_partial(packet)?;
    (want.l3, want.l3_len, want.protocol) = (L3::Ipv4, ip.header_len() as u16, ip.protocol());
    if ip.is_fragment() {
        want.l4 = L4::Fragment;
        return Ok(Some(FlowKey::v4(ip.src(), ip.dst(), ip.protocol(), 0, 0)));
    }
    let (sport, dport) = transport(ip.payload(), want, false)?;
    Ok(Some(FlowKey::v4(
        ip.src(),
        ip.dst(),
        ip.protocol(),
        sport,
        dport,
    )))
}

fn ipv6(packet: &[u8], want: &mut Layers) -> Result<Option<FlowKey>, ParseError> {
    let ip = Ipv6::parse_partial(packet)?;
    (want.l3, want.l3_len, want.protocol) = (L3::Ipv6, 40, ip.next_header());
    for extension in ip.extensions() {
        let extension = extension?;
        want.l3_len += extension.wire_len() as u16;
        want.protocol = extension.next();
        if extension.fragment().is_some() {
            want.l4 = L4::Fragment;
        }
    }
    let upper = ip.upper()?;
    assert_eq!(
        (upper.protocol, upper.ext_len),
        (want.protocol, usize::from(want.l3_len) - 40)
    );
    assert_eq!(upper.fragment.is_some(), want.is_fragment());
    if want.is_fragment() {
        return Ok(Some(FlowKey::v6(ip.src(), ip.dst(), upper.protocol, 0, 0)));
    }
    let (sport, dport) = transport(upper.payload, want, true)?;
    Ok(Some(FlowKey::v6(
        ip.src(),
        ip.dst(),
        upper.protocol,
        sport,
        dport,
    )))
}

/// Sets layer 4 and returns the ports.
fn transport(l4: &[u8], want: &mut Layers, v6: bool) -> Result<(u16, u16), ParseError> {
    let (kind, len, ports) = match want.protocol {
        IpProtocol::TCP => {
            let tcp = Tcp::parse(l4)?;
            (L4::Tcp, tcp.header_len(), (tcp.src_port(), tcp.dst_port()))
        }
        IpProtocol::UDP => {
            let udp = Udp::parse_partial(l4)?;
            (L4::Udp, 8, (udp.src_port(), udp.dst_port()))
        }
        IpProtocol::SCTP => {
            let head = l4.first_chunk::<12>();
            let head = head.ok_or(ParseError::Truncated {
                need: 12,
                have: l4.len(),
            })?;
            let port = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
            (L4::Sctp, 12, (port(0), port(2)))
        }
        IpProtocol::ICMP if !v6 => Icmpv4::parse(l4).map(|_| (L4::Icmpv4, 8, (0, 0)))?,
        IpProtocol::ICMPV6 if v6 => Icmpv6::parse(l4).map(|_| (L4::Icmpv6, 8, (0, 0)))?,
        _ => (L4::Other, 0, (0, 0)),
    };
    (want.l4, want.l4_len) = (kind, len as u8);
    Ok(ports)
}

/// The hash by the plain Toeplitz, over the tuple written out.
fn plain_hash(key: &FlowKey) -> u32 {
    let octets = |address: core::net::IpAddr| match address {
        core::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        core::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let mut input = [octets(key.src()), octets(key.dst())].concat();
    if key.protocol().has_ports() && !key.is_fragment() {
        input.extend_from_slice(&key.src_port().to_be_bytes());
        input.extend_from_slice(&key.dst_port().to_be_bytes());
    }
    toeplitz(&SYMMETRIC_KEY, &input)
}

fn turned_round(frame: &[u8], layers: &Layers, key: Option<FlowKey>) {
    let mut turned = frame.to_vec();
    let Ok(swapped) = swap_flow(&mut turned, layers) else {
        assert!(frame.len() < 14);
        return;
    };
    assert_eq!(&parse_layers(&turned), layers);
    match swapped {
        Swapped::Macs => assert!(!layers.is_ip()),
        Swapped::Addresses => assert!(layers.is_ip()),
        Swapped::Ports => assert_eq!(FlowKey::parse(&turned), key.map(FlowKey::reversed)),
    }
    assert_eq!(
        verify_checksums(&turned, layers),
        verify_checksums(frame, layers)
    );
    swap_flow(&mut turned, layers).unwrap();
    assert_eq!(turned, frame);
}

fn checksums(frame: &[u8], layers: &Layers) {
    let mut filled = frame.to_vec();
    if fill_checksums(&mut filled, layers).is_err() {
        return;
    }
    assert_eq!(&parse_layers(&filled), layers);
    let report = verify_checksums(&filled, layers).unwrap();
    assert!(report.ip != ChecksumState::Bad && report.l4 != ChecksumState::Bad);

    // The long way round: seed, then complete, on a frame that ends where its packet ends.
    let ip_len = match layers.l3 {
        L3::Ipv4 => Ipv4::parse(&frame[layers.l3_offset()..]).map(|ip| ip.total_len().into()),
        L3::Ipv6 => {
            Ipv6::parse(&frame[layers.l3_offset()..]).map(|ip| 40 + usize::from(ip.payload_len()))
        }
        L3::Arp | L3::Other => return,
    };
    let end = layers.l3_offset() + ip_len.unwrap_or(0);
    let mut seeded = frame[..end].to_vec();
    let Ok(Some(partial)) = seed_checksum(&mut seeded, layers) else {
        return;
    };
    complete_checksum(&mut seeded, partial.start.into(), partial.offset.into()).unwrap();
    // Where UDP is shorter than its packet, the two cover different bytes.
    let padded_udp = layers.l4 == L4::Udp
        && Udp::parse(&frame[layers.l4_offset()..end])
            .is_ok_and(|udp| layers.l4_offset() + usize::from(udp.wire_len()) != end);
    if !padded_udp {
        assert_eq!(seeded, filled[..end]);
    }
}
