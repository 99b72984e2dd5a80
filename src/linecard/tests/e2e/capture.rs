//! Capture and replay, with tcpdump and tshark as witnesses.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::files::{linecard, path};
use crate::frames::{echo_request, ethernet, mac, pcap, read_pcap, tagged, udp};
use crate::lab::{Host, LINECARD, Lab, Process, wait_until};

/// Frames of many kinds.
fn many_kinds() -> Vec<Vec<u8>> {
    let v4 = |packet: Vec<u8>| ethernet(mac(1), mac(2), 0x0800, &packet);
    let mut frames = Vec::new();
    for (src, dst) in [(53, 1000), (1000, 53), (80, 443), (4000, 4001)] {
        for last in [1, 2] {
            let packet = udp(([10, 0, 0, last], src), ([10, 1, 0, 2], dst), &[7; 30]);
            let mut tcp = packet.clone();
            tcp[9] = 6;
            // Flags of TCP are where there is payload in UDP.
            tcp[20 + 13] = if src == 80 { 0x12 } else { 0x02 };
            let mut later = packet.clone();
            later[6..8].copy_from_slice(&[0x00, 0x05]);
            let mut first = packet.clone();
            first[6] = 0x20;
            frames.push(ethernet(
                mac(1),
                mac(2),
                0x8100,
                &tagged(7, 0x0800, &packet),
            ));
            frames.extend([packet, tcp, later, first].map(v4));
        }
    }
    frames.push(v4(echo_request([10, 0, 0, 1], [192, 168, 1, 1], &[1; 40])));
    frames.push(ethernet([0xff; 6], mac(2), 0x0806, &{
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 1];
        arp.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        arp.resize(46, 0);
        arp
    }));
    for (next, port) in [(17, 53_u16), (6, 80), (58, 0), (44, 17 << 8)] {
        let mut packet = vec![0x60, 0, 0, 0, 0, 20, next, 64];
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend([0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        packet.extend(port.to_be_bytes());
        packet.resize(70, 3);
        frames.push(ethernet([0x33, 0x33, 0, 0, 0, 1], mac(2), 0x86dd, &packet));
    }
    frames.push(ethernet(mac(1), mac(2), 0x88cc, &[9; 200]));
    frames
}

/// Expressions that tcpdump is asked as well.
const EXPRESSIONS: &[&str] = &[
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "port 53",
    "not port 53",
    "udp port 53",
    "src port 53",
    "tcp dst port 443",
    "portrange 50-100",
    "udp and not portrange 50-100",
    "host 10.0.0.1",
    "not host 10.0.0.1",
    "src net 10.0.0.0/16",
    "dst net 10.1",
    "net 192.168.0.0/16 or arp",
    "arp host 10.0.0.2",
    "host fd00::1",
    "ip6 net fd01::/16",
    "vlan",
    "vlan 7",
    "vlan 8",
    "vlan 7 and udp port 53",
    "vlan or udp",
    "udp or vlan",
    "not vlan",
    "ether proto 0x88cc",
    "ether src 02:00:00:00:00:02",
    "ether broadcast",
    "multicast",
    "ip6 multicast",
    "less 80",
    "greater 80",
    "len = 60",
    "tcp[tcpflags] & tcp-syn != 0",
    "tcp[13] = 0x12",
    "not tcp[13] = 0x12",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
    "ip[6:2] & 0x1fff != 0",
    "udp[2:2] = 53",
    "ip proto 17",
    "proto 6",
    "ip6 proto 17",
    "icmp[icmptype] = icmp-echo",
    "ether[12:2] > 0x0800",
    "udp or tcp and ip6",
    "udp or (tcp and ip6)",
    "port 53 or 80",
    "ip[0] & 0xf = 5 and ip[8] - 1 < 100",
    "src or dst port 443",
    "src and dst net 10.0.0.0/8",
];

#[test]
fn filters_mean_what_they_mean_to_tcpdump() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.pcap");
    let frames = many_kinds();
    fs::write(&input, pcap(&frames)).unwrap();
    // One answer of both for all expressions: which of the frames.
    let script = dir.path().join("ask");
    let mut text = String::from("set -e\n");
    for (n, expression) in EXPRESSIONS.iter().enumerate() {
        let file = path(&input);
        text += &format!(
            "tcpdump -Z root -r {file} -w - '{expression}' 2>/dev/null > {file}.{n}.theirs\n"
        );
    }
    fs::write(&script, text).unwrap();
    let asked = Command::new("sh").arg(&script).output().unwrap();
    assert!(
        asked.status.success(),
        "{}",
        String::from_utf8_lossy(&asked.stderr)
    );
    for (n, expression) in EXPRESSIONS.iter().enumerate() {
        let theirs = read_pcap(&fs::read(format!("{}.{n}.theirs", path(&input))).unwrap());
        let filter: linecard_traffic::filter::Filter = expression.parse().unwrap();
        let ours: Vec<_> = frames
            .iter()
            .filter(|f| filter.matches(f))
            .cloned()
            .collect();
        assert_eq!(ours, theirs, "{expression}");
    }
    // And the command as a whole.
    let output = dir.path().join("out.pcapng");
    let port = format!("pcap:{}", path(&input));
    let ended = linecard(&[
        "capture",
        "--port",
        &port,
        "--filter",
        "udp port 53 or arp",
        "--write",
        path(&output),
    ]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let lab = Lab::new();
    let told = tshark(&lab.here, &output, "-T fields -e frame.protocols");
    let expected: linecard_traffic::filter::Filter = "udp port 53 or arp".parse().unwrap();
    assert_eq!(
        told.len(),
        frames.iter().filter(|f| expected.matches(f)).count()
    );
    assert!(
        told.iter().any(|protocols| protocols.contains("arp")),
        "{told:?}"
    );
}

/// Starts a capture and waits until it captures.
fn capturing(lab: &Lab, arguments: &[&str]) -> Process {
    let capture = lab.linecard(&[&["capture"], arguments].concat());
    wait_until("the capture", || capture.stderr().contains("capturing"));
    capture
}

/// One column of what tshark makes of a file.
fn tshark(host: &Host, file: &Path, arguments: &str) -> Vec<String> {
    let said = host.sh(&format!("tshark -r {} {arguments} 2>/dev/null", path(file)));
    said.lines().map(str::to_owned).collect()
}

#[test]
fn a_capture_is_that_of_tcpdump_frame_by_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (
        dir.path().join("ours.pcapng"),
        dir.path().join("theirs.pcap"),
    );
    let lab = Lab::new();
    let host = lab.host("port");
    let tcpdump = lab.here.start(&format!(
        "tcpdump -Z root -i port -Q in -U -w - > {}",
        path(&theirs)
    ));
    wait_until("tcpdump", || tcpdump.stderr().contains("listening"));
    let capture = capturing(
        &lab,
        &["--port", "uring:port", "--write", path(&ours), "--json"],
    );
    host.sh("ip link set cable0 addrgenmode none");
    host.up(&[]);
    for frame in many_kinds() {
        host.send_raw(&frame, 1);
    }
    let sent = many_kinds().len();
    wait_until("tcpdump's file", || {
        fs::read(&theirs).is_ok_and(|file| file.len() > 24 && read_pcap(&file).len() == sent)
    });
    let ended = capture.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&report["written"], &report["dropped"]),
        (&sent.into(), &0.into())
    );
    let copy = dir.path().join("copy.pcap");
    lab.here.sh(&format!(
        "tshark -r {} -F pcap -w {}",
        path(&ours),
        path(&copy)
    ));
    assert_eq!(read_pcap(&fs::read(copy).unwrap()), many_kinds());
    assert_eq!(read_pcap(&fs::read(theirs).unwrap()), many_kinds());
    let info = lab.here.sh(&format!("capinfos {}", path(&ours)));
    for said in ["uring:port", "nanoseconds", "linecard"] {
        assert!(info.contains(said), "{info}");
    }
}

