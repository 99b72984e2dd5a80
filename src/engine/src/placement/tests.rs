//! Placement on machines of one and two nodes, with and without SMT, whole and restricted.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn machine(description: &str) -> Topology {
    Topology::synthetic(description).expect("a synthetic machine")
}

fn cpus(list: &str) -> CpuSet {
    list.parse().expect("a list of cpus")
}

fn request(ports: &[(&str, Option<u32>, u16)], workers: u16) -> PlacementRequest {
    PlacementRequest {
        ports: ports
            .iter()
            .map(|(name, node, queues)| PortDemand::new(*name, *node, *queues))
            .collect(),
        workers: (workers > 0).then_some(workers),
        ..PlacementRequest::default()
    }
}

fn place(machine: &Topology, ports: &[(&str, Option<u32>, u16)], workers: u16) -> Plan {
    Plan::compute(machine, &request(ports, workers)).expect("a plan")
}

fn refuse(machine: &Topology, request: &PlacementRequest) -> String {
    Plan::compute(machine, request)
        .expect_err("no plan")
        .to_string()
}

fn lcores(plan: &Plan) -> Vec<u32> {
    plan.workers.iter().map(|worker| worker.lcore).collect()
}

fn polled(plan: &Plan, worker: usize) -> Vec<(&str, u16)> {
    plan.workers[worker]
        .queues
        .iter()
        .map(|queue| (queue.port_name.as_str(), queue.queue))
        .collect()
}

const TWO_NODES: &str = "pack:2 [numa] core:4 pu:1";
const SMT: &str = "[numa] core:4 pu:2(indexes=0,4,1,5,2,6,3,7)";

#[test]
fn one_worker_unless_more_are_asked_for_and_not_on_cpu_0() {
    let plan = place(
        &machine("[numa] core:4 pu:1"),
        &[("a", Some(0), 4), ("b", None, 1)],
        0,
    );
    assert_eq!(lcores(&plan), [1]);
    assert_eq!(polled(&plan, 0), [("a", 0), ("b", 0)]);
    assert_eq!(plan.ports[0].rx_queues, 1);
    assert_eq!(plan.pools.len(), 1);
    assert!(plan.warnings.is_empty() && plan.notes.is_empty(), "{plan}");
}

#[test]
fn worker_i_has_queue_i_of_every_port() {
    let plan = place(
        &machine("[numa] core:4 pu:1"),
        &[("a", Some(0), 4), ("b", Some(0), 8)],
        3,
    );
    assert_eq!(lcores(&plan), [1, 2, 3]);
    for worker in 0..3u16 {
        assert_eq!(polled(&plan, worker.into()), [("a", worker), ("b", worker)]);
    }
    assert_eq!((plan.ports[1].rx_queues, plan.ports[1].tx_queues), (3, 3));
}

#[test]
fn a_core_each_before_smt_siblings_and_cpu_0_at_the_very_end() {
    let smt = machine(SMT);
    // The core of cpu 0 comes last, and there its sibling (4) comes first.
    assert_eq!(lcores(&place(&smt, &[("a", Some(0), 8)], 4)), [1, 2, 3, 4]);
    let full = place(&smt, &[("a", Some(0), 8)], 8);
    assert_eq!(lcores(&full), [1, 2, 3, 4, 5, 6, 7, 0]);
    assert_eq!(full.workers[0].shares_core_with, [4]);
    assert_eq!(full.workers[0].smt_siblings, [5]);
    assert!(
        full.warnings[0].contains("--workers 4 for a core each"),
        "{full}"
    );
    assert!(
        full.notes.iter().any(|note| note.contains("cpu 0")),
        "{full}"
    );
    assert!(
        full.notes
            .iter()
            .any(|note| note.contains("every cpu has a worker")),
        "{full}"
    );
}

