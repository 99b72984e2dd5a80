//! Devices that change hands, on made-up machines.

mod found;
mod obstacles;

use nix::errno::Errno;

use super::fake::Fake;
use super::*;

const A: &str = "0000:3b:00.0";
const B: &str = "0000:3b:00.1";

fn plan(fake: &Fake, address: &str, options: &BindOptions) -> BindPlan {
    plan_bind(&fake.machine(), &fake.nic_at(address), options)
}

fn bound(fake: &Fake, address: &str) -> PciDevice {
    let plan = plan(fake, address, &BindOptions::default());
    bind(&fake.machine(), &plan).expect("bound")
}

fn given_back(fake: &Fake, address: &str) -> Result<PciDevice, ChangeError> {
    let machine = fake.machine();
    let plan = plan_unbind(&machine, &fake.nic_at(address), UnbindOptions::default());
    unbind(&machine, &plan)
}

/// The only obstacle, as one text.
fn obstacle(plan: &BindPlan) -> String {
    assert_eq!(plan.obstacles.len(), 1, "{:#?}", plan.obstacles);
    format!(
        "{} | {}",
        plan.obstacles[0].reason, plan.obstacles[0].remedy
    )
}

#[test]
fn a_device_goes_to_vfio_and_comes_back() {
    let fake = Fake::two_nics();
    let before = fake.nic_at(A);
    let after = bound(&fake, A);
    assert_eq!(after.driver.as_deref(), Some("vfio-pci"));
    assert!(after.interfaces.is_empty());
    assert_eq!(
        fake.log(),
        [
            "driver_override=vfio-pci",
            &format!("unbind={A}"),
            &format!("drivers_probe={A}")
        ]
    );
    let record = fake.read(&format!("/run/linecard/bind/{A}")).expect("kept");
    assert!(record.contains("\"driver_before\": \"ice\""), "{record}");
    assert_eq!(fake.nic_at(B).driver.as_deref(), Some("ice"), "the other");

    assert_eq!(given_back(&fake, A).expect("given back"), before);
    assert_eq!(
        fake.log(),
        [
            &format!("unbind={A}"),
            "driver_override=",
            &format!("bind={A}")
        ]
    );
    assert!(!fake.root().exists("/run/linecard"));
}

#[test]
fn what_was_before_is_restored_to_the_letter() {
    let fake = Fake::two_nics();
    // No driver, and an override that somebody had set.
    fake.remove(&format!("/sys/bus/pci/devices/{A}/driver"));
    fake.write(&format!("/sys/bus/pci/devices/{A}/driver_override"), "none");
    let before = fake.nic_at(A);
    bound(&fake, A);
    assert_eq!(fake.nic_at(A).driver_override.as_deref(), Some("vfio-pci"));
    let after = given_back(&fake, A).expect("given back");
    assert_eq!(
        (&after.driver, after.driver_override.as_deref()),
        (&None, Some("none"))
    );
    assert_eq!(after.address, before.address);
}

#[test]
fn twice_is_once() {
    let fake = Fake::two_nics();
    let plan_of = || plan(&fake, A, &BindOptions::default());
    bound(&fake, A);
    assert!(plan_of().already);
    fake.log();
    bind(&fake.machine(), &plan_of()).expect("already bound");
    assert!(fake.log().is_empty());
    given_back(&fake, A).expect("given back");
    let machine = fake.machine();
    let again = plan_unbind(&machine, &fake.nic_at(A), UnbindOptions::default());
    assert!(again.already && again.obstacles.is_empty(), "{again:#?}");
}

#[test]
fn from_one_user_driver_to_another_the_first_owner_is_remembered() {
    let fake = Fake::two_nics();
    fake.driver("uio_pci_generic");
    bound(&fake, A);
    let options = BindOptions {
        driver: "uio_pci_generic".into(),
        ..BindOptions::default()
    };
    let plan = plan(&fake, A, &options);
    assert!(plan.warnings[0].reason.contains("memory"), "{plan:#?}");
    bind(&fake.machine(), &plan).expect("bound");
    let after = given_back(&fake, A).expect("given back");
    assert_eq!(after.driver.as_deref(), Some("ice"));
}

