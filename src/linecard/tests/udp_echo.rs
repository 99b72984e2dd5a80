//! The example `udp_echo` over a wire in memory, asked by a client that is a protocol as well.

#[allow(dead_code, reason = "its main is not called")]
#[path = "../../../examples/udp_echo.rs"]
mod udp_echo;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use linecard::protocol::headers;
use linecard::wire::{EtherType, EthernetHeader, IpProtocol, Ipv4, MacAddr, Udp};
use linecard::{
    Claim, Engine, EngineConfig, Outbox, Packet, Protocol, Protocols, Rights, Running, Verdict,
};

/// How many questions it asks; every fifth from a port that no client has.
const QUESTIONS: u64 = 1000;

/// Asks one after the other; the next when the answer is there, or after a while.
struct Client {
    asked: u64,
    next_ns: u64,
    answers: Arc<AtomicU64>,
}

impl Client {
    fn ask(&mut self, now_ns: u64, out: &mut Outbox) {
        self.next_ns = now_ns + 1_000_000;
        let Some(mut mbuf) = out.alloc() else { return };
        let port = if self.asked.is_multiple_of(5) {
            53
        } else {
            4000
        };
        let here = (std::net::Ipv4Addr::new(192, 0, 2, 1), port).into();
        let there = (std::net::Ipv4Addr::new(192, 0, 2, 2), 7).into();
        let (src, dst) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        mbuf.append(8)
            .unwrap()
            .copy_from_slice(&self.asked.to_be_bytes());
        headers::udp(&mut mbuf, here, there).unwrap();
        headers::ip(&mut mbuf, here.ip(), there.ip(), IpProtocol::UDP).unwrap();
        headers::ethernet(&mut mbuf, &EthernetHeader::new(src, dst, EtherType::IPV4)).unwrap();
        out.send(0, mbuf);
        self.asked += 1;
    }
}

impl Protocol for Client {
    fn name(&self) -> &str {
        "client"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(4000).src_ports(7..=7)]
    }

    fn packet(&mut self, now_ns: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        let ip = Ipv4::parse(&packet.data()[14..]).unwrap();
        assert!(Udp::parse(ip.payload()).unwrap().checksum_ok(ip.pseudo()));
        assert!(packet.payload() < &QUESTIONS.to_be_bytes()[..]);
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.next_ns = now_ns;
        // The answer to the one that is asked next comes by this way again.
        if self.asked < QUESTIONS && out.room() > 0 {
            self.ask(now_ns, out);
        }
        Verdict::Deliver
    }

    fn deadline(&self) -> Option<u64> {
        (self.asked < QUESTIONS).then_some(self.next_ns)
    }

    fn expire(&mut self, now_ns: u64, out: &mut Outbox) {
        self.ask(now_ns, out);
    }
}

fn start(port: &str, protocols: Protocols) -> Running {
    let config = EngineConfig {
        pin: false,
        ..EngineConfig::default()
    };
    let engine = Engine::new(vec![linecard::open(port).unwrap()], config).unwrap();
    engine.start_protocols(protocols).unwrap()
}

#[test]
fn questions_are_answered_and_services_are_not() {
    let server = start(
        "sim:udp_echo_b?peer=udp_echo_a",
        Protocols::new().with(|_| udp_echo::Echo::default()),
    );
    let answers = Arc::new(AtomicU64::new(0));
    let counter = answers.clone();
    let rights = Rights::default().claims([Claim::udp(4000)]);
    let client = Protocols::new().with_rights(rights, move |_| Client {
        asked: 0,
        next_ns: 0,
        answers: counter.clone(),
    });
    let client = start("sim:udp_echo_a", client);
    let start = Instant::now();
    let wanted = QUESTIONS - QUESTIONS / 5;
    while answers.load(Ordering::Relaxed) < wanted {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{:#?}",
            client.protocols()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    let (client, server) = (client.finish(), server.finish());
    // What the server discarded is in its cache of the client's pool: another engine's, so nobody empties it.
    assert!(server.is_clean(), "{server:#?}");
    assert_eq!(client.account.unaccounted, 0, "{client:#?}");
    assert_eq!(client.account.delivered, wanted);
    assert_eq!(client.protocols[0].sent, QUESTIONS);
    let echo = &server.protocols[0];
    assert_eq!((echo.received, server.account.tx), (QUESTIONS, wanted));
    assert_eq!(echo.drops["from_a_service"], QUESTIONS / 5);
    assert!(echo.claims[0].to_string().contains("software, because"));
}
