//! A host that answers for itself, with an echo server on it: ARP and ND, ICMP, fragments.

use linecard_simnet::players::Echo;
use linecard_stack::{
    InterfaceConfig, IpHost, NeighborConfig, ReassemblyConfig, Secret, Stack, StackConfig,
};

linecard_simnet::fuzz_protocol!(
    |_| IpHost::new(stack()),
    beside(|_| Echo::new(7)),
    holds(stack().most_mbufs())
);

/// Small tables, so that a short input fills them.
pub(super) fn stack() -> Stack {
    let interface = InterfaceConfig {
        detect: false,
        ..InterfaceConfig::new(0, "02:00:00:00:00:02".parse().unwrap())
    };
    let interface = interface
        .address("10.0.0.2/24".parse().unwrap())
        .address("fd00::2/64".parse().unwrap());
    let config = StackConfig {
        interfaces: vec![interface],
        neighbors: NeighborConfig {
            entries: 16,
            incomplete: 4,
            waiting: 8,
            ..NeighborConfig::default()
        },
        reassembly: ReassemblyConfig {
            datagrams: 8,
            fragments: 24,
            ..ReassemblyConfig::default()
        },
        ..StackConfig::default()
    };
    Stack::new(config, Secret::from_seed(1), 0).unwrap()
}