#[test]
fn a_failing_write_brings_the_former_driver_back() {
    for failing in [
        "devices/0000:3b:00.0/driver_override",
        "driver/unbind",
        "drivers_probe",
    ] {
        let fake = Fake::two_nics();
        let before = fake.nic_at(A);
        let plan = plan(&fake, A, &BindOptions::default());
        fake.behaviour.borrow_mut().failures = vec![(failing, Errno::EBUSY, 1)];
        let error = bind(&fake.machine(), &plan).expect_err(failing).to_string();
        assert!(error.contains("ice has it again"), "{error}");
        assert!(
            error.contains(A) && error.contains("os error 16"),
            "{error}"
        );
        assert_eq!(fake.nic_at(A), before, "{failing}");
        assert!(!fake.root().exists("/run/linecard"), "{failing}");
    }
}

#[test]
fn a_driver_that_does_not_want_it_does_not_keep_it() {
    let fake = Fake::two_nics();
    let before = fake.nic_at(A);
    fake.behaviour.borrow_mut().unwilling = vec!["vfio-pci"];
    let plan = plan(&fake, A, &BindOptions::default());
    let error = bind(&fake.machine(), &plan)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("vfio-pci did not take it"), "{error}");
    assert!(error.contains("dmesg"), "{error}");
    assert_eq!(fake.nic_at(A), before);
}

#[test]
fn if_nobody_takes_it_the_record_stays_and_unbind_tries_again() {
    let fake = Fake::two_nics();
    let before = fake.nic_at(A);
    fake.behaviour.borrow_mut().unwilling = vec!["vfio-pci", "ice"];
    let plan = plan(&fake, A, &BindOptions::default());
    let error = bind(&fake.machine(), &plan)
        .expect_err("refused")
        .to_string();
    assert!(error.contains(&format!("linecard unbind {A}")), "{error}");
    let error = given_back(&fake, A).expect_err("still not").to_string();
    assert!(error.contains("os error 22"), "{error}");
    fake.behaviour.borrow_mut().unwilling.clear();
    assert_eq!(given_back(&fake, A).expect("given back"), before);
    assert!(!fake.root().exists("/run/linecard"));
}

#[test]
fn a_second_attempt_still_knows_the_first_owner() {
    let fake = Fake::two_nics();
    let before = fake.nic_at(A);
    // Left half way: without a driver, and with our override.
    fake.behaviour.borrow_mut().unwilling = vec!["vfio-pci", "ice"];
    let half = plan(&fake, A, &BindOptions::default());
    bind(&fake.machine(), &half).expect_err("nobody takes it");
    fake.write(
        &format!("/sys/bus/pci/devices/{A}/driver_override"),
        "vfio-pci",
    );
    let left = fake.nic_at(A);
    assert_eq!(left.driver, None);

    // One that fails as well leaves what the first wrote down.
    bind(&fake.machine(), &plan(&fake, A, &BindOptions::default()))
        .expect_err("nobody takes it still");
    fake.behaviour.borrow_mut().unwilling.clear();
    bound(&fake, A);
    assert_eq!(given_back(&fake, A).expect("given back"), before);
    assert!(!fake.root().exists("/run/linecard"));
}

#[test]
fn an_override_that_is_left_of_an_earlier_bind_is_not_taken_for_what_was_before() {
    let fake = Fake::two_nics();
    let before = fake.nic_at(A);
    bound(&fake, A);
    // Given back by hand, but for driver_override.
    let kernel = fake.machine().kernel;
    let path = |file: &str| fake.root().path(file);
    kernel
        .write(&path(&format!("/sys/bus/pci/devices/{A}/driver/unbind")), A)
        .expect("unbound");
    kernel
        .write(&path("/sys/bus/pci/drivers/ice/bind"), A)
        .expect("bound to ice");

    // One that fails changes nothing of that, nor of what is known.
    fake.behaviour.borrow_mut().unwilling = vec!["vfio-pci"];
    let plan = plan(&fake, A, &BindOptions::default());
    bind(&fake.machine(), &plan).expect_err("unwilling");
    assert_eq!(fake.nic_at(A).driver_override.as_deref(), Some("vfio-pci"));
    fake.behaviour.borrow_mut().unwilling.clear();

    bound(&fake, A);
    assert_eq!(given_back(&fake, A).expect("given back"), before);
}

