//! A host of its own on any port: answers ARP and neighbour discovery, ping and traceroute, IPv4 and IPv6, also
//! in fragments.
//!
//! ```text
//! cargo run --release --example host -- xdp:eth1 192.0.2.9/24 2001:db8::9/64
//! ```

use std::error::Error;
use std::time::Instant;

use linecard::stack::{
    Host, InterfaceConfig, Problem, Reason, Reassembled, Received, Secret, Stack, StackConfig,
};
use linecard::wire::{IpProtocol, MacAddr, parse_layers};
use linecard::{Burst, Context, DropReason, Engine, EngineConfig, Mbuf, Mempool, Stage, Verdict};

/// The stack, hosted by a worker: its frames leave by the worker's ports.
struct Answers {
    stack: Stack,
    started: Instant,
}

struct Ports<'a>(&'a mut Context);

impl Host for Ports<'_> {
    fn pool(&self) -> &Mempool {
        self.0.pool()
    }

    fn emit(&mut self, port: u16, frame: Mbuf) {
        self.0.emit(port, frame);
    }
}

impl Answers {
    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn answer(&mut self, frame: &mut Mbuf, now_ns: u64, cx: &mut Context) -> Verdict {
        let layers = parse_layers(frame.data());
        match self.stack.receive(frame, &layers, now_ns, &mut Ports(cx)) {
            Received::Reply => Verdict::Reply,
            Received::Consume => Verdict::Consume,
            // There is nobody above the stack, and a sender may know. What is about ICMP stays unanswered.
            Received::Deliver => {
                let problem = match layers.protocol {
                    IpProtocol::ICMP | IpProtocol::ICMPV6 => return Verdict::Consume,
                    IpProtocol::UDP | IpProtocol::TCP => Problem::PortUnreachable,
                    _ => Problem::ProtocolUnreachable,
                };
                self.stack
                    .report(frame, &layers, problem, now_ns, &mut Ports(cx));
                Verdict::Consume
            }
            // The stack keeps a copy: a plain stage cannot keep the mbuf itself.
            Received::Fragment(fragment) => {
                let Some(copy) = frame.copy(cx.pool()) else {
                    return Verdict::Drop(DropReason::NoMbuf);
                };
                let taken = self
                    .stack
                    .reassemble(copy, &fragment, now_ns, &mut Ports(cx));
                if let Reassembled::Whole(mut whole) = taken
                    && self.answer(&mut whole, now_ns, cx) == Verdict::Reply
                {
                    cx.emit(whole.port(), whole);
                }
                Verdict::Consume
            }
            Received::Drop(Reason::Malformed) => Verdict::Drop(DropReason::Malformed),
            Received::Drop(Reason::NotForUs) | Received::Pass => {
                Verdict::Drop(DropReason::NotForUs)
            }
            Received::Drop(_) => Verdict::Drop(DropReason::Policy),
        }
    }
}

impl Stage for Answers {
    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        let now_ns = self.now_ns();
        for mut frame in burst.drain() {
            let verdict = self.answer(&mut frame, now_ns, cx);
            cx.settle(frame, verdict);
        }
    }

    /// For what it does by itself: probes and announcements.
    fn is_source(&self) -> bool {
        true
    }

    fn generate(&mut self, cx: &mut Context) {
        let now_ns = self.now_ns();
        if self.stack.deadline_ns().is_some_and(|due| due <= now_ns) {
            self.stack.poll(now_ns, &mut Ports(cx));
        }
    }
}

/// Answers at a port, for these addresses, until Enter is pressed.
pub(crate) fn run(
    name: &str,
    addresses: impl Iterator<Item = String>,
) -> Result<(), Box<dyn Error>> {
    let port = linecard::open(name)?;
    let mac = MacAddr(port.info().mac.unwrap_or([2, 0, 0, 0, 0, 9]));
    let mut interface = InterfaceConfig::new(0, mac);
    for address in addresses {
        interface = interface.address(address.parse()?);
    }
    let config = StackConfig {
        interfaces: vec![interface],
        ..StackConfig::default()
    };
    let started = Instant::now();
    let mut stack = Some(Stack::new(config, Secret::random(), 0)?);
    let engine = Engine::new(vec![port], EngineConfig::default())?;
    let running = engine.start(|_worker| {
        let stack = stack.take().expect("there is one worker");
        Box::new(Answers { stack, started })
    })?;
    println!("answering on {name}; press Enter to stop");
    std::io::stdin().read_line(&mut String::new())?;
    let report = running.finish();
    println!("{:#?}", report.account);
    if !report.is_clean() {
        return Err("a worker failed, or frames or mbufs are missing".into());
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments
        .next()
        .ok_or("name a port and addresses: xdp:eth1 192.0.2.9/24")?;
    run(&name, arguments)
}
