//! Scenarios: what a file can say, and what it is told when it makes no sense.

use linecard_engine::Verdict;
use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol};
use linecard_simnet::scenario::{Part, Run};
use linecard_simnet::{Kinds, Scenario};

const GOOD: &str = r#"
    [simulation]
    duration = "1s"
    seed = 9
    [[host]]
    name = "client"
    [[host.protocol]]
    kind = "probe"
    from = "10.0.0.1:4000"
    to = "10.0.0.2:7"
    count = 100
    interval = "1ms"
    [[host]]
    name = "server"
    mbufs = 4096
    [[host.protocol]]
    kind = "echo"
    [[link]]
    name = "wan"
    between = ["client", "server"]
    delay = "10ms"
    back = { delay = "20ms" }
    [[event]]
    at = "500ms"
    link = "wan"
    state = "down"
    [[expect]]
    figure = "client.probe.answered"
    equals = 100
"#;

fn run(text: &str) -> Run {
    let scenario = Scenario::parse("test.toml", text, &Kinds::new()).unwrap();
    let run = scenario.run(scenario.seed(), None, &Kinds::new(), |_| true);
    run.unwrap()
}

#[test]
fn a_file_says_all_of_it() {
    let run = run(GOOD);
    assert!(run.holds() && !run.stopped, "{run:#?}");
    assert_eq!((run.seed, run.duration_s), (9, 1.0));
    let figure = |name: &str| run.figures[name];
    assert_eq!(
        figure("client.probe.rtt_min_ns"),
        30_000_000,
        "back has its own delay"
    );
    assert_eq!(figure("wan.there.delivered"), 100);
    assert_eq!(figure("server.echo.received"), 100);
}

#[test]
fn one_packet_again_and_again() {
    let probe = &GOOD[GOOD.find("kind = \"probe\"").unwrap()
        ..GOOD.find("[[host]]\n    name = \"server").unwrap()];
    let asking = |packet: &str| {
        let ask = format!("kind = \"ask\"\npacket = '{packet}'\ncount = 100\ninterval = \"1ms\"\n");
        let text = GOOD.replace(probe, &ask);
        text.replace("client.probe.answered", "client.ask.received")
    };
    let run = run(&asking(
        "eth/ipv4(src=10.0.0.1, dst=10.0.0.2)/udp(sport=4000, dport=7)/data(\"hello\")",
    ));
    assert!(run.holds(), "{run:#?}");
    assert_eq!(run.figures["client.ask.sent"], 100);
    let wrong = Scenario::parse("test.toml", &asking("eth/ipvx"), &Kinds::new());
    let error = wrong.expect_err("refused").to_string();
    assert!(error.contains("eth/ipvx: at character 5"), "{error}");
}

/// A check that could not fail would be none.
#[test]
fn what_is_not_as_expected_is_found() {
    for (wanted, found) in [
        ("figure = \"client.probe.answered\"\nequals = 99", "100"),
        ("figure = \"client.probe.answered\"\nat_most = 99", "100"),
        ("figure = \"client.probe.sent\"\nat_least = 101", "100"),
        ("figure = \"server.drops.policy\"\nat_least = 1", "0"),
        (
            "figure = \"server.echo.answered\"\nequals = 0",
            "there is no such figure, but server.drops",
        ),
        (
            "figure = \"server.drops.nombuf\"\nequals = 0",
            "there is no such figure",
        ),
        (
            "figure = \"sever.rx\"\nequals = 0",
            "nothing is called \"sever\"",
        ),
    ] {
        let run = run(&format!("{GOOD}\n[[expect]]\n{wanted}\n"));
        let broken: Vec<_> = run.checks.iter().filter(|check| !check.holds).collect();
        assert_eq!(broken.len(), 1, "{wanted}: {broken:?}");
        assert!(
            broken[0].found.starts_with(found) || broken[0].found.contains(found),
            "{:?}",
            broken[0]
        );
    }
}

