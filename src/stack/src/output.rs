//! IP output: route, source, header, next hop, and fragments where the link takes less.

use std::net::IpAddr;

use linecard_hal::{Mbuf, MbufFlags, Mempool};
use linecard_wire::ipv6::ext::{FRAGMENT_LEN, FragmentInfo};
use linecard_wire::{
    EtherType, EthernetHeader, EthernetMut, IpProtocol, Ipv4, Ipv4Header, Ipv4Mut, Ipv6,
    Ipv6Header, Ipv6Mut, MacAddr, ethernet, ipv4, ipv6, nd,
};

use crate::ident::Idents;
use crate::neighbor::{NeighborKey, Resolved};
use crate::reason::Reason;
use crate::stack::{Host, Stack};

/// How a packet is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// From where: one of our addresses, or `None` for the one that fits best. A protocol whose checksum covers
    /// it asks for the [path](Stack::path) first.
    pub source: Option<IpAddr>,
    /// To whom.
    pub destination: IpAddr,
    /// By which interface; `None` for that of the best route. An address of link-local scope means something only
    /// together with an interface, and goes by the first one without.
    pub interface: Option<u16>,
    /// What the payload is.
    pub protocol: IpProtocol,
    /// How many hops it may take.
    pub hop_limit: u8,
    /// Differentiated services code point.
    pub dscp: u8,
    /// Congestion notification.
    pub ecn: u8,
    /// Refuse it rather than fragment it, here and on the way.
    pub dont_fragment: bool,
}

impl Outgoing {
    /// A packet like most: 64 hops, not to be fragmented.
    pub fn new(destination: IpAddr, protocol: IpProtocol) -> Self {
        Self {
            source: None,
            destination,
            interface: None,
            protocol,
            hop_limit: 64,
            dscp: 0,
            ecn: 0,
            dont_fragment: true,
        }
    }
}

/// The way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// By which interface.
    pub interface: u16,
    /// Who gets it next: the destination or a router.
    pub next_hop: IpAddr,
    /// From which of our addresses.
    pub source: IpAddr,
    /// The longest IP packet that the first link takes.
    pub mtu: u16,
}

impl Path {
    /// The longest payload of a packet that is not fragmented.
    pub fn payload_len(&self) -> usize {
        let header = if self.source.is_ipv4() {
            ipv4::HEADER_LEN
        } else {
            ipv6::HEADER_LEN
        };
        usize::from(self.mtu) - header
    }
}

impl Stack {
    /// The way to a destination: the route with the longest prefix, and the address that fits it. With an
    /// interface, only its routes count.
    ///
    /// # Errors
    /// [`Reason::NoRoute`], or [`Reason::NoSource`] while we have no address there.
    #[inline]
    pub fn path(&self, destination: IpAddr, interface: Option<u16>) -> Result<Path, Reason> {
        let (number, next_hop) = match self.routes.find(destination, interface) {
            Some(route) => (route.interface, route.gateway.unwrap_or(destination)),
            // A group of the link is on the link.
            None if destination.is_multicast() => (interface.unwrap_or(0), destination),
            None => return Err(Reason::NoRoute),
        };
        let out = self.interfaces.get(usize::from(number));
        let out = out.ok_or(Reason::NoRoute)?;
        Ok(Path {
            interface: number,
            next_hop,
            source: out.source(destination, next_hop).ok_or(Reason::NoSource)?,
            mtu: out.mtu,
        })
    }

    /// Sends a packet: puts the headers before the payload and sends the frame by the interface of the
    /// best route, now or when the neighbour has answered. A packet that is too long for the link is
    /// fragmented, if it may be.
    ///
    /// The payload's headroom takes the headers; if there is too little, or somebody shares it, they get an
    /// mbuf of their own before it. Nothing is copied, but into fragments.
    ///
    /// # Errors
    /// Why it was discarded, which is counted. A packet that waits for its neighbour may still be.
    pub fn send<H: Host>(
        &mut self,
        payload: Mbuf,
        to: &Outgoing,
        now_ns: u64,
        host: &mut H,
    ) -> Result<(), Reason> {
        let sent = self.try_send(payload, to, now_ns, host);
        if let Err(reason) = sent {
            self.counters.drops.add(reason, 1);
        }
        sent
    }

    fn try_send<H: Host>(
        &mut self,
        payload: Mbuf,
        to: &Outgoing,
        now_ns: u64,
        host: &mut H,
    ) -> Result<(), Reason> {
        let mut path = self.path(to.destination, to.interface)?;
        let number = usize::from(path.interface);
        if let Some(source) = to.source {
            if !self.interfaces.iter().any(|i| i.is_ours(source)) {
                return Err(Reason::NoSource);
            }
            path.source = source;
        }
        let len = payload.frame_len();
        if to.dont_fragment && len > path.payload_len() {
            return Err(Reason::TooBig);
        }
        let mac = self.interfaces[number].mac;
        let frame = put_headers(payload, len, to, &path, mac, &mut self.idents, host.pool())?;
        if let Some(mac) = self.group_mac(&path) {
            return self.dispatch(number, mac, frame, host);
        }
        let key = NeighborKey {
            interface: path.interface,
            address: path.next_hop,
        };
        match self.neighbors.resolve(key, frame, now_ns) {
            Resolved::Send(mac, frame) => return self.dispatch(number, mac, frame, host),
            Resolved::Solicit => self.solicit(key, None, host),
            Resolved::Waits => {}
        }
        Ok(())
    }