#[test]
fn isolated_cpus_are_preferred() {
    let isolated = machine("[numa] core:8 pu:1").with_isolated(cpus("5-6"));
    let plan = place(&isolated, &[("a", Some(0), 8)], 3);
    assert_eq!(lcores(&plan), [5, 6, 1]);
    assert!(plan.workers[0].isolated && !plan.workers[2].isolated);
}

#[test]
fn the_ports_node_comes_first_even_when_its_cpus_are_siblings() {
    let two = machine("pack:2 [numa] core:2 pu:2");
    let plan = place(&two, &[("a", Some(1), 8)], 4);
    assert_eq!(lcores(&plan), [4, 6, 5, 7]);
    assert!(
        !plan.warnings.iter().any(|w| w.contains("interconnect")),
        "{plan}"
    );
}

#[test]
fn one_worker_goes_where_most_queues_are_and_the_warning_names_both_nodes() {
    let plan = place(
        &machine(TWO_NODES),
        &[("xdp:eth0", Some(0), 2), ("xdp:eth1", Some(1), 8)],
        0,
    );
    assert_eq!(lcores(&plan), [4]);
    assert_eq!(
        plan.warnings,
        [
            "port xdp:eth0 is on NUMA node 0 but worker 0 runs on node 1: every packet crosses the \
             interconnect; use --workers 2 for one on each node, or --lcores with a cpu of node 0 \
             (0-3)"
        ]
    );
    // The mbufs are near the card, on either node.
    assert_eq!(plan.pools.len(), 2);
    assert_eq!(plan.pools[plan.workers[0].queues[0].pool].node, 0);
}

#[test]
fn two_workers_are_one_on_each_node() {
    let ports = [("a", Some(0), 2), ("b", Some(1), 8)];
    let plan = place(&machine(TWO_NODES), &ports, 2);
    assert_eq!(lcores(&plan), [1, 4]);
    assert_eq!(polled(&plan, 0), [("a", 0)]);
    assert_eq!(polled(&plan, 1), [("b", 0)]);
    assert!(plan.warnings.is_empty(), "{plan}");
    // The fifth follows the queues: one for node 0's two, four for node 1's eight.
    let plan = place(&machine(TWO_NODES), &ports, 5);
    let nodes: Vec<u32> = plan.workers.iter().map(|worker| worker.node).collect();
    assert_eq!(nodes, [0, 1, 1, 1, 1]);
}

#[test]
fn a_full_node_is_helped_by_another_with_a_warning() {
    let plan = place(&machine(TWO_NODES), &[("a", Some(1), 16)], 6);
    assert_eq!(lcores(&plan), [4, 5, 6, 7, 1, 2]);
    assert!(
        plan.warnings[0].contains("workers 4 and 5 run on node 0"),
        "{plan}"
    );
    assert!(
        plan.warnings[0].contains("(4-7) has a worker already"),
        "{plan}"
    );
    assert_eq!(plan.pools.len(), 1);
    assert_eq!(plan.pools[0].node, 1);
}

#[test]
fn restricted_affinity_is_obeyed_and_explained() {
    let restricted = machine(TWO_NODES).with_affinity(cpus("0-1"));
    let plan = place(&restricted, &[("a", Some(1), 2)], 1);
    assert_eq!(lcores(&plan), [1]);
    assert!(plan.warnings[0].contains("(it may use 0-1)"), "{plan}");
    let error = refuse(&restricted, &request(&[("a", Some(1), 8)], 3));
    assert!(
        error.contains("3 workers") && error.contains("2 cpus (0-1)"),
        "{error}"
    );
    assert!(error.contains("--workers 2 or fewer"), "{error}");
    let forced = PlacementRequest {
        oversubscribe: true,
        ..request(&[("a", Some(1), 8)], 3)
    };
    let plan = Plan::compute(&restricted, &forced).expect("forced");
    assert_eq!(lcores(&plan), [1, 0, 1]);
    assert!(
        plan.warnings
            .iter()
            .any(|w| w.contains("take turns on cpu 1")),
        "{plan}"
    );
}

