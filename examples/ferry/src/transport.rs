//! Ferry on a NIC: an [`Endpoint`] as a transport on an [`IpHost`](linecard_stack::IpHost).
//!
//! The endpoint has no idea of where packets come from, so there is not much to do. A packet goes into it where it lies;
//! one that leaves is written straight into its mbuf, behind the room for headers.
//!
//! **Several workers** have an instance each, with a [`Secret`](crate::Secret) of the same key and the worker's number.
//! A packet comes to the worker of its flow; the id that it carries says whose its connection is. The two are the same
//! until the peer changes its address, and by IP alone whenever two connections have the same two hosts: then the
//! packet is handed off, once, and counted. Cookies are good at every worker.
//!
//! **The application** lives on the worker, too ([`Application`]), and is called between packets in and packets out. What
//! may block does so on a thread of its own, at the other end of a [channel](linecard_engine::channel).

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use linecard_engine::Verdict;
use linecard_engine::protocol::{Claim, Home, Packet, Wake};
use linecard_stack::{Datagram, Ip, Outgoing, Stack, Transport};
use linecard_wire::{FlowKey, IpProtocol};

use crate::{Config, Counters, Endpoint, IP_PROTOCOL, UDP_PORT};

/// A neighbour that answers is confirmed so often, and not with every packet.
const CONFIRM_NS: u64 = 1_000_000_000;

/// How long to wait for an mbuf when there was none.
const NO_MBUF_NS: u64 = 100_000;

/// What uses an endpoint: connects, reads, writes, closes.
pub trait Application: Send {
    /// Packets have come, or time has passed. Which connections should be looked at says
    /// [`Endpoint::changed`]. What is sent now leaves at once.
    fn work(&mut self, now_ns: u64, endpoint: &mut Endpoint);

    /// When to call [`work`](Self::work) though nothing arrives.
    fn deadline(&self) -> Option<u64> {
        None
    }

    /// Called once, on the worker: the place to attach the ends of channels.
    fn attach(&mut self, wake: &Wake) {
        let _ = wake;
    }