    /// Where a packet for many goes: nobody has to be asked.
    fn group_mac(&self, path: &Path) -> Option<MacAddr> {
        let interface = self.interfaces.get(usize::from(path.interface))?;
        match path.next_hop {
            hop if hop.is_multicast() => Some(nd::multicast_mac(hop)),
            IpAddr::V4(v4) if interface.is_broadcast(v4) => Some(MacAddr::BROADCAST),
            _ => None,
        }
    }

    /// Sends a frame that is complete but for its destination, in fragments if need be.
    pub(crate) fn dispatch<H: Host>(
        &mut self,
        interface: usize,
        mac: MacAddr,
        mut frame: Mbuf,
        host: &mut H,
    ) -> Result<(), Reason> {
        let out = &self.interfaces[interface];
        let (port, mtu) = (out.port, usize::from(out.mtu));
        let data = frame.data_mut().ok_or(Reason::NoMbuf)?;
        EthernetMut::parse(data)
            .map_err(|_| Reason::Malformed)?
            .set_dst(mac);
        if frame.frame_len() - ethernet::HEADER_LEN <= mtu {
            host.emit(port, frame);
            return Ok(());
        }
        self.send_fragments(interface, &frame, host)
    }

    /// Sends a frame in fragments.
    pub(crate) fn send_fragments<H: Host>(
        &mut self,
        interface: usize,
        frame: &Mbuf,
        host: &mut H,
    ) -> Result<(), Reason> {
        let out = &self.interfaces[interface];
        let (port, mtu) = (out.port, usize::from(out.mtu));
        let mut cut = Cut::new(frame, mtu, &mut self.idents)?;
        while let Some(fragment) = cut.next(host.pool())? {
            self.counters.fragments += 1;
            host.emit(port, fragment);
        }
        Ok(())
    }
}

/// Puts Ethernet and IP headers before a payload.
fn put_headers(
    mut payload: Mbuf,
    len: usize,
    to: &Outgoing,
    path: &Path,
    mac: MacAddr,
    idents: &mut Idents,
    pool: &Mempool,
) -> Result<Mbuf, Reason> {
    let (ip_len, ethertype) = match path.source {
        IpAddr::V4(_) => (ipv4::HEADER_LEN, EtherType::IPV4),
        IpAddr::V6(_) => (ipv6::HEADER_LEN, EtherType::IPV6),
    };
    let headers_len = ethernet::HEADER_LEN + ip_len;
    if payload.prepend(headers_len).is_none() {
        let mut head = pool.alloc().ok_or(Reason::NoMbuf)?;
        head.append(headers_len).ok_or(Reason::NoMbuf)?;
        head.set_flags(payload.flags());
        head.set_tx_offload(payload.tx_offload());
        head.chain(payload).map_err(|_| Reason::TooBig)?;
        payload = head;
    }
    if payload.flags().intersects(MbufFlags::TX_L4_MASK) {
        say_where(&mut payload, ip_len);
    }
    let data = payload.data_mut().ok_or(Reason::NoMbuf)?;
    let headers = data.get_mut(..headers_len).ok_or(Reason::NoMbuf)?;
    let header = EthernetHeader::new(mac, MacAddr::default(), ethertype);
    let body = EthernetMut::emit(headers, &header)
        .map_err(|_| Reason::NoMbuf)?
        .into_payload();
    write_ip(body, len, to, path, idents).ok_or(Reason::TooBig)?;
    Ok(payload)
}

/// The port computes the checksum of layer 4: it has to know where that begins.
fn say_where(frame: &mut Mbuf, ip_len: usize) {
    let mut lens = frame.tx_offload();
    lens.l2_len = ethernet::HEADER_LEN as u16;
    lens.l3_len = ip_len as u16;
    frame.set_tx_offload(lens);
    let family = if ip_len == ipv4::HEADER_LEN {
        MbufFlags::TX_IPV4
    } else {
        MbufFlags::TX_IPV6
    };
    frame.set_flags(frame.flags() | family);
}