#[test]
fn a_listed_cpu_overrides_the_mask_but_not_the_cpuset() {
    let mut wish = request(&[("a", Some(0), 2)], 0);
    wish.lcores = Some(vec![3]);
    let masked = machine(TWO_NODES).with_affinity(cpus("0-1"));
    let plan = Plan::compute(&masked, &wish).expect("a plan");
    assert_eq!(lcores(&plan), [3]);
    assert!(
        plan.notes[0].contains("cpu 3 is outside the affinity mask"),
        "{plan}"
    );
    let contained = machine(TWO_NODES).with_cpuset(cpus("0-1"));
    let error = refuse(&contained, &wish);
    assert!(
        error.contains("cpu 3") && error.contains("grants 0-1"),
        "{error}"
    );
}

#[test]
fn the_order_of_listed_cpus_is_the_order_of_workers() {
    let mut wish = request(&[("a", Some(0), 4), ("b", Some(1), 4)], 0);
    wish.lcores = Some(vec![6, 2, 1]);
    let plan = Plan::compute(&machine(TWO_NODES), &wish).expect("a plan");
    assert_eq!(lcores(&plan), [6, 2, 1]);
    assert_eq!(polled(&plan, 0), [("b", 0)]);
    assert_eq!(polled(&plan, 1), [("a", 0)]);
    assert_eq!(polled(&plan, 2), [("a", 1)]);
}

#[test]
fn a_list_that_cannot_be_is_refused() {
    let two = machine(TWO_NODES);
    let with = |lcores: &[u32], workers: Option<u16>| PlacementRequest {
        lcores: Some(lcores.to_vec()),
        workers,
        ..request(&[("a", None, 4)], 0)
    };
    let error = refuse(&two, &with(&[9], None));
    assert!(
        error.contains("cpu 9") && error.contains("it has 0-7"),
        "{error}"
    );
    assert!(refuse(&two, &with(&[1, 1], None)).contains("cpu 1 twice"));
    let error = refuse(&two, &with(&[1, 2], Some(3)));
    assert!(
        error.contains("--workers 3 and --lcores with 2 cpus"),
        "{error}"
    );
    assert!(refuse(&two, &with(&[], None)).contains("0 workers"));
}

#[test]
fn more_workers_than_queues_are_fewer_workers_and_a_warning() {
    let plan = place(
        &machine("[numa] core:8 pu:1"),
        &[("a", None, 1), ("b", None, 1)],
        4,
    );
    assert_eq!(plan.workers.len(), 2);
    assert_eq!(polled(&plan, 0), [("a", 0)]);
    assert_eq!(polled(&plan, 1), [("b", 0)]);
    assert!(plan.warnings[0].contains("4 workers asked for"), "{plan}");
    assert!(plan.warnings[0].contains("2 receive queues"), "{plan}");
    let mut wish = request(&[("a", Some(0), 1), ("b", Some(1), 1)], 0);
    wish.lcores = Some(vec![1, 2, 5]);
    let plan = Plan::compute(&machine(TWO_NODES), &wish).expect("a plan");
    assert_eq!(
        lcores(&plan),
        [1, 5],
        "the one that has a port on its own node stays"
    );
    assert!(plan.warnings[0].contains("lcores 2 stay unused"), "{plan}");
}

#[test]
fn ports_with_few_queues_give_them_to_whoever_has_least() {
    let ports = [
        ("many", Some(0), 4),
        ("one", Some(0), 1),
        ("other", Some(0), 1),
    ];
    let plan = place(&machine("[numa] core:8 pu:1"), &ports, 4);
    assert_eq!(polled(&plan, 0), [("many", 0), ("one", 0)]);
    assert_eq!(polled(&plan, 1), [("many", 1), ("other", 0)]);
    assert!(
        plan.notes[0].contains("port one offers 1 receive queue"),
        "{plan}"
    );
}

#[test]
fn ports_in_no_place_keep_to_the_node_with_isolated_cpus() {
    let isolated = machine(TWO_NODES).with_isolated(cpus("6-7"));
    assert_eq!(
        lcores(&place(&isolated, &[("sim:a", None, 4)], 3)),
        [6, 7, 4]
    );
}

