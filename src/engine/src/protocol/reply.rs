//! Answering a packet with one of another length, and what has to be known of a packet before that.

use core::mem;
use core::net::IpAddr;

use linecard_hal::{Mbuf, MbufFlags, TxOffload};
use linecard_wire::{
    FlowKey, IpProtocol, Ipv4, Ipv4Mut, Ipv6Mut, L3, L4, Layers, Pseudo, UdpMut, swap_flow,
};

use super::demux::{ip_end_said, udp_end};
use super::{Outbox, Packet};
use crate::stage::{DropReason, Verdict};

/// What is left of the way of a packet that begins here.
const HOP_LIMIT: u8 = 64;

impl Packet<'_> {
    /// Whether the checksums of the IPv4 header and of UDP are right: by the word of the port that received the
    /// packet, or computed here, over all segments. Of UDP in IPv4, none is right, too.
    ///
    /// A protocol that only turns packets round need not ask: what was wrong stays wrong. One that answers with bytes of its own
    /// puts a right checksum over them, whatever it was asked.
    pub fn checksums_ok(&self) -> bool {
        let layers = self.layers;
        let says = |good, bad| {
            let said = self.flags() & (good | bad);
            (!said.is_empty()).then(|| said.contains(good))
        };
        let ip_ok = layers.l3 != L3::Ipv4
            || says(MbufFlags::RX_IP_CKSUM_GOOD, MbufFlags::RX_IP_CKSUM_BAD).unwrap_or_else(|| {
                let ip = self.data().get(layers.l3_offset()..).unwrap_or_default();
                Ipv4::parse_partial(ip).is_ok_and(|ip| ip.checksum_ok())
            });
        // Good and bad together is for data that never was on a wire: nothing can have happened to it.
        let udp_ok = layers.l4 != L4::Udp
            || says(MbufFlags::RX_L4_CKSUM_GOOD, MbufFlags::RX_L4_CKSUM_BAD)
                .unwrap_or_else(|| self.udp_sum_ok().unwrap_or(false));
        ip_ok && udp_ok
    }

    /// RFC 768, and for IPv6 RFC 8200 section 8.1.
    fn udp_sum_ok(&self) -> Option<bool> {
        let start = self.layers.l4_offset();
        let header: &[u8; 8] = self.data().get(start..)?.first_chunk()?;
        if header[6..] == [0, 0] {
            return Some(self.layers.l3 == L3::Ipv4);
        }
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if start + len > ip_end_said(self.data(), self.layers)? {
            return Some(false);
        }
        let mut sum = pseudo(&self.flow()?)?.sum(IpProtocol::UDP, len);
        let (mut before, mut left) = (start, len);
        for segment in self.segments() {
            let skipped = before.min(segment.len());
            let bytes = &segment[skipped..];
            let bytes = &bytes[..left.min(bytes.len())];
            sum.add_bytes(bytes);
            (before, left) = (before - skipped, left - bytes.len());
        }
        Some(left == 0 && sum.is_valid())
    }

    /// Whether it was sent to more than one host: a multicast or broadcast address, of Ethernet or of IP. A reply
    /// that is merely turned round would have that for its source (RFC 1122 section 3.2.1.3).
    pub fn is_for_a_group(&self) -> bool {
        let by_frame =
            self.layers.l2_len > 0 && self.data().first().is_some_and(|byte| byte & 1 == 1);
        by_frame
            || self.flow().is_some_and(|flow| match flow.dst() {
                IpAddr::V4(dst) => dst.is_multicast() || dst.is_broadcast(),
                IpAddr::V6(dst) => dst.is_multicast(),
            })
    }

    /// The payload, in one piece also where the packet lies in several, as one has that came in fragments: then
    /// it is copied into `room`, as far as that goes.
    pub fn payload_in<'a>(&'a self, room: &'a mut [u8]) -> &'a [u8] {
        if self.segment_count() == 1 {
            return self.payload();
        }
        let start = self.layers.payload_offset();
        let ends = [ip_end_said, udp_end].map(|end| end(self.data(), self.layers));
        let end = ends.into_iter().flatten().min().unwrap_or(usize::MAX);
        let len = end.saturating_sub(start).min(room.len());
        let copied = self.copy_out(start, &mut room[..len]);
        &room[..copied]
    }

    /// Answers with `payload` in place of its own, which may have another length: the packet goes back to who sent
    /// it, with lengths, checksums and a hop limit of its own. For UDP, and for protocols with an IP protocol
    /// number of their own; what has a checksum in a header of another kind is `Malformed` here.
    ///
    /// It is written over the packet, so it can be longer by as much as there is tailroom. Beyond that it is dropped for
    /// want of an [mbuf](DropReason::NoMbuf). What was sent [to a group](Self::is_for_a_group) is dropped as `for_a_group`.
    pub fn reply(&mut self, payload: &[u8], out: &mut Outbox) -> Verdict {
        let layers = *self.layers;
        if !layers.is_ip() || !matches!(layers.l4, L4::Udp | L4::Other) {
            return Verdict::Drop(DropReason::Malformed);
        }
        if self.is_for_a_group() {
            return out.drop("for_a_group");
        }
        if self.segment_count() > 1 {
            // Only the segment with the headers is needed; another mbuf takes its place for a moment.
            let Some(other) = out.alloc() else {
                return Verdict::Drop(DropReason::NoMbuf);
            };
            let chain = mem::replace(&mut **self, other);
            **self = chain.unchain().0;
        }
        if !resize(self, layers.payload_offset() + payload.len()) {
            return Verdict::Drop(DropReason::NoMbuf);
        }
        match self
            .data_mut()
            .and_then(|data| write(data, &layers, payload))
        {
            Some(()) => {
                forget_the_old(self);
                Verdict::Reply
            }
            // Bytes that a clone shares.
            None => Verdict::Drop(DropReason::Malformed),
        }
    }
}

