//! AF_XDP ports that cannot be had, each for a reason that is said, and what is left when one ends.

use nix::sys::signal::Signal;

use crate::faults::{flood, wait_for_frames};
use crate::lab::{LINECARD, Lab, wait_until};
use crate::wire::{A4, B4, Wire};
use crate::xdp_lab::{FWD, assert_bare, ports, possible, refused, says, talking};

#[test]
fn kill_9_leaves_nothing_attached() {
    if !possible() {
        return;
    }
    let wire = talking(ports(""), &[]);
    wire.a.ping(5, B4);
    let load = flood(&wire.a);
    wait_for_frames(&wire.a, 1000);
    wire.linecard.signal(Signal::SIGKILL);
    let ended = wire.linecard.end();
    assert_eq!(ended.code, 128 + Signal::SIGKILL as i32);
    drop(load);
    wait_until("the programs to go", || {
        let shown = wire.lab.here.sh("ip link show");
        !shown.contains("xdp")
    });
    wire.lab.assert_left(&["a", "b"]);
    let arguments = ["-p", "xdp:a", "-p", "xdp:b"];
    let linecard = wire.lab.linecard(&[&FWD[..], &arguments].concat()).ready();
    wire.a.ping(20, B4);
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    ended.report().assert_balanced();
    assert_bare(&wire.lab, "a");
}

/// A program that passes everything, attached as `ip` does: by netlink, to stay.
fn attach_foreign(lab: &Lab, name: &str, mode: &str) -> String {
    const PROGRAM: &str = r#"
import ctypes, os, struct, sys
def bpf(command, attr):
    buffer = ctypes.create_string_buffer(attr, 128)
    fd = libc.syscall(321, command, buffer, 128)
    if fd < 0: raise OSError(ctypes.get_errno())
    return fd
libc = ctypes.CDLL(None, use_errno=True)
code = struct.pack("<QQ", 0x00000002000000b7, 0x95)
insns, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
attr = struct.pack("<IIQQIIQII16s", 6, 2, ctypes.addressof(insns), ctypes.addressof(licence), 0, 0, 0, 0, 0, b"somebody")
fd = bpf(5, attr)
pin = sys.argv[1]
path = ctypes.create_string_buffer(pin.encode())
bpf(6, struct.pack("<QI", ctypes.addressof(path), fd))
"#;
    let here = format!("/tmp/linecard-e2e-{}-{name}", std::process::id());
    let script = PROGRAM.replace('\'', "\"");
    // A file system of its own for the pin, in a mount namespace that ends with the command.
    lab.here.sh(&format!(
        "mkdir -p {here} && unshare -m sh -c 'mount -t bpf bpf {here} && python3 -c \"$0\" {here}/p && \
         ip link set dev {name} {mode} pinned {here}/p' '{script}'; rmdir {here}"
    ));
    let shown = lab.here.sh(&format!("ip link show dev {name}"));
    let id = shown.split("prog/xdp id ").nth(1).expect(&shown);
    id.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_foreign_program_is_named_and_kept_unless_forced() {
    if !possible() {
        return;
    }
    for mode in ["xdpdrv", "xdpgeneric"] {
        let lab = Lab::new();
        let (_a, b) = (lab.host("a"), lab.host("b"));
        let id = attach_foreign(&lab, "a", mode);
        let ended = refused(&lab, &["-p", "xdp:a", "-p", "xdp:b"]);
        says(
            &ended,
            &[
                "xdp:a",
                mode,
                &format!("program {id}"),
                "somebody",
                "force=1",
                &format!("ip link set dev a {mode} off"),
            ],
        );
        let shown = lab.here.sh("ip link show dev a");
        assert!(shown.contains(&format!("id {id}")), "{shown}");
        assert_bare(&lab, "b");
        let forced = ["-p", "xdp:a?force=1", "-p", "xdp:b"];
        let linecard = lab.linecard(&[&FWD[..], &forced].concat()).ready();
        let shown = lab.here.sh("ip link show dev a");
        assert!(!shown.contains(&format!("id {id} ")), "{shown}");
        drop(b);
        linecard.interrupt();
        assert_bare(&lab, "a");
    }
}

#[test]
fn a_second_process_at_the_same_queue_is_refused() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let (a, b) = (lab.host("a"), lab.host("b"));
    let both = ["-p", "xdp:a", "-p", "xdp:b"];
    let linecard = lab.linecard(&[&FWD[..], &both].concat()).ready();
    let ended = refused(&lab, &["-p", "xdp:a"]);
    says(&ended, &["xdp:a", "another linecard", "bpftool link show"]);
    a.up(&[&format!("{A4}/24")]);
    b.up(&[&format!("{B4}/24")]);
    a.ping(5, B4);
    Wire {
        lab,
        a,
        b,
        linecard,
    }
    .finish();
}

