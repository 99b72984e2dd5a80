//! Fixing and undoing on a made-up machine.

use super::*;
use crate::cmd::doctor::fake::FakeMachine;
use crate::cmd::doctor::{DoctorArgs, execute};

const NODE0: &str = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages";
const NODE1: &str = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages";
const JOURNAL: &str = "/run/linecard/doctor-undo.json";

/// Node 1 without hugepages, hugetlbfs not mounted, a small buffer limit.
fn machine() -> FakeMachine {
    let machine = FakeMachine::healthy();
    machine.write(NODE1, "0");
    machine.write("/proc/mounts", "proc /proc proc rw 0 0");
    machine.write(RMEM_MAX, "212992");
    machine.write("/dev/null", "");
    machine
}

fn mounted(machine: &FakeMachine) {
    machine.write("/proc/mounts", "hugetlbfs /dev/hugepages hugetlbfs rw 0 0");
}

#[test]
fn fix_and_undo_come_back_to_where_they_began() {
    let machine = machine();
    let system = machine.system();
    let (outcomes, _) = fix(&system, false).expect("fixed");
    assert!(
        outcomes.iter().all(|o| o.result == Deed::Done),
        "{outcomes:?}"
    );
    assert_eq!(outcomes.len(), 3);
    assert_eq!(machine.read(NODE1).as_deref(), Some("128"));
    assert_eq!(machine.read(NODE0).as_deref(), Some("512"), "it had some");
    assert_eq!(machine.read(RMEM_MAX).as_deref(), Some("16777216"));
    assert!(system.root.exists("/dev/hugepages"));
    assert!(machine.read(JOURNAL).is_some());
    mounted(&machine);
    assert!(
        fix(&system, false).expect("again").0.is_empty(),
        "nothing is left to do"
    );

    let (outcomes, _) = undo(&system, false).expect("undone");
    assert!(
        outcomes.iter().all(|o| o.result == Deed::Done),
        "{outcomes:?}"
    );
    assert_eq!(
        (outcomes[0].old.as_str(), outcomes[0].new.as_str()),
        ("16777216", "212992")
    );
    assert_eq!(machine.read(NODE1).as_deref(), Some("0"));
    assert_eq!(machine.read(RMEM_MAX).as_deref(), Some("212992"));
    assert!(!system.root.exists("/dev/hugepages"));
    assert_eq!(machine.read(JOURNAL), None);
    let deeds = machine.probes.deeds.borrow();
    assert!(
        deeds[0].starts_with("mount ") && deeds[1].starts_with("unmount "),
        "{deeds:?}"
    );
    assert_eq!(undo(&system, false).expect("again"), (Vec::new(), None));
}

#[test]
fn a_dry_run_changes_nothing() {
    let machine = machine();
    let (outcomes, _) = fix(&machine.system(), true).expect("planned");
    assert!(
        outcomes.iter().all(|o| o.result == Deed::Planned),
        "{outcomes:?}"
    );
    assert_eq!(machine.read(NODE1).as_deref(), Some("0"));
    assert_eq!(machine.read(JOURNAL), None);
    assert!(machine.probes.deeds.borrow().is_empty());
    fix(&machine.system(), false).expect("fixed");
    mounted(&machine);
    undo(&machine.system(), true).expect("planned");
    assert_eq!(machine.read(NODE1).as_deref(), Some("128"));
    assert!(machine.read(JOURNAL).is_some());
}

#[test]
fn reserves_at_most_an_eighth_of_the_free_memory() {
    let machine = machine();
    machine.write(
        "/sys/devices/system/node/node1/meminfo",
        "Node 1 MemTotal: 8388608 kB\nNode 1 MemFree: 163840 kB",
    );
    fix(&machine.system(), false).expect("fixed");
    assert_eq!(machine.read(NODE1).as_deref(), Some("10"));
}

#[test]
fn what_somebody_else_changed_since_is_left_alone() {
    let machine = machine();
    fix(&machine.system(), false).expect("fixed");
    mounted(&machine);
    machine.write(NODE1, "64");
    machine.write(RMEM_MAX, "212992");
    let (outcomes, _) = undo(&machine.system(), false).expect("undone");
    assert_eq!(machine.read(NODE1).as_deref(), Some("64"));
    let left: Vec<&Outcome> = outcomes
        .iter()
        .filter(|o| matches!(o.result, Deed::Left(_)))
        .collect();
    assert_eq!(left.len(), 2, "{outcomes:?}");
    assert_eq!(machine.read(JOURNAL), None);
}

#[test]
fn a_mount_in_use_stays_in_the_journal() {
    let mut machine = machine();
    fix(&machine.system(), false).expect("fixed");
    mounted(&machine);
    machine.probes.mount = Err(Errno::EBUSY);
    let args = DoctorArgs {
        undo: true,
        ..DoctorArgs::default()
    };
    let (report, code) = execute(&machine.system(), &args).expect("reported");
    assert_eq!(code, 1);
    assert!(report.changes.iter().any(Outcome::failed));
    assert_eq!(
        machine.read(NODE1).as_deref(),
        Some("0"),
        "the others are taken back"
    );
    let journal = Journal::open(&machine.system()).expect("kept");
    assert_eq!(journal.changes.len(), 1);
    machine.probes.mount = Ok(());
    undo(&machine.system(), false).expect("undone");
    assert_eq!(machine.read(JOURNAL), None);
}

#[test]
fn a_refused_mount_leaves_no_trace() {
    let mut machine = machine();
    machine.probes.mount = Err(Errno::EPERM);
    let (outcomes, _) = fix(&machine.system(), false).expect("reported");
    let failed: Vec<&Outcome> = outcomes.iter().filter(|o| o.failed()).collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].line(Paint::Never).contains("run it with sudo"));
    assert!(!machine.system().root.exists("/dev/hugepages"));
    assert_eq!(
        Journal::open(&machine.system())
            .expect("open")
            .changes
            .len(),
        2
    );
}

#[test]
fn nothing_is_changed_without_a_journal() {
    let machine = machine();
    machine.write("/run/linecard", "in the way");
    let error = fix(&machine.system(), false)
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("without which nothing is changed"),
        "{error}"
    );
    assert!(error.contains("sudo linecard doctor --fix"), "{error}");
    assert_eq!(machine.read(NODE1).as_deref(), Some("0"));
}

#[test]
fn says_old_and_new() {
    let machine = machine();
    let (outcomes, _) = fix(&machine.system(), false).expect("fixed");
    assert_eq!(
        outcomes[0].line(Paint::Never),
        format!("changed  hugepages of 2 MiB: 0 -> 128 ({NODE1})")
    );
}