#[test]
fn a_node_that_does_not_exist_is_no_place_and_said() {
    let plan = place(&machine(TWO_NODES), &[("a", Some(7), 1)], 1);
    assert_eq!(plan.ports[0].node, None);
    assert!(plan.warnings[0].contains("NUMA node 7"), "{plan}");
    assert!(plan.warnings[0].contains("(it has 0-1)"), "{plan}");
}

#[test]
fn demands_that_make_no_sense_are_refused() {
    let one = machine("[numa] core:2 pu:1");
    assert!(refuse(&one, &request(&[], 1)).contains("--port"));
    assert!(refuse(&one, &request(&[("a", None, 0)], 1)).contains("port a"));
    assert!(refuse(&one, &request(&[("a", None, 1), ("a", None, 1)], 1)).contains("twice"));
    let zero = PlacementRequest {
        workers: Some(0),
        ..request(&[("a", None, 1)], 1)
    };
    assert_eq!(Plan::compute(&one, &zero), Err(PlacementError::NoWorkers));
    let nowhere = one.with_affinity(CpuSet::new()).with_cpuset(cpus("1"));
    assert!(refuse(&nowhere, &request(&[("a", None, 1)], 1)).contains("no cpu at all"));
}

#[test]
fn a_pool_holds_what_every_holder_may_hold() {
    let plan = place(
        &machine("[numa] core:4 pu:1"),
        &[("a", None, 2), ("b", None, 2)],
        2,
    );
    // 4 receive queues, 2 ports × 2 workers transmit queues, 2 workers: 1024 each.
    assert_eq!(plan.pools[0].mbufs, (4 + 4 + 2) * 1024);
    assert_eq!(plan.pools[0].bytes, 10 * 1024 * 2304);
    let mut fixed = request(&[("a", None, 1)], 1);
    fixed.pool.fixed = Some(64);
    let plan = Plan::compute(&machine("[numa] core:4 pu:1"), &fixed).expect("a plan");
    assert_eq!(plan.pools[0].mbufs, 64);
    let mut small = machine("[numa] core:4 pu:1");
    small.nodes[0].free_bytes = Some(1 << 20);
    let plan = place(&small, &[("a", None, 2)], 2);
    assert!(plan.warnings[0].contains("which has 1 MiB free"), "{plan}");
}

#[test]
fn prints_who_does_what() {
    let text = place(&machine(SMT), &[("uring:eth1", Some(0), 1)], 1).to_string();
    assert!(
        text.contains("worker 0  lcore 1, core 1, node 0, SMT sibling 5 left idle"),
        "{text}"
    );
    assert!(
        text.contains("polls uring:eth1 queue 0 of 1 (node 0) into pool node0"),
        "{text}"
    );
    assert!(text.contains("nothing will be bound"), "{text}");
}

fn any_machine() -> impl Strategy<Value = Topology> {
    let shape = (1u32..4, 1u32..5, 1u32..3);
    (shape, any::<u64>(), any::<u64>()).prop_map(|((nodes, cores, threads), mask, isolated)| {
        let whole = machine(&format!("pack:{nodes} [numa] core:{cores} pu:{threads}"));
        let pick = |bits: u64| -> CpuSet {
            whole
                .cpus()
                .iter()
                .filter(|cpu| bits >> (cpu % 64) & 1 == 1)
                .collect()
        };
        let (mask, isolated) = (pick(mask), pick(isolated & mask & 0x1111));
        let machine = whole.with_isolated(isolated);
        if mask.is_empty() {
            machine
        } else {
            machine.with_affinity(mask)
        }
    })
}

fn any_ports() -> impl Strategy<Value = Vec<PortDemand>> {
    let port = (proptest::option::of(0u32..4), 1u16..9);
    proptest::collection::vec(port, 1..6).prop_map(|ports| {
        ports
            .into_iter()
            .enumerate()
            .map(|(index, (node, queues))| PortDemand::new(format!("p{index}"), node, queues))
            .collect()
    })
}

