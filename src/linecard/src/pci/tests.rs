//! Devices that change hands, on made-up machines.

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
fn an_interface_in_use_is_taken_only_by_force() {
    let fake = Fake::two_nics();
    fake.write("/sys/class/net/ens1f0/flags", "0x1003");
    let text = obstacle(&plan(&fake, A, &BindOptions::default()));
    assert!(text.contains("ens1f0 is in use: it is up |"), "{text}");
    assert!(text.contains("ip link set ens1f0 down"), "{text}");
    fake.behaviour.borrow_mut().addresses = vec![
        ("ens1f0".into(), "192.0.2.7".parse().expect("an address")),
        ("ens1f0".into(), "fe80::1".parse().expect("an address")),
        ("ens1f1".into(), "192.0.2.8".parse().expect("an address")),
    ];
    fake.write(
        "/proc/net/route",
        "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU\n\
         ens1f0 00000000 010200C0 0003 0 0 0 00000000 0 0 0",
    );
    fake.write("/sys/class/net/br0/flags", "0x1003");
    fake.link("/sys/class/net/ens1f0/master", "/sys/class/net/br0");
    fake.link("/sys/class/net/ens1f0/upper_br0", "/sys/class/net/br0");
    fake.link("/sys/class/net/ens1f0/upper_v5", "/sys/class/net/v5");
    let text = obstacle(&plan(&fake, A, &BindOptions::default()));
    for part in [
        "carries the default route, it has the address 192.0.2.7, it is a port of br0, v5 is built \
         on it, it is up",
        &format!("linecard bind --force {A}"),
    ] {
        assert!(text.contains(part), "{text}");
    }
    let forced = BindOptions {
        force: true,
        ..BindOptions::default()
    };
    let plan = plan(&fake, A, &forced);
    assert_eq!((plan.obstacles.len(), plan.warnings.len()), (0, 1));
    bind(&fake.machine(), &plan).expect("bound");
}

#[test]
fn the_default_route_of_ipv6_counts_too() {
    let fake = Fake::two_nics();
    let zeros = "0".repeat(32);
    fake.write(
        "/proc/net/ipv6_route",
        &format!("{zeros} 00 {zeros} 00 fd00 00000400 2 0 3 ens1f0"),
    );
    let text = obstacle(&plan(&fake, A, &BindOptions::default()));
    assert!(text.contains("default route"), "{text}");
}

#[test]
fn functions_and_interfaces_out_of_sight_are_not_taken_either() {
    let fake = Fake::two_nics();
    fake.write(&format!("/sys/bus/pci/devices/{A}/sriov_numvfs"), "4");
    let text = obstacle(&plan(&fake, A, &BindOptions::default()));
    assert!(text.contains("4 virtual functions"), "{text}");
    fake.remove(&format!("/sys/bus/pci/devices/{B}/net"));
    let text = obstacle(&plan(&fake, B, &BindOptions::default()));
    assert!(text.contains("another network namespace"), "{text}");
}

#[test]
fn others_of_the_group_are_named_unless_they_come_along() {
    let fake = Fake::new();
    fake.nic(A, "ice", Some(12), "ens1f0");
    fake.nic(B, "ice", Some(12), "ens1f1");
    fake.device("0000:00:1c.0", "0x060400", "pcieport", Some(12));
    let text = obstacle(&plan(&fake, A, &BindOptions::default()));
    assert!(text.contains(&format!("{B} (driver ice)")), "{text}");
    assert!(text.contains(&format!("linecard bind {B}")), "{text}");
    assert!(!text.contains("1c.0"), "a bridge is harmless: {text}");
    let both = BindOptions {
        together: vec![A.parse().expect("A"), B.parse().expect("B")],
        ..BindOptions::default()
    };
    assert!(plan(&fake, A, &both).obstacles.is_empty());
    // A stranger, which linecard bind would not take.
    fake.device("0000:3b:00.2", "0x010802", "nvme", Some(12));
    let text = obstacle(&plan(&fake, A, &both));
    assert!(text.contains("0000:3b:00.2 (driver nvme)"), "{text}");
    assert!(
        text.contains("devices/0000:3b:00.2/driver/unbind"),
        "{text}"
    );
}

#[test]
fn without_an_iommu_the_ways_to_one_are_said() {
    let fake = Fake::new();
    fake.nic(A, "ice", None, "ens1f0");
    let text = obstacle(&plan(&fake, A, &BindOptions::default()));
    for part in ["no IOMMU", "intel_iommu=on", "amd_iommu=on", "iommu=pt"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.contains("enable_unsafe_noiommu_mode"), "{text}");
    assert!(text.contains("all of the machine's memory"), "{text}");
    fake.write("/proc/cpuinfo", "vendor_id\t: GenuineIntel");
    let text = obstacle(&plan(&fake, A, &BindOptions::default()));
    assert!(!text.contains("amd_iommu"), "{text}");
    // Loaded, and built without that mode: it is not offered.
    fake.write("/sys/module/vfio/refcnt", "0");
    let text = obstacle(&plan(&fake, A, &BindOptions::default()));
    assert!(!text.contains("noiommu"), "{text}");
    fake.write(
        "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        "Y",
    );
    let plan = plan(&fake, A, &BindOptions::default());
    assert!(plan.obstacles.is_empty(), "{plan:#?}");
    assert!(plan.warnings[0].reason.contains("no IOMMU"), "{plan:#?}");
}

