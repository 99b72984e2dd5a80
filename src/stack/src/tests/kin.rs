//! One host on several workers: what one stack hears, all know.

use super::*;

/// The stacks of a host, whose addresses are there already.
fn host(workers: u16, detect: bool) -> (Vec<Stack>, Lab) {
    let config = config(US, &["192.0.2.9/24", "2001:db8::9/64"], detect);
    let stacks = Stack::several(&config, Secret::from_seed(1), 0, workers).unwrap();
    let lab = Lab {
        pool: pool(1024),
        sent: VecDeque::new(),
    };
    (stacks, lab)
}

/// Calls each at its deadlines up to `until`, and whenever there is news.
fn run_all(stacks: &mut [Stack], lab: &mut Lab, until: u64) {
    loop {
        let next = stacks.iter().filter_map(Stack::deadline_ns).min();
        let ready = stacks.iter().any(Stack::is_ready);
        let Some(now) = next.filter(|now| *now <= until).or(ready.then_some(until)) else {
            return;
        };
        for stack in &mut *stacks {
            stack.poll(now, lab);
        }
    }
}

fn packet_to_peer(stack: &mut Stack, lab: &mut Lab) {
    let payload = mbuf(&lab.pool, b"hello");
    let to = Outgoing::new(ip(PEER4), IpProtocol(253));
    stack.send(payload, &to, NOW, lab).unwrap();
}

#[test]
fn an_answer_that_comes_to_one_lets_the_packets_of_all_go() {
    let (mut stacks, mut lab) = host(3, false);
    run_all(&mut stacks, &mut lab, 10 * SECOND);
    lab.sent.clear();
    for stack in &mut stacks {
        packet_to_peer(stack, &mut lab);
    }
    assert_eq!(lab.sent.len(), 3, "each asks");
    lab.sent.clear();
    let answer = arp(ArpOperation::REPLY, (PEER, PEER4), (US, US4));
    receive(&mut stacks[1], &mut lab, &answer);
    assert_eq!(lab.sent.len(), 1, "the one that heard it");
    assert!(stacks[0].is_ready() && stacks[2].is_ready() && !stacks[1].is_ready());
    run_all(&mut stacks, &mut lab, NOW);
    assert_eq!(lab.sent.len(), 3);
    for stack in &stacks {
        let reachable = Some((NeighborState::Reachable, Some(PEER)));
        assert_eq!(known(stack, PEER4), reachable);
    }
}

#[test]
fn the_first_alone_speaks_of_addresses() {
    let (mut stacks, mut lab) = host(3, true);
    assert!(stacks[1].deadline_ns().is_none());
    run_all(&mut stacks, &mut lab, 10 * SECOND);
    // As many as a single stack sends: three probes and two announcements, a solicitation and an announcement for
    // each of two IPv6 addresses.
    let (mut alone, mut alone_lab) = host(1, true);
    run_all(&mut alone, &mut alone_lab, 10 * SECOND);
    assert_eq!(lab.sent.len(), alone_lab.sent.len());
    for stack in &stacks {
        assert!(
            stack
                .addresses(0)
                .all(|(_, state)| state == AddressState::Assigned)
        );
        assert_eq!(stack.addresses(0).count(), 3);
    }
}

#[test]
fn a_conflict_that_one_hears_is_the_hosts() {
    let (mut stacks, mut lab) = host(2, true);
    // While the address is tried out somebody else answers for it, to the second worker.
    let taken = arp(ArpOperation::REPLY, (PEER, US4), (US, US4));
    receive_at(&mut stacks[1], &mut lab, &taken, SECOND);
    run_all(&mut stacks, &mut lab, 10 * SECOND);
    for stack in &stacks {
        let state = stack.addresses(0).find(|(net, _)| net.addr() == ip(US4));
        assert_eq!(state.unwrap().1, AddressState::Duplicate);
    }
    // One that is in use is defended, once.
    let (mut stacks, mut lab) = host(2, false);
    run_all(&mut stacks, &mut lab, 10 * SECOND);
    lab.sent.clear();
    receive(&mut stacks[1], &mut lab, &taken);
    receive(&mut stacks[0], &mut lab, &taken);
    run_all(&mut stacks, &mut lab, NOW);
    assert_eq!(lab.sent.len(), 1);
    for stack in &stacks {
        assert!(
            stack
                .addresses(0)
                .all(|(_, state)| state == AddressState::Assigned)
        );
    }
}

#[test]
fn a_flood_is_told_as_far_as_there_is_room() {
    let (mut stacks, mut lab) = host(2, true);
    let assigned = |stack: &Stack| {
        let mut states = stack.addresses(0).map(|(_, state)| state);
        states.all(|state| state == AddressState::Assigned)
    };
    // The second worker is held up somewhere.
    let first = &mut stacks[0];
    while !assigned(first) {
        first.poll(first.deadline_ns().unwrap(), &mut lab);
    }
    for n in 0..10_000u32 {
        let from = format!("192.0.2.{}", 10 + n % 200);
        let said = arp(ArpOperation::REQUEST, (PEER, &from), (NOBODY, US4));
        receive_at(first, &mut lab, &said, 10 * SECOND);
    }
    let untold = first.counters().untold;
    assert!((9_000..10_000).contains(&untold), "{untold}");
    // What is decided about the addresses still finds room.
    run(first, &mut lab, NOW);
    assert_eq!(first.counters().untold, untold);
    assert!(!assigned(&stacks[1]));
    run_all(&mut stacks, &mut lab, NOW);
    assert!(assigned(&stacks[1]));
    assert_eq!(stacks[1].neighbors().count(), 200);
}