fn resize(mbuf: &mut Mbuf, len: usize) -> bool {
    match len.checked_sub(mbuf.frame_len()) {
        Some(more) => mbuf.append(more).is_some(),
        None => mbuf.trim(mbuf.frame_len() - len),
    }
}

/// Payload, and from there to the front what depends on it.
fn write(data: &mut [u8], layers: &Layers, payload: &[u8]) -> Option<()> {
    swap_flow(data, layers).ok()?;
    data.get_mut(layers.payload_offset()..)?
        .copy_from_slice(payload);
    let len = u16::try_from(data.len() - layers.l3_offset()).ok()?;
    match layers.l3 {
        L3::Ipv4 => {
            let mut ip = Ipv4Mut::parse_partial(&mut data[layers.l3_offset()..]).ok()?;
            ip.set_total_len(len);
            ip.set_ttl(HOP_LIMIT);
            ip.fill_checksum();
        }
        _ => {
            let mut ip = Ipv6Mut::parse_partial(&mut data[layers.l3_offset()..]).ok()?;
            ip.set_payload_len(len - 40);
            ip.set_hop_limit(HOP_LIMIT);
        }
    }
    if layers.l4 == L4::Udp {
        let pseudo = pseudo(&FlowKey::from_layers(data, layers)?)?;
        let udp = &mut data[layers.l4_offset()..];
        let len = u16::try_from(udp.len()).ok()?;
        udp[4..6].copy_from_slice(&len.to_be_bytes());
        // It is short and in the cache: a request to the port would cost more.
        UdpMut::parse(udp).ok()?.fill_checksum(pseudo);
    }
    Some(())
}

/// What was found out about the packet that was received, and what it had left to be done, does not hold for the
/// one that is written over it. A VLAN tag that was taken off does.
fn forget_the_old(mbuf: &mut Mbuf) {
    let old = MbufFlags::RX_IP_CKSUM_GOOD
        | MbufFlags::RX_IP_CKSUM_BAD
        | MbufFlags::RX_L4_CKSUM_NONE
        | MbufFlags::RX_LRO
        | MbufFlags::TX_L4_MASK
        | MbufFlags::TX_IP_CKSUM
        | MbufFlags::TX_TCP_SEG
        | MbufFlags::TX_UDP_SEG
        | MbufFlags::TX_IPV4
        | MbufFlags::TX_IPV6;
    mbuf.set_flags(mbuf.flags() - old);
    mbuf.set_tx_offload(TxOffload::default());
}

fn pseudo(flow: &FlowKey) -> Option<Pseudo> {
    match (flow.src(), flow.dst()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Some(Pseudo::v4(src, dst)),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Some(Pseudo::v6(src, dst)),
        _ => None,
    }
}