/// Writes the header alone; the payload lies behind it, or in the next segment. `None` if the payload is longer
/// than the header can say, or source and destination are of two families.
fn write_ip(
    body: &mut [u8],
    len: usize,
    to: &Outgoing,
    path: &Path,
    idents: &mut Idents,
) -> Option<()> {
    match (path.source, to.destination) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut header = Ipv4Header::new(src, dst, to.protocol);
            header.set_ttl(to.hop_limit);
            header.set_dscp_ecn(to.dscp, to.ecn);
            if !to.dont_fragment {
                // What is never fragmented needs none (RFC 6864 section 4.1).
                header.set_dont_fragment(false);
                header.set_ident(idents.next(path.source, to.destination, to.protocol.0) as u16);
            }
            let total = u16::try_from(ipv4::HEADER_LEN + len).ok()?;
            let mut ip = Ipv4Mut::emit(body, &header, &[], 0).ok()?;
            ip.set_total_len(total);
            ip.fill_checksum();
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut header = Ipv6Header::new(src, dst, to.protocol);
            header.set_hop_limit(to.hop_limit);
            header.set_dscp_ecn(to.dscp, to.ecn);
            let len = u16::try_from(len).ok()?;
            let mut ip = Ipv6Mut::emit(body, &header, 0).ok()?;
            ip.set_payload_len(len);
        }
        _ => return None,
    }
    Some(())
}

/// A packet of our own, without options or extension headers, being cut into fragments (RFC 791 section 3.2,
/// RFC 8200 section 4.5). Each is a copy in one mbuf, so that every port takes it.
struct Cut<'a> {
    frame: &'a Mbuf,
    /// The IPv6 identification.
    ident: u32,
    v4: bool,
    mtu: usize,
    /// Payload bytes that were cut off so far, and that there are.
    done: usize,
    len: usize,
}

impl<'a> Cut<'a> {
    fn new(frame: &'a Mbuf, mtu: usize, idents: &mut Idents) -> Result<Self, Reason> {
        let packet = frame.data().get(ethernet::HEADER_LEN..);
        let packet = packet.ok_or(Reason::Malformed)?;
        let (v4, header_len, ident) = match packet.first().map(|byte| byte >> 4) {
            Some(4) => {
                let ip = Ipv4::parse_partial(packet).map_err(|_| Reason::Malformed)?;
                if ip.dont_fragment() {
                    return Err(Reason::TooBig);
                }
                (true, ip.header_len(), 0)
            }
            _ => {
                let ip = Ipv6::parse_partial(packet).map_err(|_| Reason::Malformed)?;
                let (src, dst) = (ip.src().into(), ip.dst().into());
                let ident = idents.next(src, dst, ip.next_header().0);
                (false, ipv6::HEADER_LEN, ident)
            }
        };
        if v4 && header_len != ipv4::HEADER_LEN {
            return Err(Reason::BadOption);
        }
        Ok(Self {
            frame,
            ident,
            v4,
            mtu,
            done: 0,
            len: frame.frame_len() - ethernet::HEADER_LEN - header_len,
        })
    }

    /// The next fragment; `None` when all were cut off.
    fn next(&mut self, pool: &Mempool) -> Result<Option<Mbuf>, Reason> {
        if self.done == self.len {
            return Ok(None);
        }
        let (ip_len, extra) = if self.v4 {
            (ipv4::HEADER_LEN, 0)
        } else {
            (ipv6::HEADER_LEN, FRAGMENT_LEN)
        };
        let headers = ethernet::HEADER_LEN + ip_len;
        let mut fragment = pool.alloc().ok_or(Reason::NoMbuf)?;
        // An mbuf may take less than the link.
        let room = (self.mtu + ethernet::HEADER_LEN).min(fragment.tailroom());
        let room = room.saturating_sub(headers + extra) & !7;
        let n = room.min(self.len - self.done);
        if n == 0 {
            return Err(Reason::TooBig);
        }
        let more = self.done + n < self.len;
        let buf = fragment.append(headers + extra + n).ok_or(Reason::NoMbuf)?;
        let (head, body) = buf.split_at_mut(headers + extra);
        self.frame.copy_out(0, &mut head[..headers]);
        self.frame.copy_out(headers + self.done, body);
        self.write(&mut head[ethernet::HEADER_LEN..], n, more)
            .ok_or(Reason::Malformed)?;
        self.done += n;
        Ok(Some(fragment))
    }

    /// Makes the copied header that of this fragment.
    fn write(&self, head: &mut [u8], n: usize, more: bool) -> Option<()> {
        // Fits: the whole packet's length did.
        let offset = self.done as u16;
        if self.v4 {
            let mut ip = Ipv4Mut::parse_partial(head).ok()?;
            ip.set_total_len((ipv4::HEADER_LEN + n) as u16);
            ip.set_fragment(offset, more);
            ip.fill_checksum();
            return Some(());
        }
        let mut ip = Ipv6Mut::parse_partial(head).ok()?;
        let info = FragmentInfo {
            offset,
            more,
            ident: self.ident,
        };
        let header = info.to_bytes(ip.next_header());
        ip.set_next_header(IpProtocol::FRAGMENT);
        ip.set_payload_len((FRAGMENT_LEN + n) as u16);
        head.get_mut(ipv6::HEADER_LEN..)?.copy_from_slice(&header);
        Some(())
    }
}