#[test]
fn files_that_make_no_sense_are_told_what_is_wrong() {
    for (from, to, said) in [
        (
            "duration = \"1s\"",
            "duration = \"1\"",
            "write a number with its unit",
        ),
        (
            "duration = \"1s\"",
            "duration = \"0s\"",
            "it would end before anything happens",
        ),
        ("seed = 9", "sed = 9", "unknown field `sed`"),
        (
            "kind = \"echo\"",
            "kind = \"eco\"",
            "host server, protocol eco: there is no such kind, but ask, echo, host, probe",
        ),
        (
            "kind = \"echo\"",
            "kind = \"echo\"\nprot = 7",
            "unknown field `prot`",
        ),
        (
            "count = 100",
            "",
            "host client, protocol probe: missing field `count`",
        ),
        (
            "from = \"10.0.0.1:4000\"",
            "from = \"[::1]:4000\"",
            "not of one IP version",
        ),
        (
            "name = \"server\"",
            "name = \"client\"",
            "two hosts with the name \"client\"",
        ),
        (
            "[\"client\", \"server\"]",
            "[\"client\", \"sever\"]",
            "between \"sever\": there is no such host, but client, server",
        ),
        ("delay = \"10ms\"", "delay = \"10\"", "link wan: "),
        ("delay = \"10ms\"", "dlay = \"10ms\"", "dlay"),
        ("delay = \"10ms\"", "loss = 1.5", "not a probability"),
        (
            "link = \"wan\"",
            "link = \"lan\"",
            "there is no link \"lan\", but wan",
        ),
        (
            "state = \"down\"",
            "state = \"off\"",
            "unknown variant `off`",
        ),
        (
            "equals = 100",
            "",
            "neither at_least nor at_most nor equals",
        ),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let error = Scenario::parse("test.toml", &text, &Kinds::new())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("test.toml: ") && error.contains(said),
            "{to}: {error}"
        );
    }
}

#[test]
fn a_run_can_be_ended_early() {
    let kinds = Kinds::new();
    let scenario = Scenario::parse("test.toml", GOOD, &kinds).unwrap();
    let run = scenario
        .run(1, None, &kinds, |now_ns| now_ns < 50_000_000)
        .unwrap();
    assert!(run.stopped && !run.holds());
    assert!((0.05..0.06).contains(&run.duration_s), "{}", run.duration_s);
}

/// A protocol of somebody's own, which panics at one packet in ten.
#[test]
fn kinds_can_be_added_and_a_panic_is_never_as_expected() {
    struct Shaky(u64);
    impl Protocol for Shaky {
        fn name(&self) -> &str {
            "shaky"
        }
        fn claims(&self) -> Vec<Claim> {
            vec![Claim::udp(7)]
        }
        fn packet(&mut self, _: u64, mut packet: Packet<'_>, _: &mut Outbox) -> Verdict {
            self.0 += 1;
            assert!(!self.0.is_multiple_of(10), "the tenth");
            packet.turn_round()
        }
    }
    let kinds = Kinds::new().with("shaky", |setting| {
        let _: toml::Table = setting.read()?;
        Ok(Part::new(Shaky(0)))
    });
    assert_eq!(
        kinds.names().collect::<Vec<_>>(),
        ["ask", "echo", "host", "probe", "shaky"]
    );
    let text = GOOD
        .replace("kind = \"echo\"", "kind = \"shaky\"")
        .replace("equals = 100", "equals = 90");
    let scenario = Scenario::parse("test.toml", &text, &kinds).unwrap();
    let run = scenario.run(1, None, &kinds, |_| true).unwrap();
    let broken: Vec<_> = run.checks.iter().filter(|check| !check.holds).collect();
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert_eq!(broken[0].what, "server.shaky: panics");
    assert_eq!(broken[0].found, "10, the first: the tenth");
}
