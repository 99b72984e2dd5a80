//! `linecard bind`, `unbind` and `ports`: what they refuse, and what they say then.
//!
//! No device of this machine changes hands: every bind here is a dry run or names no device. The change
//! itself is tested on made-up trees (`src/pci`), and on real vfio in the emulated machine of
//! `scripts/lab`.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::lab::LINECARD;

/// An address that no machine has.
const NOWHERE: &str = "ffff:ff:1f.7";

struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(mut command: Command, args: &[&str]) -> Answer {
    let output = command.args(args).output().expect("the command starts");
    Answer {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn linecard(args: &[&str]) -> Answer {
    run(Command::new(LINECARD), args)
}

/// The PCI network devices that `linecard ports` finds.
fn cards() -> Vec<Value> {
    let answer = linecard(&["ports", "--json"]);
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    let inventory: Value = serde_json::from_str(&answer.stdout).expect("JSON");
    inventory["pci_devices"].as_array().expect("a list").clone()
}

#[test]
fn a_name_that_cannot_be_a_device_is_wrong_usage() {
    for verb in ["bind", "unbind"] {
        for (name, reason) in [
            ("3b:00", "the function is missing"),
            ("3b:00.8", "from 0 to 7"),
            ("3b:20.0", "from 00 to 1f"),
            ("zz:00.0", "from 00 to ff"),
            ("../x", "no interface's name"),
        ] {
            let answer = linecard(&[verb, name]);
            assert_eq!(answer.code, Some(2), "{}", answer.stderr);
            assert!(answer.stderr.contains(reason), "{}", answer.stderr);
            assert!(
                answer.stderr.contains("linecard ports"),
                "{}",
                answer.stderr
            );
        }
        assert_eq!(linecard(&[verb]).code, Some(2));
    }
}

#[test]
fn a_device_that_is_not_there_comes_with_a_list_of_those_that_are() {
    for verb in ["bind", "unbind"] {
        let answer = linecard(&[verb, NOWHERE]);
        assert_eq!(answer.code, Some(1));
        let text = answer.stderr;
        assert!(text.contains(&format!("no PCI device {NOWHERE}")), "{text}");
        for card in cards() {
            let address = card["address"].as_str().expect("an address");
            assert!(text.contains(address), "{text}");
        }
        let answer = linecard(&[verb, "lo"]);
        assert_eq!(answer.code, Some(1));
        assert!(
            answer.stderr.contains("lo belongs to no PCI device"),
            "{}",
            answer.stderr
        );
    }
}

#[test]
fn ports_says_of_every_device_who_has_it_and_whether_dpdk_could() {
    let table = linecard(&["ports"]);
    assert!(table.stdout.contains("tap:NAME"), "{}", table.stdout);
    for card in cards() {
        for key in ["driver", "interfaces", "iommu_group", "node", "vendor_id"] {
            assert!(card.get(key).is_some(), "{card}");
        }
        let address = card["address"].as_str().expect("an address");
        assert!(table.stdout.contains(address), "{}", table.stdout);
        assert_eq!(card["dpdk"]["port"], format!("dpdk:{address}"));
        if card["dpdk"]["usable"] == false {
            let remedy = card["dpdk"]["obstacle"]["remedy"].as_str();
            assert!(!remedy.expect("a remedy").is_empty(), "{card}");
        }
    }
}

#[test]
fn a_dry_run_says_what_is_in_the_way_and_changes_nothing() {
    let before = cards();
    for card in &before {
        let address = card["address"].as_str().expect("an address");
        let answer = linecard(&["bind", address, "--dry-run", "--json"]);
        let report: Value = serde_json::from_str(&answer.stdout).expect("JSON");
        let device = &report["devices"][0];
        assert_eq!(device["address"], address);
        let obstacles = device["obstacles"].as_array().expect("a list");
        match device["result"].as_str() {
            Some("refused") => {
                assert_eq!(answer.code, Some(1));
                assert!(!obstacles.is_empty(), "{device}");
            }
            Some("planned" | "already") => {
                assert_eq!(answer.code, Some(0));
                assert!(obstacles.is_empty(), "{device}");
            }
            other => panic!("{other:?}"),
        }
        let text = device.to_string();
        let no_group = card["iommu_group"].is_null();
        let user = ["vfio-pci", "uio_pci_generic", "igb_uio"];
        let kernels = !user.iter().any(|driver| card["driver"] == *driver);
        if no_group && kernels {
            assert!(text.contains("no IOMMU isolates"), "{text}");
            assert!(text.contains("iommu=pt"), "{text}");
        }
        for interface in card["interfaces"].as_array().expect("a list") {
            let name = interface.as_str().expect("a name");
            let by_name = linecard(&["bind", name, "--dry-run", "--json"]);
            assert_eq!(by_name.stdout, answer.stdout, "the same by its interface");
        }
    }
    assert_eq!(cards(), before);
}

#[test]
fn without_permission_the_refusal_says_sudo() {
    let Some(card) = cards().into_iter().next() else {
        eprintln!("this machine has no PCI network device");
        return;
    };
    let address = card["address"].as_str().expect("an address");
    let settled = ["vfio-pci", "mlx5_core", "mlx4_core", "mana"];
    if settled.iter().any(|driver| card["driver"] == *driver) {
        eprintln!("nothing would have to be written for {address}");
        return;
    }
    // Where an ordinary user can run it.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let open_up = |path: &Path| {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, mode).expect("opened up");
    };
    open_up(dir.path());
    let copy = dir.path().join("linecard");
    std::fs::copy(LINECARD, &copy).expect("a copy");
    open_up(&copy);
    let mut command = Command::new(&copy);
    if is_root() {
        const NOBODY: u32 = 65534;
        command.uid(NOBODY).gid(NOBODY);
    }
    let answer = run(command, &["bind", address, "--dry-run"]);
    assert_eq!(answer.code, Some(1));
    let text = answer.stdout;
    assert!(text.contains(": refused\n"), "{text}");
    assert!(
        text.contains("may not be written: Permission denied")
            && text.contains(&format!("sudo linecard bind {address}"))
            || text.contains("Read-only file system"),
        "{text}"
    );
    assert!(!Path::new(&format!("/run/linecard/bind/{address}")).exists());
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| {
        line.strip_prefix("Uid:")
            .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
    })
}

#[test]
fn doctor_speaks_of_vfio_the_iommu_and_lockdown() {
    let answer = linecard(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&answer.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("a list");
    for name in ["IOMMU", "vfio", "kernel lockdown", "hugetlbfs", "libdpdk"] {
        assert!(checks.iter().any(|check| check["name"] == name), "{name}");
    }
    let help = linecard(&["bind", "--help"]).stdout;
    for part in [
        "/run/linecard/bind",
        "linecard unbind",
        "--dry-run",
        "Exit codes",
    ] {
        assert!(help.contains(part), "{help}");
    }
}