#[test]
fn a_port_that_vanishes_is_told_and_what_it_had_received_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.pcapng");
    let frame = &many_kinds()[0];
    let lab = Lab::new();
    let host = lab.host("port");
    host.sh("ip link set cable0 addrgenmode none arp off");
    host.up(&[]);
    let capture = capturing(
        &lab,
        &["--port", "uring:port", "--write", path(&output), "--json"],
    );
    host.send_raw(frame, 100);
    lab.here.sh("ip link delete dev port");
    wait_until("the news", || capture.stderr().contains("was removed"));
    lab.plug(&host, "port");
    host.sh("ip link set cable0 addrgenmode none arp off");
    host.up(&[]);
    wait_until("its return", || {
        capture.stderr().contains("its device is back")
    });
    let size = || fs::metadata(&output).map_or(0, |meta| meta.len());
    let record = 32 + frame.len().next_multiple_of(4) as u64;
    wait_until("what came before", || size() > 100 * record);
    // Some are sent before the port is open again, and are nobody's.
    let (mut sent, before) = (100, size());
    wait_until("frames of the new device", || {
        host.send_raw(frame, 1);
        sent += 1;
        size() > before
    });
    // Gone and back at once: nobody may have looked in between.
    lab.here.sh("ip link delete dev port");
    lab.plug(&host, "port");
    wait_until("the news of another device", || {
        capture.stderr().matches("its device is back").count() == 2
    });
    assert_eq!(capture.stderr().matches("was removed").count(), 2);
    let ended = capture.interrupt();
    assert_eq!(ended.code, 3, "{ended:#?}");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        report["gone"],
        serde_json::json!(["uring:port"]),
        "{report}"
    );
    let written = report["written"].as_u64().unwrap();
    assert!((101..=sent).contains(&written), "{written} of {sent}");
    assert_eq!(report["seen"].as_u64(), Some(written));
    let told = tshark(&lab.here, &output, "-T fields -e frame.len");
    let len = frame.len().to_string();
    assert_eq!(told.len() as u64, written);
    assert!(told.iter().all(|told| *told == len), "{told:?}");
}