#[test]
fn a_queue_that_somebody_else_has_is_named() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let _a = lab.host("a");
    let first = lab
        .linecard(&[&FWD[..], &["-p", "xdp:a", "--mode", "rx-drop"]].concat())
        .ready();
    // Its program may be replaced, its socket not.
    let ended = refused(
        &lab,
        &["-p", "xdp:a?force=1&mode=copy", "--mode", "rx-drop"],
    );
    says(
        &ended,
        &["queue 0 of a belongs to another AF_XDP socket", "ss --xdp"],
    );
    let shown = lab.here.sh("ip link show dev a");
    assert!(
        shown.contains("prog/xdp"),
        "the first one's program went: {shown}"
    );
    first.interrupt();
}

#[test]
fn a_rule_that_cannot_be_had_is_refused_with_the_reason() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let _a = lab.host("a");
    let ended = refused(
        &lab,
        &[
            "-p",
            "xdp:a",
            "--flow",
            "0: proto=udp => queue 3",
            "--mode",
            "rx-drop",
        ],
    );
    says(
        &ended,
        &["xdp:a", "proto=udp => queue 3", "there is no queue 3"],
    );
    assert_bare(&lab, "a");
}

#[test]
fn more_queues_than_there_are_name_the_command() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let _a = lab.host("a");
    let ended = refused(
        &lab,
        &[
            "-p",
            "xdp:a?queues=2",
            "-p",
            "null:",
            "--workers",
            "2",
            "--oversubscribe",
        ],
    );
    says(&ended, &["xdp:a?queues=2"]);
}

#[test]
fn zero_copy_on_a_veth_is_refused_with_the_reason() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let _a = lab.host("a");
    let ended = refused(&lab, &["-p", "xdp:a?mode=zerocopy", "--mode", "rx-drop"]);
    says(&ended, &["xdp:a", "veth has no zero-copy"]);
    assert_bare(&lab, "a");
}

#[test]
fn no_permission_names_the_capabilities_and_the_command() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let _a = lab.host("a");
    for (kept, missing) in [
        ("-all", "CAP_NET_RAW"),
        ("-all,+net_raw,+net_admin", "CAP_BPF"),
    ] {
        let without = format!("setpriv --inh-caps={kept} --bounding-set={kept} -- {LINECARD}");
        let ended = lab
            .here
            .start(&format!("{without} fwd -p xdp:a --mode rx-drop"))
            .end();
        assert_eq!(ended.code, 1, "{ended:#?}");
        says(&ended, &["xdp:a", missing, "setcap"]);
    }
    lab.assert_left(&["a"]);
}

#[test]
fn four_capabilities_are_enough_and_a_fifth_for_rules() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let (a, b) = (lab.host("a"), lab.host("b"));
    let with = |more: &str, flow: &str| {
        let caps = format!("-all,+net_raw,+net_admin,+bpf,+ipc_lock{more}");
        let privileged = format!("setpriv --inh-caps={caps} --bounding-set={caps} -- {LINECARD}");
        let arguments = "fwd -p xdp:a -p xdp:b --json --stats-interval 100ms";
        lab.here.start(&format!("{privileged} {arguments} {flow}"))
    };
    let flow = "--flow '0: proto=udp dport=9 => drop'";
    let ended = with("", flow).end();
    says(
        &ended,
        &["xdp:a", "proto=udp dport=9", "CAP_PERFMON", "setcap"],
    );
    with(",+perfmon", flow).ready().interrupt();
    let linecard = with("", "").ready();
    a.up(&[&format!("{A4}/24")]);
    b.up(&[&format!("{B4}/24")]);
    a.ping(5, B4);
    Wire {
        lab,
        a,
        b,
        linecard,
    }
    .finish();
}