#[test]
fn a_missing_driver_comes_with_its_command() {
    let fake = Fake::two_nics();
    fake.remove("/sys/bus/pci/drivers/vfio-pci");
    let text = obstacle(&plan(&fake, A, &BindOptions::default()));
    assert!(text.contains("no driver vfio-pci"), "{text}");
    fake.write(
        "/lib/modules/6.1.0/modules.dep",
        "kernel/net/x.ko:\nkernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz",
    );
    let text = obstacle(&plan(&fake, A, &BindOptions::default()));
    assert!(text.contains("not loaded | modprobe vfio-pci"), "{text}");
    let odd = BindOptions {
        driver: "../../x".into(),
        ..BindOptions::default()
    };
    assert!(obstacle(&plan(&fake, A, &odd)).contains("cannot be the name"));
}

#[test]
fn permission_is_asked_before_anything_is_changed() {
    let fake = Fake::two_nics();
    for (errno, part) in [
        (Errno::EACCES, format!("sudo linecard bind {A}")),
        (Errno::EROFS, "on the host".to_owned()),
    ] {
        fake.behaviour.borrow_mut().denied = Some(errno);
        let plan = plan(&fake, A, &BindOptions::default());
        assert!(obstacle(&plan).contains(&part), "{plan:#?}");
        assert!(bind(&fake.machine(), &plan).is_err());
        assert!(fake.log().is_empty());
    }
}

#[test]
fn cards_that_dpdk_shares_with_the_kernel_and_other_devices_are_left_alone() {
    let fake = Fake::new();
    fake.nic(A, "mlx5_core", Some(12), "ens1f0");
    fake.device("0000:01:00.0", "0x010802", "nvme", Some(1));
    let text = obstacle(&plan(&fake, A, &BindOptions::default()));
    assert!(text.contains(&format!("open dpdk:{A} as it is")), "{text}");
    let forced = BindOptions {
        force: true,
        ..BindOptions::default()
    };
    assert!(plan(&fake, A, &forced).obstacles.is_empty());
    let text = obstacle(&plan(&fake, "0000:01:00.0", &forced));
    assert!(text.contains("no network device"), "{text}");
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

#[test]
fn devices_are_found_by_address_and_interface_and_listed_if_not() {
    let fake = Fake::two_nics();
    fake.nic("10000:01:00.0", "ice", None, "ens9");
    fake.device("0000:01:00.0", "0x010802", "nvme", None);
    fake.write("/sys/class/net/lo/flags", "0x9");
    let listed: Vec<String> = network_devices(&fake.root())
        .iter()
        .map(|device| device.address.to_string())
        .collect();
    assert_eq!(listed, [A, B, "10000:01:00.0"]);
    let machine = fake.machine();
    let search = |name: &str| find(&machine, &name.parse().expect("a name"));
    assert_eq!(search("ens1f1").expect("found").address.to_string(), B);
    assert_eq!(search("3b:00.1").expect("found").address.to_string(), B);
    for (name, text) in [
        (
            "3c:00.0",
            "no PCI device 0000:3c:00.0; the PCI network devices are: 0000:3b:00.0 (ens1f0",
        ),
        ("lo", "interface lo belongs to no PCI device"),
        ("eth9", "no interface eth9"),
    ] {
        let error = search(name).expect_err(name).to_string();
        assert!(error.contains(text), "{error}");
    }
    let none = Fake::new();
    let error = find(&none.machine(), &"eth9".parse().expect("a name")).expect_err("none");
    assert!(
        error.to_string().contains("has no PCI network device"),
        "{error}"
    );
}

#[test]
fn virtio_interfaces_are_a_level_deeper_and_json_is_as_sysfs_writes() {
    let fake = Fake::new();
    fake.device(A, "0x020000", "virtio-pci", None);
    fake.write(
        &format!("/sys/bus/pci/devices/{A}/virtio2/net/eth1/ifindex"),
        "2",
    );
    fake.write(&format!("/sys/bus/pci/devices/{A}/numa_node"), "-1");
    let device = fake.nic_at(A);
    assert_eq!(
        (device.interfaces.as_slice(), device.node),
        (&["eth1".to_owned()][..], None)
    );
    let json = serde_json::to_value(&device).expect("JSON");
    assert_eq!(json["address"], A);
    assert_eq!(json["vendor_id"], "0x8086");
    assert_eq!(json["class"], "0x020000");
    assert_eq!(json["iommu_group"], serde_json::Value::Null);
}

#[test]
fn missing_pieces_of_sysfs_are_answers_and_not_errors() {
    let fake = Fake::new();
    fake.write(&format!("/sys/bus/pci/devices/{A}/class"), "0x020000");
    let device = fake.nic_at(A);
    assert_eq!(
        (device.vendor_id, &device.driver, device.node),
        (0, &None, None)
    );
    let text = plan(&fake, A, &BindOptions::default()).obstacles;
    assert!(
        text.iter().any(|o| o.reason.contains("driver_override")),
        "{text:#?}"
    );
    assert!(network_devices(&linecard_engine::topology::SysRoot::new("/nowhere")).is_empty());
}
