//! Devices by name, and what sysfs says of them.

use super::*;

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
