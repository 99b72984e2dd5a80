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
