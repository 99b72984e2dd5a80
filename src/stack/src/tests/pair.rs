//! Two stacks that talk with each other.

use super::*;
use proptest::prelude::*;

/// A link with two stacks on it.
struct Link {
    ends: [(Stack, Lab); 2],
}

impl Link {
    fn new(configs: [StackConfig; 2], seeds: [u64; 2]) -> Self {
        let [a, b] = configs;
        let end = |config, seed| {
            let lab = Lab {
                pool: pool(1024),
                sent: VecDeque::new(),
            };
            (Stack::new(config, Secret::from_seed(seed), 0).unwrap(), lab)
        };
        Self {
            ends: [end(a, seeds[0]), end(b, seeds[1])],
        }
    }

    /// Carries frames to and fro until none is left; returns what each delivered.
    fn settle(&mut self, now: u64) -> [Vec<Vec<u8>>; 2] {
        let mut delivered = [Vec::new(), Vec::new()];
        loop {
            let from = match self.ends.iter().position(|(_, lab)| !lab.sent.is_empty()) {
                Some(from) => from,
                None => return delivered,
            };
            let frame = self.ends[from].1.sent.pop_front().unwrap();
            let (stack, lab) = &mut self.ends[1 - from];
            match receive_at(stack, lab, &frame, now) {
                Came::Reply(reply) => lab.emit(0, reply),
                Came::Deliver(frame) => delivered[1 - from].push(bytes(&frame)),
                Came::Drop(Reason::BadChecksum | Reason::Malformed) => {
                    panic!("{frame:02x?}")
                }
                _ => {}
            }
        }
    }

    fn run(&mut self, until: u64) {
        loop {
            let due = self
                .ends
                .iter()
                .filter_map(|(stack, _)| stack.deadline_ns())
                .min();
            let Some(now) = due.filter(|now| *now <= until) else {
                return;
            };
            for (stack, lab) in &mut self.ends {
                stack.poll(now, lab);
            }
            self.settle(now);
        }
    }

    fn state(&self, end: usize, address: &str) -> Option<AddressState> {
        let mut all = self.ends[end].0.addresses(0);
        all.find(|(net, _)| net.addr() == ip(address))
            .map(|(_, state)| state)
    }
}

#[test]
fn two_hosts_that_want_the_same_address() {
    for seeds in [[1, 2], [2, 1], [7, 8]] {
        let addresses = ["192.0.2.9/24", "2001:db8::9/64"];
        let configs = [US, PEER].map(|mac| config(mac, &addresses, true));
        let mut link = Link::new(configs, seeds);
        link.run(20 * SECOND);
        for address in [US4, US6] {
            let states = [0, 1].map(|end| link.state(end, address).unwrap());
            assert!(states.contains(&AddressState::Duplicate), "{states:?}");
            assert!(!states.contains(&AddressState::Tentative));
        }
    }
    // One that has it already keeps it.
    let configs = [
        config(US, &["192.0.2.9/24"], false),
        config(PEER, &["192.0.2.9/24"], true),
    ];
    let mut link = Link::new(configs, [1, 2]);
    link.run(20 * SECOND);
    assert_eq!(link.state(0, US4), Some(AddressState::Assigned));
    assert_eq!(link.state(1, US4), Some(AddressState::Duplicate));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What one stack sends, in however many fragments, another one delivers; in both directions, and with any MTU.
    #[test]
    fn what_is_sent_is_delivered(
        v6: bool, lens in proptest::collection::vec(0usize..9000, 1..6), mtu in 68u16..2000,
    ) {
        let addresses = |n: u8| [format!("192.0.2.{n}/24"), format!("2001:db8::{n}/64")];
        let configs = [(US, 9), (PEER, 1)].map(|(mac, n)| {
            let [v4, v6_address] = addresses(n);
            let mut config = config(mac, &[if v6 { &v6_address } else { &v4 }], false);
            config.interfaces[0].link_local = v6;
            config.interfaces[0].mtu = if v6 { mtu.max(1280) } else { mtu };
            config.reassembly.fragments_each = 512;
            config
        });
        let mut link = Link::new(configs, [1, 2]);
        link.run(10 * SECOND);
        for (i, len) in lens.into_iter().enumerate() {
            let from = i % 2;
            let to = [[PEER4, PEER6], [US4, US6]][from][usize::from(v6)];
            let body: Vec<u8> = (0..len).map(|n| (n ^ i) as u8).collect();
            let outgoing = Outgoing { dont_fragment: false, ..Outgoing::new(ip(to), IpProtocol(253)) };
            let (stack, lab) = &mut link.ends[from];
            let mut payload: Option<Mbuf> = None;
            for chunk in body.chunks(1500).rev() {
                let mut part = mbuf(&lab.pool, chunk);
                if let Some(rest) = payload.take() {
                    part.chain(rest).unwrap();
                }
                payload = Some(part);
            }
            let payload = payload.unwrap_or_else(|| mbuf(&lab.pool, &[]));
            stack.send(payload, &outgoing, NOW, lab).unwrap();
            let delivered = link.settle(NOW);
            prop_assert_eq!(delivered[1 - from].len(), 1);
            let frame = &delivered[1 - from][0];
            prop_assert!(frame[14..].ends_with(&body));
            prop_assert_eq!(frame.len(), 14 + if v6 { 40 } else { 20 } + len);
        }
        for (stack, lab) in &link.ends {
            prop_assert_eq!(lab.pool.in_use(), 0);
            prop_assert_eq!(stack.counters().drops.total(), 0);
        }
    }
}
