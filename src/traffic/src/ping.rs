//! Ping: one stamped frame at a time, and how long each takes to come back.
//!
//! A [`Pinger`] is a worker's stage. Its probes end with a [stamp](crate::stamp), be they ICMP echo requests, which any
//! host sends back with their data, or UDP datagrams, which a reflector sends back with addresses exchanged: so one way
//! of knowing them again serves both. What came back crosses a ring to the control plane, where it is counted: there
//! are few of them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use linecard_engine::{Context, PortIndex, Stage};
use linecard_hal::Burst;
use linecard_hal::ring::{Consumer, Producer, Single, spsc};
use linecard_wire::{
    EmitError, EtherType, EthernetHeader, EthernetMut, IcmpHeader, Icmpv4Mut, Icmpv6Mut,
    IpProtocol, Ipv4Header, Ipv4Mut, Ipv6Header, Ipv6Mut, MacAddr, UdpHeader, UdpMut, icmpv4,
    icmpv6,
};

use crate::FCS_BYTES;
use crate::responder::{Found, Responder};
use crate::stamp::{LEN as STAMP_LEN, Stamp};

/// What is sent.
#[derive(Debug, Clone)]
pub struct Config {
    /// By which port.
    pub port: PortIndex,
    /// Its own address.
    pub mac: MacAddr,
    /// Whom to: a host, or who reflects.
    pub target: Target,
    /// What tells these probes from others': the stamps' lane, the echo requests' identifier.
    pub ident: u16,
    /// How many; without end if `None`.
    pub count: Option<u32>,
    /// From one to the next.
    pub interval_ns: u64,
    /// Bytes of each with FCS.
    pub size: u16,
}

/// Whom to ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A host, by ICMP echo, from an address of ours.
    Host {
        /// The host.
        to: IpAddr,
        /// Our address, of the same kind.
        from: IpAddr,
    },
    /// A reflector with this link-layer address, by UDP.
    Reflector(MacAddr),
}

impl Target {
    /// The least size that has room for headers, stamp and FCS.
    pub fn least_size(self) -> u16 {
        let headers = match self {
            Self::Host {
                to: IpAddr::V6(_), ..
            } => 14 + 40 + 8,
            _ => 14 + 20 + 8,
        };
        headers + STAMP_LEN as u16 + FCS_BYTES
    }
}

/// The addresses and the port of UDP probes: RFC 2544 appendix C.2.2 sets the network aside, and the port is echo's.
const FROM: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const TO: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const ECHO: u16 = 7;

/// A probe that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Its number, from 0.
    pub sequence: u32,
    /// When it was sent.
    pub sent_ns: u64,
    /// When it was received.
    pub received_ns: u64,
    /// Bytes with FCS.
    pub size: u32,
}

/// What came back, for the control plane.
#[derive(Debug)]
pub struct Replies {
    replies: Consumer<Reply, Single, Single>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    sent: AtomicU64,
    unread: AtomicU64,
}

impl Replies {
    /// The next.
    pub fn next_reply(&mut self) -> Option<Reply> {
        self.replies.pop()
    }

    /// How many were sent.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// How many came back while nobody read for so long that there was no room: a flood, or a stopped terminal.
    pub fn unread(&self) -> u64 {
        self.shared.unread.load(Ordering::Relaxed)
    }
}

/// Replies that wait to be read at most.
const ROOM: usize = 4096;

/// The stage of the worker that pings.
pub struct Pinger {
    config: Config,
    template: Box<[u8]>,
    responder: Option<Responder>,
    found: Option<Found>,
    replies: Producer<Reply, Single, Single>,
    shared: Arc<Shared>,
    sent: u32,
    /// When the next is due.
    next_ns: u64,
}

impl Pinger {
    /// A pinger and what comes back to it. The responder of its port, if there is one, answers for our address, and finds
    /// the host's link-layer address or the gateway's.
    ///
    /// # Errors
    /// The size has no room for headers and stamp, or the two addresses are not of one kind.
    pub fn new(config: Config, responder: Option<Responder>) -> Result<(Self, Replies), EmitError> {
        let (producer, consumer) = spsc(ROOM);
        let shared = Arc::new(Shared::default());
        let replies = Replies {
            replies: consumer,
            shared: shared.clone(),
        };
        let pinger = Self {
            template: template(&config)?,
            found: responder.as_ref().map(Responder::found),
            config,
            responder,
            replies: producer,
            shared,
            sent: 0,
            next_ns: 0,
        };
        Ok((pinger, replies))
    }

    /// Where to, if that is known by now.
    fn peer(&self) -> Option<MacAddr> {
        match self.config.target {
            Target::Reflector(mac) => Some(mac),
            Target::Host { .. } => self.found.as_ref().and_then(Found::mac),
        }
    }

    fn is_done(&self) -> bool {
        self.config.count.is_some_and(|count| self.sent >= count)
    }