#[test]
fn rings_of_files_counts_and_pipes() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("ring.pcapng");
    let ended = linecard(&[
        "capture",
        "--port",
        "null:0?size=100",
        "--write",
        path(&base),
        "--count",
        "1000",
        "--rotate-size",
        "20k",
        "--files",
        "3",
        "--stats-interval",
        "0s",
        "--json",
    ]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&report["written"], &report["ended"]),
        (&1000.into(), &"count".into())
    );
    let mut files: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    let last = report["files"].as_u64().unwrap();
    assert!(
        files[2].ends_with(format!("ring_{last:05}.pcapng")),
        "{files:?}"
    );
    let lab = Lab::new();
    for file in &files {
        assert!(fs::metadata(file).unwrap().len() < 20_500);
        assert!(
            tshark(&lab.here, file, "-T fields -e frame.len")
                .iter()
                .all(|len| len == "100")
        );
    }
    let pipe = format!(
        "{LINECARD} capture --port null:0 --count 77 --snaplen 20 2>/dev/null | tshark -r - 2>/dev/null | wc -l"
    );
    assert_eq!(lab.here.sh(&pipe).lines().last().unwrap().trim(), "77");
    let gone = format!("{LINECARD} capture --port null:0 --json | head -c 100000 >/dev/null");
    let said = lab.here.sh(&gone);
    assert!(said.contains("\"ended\":\"reader_gone\""), "{said}");
}

#[test]
fn a_full_disk_and_a_reader_that_hangs_are_told_and_counted() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let at = path(dir.path());
    // A disk of its own, in a mount namespace of its own.
    let inner = format!(
        "mount -t tmpfs -o size=1m tmpfs {at}; {LINECARD} capture --port null:0?size=1000 --write {at}/a.pcapng --json; \
         echo code $?; capinfos -c {at}/a.pcapng"
    );
    let said = lab.here.sh(&format!("unshare --mount sh -c '{inner}'"));
    assert!(
        said.contains("code 3") && said.contains("No space left"),
        "{said}"
    );
    assert!(said.contains("Number of packets"), "a whole file: {said}");
    // Nobody reads.
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = Command::new(LINECARD);
    command.args([
        "capture",
        "--port",
        "null:0",
        "--duration",
        "300ms",
        "--json",
    ]);
    command
        .stdout(std::os::fd::OwnedFd::from(theirs))
        .stderr(std::process::Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("reader_hangs"), "{said}");
    drop(command);
    let mut some = [0; 4];
    std::io::Read::read_exact(&mut ours, &mut some).unwrap();
    assert_eq!(some, [0x0a, 0x0d, 0x0d, 0x0a]);
}

