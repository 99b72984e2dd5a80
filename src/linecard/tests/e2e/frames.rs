//! Frames by hand, so that what is tested is not tested with itself.

/// A locally administered MAC address.
pub const fn mac(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, n]
}

/// The ethertype that IEEE 802 sets aside for experiments: no kernel answers it.
pub const EXPERIMENT: u16 = 0x88b5;

pub const IPV4: u16 = 0x0800;
pub const VLAN: u16 = 0x8100;
pub const QINQ: u16 = 0x88a8;

/// An Ethernet frame.
pub fn ethernet(dst: [u8; 6], src: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst[..], &src, &ethertype.to_be_bytes(), payload].concat()
}

/// What follows the addresses of a frame with an 802.1Q tag.
pub fn tagged(vlan: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&vlan.to_be_bytes()[..], &ethertype.to_be_bytes(), payload].concat()
}

/// RFC 1071, one's complement of the one's complement sum: 0 over anything that contains its own.
pub fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut header = [
        0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    header[2..4].copy_from_slice(&len.to_be_bytes());
    header[12..16].copy_from_slice(&src);
    header[16..20].copy_from_slice(&dst);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], payload].concat()
}

/// An IPv4 packet with an ICMP echo request.
pub fn echo_request(src: [u8; 4], dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut icmp = [&[8, 0, 0, 0, 0x12, 0x34, 0, 1], payload].concat();
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(src, dst, 1, &icmp)
}

/// An IPv4 packet with a UDP datagram.
pub fn udp(src: ([u8; 4], u16), dst: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let ports = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    let pseudo = [&src.0[..], &dst.0, &[0, 17], &len.to_be_bytes()].concat();
    let whole = [&pseudo, &ports[..], &len.to_be_bytes(), &[0, 0], payload].concat();
    let sum = checksum(&whole);
    let datagram = [&ports[..], &len.to_be_bytes(), &sum.to_be_bytes(), payload].concat();
    ipv4(src.0, dst.0, 17, &datagram)
}

/// A capture file in the classic format with nanoseconds, as tcpdump writes it.
pub fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let word = |n: u32| n.to_le_bytes();
    let mut file = [
        word(0xa1b2_3c4d),
        [2, 0, 4, 0],
        word(0),
        word(0),
        word(65535),
        word(1),
    ]
    .concat();
    for (n, frame) in (0..).zip(frames) {
        let len = frame.len() as u32;
        file.extend(
            [
                word(1_700_000_000 + n),
                word(n * 1001),
                word(len),
                word(len),
            ]
            .concat(),
        );
        file.extend(frame);
    }
    file
}

/// The frames of such a file.
pub fn read_pcap(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &file[24..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    frames
}