    fn send(&mut self, peer: MacAddr, cx: &mut Context) {
        let now_ns = cx.now_ns();
        if self.next_ns == 0 {
            self.next_ns = now_ns;
        }
        if now_ns < self.next_ns || self.is_done() {
            return;
        }
        // Not two at once because one was late.
        self.next_ns = (self.next_ns + self.config.interval_ns).max(now_ns);
        let Some(mut mbuf) = cx.pool().alloc() else {
            return;
        };
        let Some(data) = mbuf.append(self.template.len()) else {
            return cx.drop(linecard_engine::DropReason::NoMbuf, mbuf);
        };
        data.copy_from_slice(&self.template);
        if let Some(to) = data.first_chunk_mut() {
            *to = peer.0;
        }
        set_echo_number(data, &self.config, self.sent as u16);
        let stamp = Stamp {
            lane: self.config.ident,
            sequence: self.sent,
            sent_ns: now_ns,
        };
        // There is room: the template was checked for it.
        let _room = stamp.put_at_end_of(data);
        self.sent += 1;
        self.shared
            .sent
            .store(u64::from(self.sent), Ordering::Relaxed);
        cx.emit(self.config.port, mbuf);
    }
}

impl Stage for Pinger {
    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        let received_ns = cx.now_ns();
        for mbuf in burst.iter() {
            let Some(stamp) = Stamp::at_end_of(mbuf.data())
                .filter(|stamp| stamp.lane == self.config.ident && stamp.sequence < self.sent)
                .filter(|_| is_answer(mbuf.data(), self.config.target))
            else {
                continue;
            };
            let reply = Reply {
                sequence: stamp.sequence,
                sent_ns: stamp.sent_ns,
                received_ns,
                size: mbuf.frame_len() as u32 + u32::from(FCS_BYTES),
            };
            if self.replies.push(reply).is_err() {
                let unread = self.shared.unread.load(Ordering::Relaxed);
                self.shared.unread.store(unread + 1, Ordering::Relaxed);
            }
        }
        match &mut self.responder {
            Some(responder) => responder.process(burst, cx),
            None => cx.consume_burst(burst),
        }
    }

    fn is_source(&self) -> bool {
        true
    }

    fn generate(&mut self, cx: &mut Context) {
        if let Some(responder) = &mut self.responder {
            responder.generate(cx);
        }
        if let Some(peer) = self.peer() {
            self.send(peer, cx);
        }
    }

    fn next_ns(&self) -> Option<u64> {
        let asks = self.responder.as_ref().and_then(Responder::next_ns);
        let sends = (self.peer().is_some() && !self.is_done()).then_some(self.next_ns);
        asks.into_iter().chain(sends).min().or(Some(u64::MAX))
    }
}

/// Where the ICMP header of an echo request is.
fn icmp_at(target: Target) -> Option<usize> {
    match target {
        Target::Host {
            to: IpAddr::V4(_), ..
        } => Some(14 + 20),
        Target::Host { .. } => Some(14 + 40),
        Target::Reflector(_) => None,
    }
}

/// Whether a frame with our stamp is what a host answers. Not every one is: our own requests may come back as they are.
fn is_answer(frame: &[u8], target: Target) -> bool {
    let kind = icmp_at(target).map(|at| frame.get(at).copied());
    match (target, kind) {
        (Target::Reflector(_), _) => true,
        (
            Target::Host {
                to: IpAddr::V4(_), ..
            },
            Some(kind),
        ) => kind == Some(icmpv4::ECHO_REPLY),
        (_, kind) => kind == Some(Some(icmpv6::ECHO_REPLY)),
    }
}

/// Gives an echo request its number. The checksum is updated by the difference (RFC 1624).
fn set_echo_number(frame: &mut [u8], config: &Config, number: u16) {
    let Some(icmp) = icmp_at(config.target).and_then(|at| frame.get_mut(at..)) else {
        return;
    };
    // Type, code, checksum, identifier, number: ICMP and ICMPv6 are alike.
    if let Some([_, _, high, low, _, _, to @ ..]) = icmp.first_chunk_mut::<8>() {
        let sum = u16::from_be_bytes([*high, *low]);
        let old = u16::from_be_bytes(*to);
        let sum = linecard_wire::delta::update_u16(sum, old, number);
        [*high, *low] = sum.to_be_bytes();
        *to = number.to_be_bytes();
    }
}