#[test]
fn a_replay_arrives_as_it_was_captured() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.pcap"), dir.path().join("out.pcapng"));
    let frames = many_kinds();
    fs::write(&input, pcap(&frames)).unwrap();
    let lab = Lab::new();
    let host = lab.host("port");
    host.sh("ip link set cable0 addrgenmode none; ip link set cable0 arp off");
    host.up(&[]);
    let mut command = host.command(LINECARD);
    command.args([
        "capture",
        "--port",
        "uring:cable0",
        "--write",
        path(&output),
        "--json",
    ]);
    let capture = Process::start(command);
    wait_until("the capture", || capture.stderr().contains("capturing"));
    // The 10 Gbit/s of a veth are nothing to have a share of.
    let replay = ["replay", path(&input), "--port", "uring:port"];
    let refused = lab.linecard(&[&replay[..], &["--rate", "40%"]].concat());
    let refused = refused.end();
    assert_eq!(refused.code, 1, "{refused:#?}");
    assert!(refused.stderr.contains("only a name"), "{refused:#?}");
    let replayed = lab.linecard(&[
        "replay",
        path(&input),
        "--port",
        "uring:port",
        "--loop",
        "3",
        "--max",
        "--json",
    ]);
    let replayed = replayed.end();
    assert_eq!(replayed.code, 0, "{replayed:#?}");
    let sent = 3 * frames.len();
    wait_until("all of it", || host.cable().rx >= sent as u64);
    let ended = capture.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let copy = dir.path().join("copy.pcap");
    lab.here.sh(&format!(
        "tshark -r {} -F pcap -w {}",
        path(&output),
        path(&copy)
    ));
    let got = read_pcap(&fs::read(copy).unwrap());
    assert_eq!(got.len(), sent);
    assert!(got.chunks(frames.len()).all(|pass| pass == frames));
}

#[test]
fn what_is_rewritten_has_good_checksums() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.pcap"), dir.path().join("out.pcap"));
    let frame = |n: u16| {
        let packet = udp(([10, 0, 0, 1], 80), ([10, 1, 2, 3], n), &n.to_be_bytes());
        ethernet(mac(1), mac(2), 0x0800, &packet)
    };
    let frames: Vec<_> = (1000..1100).map(frame).collect();
    fs::write(&input, pcap(&frames)).unwrap();
    let rules = "dst-mac=02:00:00:00:00:99,10.0.0.0/16=192.168.0.0/16,port 80=8080";
    let ended = linecard(&[
        "replay",
        path(&input),
        "--port",
        &format!("pcap:?tx={}", path(&output)),
        "--max",
        "--rewrite",
        rules,
    ]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let lab = Lab::new();
    let columns = "-o ip.check_checksum:TRUE -o udp.check_checksum:TRUE -T fields -e eth.dst -e ip.src -e udp.srcport -e ip.checksum.status -e udp.checksum.status";
    let told = tshark(&lab.here, &output, columns);
    assert_eq!(told.len(), 100);
    for line in told {
        assert_eq!(line, "02:00:00:00:00:99\t192.168.0.1\t8080\t1\t1");
    }
}

#[test]
fn broken_files_and_wrong_words_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.pcap");
    let whole = pcap(&many_kinds());
    fs::write(&input, &whole[..whole.len() - 7]).unwrap();
    let ended = linecard(&["replay", path(&input), "--port", "null:0", "--max"]);
    assert_eq!(ended.code, 3, "{ended:#?}");
    assert!(ended.stderr.contains("is broken at byte"), "{ended:#?}");
    let wrong: [(&[&str], i32, &str); 6] = [
        (
            &["capture", "--port", "null:0", "--filter", "udp prot 53"],
            2,
            "^",
        ),
        (
            &[
                "capture", "--port", "null:0", "--files", "3", "--write", "x",
            ],
            1,
            "--rotate-size",
        ),
        (
            &[
                "capture",
                "--port",
                "null:0",
                "--write",
                "/nowhere/x.pcapng",
            ],
            1,
            "cannot write /nowhere",
        ),
        (
            &["replay", "/dev/zero", "--port", "null:0"],
            1,
            "cannot replay /dev/zero",
        ),
        (
            &["replay", "-", "--port", "null:0", "--speed", "0"],
            2,
            "not a speed",
        ),
        (
            &["replay", "-", "--port", "null:0", "--link-speed", "fast"],
            2,
            "10G",
        ),
    ];
    for (arguments, code, what) in wrong {
        let ended = linecard(arguments);
        assert_eq!(ended.code, code, "{ended:#?}");
        assert!(ended.stderr.contains(what), "{ended:#?}");
    }
}