#[test]
fn nothing_is_changed_if_the_record_cannot_be_written() {
    let fake = Fake::two_nics();
    // A file in the place of the folder: root could write anywhere else.
    fake.write("/run/linecard", "in the way");
    let plan = plan(&fake, A, &BindOptions::default());
    let error = bind(&fake.machine(), &plan)
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains(&format!("/run/linecard/bind/{A}")),
        "{error}"
    );
    assert!(fake.log().is_empty());
}

#[test]
fn a_device_that_a_program_has_open_is_not_taken_from_it() {
    let fake = Fake::two_nics();
    bound(&fake, A);
    let path = fake.root().path("/proc/99999999/fd/7");
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::os::unix::fs::symlink("/dev/vfio/12", path).expect("a link");
    fake.write("/proc/99999999/comm", "forwarder");
    let error = given_back(&fake, A).expect_err("held").to_string();
    assert!(error.contains("99999999 forwarder"), "{error}");
    assert!(error.contains("kill 99999999"), "{error}");
    fake.remove("/proc/99999999");
    given_back(&fake, A).expect("given back");
}

#[test]
fn what_others_did_is_not_undone() {
    let fake = Fake::two_nics();
    bound(&fake, A);
    fake.remove(&format!("/run/linecard/bind/{A}"));
    let error = given_back(&fake, A).expect_err("unknown").to_string();
    assert!(error.contains("unbind --default"), "{error}");
    let machine = fake.machine();
    let default = UnbindOptions { default: true };
    let plan = plan_unbind(&machine, &fake.nic_at(A), default);
    let after = unbind(&machine, &plan).expect("given back");
    assert_eq!(after.driver.as_deref(), Some("ice"));
    assert_eq!(after.driver_override, None);

    bound(&fake, A);
    fake.driver("pci-stub");
    fake.remove(&format!("/sys/bus/pci/devices/{A}/driver"));
    fake.link(
        &format!("/sys/bus/pci/devices/{A}/driver"),
        "/sys/bus/pci/drivers/pci-stub",
    );
    let error = given_back(&fake, A).expect_err("changed").to_string();
    assert!(error.contains("given it to pci-stub since"), "{error}");
}

#[test]
fn a_driver_that_was_unloaded_meanwhile_is_named() {
    let fake = Fake::two_nics();
    bound(&fake, A);
    fake.remove("/sys/bus/pci/drivers/ice");
    let error = given_back(&fake, A).expect_err("gone").to_string();
    assert!(error.contains("try: modprobe ice"), "{error}");
}

#[test]
fn a_record_of_another_boot_or_a_damaged_one_is_not_acted_upon() {
    let fake = Fake::two_nics();
    bound(&fake, A);
    fake.write("/proc/sys/kernel/random/boot_id", "boot-2");
    let error = given_back(&fake, A).expect_err("another boot").to_string();
    assert!(error.contains("not known"), "{error}");
    let path = format!("/run/linecard/bind/{A}");
    let whole = fake.read(&path).expect("a record");
    for damage in [
        "{".to_owned(),
        whole.replace("3b:00.0", "3b:00.1"),
        whole.replace("\"ice\"", "\"../../ice\""),
        whole.replace("\"version\": 1", "\"version\": 9"),
    ] {
        fake.write(&path, &damage);
        let error = given_back(&fake, A).expect_err(&damage).to_string();
        assert!(
            error.contains("damaged") && error.contains("--default"),
            "{error}"
        );
    }
}
