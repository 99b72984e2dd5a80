//! Echo replies (RFC 792, RFC 4443 section 4.2): in the mbuf of the request, back the way that it came.
//!
//! So a flood of requests costs no route, no neighbour, and no mbuf. What came in one frame is answered in
//! place by [`linecard_wire::echo_reply`]; a datagram put together from fragments is changed likewise, and cut
//! again where the link takes less.

use linecard_hal::{Mbuf, MbufFlags};
use linecard_wire::delta::update_u16;
use linecard_wire::echo::REPLY_TTL;
use linecard_wire::{
    EchoRefusal, Icmpv4Mut, IpProtocol, Ipv4Mut, Ipv6Mut, L3, Layers, Sum, echo_reply, icmpv4,
    icmpv6, ipv6, swap_macs,
};

use crate::ident::Idents;
use crate::input::packet_len;
use crate::interface::Cast;
use crate::reason::Reason;
use crate::stack::{Host, Received, Stack, addresses};

impl Stack {
    /// Answers an echo request. One to a group is not answered (RFC 1122 section 3.2.2.6 allows it): groups
    /// make one request many replies, to whoever the source is said to be.
    pub(crate) fn echo<H: Host>(
        &mut self,
        number: usize,
        cast: Cast,
        frame: &mut Mbuf,
        layers: &Layers,
        host: &mut H,
    ) -> Result<Received, Reason> {
        if cast != Cast::Host {
            return Err(Reason::NotForUs);
        }
        // Nobody can be answered.
        if addresses(frame, layers).is_none_or(|(src, _)| src.is_unspecified()) {
            return Err(Reason::BadSource);
        }
        if frame.is_shared() && !frame.unshare(host.pool()) {
            return Err(Reason::NoMbuf);
        }
        if frame.segment_count() == 1 {
            reply_in_place(frame)?;
        } else {
            reply_chain(frame, layers, &mut self.idents)?;
        }
        self.counters.echoes += 1;
        // Whatever the port found out was about the request.
        frame.set_flags(MbufFlags::empty());
        if packet_len(frame) <= usize::from(self.interfaces[number].mtu) {
            return Ok(Received::Reply);
        }
        self.send_fragments(number, frame, host)?;
        Ok(Received::Consume)
    }
}

fn reply_in_place(frame: &mut Mbuf) -> Result<(), Reason> {
    let data = frame.data_mut().ok_or(Reason::NoMbuf)?;
    match echo_reply(data) {
        Ok(_) => Ok(()),
        Err(EchoRefusal::BadIpChecksum | EchoRefusal::BadIcmpChecksum) => Err(Reason::BadChecksum),
        Err(EchoRefusal::HasOptions) => Err(Reason::BadOption),
        Err(EchoRefusal::BadSource) => Err(Reason::BadSource),
        Err(_) => Err(Reason::Malformed),
    }
}

/// As [`echo_reply`], for a frame in several segments, with all headers in the first. It was checked that
/// source and destination are one host each.
fn reply_chain(frame: &mut Mbuf, layers: &Layers, idents: &mut Idents) -> Result<(), Reason> {
    let (l3, l4) = (layers.l3_offset(), layers.l4_offset());
    let header_len = l4 - l3;
    let mut sum = sum_from(frame, l4);
    let data = frame.data_mut().ok_or(Reason::NoMbuf)?;
    swap_macs(data).map_err(|_| Reason::Malformed)?;
    let packet = data.get_mut(l3..).ok_or(Reason::Malformed)?;
    let reply = if layers.l3 == L3::Ipv4 {
        let mut ip = Ipv4Mut::parse_partial(packet).map_err(|_| Reason::Malformed)?;
        if header_len != linecard_wire::ipv4::HEADER_LEN {
            return Err(Reason::BadOption);
        }
        ip.swap();
        ip.set_ttl(REPLY_TTL);
        ip.set_dont_fragment(false);
        let ident = idents.next(ip.src().into(), ip.dst().into(), IpProtocol::ICMP.0);
        ip.set_ident(ident as u16);
        ip.fill_checksum();
        icmpv4::ECHO_REPLY
    } else {
        let mut ip = Ipv6Mut::parse_partial(packet).map_err(|_| Reason::Malformed)?;
        if header_len != ipv6::HEADER_LEN {
            return Err(Reason::BadOption);
        }
        let mut whole = ip.pseudo().sum(IpProtocol::ICMPV6, ip.payload_len().into());
        whole.add_sum(sum);
        sum = whole;
        ip.swap();
        ip.set_hop_limit(REPLY_TTL);
        icmpv6::ECHO_REPLY
    };
    if !sum.is_valid() {
        return Err(Reason::BadChecksum);
    }
    let message = data.get_mut(l4..).ok_or(Reason::Malformed)?;
    let mut icmp = Icmpv4Mut::parse(message).map_err(|_| Reason::Malformed)?;
    let old = u16::from_be_bytes([icmp.kind(), icmp.code()]);
    let new = u16::from_be_bytes([reply, icmp.code()]);
    let checksum = update_u16(icmp.checksum(), old, new);
    icmp.set_kind(reply);
    icmp.set_checksum(checksum);
    Ok(())
}

/// The sum of a frame's bytes from an offset in its first segment on.
fn sum_from(frame: &Mbuf, offset: usize) -> Sum {
    let mut sum = Sum::new();
    let mut skip = offset;
    for segment in frame.segments() {
        sum.add_bytes(segment.get(skip..).unwrap_or_default());
        skip = 0;
    }
    sum
}
