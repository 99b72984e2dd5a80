//! What stands in the way.

use super::*;

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
