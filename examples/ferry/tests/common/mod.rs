//! What the tests of whole hosts share: a host with Ferry on it, and a client with something to send.

use std::net::{Ipv4Addr, SocketAddr};

use linecard_engine::protocol::Protocols;
use linecard_ferry::players::{Job, Sender, Shared};
use linecard_ferry::transport::{Application, fit};
use linecard_ferry::{Config, Endpoint, Ferry, Secret};
use linecard_stack::{InterfaceConfig, IpHost, Secret as StackSecret, Stack, StackConfig};
use linecard_wire::MacAddr;

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

pub(crate) fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

pub(crate) fn stacks(addresses: &[(u8, &str)], workers: u16) -> Vec<Stack> {
    let interfaces = (0..).zip(addresses).map(|(port, (last, address))| {
        let interface = InterfaceConfig {
            detect: false,
            link_local: false,
            ..InterfaceConfig::new(port, mac(*last))
        };
        interface.address(address.parse().unwrap())
    });
    let config = StackConfig {
        interfaces: interfaces.collect(),
        ..StackConfig::default()
    };
    Stack::several(&config, StackSecret::from_seed(7), 0, workers).unwrap()
}

/// A host with an endpoint, one instance for each worker.
pub(crate) fn host<A: Application + 'static>(
    addresses: &[(u8, &str)],
    workers: u16,
    key: u8,
    listens: bool,
    mut application: impl FnMut(u16) -> A + 'static,
) -> Protocols {
    let mut stacks = stacks(addresses, workers).into_iter();
    Protocols::new().with(move |worker| {
        let stack = stacks.next().unwrap();
        let config = fit(Config::default(), &stack);
        let endpoint = Endpoint::new(config, Secret::new([key; 16], worker), listens);
        IpHost::new(stack).with(Ferry::new(endpoint, application(worker)))
    })
}

pub(crate) fn client(job: Job) -> (Protocols, Shared) {
    let (sender, tally) = Sender::new(job);
    let mut sender = Some(sender);
    let protocols = host(&[(1, "10.0.0.1/24")], 1, 1, false, move |_| {
        sender.take().unwrap()
    });
    (protocols, tally)
}

pub(crate) fn job(port: u16, messages: u64) -> Job {
    Job {
        to: SocketAddr::new(SERVER.into(), port),
        messages,
        size: 1000,
        interval_ns: 0,
        start_ns: 0,
    }
}
