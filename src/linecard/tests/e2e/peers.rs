//! DPDK's virtual devices between this process and another one: what testpmd says that it sent and received
//! is what our report says, to the frame.

use std::path::Path;

use crate::files::path;
use crate::lab::{Lab, Process};
use crate::testpmd::{BURST, Testpmd};

/// Fewer frames than any of the devices has descriptors.
const BURSTS: u64 = 8;

fn forwarder(lab: &Lab, port: &str) -> Process {
    let arguments = ["fwd", "--port", port, "--mode", "macswap", "--json"];
    let often = ["--stats-interval", "100ms"];
    lab.linecard(&[&arguments[..], &often].concat()).ready()
}

/// Who leaves first. A memif whose peer leaves while it is polled crashes in DPDK 22.11, and a virtio_user
/// whose back end is gone ends its process with SIGPIPE when it is closed.
#[derive(PartialEq, Eq)]
enum First {
    We,
    Peer,
}

/// The peer sends, we send back, it receives; then both leave.
fn reflected(mut linecard: Process, mut peer: Testpmd, leaves: First) {
    peer.wait_for_link();
    // Our worker looks at the link ten times a second and may still think that it is down, so frames of
    // the first round may be dropped, and counted. By the second one it knows.
    peer.send(BURSTS);
    linecard.quiet();
    let first = peer.stop();
    peer.send(BURSTS);
    peer.wait_for_all();
    linecard.quiet();
    let second = peer.stop();
    let (ended, peer) = if leaves == First::We {
        (linecard.interrupt(), peer.quit())
    } else {
        let peer = peer.quit();
        (linecard.interrupt(), peer)
    };
    assert_eq!(peer.code, 0, "{peer:#?}");
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    let port = report.port(0);
    let all = format!("{first:?} {second:?} {report:#?}");
    for round in [first, second] {
        assert_eq!(round.tx + round.tx_dropped, BURSTS * BURST, "{all}");
    }
    assert_eq!(port.rx(), first.tx + second.tx, "{all}");
    assert_eq!(port.tx(), first.rx + second.rx, "{all}");
    assert_eq!(first.rx + port.drops(), first.tx, "{all}");
    assert_eq!(port.misses() + port.errors(), 0, "{all}");
    assert_eq!(port.copies(), 0, "what came in leaves in place: {all}");
}

fn socket(directory: &Path) -> String {
    path(&directory.join("socket")).to_owned()
}

#[test]
fn shared_memory_by_memif_as_its_client() {
    let (lab, dir) = (Lab::new(), tempfile::tempdir().unwrap());
    let socket = socket(dir.path());
    let options = format!("socket={socket},socket-abstract=no");
    let peer = Testpmd::start(&lab.here, &format!("net_memif0,role=server,{options}"));
    let port = format!("dpdk:net_memif0?role=client&socket={socket}&socket-abstract=no");
    reflected(forwarder(&lab, &port), peer, First::We);
}

#[test]
fn shared_memory_by_memif_as_its_server() {
    let (lab, dir) = (Lab::new(), tempfile::tempdir().unwrap());
    let socket = socket(dir.path());
    let port = format!("dpdk:net_memif0?role=server&socket={socket}&socket-abstract=no");
    let linecard = forwarder(&lab, &port);
    let options = format!("socket={socket},socket-abstract=no");
    let peer = Testpmd::start(&lab.here, &format!("net_memif0,role=client,{options}"));
    reflected(linecard, peer, First::We);
}

#[test]
fn a_vhost_back_end_for_a_virtio_user_peer() {
    let (lab, dir) = (Lab::new(), tempfile::tempdir().unwrap());
    let socket = socket(dir.path());
    let linecard = forwarder(&lab, &format!("dpdk:net_vhost0?iface={socket}"));
    let peer = format!("net_virtio_user0,path={socket},queue_size=1024");
    let peer = Testpmd::start(&lab.here, &peer);
    reflected(linecard, peer, First::Peer);
}

/// Our pools lie in memory that the back end maps, so that nothing is copied on our side.
#[test]
fn a_virtio_user_for_a_vhost_back_end() {
    let (lab, dir) = (Lab::new(), tempfile::tempdir().unwrap());
    let socket = socket(dir.path());
    let peer = Testpmd::start(&lab.here, &format!("net_vhost0,iface={socket}"));
    let port = format!("dpdk:net_virtio_user0?path={socket}&queue_size=1024");
    reflected(forwarder(&lab, &port), peer, First::We);
}

/// Two devices on the ends of one cable, and neither end's kernel has anything to say.
#[test]
fn two_packet_sockets_on_a_cable() {
    let lab = Lab::new();
    lab.here.sh("ip link add name a type veth peer name b; \
         for end in a b; do ip link set dev $end addrgenmode none arp off up; done");
    let linecard = forwarder(&lab, "dpdk:net_af_packet0?iface=a");
    reflected(
        linecard,
        Testpmd::start(&lab.here, "net_af_packet0,iface=b"),
        First::We,
    );
    lab.assert_left(&["a", "b"]);
}

/// The kernel's side of our TAP device is the peer's packet socket.
#[test]
fn a_tap_device_and_a_packet_socket_on_it() {
    let lab = Lab::new();
    // The device is made with the port and has to be silent from the start.
    lab.here
        .sh("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    let linecard = forwarder(&lab, "dpdk:net_tap0?iface=t0");
    lab.here.sh("ip link set dev t0 arp off up");
    reflected(
        linecard,
        Testpmd::start(&lab.here, "net_af_packet0,iface=t0"),
        First::We,
    );
    lab.assert_left(&[]);
}
