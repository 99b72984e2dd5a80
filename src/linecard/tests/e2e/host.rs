//! A port that is a host of its own, by `linecard-stack` as a protocol: the kernel's own tools at the
//! other end of the cable find nothing odd about it.
//!
//! The host is `examples/host.rs`, compiled into this test and run in a process of its own: this very program,
//! asked for one ignored test.

use std::process::Stdio;

use linecard::stack::kernel;

use crate::lab::{Host, Lab, Process, wait_until};
use crate::wire::{A4, A6, B4, B6};
use crate::xdp_lab;

#[path = "../../../../examples/host.rs"]
#[allow(dead_code, reason = "its main is not ours")]
mod example;

const PORT: &str = "LINECARD_TEST_HOST_PORT";

#[test]
#[ignore = "is run by the others, as the host"]
fn the_host_itself() {
    let Ok(port) = std::env::var(PORT) else {
        return;
    };
    let addresses = [format!("{B4}/24"), format!("{B6}/64")];
    example::run(&port, addresses.into_iter()).unwrap();
}

/// What the kernel of its namespace knows about `cable0`, for the test of that.
#[test]
#[ignore = "is run by the others, in a namespace"]
fn the_kernels_tables() {
    if std::env::var_os(PORT).is_none() {
        return;
    }
    let mut watch = kernel::Watch::new().unwrap();
    let tables = kernel::read("cable0").unwrap();
    println!("{tables:?}");
    assert!(!watch.changed());
    let said = std::process::Command::new("ip")
        .args(["address", "add", "10.78.0.1/24", "dev", "cable0"])
        .output();
    assert!(said.unwrap().status.success());
    // The kernel tells before the command ends.
    assert!(watch.changed());
    let net = "10.78.0.1/24".parse().unwrap();
    assert!(kernel::read("cable0").unwrap().addresses.contains(&net));
}

/// Starts the host at the lab's end of the cable.
fn start(lab: &Lab, port: &str) -> Process {
    let mut host = start_test(&lab.here, "host::the_host_itself", port);
    wait_until("the host", || {
        host.assert_running();
        host.stdout().contains("answering on")
    });
    host
}

/// Runs a test of this program in a namespace.
fn start_test(namespace: &Host, name: &str, port: &str) -> Process {
    let this = std::env::current_exe().unwrap();
    let mut command = namespace.command(this.to_str().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    command.env(PORT, port).stdin(Stdio::piped());
    Process::start(command)
}

/// Waits until the host has tried its addresses out and answers.
fn wait_for_answer(a: &Host, address: &str) {
    let ping = format!("ping -c 1 -W 1 {address}");
    wait_until("the first answer", || a.try_sh(&ping).0.success());
}

fn answers_all_that_is_asked(port: &str) {
    let lab = Lab::new();
    let a = lab.host("a");
    let mut host = start(&lab, port);
    a.up(&[&format!("{A4}/24"), &format!("{A6}/64")]);
    for address in [B4, B6] {
        wait_for_answer(&a, address);
        a.sh("ip neighbour flush dev cable0");
        a.ping(20, address);
        // In one frame, and in fragments both ways.
        a.ping(5, &format!("-s 1400 {address}"));
        a.ping(5, &format!("-s 8000 {address}"));
        let said = a.sh(&format!("traceroute -n -q 3 -w 5 {address}"));
        let hops: Vec<&str> = said.lines().skip(1).collect();
        assert!(
            matches!(hops[..], [hop] if hop.contains(address) && !hop.contains('*')),
            "{said}"
        );
        let said = a.sh(&format!("traceroute -n -I -q 3 -w 5 {address}"));
        assert!(said.lines().count() == 2 && !said.contains('*'), "{said}");
    }
    let mac = lab
        .here
        .mac("a")
        .map(|byte| format!("{byte:02X}"))
        .join(":");
    let said = a.sh(&format!("arping -c 3 -I cable0 {B4}"));
    let reply = format!("reply from {B4} [{mac}]");
    assert_eq!(said.matches(&reply).count(), 3, "{said}");

    // It defends its addresses: others find out that they are taken.
    let (status, said) = a.try_sh(&format!("arping -D -c 2 -I cable0 {B4}"));
    assert!(!status.success() && said.contains(&reply), "{said}");
    a.sh(&format!("ip address add {B6}/64 dev cable0"));
    wait_until("the kernel to find the address taken", || {
        a.sh("ip -6 address show dev cable0 dadfailed").contains(B6)
    });
    a.sh(&format!("ip address del {B6}/64 dev cable0"));
    a.ping(3, B6);

    host.hang_up();
    let ended = host.end();
    assert_eq!(ended.code, 0, "{ended:#?}");
    lab.assert_left(&["a"]);
}

#[test]
fn the_kernels_tables_are_known() {
    let lab = Lab::new();
    let a = lab.host("a");
    a.sh("ip link set cable0 mtu 1400 addrgenmode none");
    a.up(&[&format!("{A4}/24"), &format!("{A6}/64")]);
    a.sh(&format!("ip route add default via {B4} metric 7"));
    a.sh(&format!("ip route add 2001:db8::/32 via {B6}"));
    a.sh(&format!(
        "ip neighbour add {B4} lladdr 02:00:00:00:00:42 dev cable0"
    ));
    let ended = start_test(&a, "host::the_kernels_tables", "").end();
    assert_eq!(ended.code, 0, "{ended:#?}");
    for word in [
        "mtu: 1400",
        &format!("{A4}/24"),
        &format!("{A6}/64"),
        &format!("(0.0.0.0/0, Some({B4}), 7)"),
        &format!("(2001:db8::/32, Some({B6}), 1024)"),
        &format!("({B4}, 02:00:00:00:00:42)"),
    ] {
        assert!(ended.stdout.contains(word), "no {word} in {}", ended.stdout);
    }
}

#[test]
fn a_host_beside_the_kernel() {
    answers_all_that_is_asked("uring:a");
}

#[test]
fn a_host_instead_of_the_kernel() {
    if xdp_lab::possible() {
        answers_all_that_is_asked("xdp:a");
    }
}