    /// Whether a channel has something to do for [`work`](Self::work).
    fn is_ready(&self) -> bool {
        false
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Ferry<A> {
    endpoint: Endpoint,
    application: A,
    udp_port: u16,
    /// There was more to send than could be: when to go on.
    go_on_ns: Option<u64>,
    /// For packets in pieces.
    gathered: Vec<u8>,
    confirmed: Option<(SocketAddr, u64)>,
    last_words: Arc<OnceLock<Counters>>,
}

impl<A: Application> Ferry<A> {
    /// Runs an endpoint at [`UDP_PORT`] and as [`IP_PROTOCOL`]; addresses with port 0 mean the latter.
    pub fn new(endpoint: Endpoint, application: A) -> Self {
        Self {
            endpoint,
            application,
            udp_port: UDP_PORT,
            go_on_ns: None,
            gathered: Vec::new(),
            confirmed: None,
            last_words: Arc::default(),
        }
    }

    /// At another UDP port.
    pub fn at_port(mut self, udp_port: u16) -> Self {
        self.udp_port = udp_port;
        self
    }

    /// What was counted, to be read when the engine has ended.
    pub fn last_words(&self) -> Arc<OnceLock<Counters>> {
        self.last_words.clone()
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn receive(&mut self, now_ns: u64, packet: &Packet<'_>, ip: &mut Ip<'_>) -> Verdict {
        let datagram = match Datagram::of(packet, &mut self.gathered) {
            Ok(datagram) => datagram,
            Err(why) => return ip.drop(why.name()),
        };
        let by_udp = packet.layers().protocol == IpProtocol::UDP;
        // Port 0 would be taken for no port at all.
        if by_udp && datagram.from.port() == 0 {
            return ip.drop("no_port");
        }
        let worker = ip.worker();
        let home = Endpoint::instance_of(datagram.payload);
        match home {
            Some(home) if home != worker && home < ip.workers() => return Verdict::HandOff(home),
            _ => {}
        }
        let from = datagram.from;
        match self.endpoint.receive(now_ns, from, datagram.payload) {
            Some(refused) => ip.drop(refused.name()),
            None => {
                // Who says hello may be anybody; who knows the id of a connection has heard us.
                if home.is_some() {
                    self.confirm(now_ns, from, ip);
                }
                Verdict::Deliver
            }
        }
    }

    fn confirm(&mut self, now_ns: u64, from: SocketAddr, ip: &mut Ip<'_>) {
        let lately = |(peer, at_ns)| peer == from && now_ns < at_ns + CONFIRM_NS;
        if !self.confirmed.is_some_and(lately) {
            self.confirmed = Some((from, now_ns));
            ip.confirm(now_ns, from.ip());
        }
    }

    /// One packet, if there is one.
    fn send_next(&mut self, now_ns: u64, ip: &mut Ip<'_>) -> Option<()> {
        let mut mbuf = ip.alloc()?;
        let len = mbuf.tailroom();
        let (to, used) = self.endpoint.transmit(now_ns, mbuf.append(len)?)?;
        if !mbuf.trim(len - used) {
            return None;
        }
        // What cannot be sent is lost, and the stack has counted why.
        let _ = match to.port() {
            0 => ip.send(
                now_ns,
                mbuf,
                &Outgoing::new(to.ip(), IpProtocol(IP_PROTOCOL)),
            ),
            _ => ip.send_udp(now_ns, mbuf, self.udp_port, to),
        };
        Some(())
    }
}

/// An endpoint's configuration for a host: datagrams fit each of its links.
pub fn fit(config: Config, stack: &Stack) -> Config {
    // An IPv6 header and that of UDP.
    let longest = stack.mtu().saturating_sub(40 + 8);
    Config {
        datagram_len: config.datagram_len.min(longest),
        ..config
    }
}

impl<A: Application> Transport for Ferry<A> {
    fn name(&self) -> &str {
        "ferry"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::udp(self.udp_port),
            Claim::ip_protocol(IpProtocol(IP_PROTOCOL)),
        ]
    }

    fn packet(&mut self, now_ns: u64, packet: &mut Packet<'_>, ip: &mut Ip<'_>) -> Verdict {
        self.receive(now_ns, packet, ip)
    }

    fn deadline(&self) -> Option<u64> {
        let deadlines = [
            self.go_on_ns,
            self.endpoint.deadline(),
            self.application.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn transmit(&mut self, now_ns: u64, ip: &mut Ip<'_>) {
        self.endpoint.expire(now_ns);
        self.application.work(now_ns, &mut self.endpoint);
        while self.endpoint.is_ready() && ip.room() > 0 {
            if self.send_next(now_ns, ip).is_none() {
                break;
            }
        }
        // Without room in the next turn; without mbufs when there may be some.
        let wait_ns = if ip.room() > 0 { NO_MBUF_NS } else { 0 };
        self.go_on_ns = self.endpoint.is_ready().then_some(now_ns + wait_ns);
    }

    fn attach(&mut self, wake: &Wake) {
        self.application.attach(wake);
    }

    fn is_ready(&self) -> bool {
        self.application.is_ready()
    }

    fn home(&self) -> Home {
        Home::Flow
    }

    fn recover(&mut self, now_ns: u64, flow: Option<&FlowKey>, _ip: &mut Ip<'_>) {
        if let Some(flow) = flow {
            let port = match flow.protocol() {
                IpProtocol::UDP => flow.src_port(),
                _ => 0,
            };
            self.endpoint
                .forget(now_ns, SocketAddr::new(flow.src(), port));
        }
    }
}

impl<A> Drop for Ferry<A> {
    fn drop(&mut self) {
        let _ = self.last_words.set(self.endpoint.counters());
    }
}
