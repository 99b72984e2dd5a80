//! Files carried between two processes, by a pair of veth interfaces in a network namespace of their own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const FERRY: &str = env!("CARGO_BIN_EXE_ferry");
const LEN: usize = 4 << 20;

/// Runs a shell script in a new network namespace, with a pair of interfaces, `p0` and `p1`, that the kernel's stack has no
/// address on. What it starts ends with it.
fn in_a_namespace(folder: &Path, script: &str) -> Output {
    let root = succeeds(&["--net"]);
    let mut command = Command::new("unshare");
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--pid", "--fork", "--kill-child", "sh", "-e", "-c"]);
    command.arg(format!(
        "ip link set lo up\n\
         ip link add name p0 type veth peer name p1\n\
         for port in p0 p1; do\n\
           ip link set $port addrgenmode none arp off multicast off up\n\
         done\n\
         {script}"
    ));
    command.current_dir(folder).env("FERRY", FERRY);
    command.output().unwrap()
}

fn succeeds(args: &[&str]) -> bool {
    let tried = Command::new("unshare").args(args).arg("true").output();
    tried.is_ok_and(|output| output.status.success())
}

/// A folder with a file of bytes that differ, and an empty one to receive it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut state = 1_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(LEN)
    .collect();
    fs::write(folder.path().join("file"), bytes).unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    folder
}

/// Carries the file. `from` and `to` are the arguments of both sides for where they are.
fn carry(from: &str, to: &str, address: &str) {
    let folder = folder();
    let script = format!(
        "timeout 50 $FERRY receive in {to} --json > received.json &\n\
         timeout 50 $FERRY send file {address} {from} --json > sent.json\n\
         wait $!"
    );
    let output = in_a_namespace(folder.path(), &script);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert!(read("file") == read("in/file"), "the file has changed");
    for name in ["sent.json", "received.json"] {
        let report: Value = serde_json::from_slice(&read(name)).unwrap();
        assert_eq!(report["bytes"], LEN, "{report}");
        assert_eq!(report["files"], 1, "{report}");
        assert_eq!(report["clean"], true, "{report}");
    }
}

fn between(from: &str, to: &str, more: &str) {
    let from = format!("--port {from} --address 10.9.0.1/24 {more}");
    let to = format!("--port {to} --address 10.9.0.2/24");
    carry(&from, &to, "10.9.0.2");
}

#[test]
fn beside_the_kernel() {
    between("uring:p0", "uring:p1", "");
}

#[test]
fn as_an_ip_protocol_of_its_own() {
    between("uring:p0", "uring:p1", "--ip");
}

#[test]
fn over_ipv6() {
    carry(
        "--port uring:p0 --address 2001:db8::1/64",
        "--port uring:p1 --address 2001:db8::2/64",
        "2001:db8::2",
    );
}

/// AF_XDP takes capabilities of the machine itself, which those of a user namespace are not.
fn may_use_xdp() -> bool {
    let may = succeeds(&["--net"]);
    if !may {
        eprintln!("left out: AF_XDP is for root here");
    }
    may
}

#[test]
fn past_the_kernel() {
    if may_use_xdp() {
        between("xdp:p0", "xdp:p1", "");
        between("xdp:p0", "uring:p1", "");
    }
}

#[cfg(feature = "dpdk")]
#[test]
fn by_dpdk() {
    if may_use_xdp() {
        // A `uring:` port leaves UDP's checksum to the veth, which leaves it to the receiver, and this device of DPDK's
        // does not say so: by IP alone there is none.
        between("dpdk:net_af_packet0?iface=p0", "uring:p1", "--ip");
        between("uring:p0", "dpdk:net_af_packet0?iface=p1", "--ip");
    }
}

#[test]
fn by_a_socket_of_the_kernels() {
    carry(
        "--udp-port 5001",
        "--udp-port 5001 --at 127.0.0.1",
        "127.0.0.1",
    );
}

/// What is there is not written over, and the sender is told that its file was not taken.
#[test]
fn a_file_that_is_there_stays() {
    let folder = folder();
    fs::write(folder.path().join("in/file"), "mine").unwrap();
    let script = "timeout 50 $FERRY receive in --at 127.0.0.1 2> refused || echo $? &\n\
         timeout 50 $FERRY send file 127.0.0.1 || echo $?\n\
         wait $!";
    let output = in_a_namespace(folder.path(), script);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("could not be written there"), "{said}");
    let refused = fs::read_to_string(folder.path().join("refused")).unwrap();
    assert!(
        refused.contains("\"in/file\" is there already"),
        "{refused}"
    );
    assert_eq!(fs::read(folder.path().join("in/file")).unwrap(), b"mine");
    let left = fs::read_dir(folder.path().join("in")).unwrap().count();
    assert_eq!(left, 1, "nothing half-written stays");
}

/// A file of sysfs has fewer bytes than it says. The sender may see that before it has got through to the receiver.
#[test]
fn a_file_that_cannot_be_read_whole_is_an_error() {
    let ports = ["p0 --address 10.9.0.1/24", "p1 --address 10.9.0.2/24"];
    let [from, to] = ports.map(|port| format!("--port uring:{port}"));
    for (from, to, address) in [
        ("", "--at 127.0.0.1", "127.0.0.1"),
        (&from, &to, "10.9.0.2"),
    ] {
        let folder = folder();
        let script = format!(
            "$FERRY receive in {to} > received 2>&1 &\n\
             timeout 50 $FERRY send /sys/class/net/lo/address {address} {from}"
        );
        let output = in_a_namespace(folder.path(), &script);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("cannot read /sys/class/net/lo/address"),
            "{said}"
        );
        let left = fs::read_dir(folder.path().join("in")).unwrap().count();
        assert_eq!(left, 0, "nothing half-written stays");
    }
}

#[test]
fn a_port_that_ends_early_is_an_error() {
    let output = Command::new(FERRY)
        .args(["receive", "in", "--port", "null:0?count=1000"])
        .args(["--address", "10.0.0.2/24"])
        .current_dir(folder().path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("the port has ended"), "{said}");
}

#[test]
fn ctrl_c_ends_it_in_order() {
    let folder = folder();
    let script = "(sleep 1; kill -INT $(cat pid)) &\n\
         sh -c 'echo $$ > pid; exec timeout --foreground 50 $FERRY receive in --port uring:p1 --address 10.9.0.2/24 --json' || echo $?";
    let output = in_a_namespace(folder.path(), script);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("\"stopped\":true") && said.ends_with("}\n3\n"),
        "{said}"
    );
}

#[test]
fn what_cannot_work_is_said() {
    let said = |args: &[&str]| {
        let output = Command::new(FERRY).args(args).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let here = ["--port", "null:", "--address", "10.0.0.1/24"];
    let nowhere = said(&[&["send", "no such file", "10.0.0.2"], &here[..]].concat());
    assert!(nowhere.contains("cannot read no such file"), "{nowhere}");
    let alone = said(&["send", "x", "10.0.0.2", "--port", "null:"]);
    assert!(alone.contains("--address"), "{alone}");
    let wrong = said(&[
        "receive",
        "/tmp",
        "--port",
        "null:",
        "--address",
        "10.0.0.1",
    ]);
    assert!(wrong.contains("no address with a prefix"), "{wrong}");
}