/// What holds for every plan.
fn check(machine: &Topology, request: &PlacementRequest, plan: &Plan) {
    let mut owners: BTreeMap<(usize, u16), u16> = BTreeMap::new();
    for worker in &plan.workers {
        assert!(
            !worker.queues.is_empty(),
            "worker {} has no queue\n{plan}",
            worker.id
        );
        assert_eq!(machine.node_of_cpu(worker.lcore), Some(worker.node));
        for queue in &worker.queues {
            let twice = owners.insert((queue.port, queue.queue), worker.id);
            assert_eq!(twice, None, "a queue with two owners\n{plan}");
            assert!(queue.pool < plan.pools.len());
        }
    }
    for (index, port) in plan.ports.iter().enumerate() {
        assert!((1..=port.rx_queues_offered).contains(&port.rx_queues));
        for queue in 0..port.rx_queues {
            assert!(
                owners.contains_key(&(index, queue)),
                "an orphan queue\n{plan}"
            );
        }
        let away = plan
            .workers_of_port(index)
            .any(|w| port.node.is_some_and(|n| n != w.node));
        let said = plan
            .warnings
            .iter()
            .any(|warning| warning.starts_with(&format!("port {} is on NUMA node", port.name)));
        assert_eq!(away, said, "a crossing and its warning\n{plan}");
    }
    let opened: usize = plan
        .ports
        .iter()
        .map(|port| usize::from(port.rx_queues))
        .sum();
    assert_eq!(owners.len(), opened);
    let used: BTreeSet<u32> = lcores(plan).into_iter().collect();
    if !request.oversubscribe {
        assert_eq!(
            used.len(),
            plan.workers.len(),
            "an lcore used twice\n{plan}"
        );
    }
    if request.lcores.is_none() {
        assert!(
            used.iter()
                .all(|cpu| machine.placeable_cpus().contains(*cpu))
        );
    }
}

proptest! {
    #[test]
    fn every_queue_has_one_worker_and_every_worker_a_queue(
        machine in any_machine(),
        ports in any_ports(),
        workers in proptest::option::of(1u16..16),
        oversubscribe in any::<bool>(),
    ) {
        let request = PlacementRequest { ports, workers, oversubscribe, ..PlacementRequest::default() };
        let asked = usize::from(workers.unwrap_or(1));
        match Plan::compute(&machine, &request) {
            Ok(plan) => {
                check(&machine, &request, &plan);
                let offered: usize = request.ports.iter().map(|p| usize::from(p.rx_queues)).sum();
                prop_assert_eq!(plan.workers.len(), asked.min(offered));
                prop_assert_eq!(&plan, &Plan::compute(&machine, &request).expect("again"));
            }
            Err(PlacementError::TooManyWorkers { cpus, .. }) => {
                prop_assert!(!oversubscribe && asked > cpus.len());
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn listed_cpus_are_used_as_listed(
        machine in any_machine(),
        ports in any_ports(),
        picks in proptest::collection::btree_set(0u32..24, 1..12),
    ) {
        let lcores: Vec<u32> =
            picks.into_iter().rev().filter(|cpu| machine.core_of_cpu(*cpu).is_some()).collect();
        prop_assume!(!lcores.is_empty());
        let request =
            PlacementRequest { ports, lcores: Some(lcores.clone()), ..PlacementRequest::default() };
        let plan = Plan::compute(&machine, &request).expect("a plan");
        check(&machine, &request, &plan);
        let offered: usize = request.ports.iter().map(|port| usize::from(port.rx_queues)).sum();
        prop_assert_eq!(plan.workers.len(), lcores.len().min(offered));
        let kept: Vec<u32> = super::tests::lcores(&plan);
        let mut rest = lcores.iter();
        prop_assert!(kept.iter().all(|cpu| rest.any(|other| other == cpu)), "in the listed order");
    }
}
