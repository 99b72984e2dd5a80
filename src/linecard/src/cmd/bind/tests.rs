//! The two commands on a made-up machine, and what they print.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use clap::Parser;
use linecard::pci::Kernel;
use linecard_engine::topology::SysRoot;

use super::*;
use crate::cmd::doctor::fake::FakeMachine;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: BindArgs,
}

fn outcome(result: Deed) -> Outcome {
    Outcome {
        address: "3b:00.0".parse().expect("an address"),
        result,
        driver_before: Some("ice".into()),
        interfaces_before: vec!["ens1f0".into()],
        driver: Some("vfio-pci".into()),
        interfaces: Vec::new(),
        obstacles: vec![Obstacle {
            reason: "it is up".into(),
            remedy: "ip link set ens1f0 down".into(),
        }],
        warnings: Vec::new(),
        steps: vec![Step {
            path: "/sys/bus/pci/drivers_probe".into(),
            value: "0000:3b:00.0".into(),
        }],
        error: None,
    }
}

#[test]
fn every_outcome_is_told_with_its_remedy() {
    let text = |result| {
        let devices = vec![outcome(result)];
        render(&Report { devices }, Paint::Never)
    };
    let bound = text(Deed::Bound);
    assert!(bound.starts_with("0000:3b:00.0: bound\n"), "{bound}");
    assert!(
        bound.contains("was with ice, as ens1f0, is with vfio-pci;"),
        "{bound}"
    );
    assert!(bound.contains("open it as dpdk:0000:3b:00.0"), "{bound}");
    let refused = text(Deed::Refused);
    assert!(
        refused.contains("nothing was changed\n    it is up\n        try: ip link"),
        "{refused}"
    );
    let planned = text(Deed::Planned);
    assert!(
        planned.contains("echo 0000:3b:00.0 > /sys/bus/pci/drivers_probe"),
        "{planned}"
    );
}

#[test]
fn the_json_names_the_deed_the_obstacle_and_the_drivers() {
    let devices = vec![outcome(Deed::NotTried)];
    let json = serde_json::to_value(Report { devices }).expect("JSON");
    let device = &json["devices"][0];
    assert_eq!(device["address"], "0000:3b:00.0");
    assert_eq!(device["result"], "not_tried");
    assert_eq!(device["driver_before"], "ice");
    assert_eq!(device["obstacles"][0]["remedy"], "ip link set ens1f0 down");
    assert_eq!(device["steps"][0]["value"], "0000:3b:00.0");
}

#[test]
fn a_line_needs_a_device_and_a_name_that_can_be_one() {
    let parse = |line: &[&str]| Line::try_parse_from([&["bind"], line].concat());
    let line = parse(&["3b:00.0", "eth1", "--force"]).expect("a line");
    assert_eq!(line.args.driver, "vfio-pci");
    assert!(line.args.force && !line.args.dry_run);
    for (words, text) in [
        (&[][..], "<ADDR>"),
        (&["3b:00"][..], "the function is missing"),
        (&["3b:00.9"][..], "from 0 to 7"),
        (&["a/b"][..], "linecard ports"),
    ] {
        let error = parse(words).err().expect("refused").to_string();
        assert!(error.contains(text), "{error}");
    }
}

const A: &str = "0000:3b:00.0";
const B: &str = "0000:3b:00.1";

/// Moves the `driver` link as the kernel does; vfio-pci takes none of `unwilling`.
struct Links {
    root: SysRoot,
    unwilling: &'static str,
}

impl Kernel for Links {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        let link = |address: &str| {
            self.root
                .path(format!("/sys/bus/pci/devices/{address}/driver"))
        };
        let attach = |driver: &str| {
            symlink(
                self.root.path(format!("/sys/bus/pci/drivers/{driver}")),
                link(value),
            )
        };
        match path.file_name().and_then(|name| name.to_str()) {
            Some("driver_override") => fs::write(path, value),
            Some("unbind") => fs::remove_file(link(value)),
            Some("drivers_probe") if value == self.unwilling => Ok(()),
            Some("drivers_probe") => attach("vfio-pci"),
            Some("bind") => attach("ice"),
            other => panic!("an unexpected write to {other:?}"),
        }
    }

    fn may_write(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn addresses(&self) -> Vec<(String, IpAddr)> {
        Vec::new()
    }
}

