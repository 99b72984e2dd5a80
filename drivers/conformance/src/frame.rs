//! Frames that can be told apart, and from whatever else is on a wire.

use linecard_wire::offload::{fill_checksums, seed_checksum};
use linecard_wire::{
    EtherType, EthernetHeader, EthernetMut, IpProtocol, Ipv4Header, Ipv4Mut, MacAddr, TcpFlags,
    TcpHeader, TcpMut, UdpHeader, UdpMut, parse_layers,
};

/// Source address of every frame of the suite.
pub const MARK: [u8; 6] = [0x02, 0x4c, 0x43, 0, 0, 1];

/// An EtherType for experiments within one network (IEEE 802, 9.2.4).
const EXPERIMENT: u16 = 0x88b5;

/// Whether a frame is one of the suite's. Others are counted, and not looked at.
pub fn is_ours(frame: &[u8]) -> bool {
    frame.get(6..12) == Some(&MARK[..])
}

/// The destination: a local address that carries a number.
fn to(number: u32) -> [u8; 6] {
    let n = number.to_be_bytes();
    [0x02, 0x4c, n[0], n[1], n[2], n[3]]
}

/// The number of a frame that is ours.
pub fn number(frame: &[u8]) -> Option<u32> {
    let number = frame.get(2..6)?.try_into().ok()?;
    is_ours(frame).then_some(u32::from_be_bytes(number))
}

/// A frame of `len` bytes, recognisable to the last one. Below 14 bytes it is cut within its header.
pub fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut frame = to(number).to_vec();
    frame.extend_from_slice(&MARK);
    frame.extend_from_slice(&EXPERIMENT.to_be_bytes());
    frame.extend((14..len).map(|i| (i as u32).wrapping_mul(31).wrapping_add(number) as u8));
    frame.truncate(len);
    frame
}

/// Frames `first..first + n` of `len` bytes.
pub fn several(first: u32, n: usize, len: usize) -> Vec<Vec<u8>> {
    (first..).take(n).map(|i| numbered(i, len)).collect()
}

/// What a packet over IPv4 is to be.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// TCP, or else UDP.
    pub tcp: bool,
    /// The frame's number.
    pub number: u32,
    /// The flow: its source port.
    pub flow: u16,
    /// From the server to the client.
    pub reply: bool,
    /// Bytes behind the layer-4 header.
    pub payload: usize,
}

/// Bytes of a TCP or UDP header without options.
pub fn l4_len(tcp: bool) -> usize {
    if tcp { 20 } else { 8 }
}

/// The packet in a frame, with its checksums filled in.
pub fn packet(p: Packet) -> Option<Vec<u8>> {
    let mut frame = unsummed(p)?;
    let layers = parse_layers(&frame);
    fill_checksums(&mut frame, &layers).ok()?;
    Some(frame)
}

/// The packet in a frame whose layer-4 checksum is left to be finished: the field holds the sum of the
/// pseudo-header.
pub fn unfinished(p: Packet) -> Option<Vec<u8>> {
    let mut frame = packet(p)?;
    let layers = parse_layers(&frame);
    seed_checksum(&mut frame, &layers).ok()?;
    Some(frame)
}

fn unsummed(p: Packet) -> Option<Vec<u8>> {
    let l4_len = l4_len(p.tcp);
    let mut frame = vec![0; 14 + 20 + l4_len + p.payload];
    let header = EthernetHeader::new(MacAddr(MARK), MacAddr(to(p.number)), EtherType::IPV4);
    let mut ethernet = EthernetMut::emit(&mut frame, &header).ok()?;
    let (client, server) = ([198, 51, 100, 1].into(), [198, 51, 100, 2].into());
    let (from, dest) = if p.reply {
        (server, client)
    } else {
        (client, server)
    };
    let (src, dst) = if p.reply {
        (7000, p.flow)
    } else {
        (p.flow, 7000)
    };
    let protocol = if p.tcp {
        IpProtocol::TCP
    } else {
        IpProtocol::UDP
    };
    let ip = Ipv4Header::new(from, dest, protocol);
    let mut ip = Ipv4Mut::emit(ethernet.payload_mut(), &ip, &[], l4_len + p.payload).ok()?;
    let payload = if p.tcp {
        let mut tcp = TcpHeader::new(src, dst);
        tcp.set_flags(TcpFlags::ACK | TcpFlags::PSH);
        TcpMut::emit(ip.payload_mut(), &tcp, &[])
            .ok()?
            .into_payload()
    } else {
        UdpMut::emit(ip.payload_mut(), &UdpHeader::new(src, dst), p.payload)
            .ok()?
            .into_payload()
    };
    for (byte, i) in payload.iter_mut().zip(0u32..) {
        *byte = (i * 7 + i / 251) as u8;
    }
    Some(frame)
}

/// Compares frames that came with those that were sent, in order. A frame below Ethernet's least may be
/// padded with zeros (IEEE 802.3, 4.2.3.3); nothing else may be different.
pub fn compare(sent: &[Vec<u8>], came: &[Vec<u8>]) -> Result<(), String> {
    for (at, (sent, came)) in sent.iter().zip(came).enumerate() {
        if sent == came || is_padded(sent, came) {
            continue;
        }
        let differs = sent.iter().zip(came).position(|(a, b)| a != b);
        return Err(format!(
            "frame {at}: number {:?} of {} bytes was sent, number {:?} of {} bytes came, first difference at {differs:?}",
            number(sent),
            sent.len(),
            number(came),
            came.len(),
        ));
    }
    if sent.len() == came.len() {
        Ok(())
    } else {
        Err(format!("{} of {} frames came", came.len(), sent.len()))
    }
}

fn is_padded(sent: &[u8], came: &[u8]) -> bool {
    sent.len() < 60
        && came.len() == 60
        && came.starts_with(sent)
        && came[sent.len()..].iter().all(|b| *b == 0)
}
