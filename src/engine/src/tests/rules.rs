//! Flow rules of the engine's own.

use super::*;
use crate::PortRule;
use crate::testing::Rules;

#[test]
fn flow_rules_are_created_in_order_and_reported() {
    let mut a = TestPort::new("a", 1, vec![vec![1; 60]]);
    let rules = Rules::default();
    a.rules = Some(rules.clone());
    let text = ["proto=udp => drop", "=> mark 7"];
    let config = EngineConfig {
        flows: text
            .iter()
            .map(|rule| PortRule {
                port: 0,
                rule: rule.parse().unwrap(),
            })
            .collect(),
        ..config()
    };
    let running = engine(&[a], config)
        .start(|_| Box::new(|_: &mut Mbuf| Verdict::Consume))
        .unwrap();
    let created: Vec<_> = rules
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|r| r.to_string())
        .collect();
    assert_eq!(created, text);
    let report = run_to_end(running);
    let counts: Vec<_> = report.ports[0]
        .flows
        .iter()
        .map(|f| (f.packets, f.bytes))
        .collect();
    assert_eq!(counts, [(Some(1), Some(60)), (Some(2), Some(120))]);
}

#[test]
fn a_flow_rule_that_cannot_be_had_is_an_error() {
    let rule = |port| PortRule {
        port,
        rule: "proto=udp => drop".parse().unwrap(),
    };
    let refused = |rules: Option<Rules>, flows: Vec<PortRule>| {
        let mut a = TestPort::new("a", 1, vec![]);
        a.rules = rules;
        let config = EngineConfig { flows, ..config() };
        match engine(&[a], config).start(|_| Box::new(|_: &mut Mbuf| Verdict::Consume)) {
            Ok(_) => panic!("it started"),
            Err(error) => error.to_string(),
        }
    };
    let none = refused(None, vec![rule(0)]);
    assert!(
        none.contains("a: it takes no flow rules: proto=udp => drop"),
        "{none}"
    );
    let full = refused(Some(Rules::default()), vec![rule(0), rule(0), rule(0)]);
    assert!(full.contains("no room for the rule"), "{full}");
    let nowhere = refused(Some(Rules::default()), vec![rule(3)]);
    assert!(nowhere.contains("is for port 3"), "{nowhere}");
}

/// A port that never ends, so that the engine runs for as long as a test wants.
fn endless(rules: Option<Rules>) -> TestPort {
    let mut port = TestPort::new("a", 1, vec![vec![1; 60]]);
    port.rules = rules;
    port.wire.lock().unwrap().ends = false;
    port
}

#[test]
fn rules_come_and_go_while_it_runs() {
    let rules = Rules::default();
    let running = engine(&[endless(Some(rules.clone()))], config())
        .start(|_| Box::new(|_: &mut Mbuf| Verdict::Consume))
        .unwrap();
    let remote = running.remote();
    let rule = |port, text: &str| PortRule {
        port,
        rule: text.parse().unwrap(),
    };
    assert_eq!(remote.add_rule(rule(0, "proto=udp => drop")).unwrap(), 0);
    assert_eq!(remote.add_rule(rule(0, "=> mark 7")).unwrap(), 1);
    let refused = |outcome: Result<u64, crate::EngineError>| outcome.unwrap_err().to_string();
    let full = refused(remote.add_rule(rule(0, "=> mark 8")));
    assert!(full.contains("no room for the rule"), "{full}");
    let nowhere = refused(remote.add_rule(rule(2, "=> mark 8")));
    assert!(nowhere.contains("the ports are 0 to 0"), "{nowhere}");

    let removed = remote.remove_rule(0).unwrap();
    assert_eq!(removed, rule(0, "proto=udp => drop"));
    let unknown = remote.remove_rule(0).unwrap_err().to_string();
    assert!(unknown.contains("there are 1"), "{unknown}");
    let flows = remote.snapshot().ports.remove(0).flows;
    let listed: Vec<_> = flows.iter().map(|f| (f.id, f.packets)).collect();
    assert_eq!(listed, [(1, Some(2))]);

    let report = running.finish();
    assert_eq!(report.ports[0].flows.len(), 1, "as they were at the end");
    assert!(remote.is_over());
    let late = refused(remote.add_rule(rule(0, "=> mark 9")));
    assert!(late.contains("has stopped"), "{late}");
    let last = remote.snapshot();
    let figures = |report: &crate::Report| (report.account.rx, report.duration_s);
    assert_eq!(figures(&last), figures(&report), "it stands still");
    assert_eq!(
        remote.elapsed(),
        std::time::Duration::from_secs_f64(last.duration_s)
    );
}

#[test]
fn a_report_reads_back_as_it_was() {
    let a = TestPort::new("a", 1, vec![vec![1; 60]]);
    let running = engine(&[a], config())
        .start(|_| Box::new(|_: &mut Mbuf| Verdict::Consume))
        .unwrap();
    let report = run_to_end(running);
    let json = serde_json::to_string(&report).unwrap();
    let again: crate::Report = serde_json::from_str(&json).unwrap();
    let whole = |report: &crate::Report| {
        serde_json::to_value((&report.ports, &report.pools, &report.account)).unwrap()
    };
    assert_eq!(whole(&again), whole(&report));
    let worker = &report.workers[0];
    assert_eq!((worker.bursts, worker.queues[0].rx), (1, 1));
    assert!(report.pools[0].peak_in_use <= report.pools[0].ledger.size);
}