/// Two ports of a card in one IOMMU group, with ice.
fn two_ports(unwilling: &'static str) -> (FakeMachine, Machine) {
    let fake = FakeMachine::healthy();
    fake.write("/sys/bus/pci/drivers/ice/bind", "");
    fake.card(A, "ice", Some(12), "ens1f0");
    fake.card(B, "ice", Some(12), "ens1f1");
    let machine = Machine {
        root: fake.system().root,
        kernel: Box::new(Links {
            root: fake.system().root,
            unwilling,
        }),
    };
    (fake, machine)
}

fn bind_line(machine: &Machine, words: &[&str]) -> Vec<Deed> {
    let line = Line::try_parse_from([&["bind"], words].concat()).expect("a line");
    let report = bind(machine, &line.args).expect("a report");
    report
        .devices
        .iter()
        .map(|outcome| outcome.result)
        .collect()
}

fn unbind_both(machine: &Machine) -> Vec<Deed> {
    let args = UnbindArgs {
        devices: vec![A.parse().expect("A"), B.parse().expect("B")],
        default: false,
        json: false,
    };
    let report = unbind(machine, &args).expect("a report");
    report
        .devices
        .iter()
        .map(|outcome| outcome.result)
        .collect()
}

#[test]
fn both_ports_of_a_group_go_together_and_come_back() {
    let (fake, machine) = two_ports("");
    assert_eq!(bind_line(&machine, &[A]), [Deed::Refused], "not without B");
    assert_eq!(
        bind_line(&machine, &[A, B, "--dry-run"]),
        [Deed::Planned; 2]
    );
    assert!(!machine.root.exists("/run/linecard"), "a dry run");
    // By whatever name, and each once.
    assert_eq!(
        bind_line(&machine, &["ens1f0", "3b:00.0", B]),
        [Deed::Bound; 2]
    );
    assert_eq!(bind_line(&machine, &[A, B]), [Deed::Already; 2]);
    assert!(fake.read(&format!("/run/linecard/bind/{A}")).is_some());
    assert_eq!(unbind_both(&machine), [Deed::GivenBack; 2]);
    assert_eq!(unbind_both(&machine), [Deed::Already; 2]);
    assert!(!machine.root.exists("/run/linecard"));
}

#[test]
fn two_at_the_same_time_are_one_and_a_message() {
    let (_fake, machine) = two_ports("");
    let other = pci::lock(&machine).expect("the lock");
    let line = |words: &[&str]| Line::try_parse_from([&["bind"], words].concat()).expect("a line");
    let error = bind(&machine, &line(&[A, B]).args)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("another linecard bind or unbind"), "{error}");
    assert!(error.contains("try again when it has ended"), "{error}");
    let args = UnbindArgs {
        devices: vec![A.parse().expect("A")],
        default: false,
        json: false,
    };
    unbind(&machine, &args).expect_err("refused as well");
    // Looking is free.
    assert_eq!(
        bind_line(&machine, &[A, B, "--dry-run"]),
        [Deed::Planned; 2]
    );
    drop(other);
    assert_eq!(bind_line(&machine, &[A, B]), [Deed::Bound; 2]);
}

#[test]
fn after_a_failure_the_rest_is_not_tried() {
    let (_fake, machine) = two_ports(A);
    assert_eq!(bind_line(&machine, &[A, B]), [Deed::Failed, Deed::NotTried]);
    let devices = pci::network_devices(&machine.root);
    assert!(devices.iter().all(|d| d.driver.as_deref() == Some("ice")));
    // What was bound before the failure stays, and is said.
    let (_fake, machine) = two_ports(B);
    assert_eq!(bind_line(&machine, &[A, B]), [Deed::Bound, Deed::Failed]);
    assert_eq!(unbind_both(&machine), [Deed::GivenBack, Deed::Already]);
}