/// A probe with zeros where its stamp will be, which is nothing to its checksums.
fn template(config: &Config) -> Result<Box<[u8]>, EmitError> {
    let (need, have) = (config.target.least_size(), config.size);
    if have < need {
        let [need, have] = [need, have].map(usize::from);
        return Err(EmitError::NoRoom { need, have });
    }
    let mut frame = vec![0; usize::from(config.size - FCS_BYTES)];
    let ethertype = match config.target {
        Target::Host {
            to: IpAddr::V6(_), ..
        } => EtherType::IPV6,
        _ => EtherType::IPV4,
    };
    let header = EthernetHeader::new(config.mac, MacAddr::default(), ethertype);
    let packet = EthernetMut::emit(&mut frame, &header)?.into_payload();
    let len = packet.len();
    match config.target {
        Target::Host {
            to: IpAddr::V4(to),
            from: IpAddr::V4(from),
        } => {
            let header = Ipv4Header::new(from, to, IpProtocol::ICMP);
            let mut ip = Ipv4Mut::emit(packet, &header, &[], len - 20)?;
            let header = IcmpHeader::echo(icmpv4::ECHO_REQUEST, config.ident, 0);
            Icmpv4Mut::emit(ip.payload_mut(), &header)?.fill_checksum();
        }
        Target::Host {
            to: IpAddr::V6(to),
            from: IpAddr::V6(from),
        } => {
            let header = Ipv6Header::new(from, to, IpProtocol::ICMPV6);
            let mut ip = Ipv6Mut::emit(packet, &header, len - 40)?;
            let pseudo = ip.view().pseudo();
            let header = IcmpHeader::echo(icmpv6::ECHO_REQUEST, config.ident, 0);
            Icmpv6Mut::emit(ip.payload_mut(), &header)?.fill_checksum(pseudo);
        }
        Target::Host { .. } => return Err(EmitError::NoRoom { need: 0, have: 0 }),
        Target::Reflector(_) => {
            let header = Ipv4Header::new(FROM, TO, IpProtocol::UDP);
            let mut ip = Ipv4Mut::emit(packet, &header, &[], len - 20)?;
            let pseudo = ip.pseudo();
            let mut udp = UdpMut::emit(ip.payload_mut(), &UdpHeader::new(ECHO, ECHO), len - 28)?;
            udp.fill_checksum(pseudo);
        }
    }
    Ok(frame.into())
}

impl core::fmt::Debug for Pinger {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pinger")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linecard_wire::{Ethernet, Icmpv4, Icmpv6, Ipv4, Ipv6, Udp};

    fn config(target: Target, size: u16) -> Config {
        Config {
            port: 0,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            target,
            ident: 0x1234,
            count: None,
            interval_ns: 1,
            size,
        }
    }

    fn probe(target: Target, size: u16, number: u16) -> Vec<u8> {
        let config = config(target, size);
        let mut frame = template(&config).expect("a template").to_vec();
        set_echo_number(&mut frame, &config, number);
        let stamp = Stamp {
            lane: 1,
            sequence: number.into(),
            sent_ns: 0x0123_4567_89ab_cdef,
        };
        assert!(stamp.put_at_end_of(&mut frame));
        frame
    }

    #[test]
    fn probes_are_valid_at_every_size() {
        let host = |to: &str, from: &str| Target::Host {
            to: to.parse().expect("an address"),
            from: from.parse().expect("an address"),
        };
        for extra in 0..40 {
            let target = host("10.0.0.2", "10.0.0.1");
            let frame = probe(target, target.least_size() + extra, 0xff00 + extra);
            let packet = Ipv4::parse(Ethernet::parse(&frame).unwrap().payload()).unwrap();
            let icmp = Icmpv4::parse(packet.payload()).unwrap();
            assert!(packet.checksum_ok() && icmp.checksum_ok() && icmp.is_echo_request());
            assert_eq!((icmp.ident(), icmp.seq()), (0x1234, 0xff00 + extra));

            let target = host("2001:db8::2", "2001:db8::1");
            let frame = probe(target, target.least_size() + extra, extra);
            let packet = Ipv6::parse(Ethernet::parse(&frame).unwrap().payload()).unwrap();
            let icmp = Icmpv6::parse(packet.payload()).unwrap();
            assert!(icmp.checksum_ok(packet.pseudo()) && icmp.is_echo_request());

            let target = Target::Reflector(MacAddr([2, 0, 0, 0, 0, 9]));
            let frame = probe(target, target.least_size() + extra, extra);
            let packet = Ipv4::parse(Ethernet::parse(&frame).unwrap().payload()).unwrap();
            let udp = Udp::parse(packet.payload()).unwrap();
            assert!(packet.checksum_ok() && udp.checksum_ok(packet.pseudo()));
        }
    }

    #[test]
    fn a_size_without_room_is_refused() {
        let target = Target::Reflector(MacAddr::default());
        assert_eq!(target.least_size(), 64);
        assert!(template(&config(target, 63)).is_err());
        assert!(template(&config(target, 64)).is_ok());
        let mixed = Target::Host {
            to: IpAddr::V4(TO),
            from: "::1".parse().expect("an address"),
        };
        assert!(template(&config(mixed, 1500)).is_err());
    }
}
