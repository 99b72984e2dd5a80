//! A host on several workers: a stack each, one host.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use linecard_engine::Verdict;
use linecard_engine::protocol::{Claim, Packet, Protocols};
use linecard_simnet::players::Echo;
use linecard_simnet::{Network, Wire};
use linecard_stack::{InterfaceConfig, Ip, IpHost, Secret, Stack, StackConfig, Transport};
use linecard_wire::MacAddr;

const WORKERS: u16 = 4;

/// Each worker says hello to a neighbour that nobody knows yet.
struct Hello {
    port: u16,
    said: bool,
    answered: Arc<AtomicU64>,
}

impl Transport for Hello {
    fn name(&self) -> &str {
        "hello"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp_ports(4000..=4000 + WORKERS - 1)]
    }

    fn packet(&mut self, _: u64, _: &mut Packet<'_>, _: &mut Ip<'_>) -> Verdict {
        self.answered.fetch_add(1, Ordering::Relaxed);
        Verdict::Deliver
    }

    fn deadline(&self) -> Option<u64> {
        (!self.said).then_some(0)
    }

    fn transmit(&mut self, now_ns: u64, ip: &mut Ip<'_>) {
        if !std::mem::replace(&mut self.said, true) {
            let mut hello = ip.alloc().expect("the pool is full");
            hello
                .append(5)
                .expect("it is empty")
                .copy_from_slice(b"hello");
            let to = "10.0.0.2:7".parse().expect("an address");
            ip.send_udp(now_ns, hello, self.port, to).expect("a route");
        }
    }
}

fn stacks(address: &str, last: u8, workers: u16) -> Vec<Stack> {
    let interface = InterfaceConfig {
        detect: false,
        ..InterfaceConfig::new(0, MacAddr([2, 0, 0, 0, 0, last]))
    };
    let config = StackConfig {
        interfaces: vec![interface.address(address.parse().expect("an address"))],
        ..StackConfig::default()
    };
    Stack::several(&config, Secret::from_seed(1), 0, workers).expect("a stack")
}

#[test]
fn one_answer_serves_all_workers() {
    let answered = Arc::new(AtomicU64::new(0));
    let mut net = Network::new(1);
    let (many, one) = (net.host("many"), net.host("one"));
    net.engine(many, |config| config.workers = Some(WORKERS));
    let mut several = stacks("10.0.0.1/24", 1, WORKERS).into_iter();
    let count = answered.clone();
    net.protocols(
        many,
        Protocols::new().with(move |worker| {
            let stack = several.next().expect("a stack for each worker");
            IpHost::new(stack).with(Hello {
                port: 4000 + worker,
                said: false,
                answered: count.clone(),
            })
        }),
    );
    let mut alone = stacks("10.0.0.2/24", 2, 1).into_iter();
    let host = move |_| IpHost::new(alone.next().expect("one worker"));
    net.protocols(one, Protocols::new().with(|_| Echo::new(7)).with(host));
    let wire = Wire::from_options([("delay", "1ms")]).expect("a wire");
    let link = net.link(many, one, wire);
    let mut simulation = net.start().expect("a network");
    // Long before anybody would ask a second time.
    simulation
        .run_for(Duration::from_millis(100))
        .expect("no endless loop");
    assert_eq!(answered.load(Ordering::Relaxed), u64::from(WORKERS));
    // Four that ask, four that are answered, four hellos, four back; and the announcements.
    let [there, back] = simulation.link_stats(link);
    assert!(there.sent >= 8 && back.sent >= 8, "{there:?} {back:?}");
    assert!(simulation.finish().expect("an end").is_clean());
}
