//! Generated traffic over every driver: each frame is what it should be, and everybody counts as many.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::files::path;
#[cfg(feature = "dpdk")]
use crate::lab::wait_until;
use crate::lab::{Ended, Host, Lab, Process};
use crate::ping::begun;
use crate::xdp_lab::possible;

/// Frames of each stream.
const N: u64 = 200;

/// Streams of several kinds, without VLAN tags: the kernel takes those off before anybody sees them.
const STREAMS: &str = r#"
[[stream]]
name = "udp"
packet = "eth/ipv4(dst=10.0.0.2)/udp(dport=9)"
size = "64..1518"
flows = 50

[[stream]]
name = "syn"
packet = "eth/ipv6/tcp(flags=syn)"
size = "96:7,594:4,1518:1"
vary = ["tcp.sport=random(1..65535) & ipv6.src=2001:db8::1..2001:db8::ffff"]

[[stream]]
name = "echo"
packet = "icmp/echo"
size = "99"
vary = ["echo.seq=0..65535"]

[[stream]]
name = "tunnel"
packet = "eth/ipv4/ipv4(src=10.0.0.1)/udp"
size = "128"
vary = ["ipv4.ident=0..65535", "ipv4#2.src=10.0.0.1..10.0.9.255"]
"#;

const ALL: u64 = 4 * N;

/// The generator's command line for that.
fn arguments<'a>(port: &'a str, streams: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = [
        "gen",
        "--port",
        port,
        "--streams",
        streams,
        "--count",
        "800",
        "--rate",
        "20kpps",
        "--catch-up",
        "1min",
        "--json",
        "--no-control",
        "--stats-interval",
        "0s",
    ];
    [&fixed, more].concat()
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}\n{ended:#?}"))
}

/// All were sent, whether or not the rate was held; a busy machine holds none.
fn sent_all(ended: &Ended) -> Value {
    assert!([0, 4].contains(&ended.code), "{ended:#?}");
    let said = json(ended);
    let counts = &said["trials"][0]["counts"];
    assert_eq!(
        (counts["sent"].as_u64(), counts["unsent"].as_u64()),
        (Some(ALL), Some(0)),
        "{said:#}"
    );
    said
}

/// All were sent, and each was received once.
fn all_came_back(ended: &Ended) -> Value {
    let said = sent_all(ended);
    let counts = &said["trials"][0]["counts"];
    let names = ["received", "lost", "duplicated", "foreign"];
    assert_eq!(
        names.map(|name| counts[name].as_u64().expect(name)),
        [ALL, 0, 0, 0],
        "{said:#}"
    );
    said
}

fn streams(directory: &Path) -> String {
    let file = directory.join("streams.toml");
    std::fs::write(&file, STREAMS).expect("a file");
    path(&file).to_owned()
}

/// Captures of several ports, one after the other: `tshark` takes longer to start than to read them all.
struct Captures {
    home: tempfile::TempDir,
    files: Vec<PathBuf>,
}

impl Captures {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self {
            home,
            files: Vec::new(),
        }
    }

    /// Where the next one goes.
    fn file(&mut self) -> PathBuf {
        let file = self.home.path().join(format!("{}.pcap", self.files.len()));
        self.files.push(file.clone());
        file
    }

    fn streams(&self) -> String {
        streams(self.home.path())
    }

    /// All are right, each with its frames.
    fn approve(self) {
        let home = self.home.path();
        let all = home.join("all.pcapng");
        let mut merge = Command::new("mergecap");
        merge.args(["-a", "-w", path(&all)]).args(&self.files);
        let output = merge.output().expect("mergecap");
        assert!(output.status.success(), "{output:#?}");
        tshark_approves(&all, self.files.len() as u64, home);
    }
}

/// tshark, with all checks on, finds as many frames of each kind as were sent, and nothing wrong with any.
fn tshark_approves(file: &Path, ports: u64, home: &Path) {
    let mut command = Command::new("tshark");
    command.env("HOME", home).env("XDG_CONFIG_HOME", home);
    for checked in ["ip", "tcp", "udp"] {
        command.args(["-o", &format!("{checked}.check_checksum:TRUE")]);
    }
    command.args([
        "-n",
        "-r",
        path(file),
        "-T",
        "fields",
        "-E",
        "separator=|",
        "-E",
        "occurrence=a",
    ]);
    let fields = ["ip", "tcp", "udp", "icmp"].map(|name| format!("{name}.checksum.status"));
    for field in &fields {
        command.args(["-e", field]);
    }
    let output = command
        .args(["-e", "_ws.malformed"])
        .output()
        .expect("tshark");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut kinds = std::collections::BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<_> = line.split('|').collect();
        let statuses = fields[..4].iter().flat_map(|field| field.split(','));
        let mut known = statuses.filter(|status| !status.is_empty());
        // 1 is good.
        assert!(known.all(|status| status == "1"), "{line}");
        assert_eq!(fields[4], "", "malformed: {line}");
        *kinds.entry(fields[..4].join("|")).or_insert(0) += 1;
    }
    let found: Vec<u64> = kinds.values().copied().collect();
    assert_eq!(
        found,
        [N * ports; 4],
        "{kinds:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Somebody who writes down what arrives at an interface.
struct Recorder(Process);

impl Recorder {
    fn new(host: &Host, interface: &str, file: &Path) -> Self {
        let mut command = host.command("python3");
        command
            .args(["-c", include_str!("record.py"), interface, path(file)])
            .stdin(Stdio::piped());
        Self(begun(Process::start(command), "recording"))
    }

    fn end(mut self) {
        self.0.hang_up();
        let ended = self.0.end();
        assert_eq!(ended.code, 0, "{ended:#?}");
    }
}

/// A host that says nothing by itself.
fn silent(lab: &Lab) -> Host {
    let host = lab.host("a");
    host.sh("ip link set cable0 addrgenmode none arp off up");
    host
}

/// The ports that end at a kernel's interface.
fn of_a_cable() -> Vec<&'static str> {
    let mut ports = vec!["uring:a", "uring:a?rx=mmsg"];
    if possible() {
        ports.push("xdp:a");
    }
    if cfg!(feature = "dpdk") {
        ports.push("dpdk:net_af_packet0?iface=a");
    }
    ports
}

/// The ports that make their interface themselves, or take one that was made before so that somebody can look at it.
fn taps() -> Vec<(&'static str, &'static str)> {
    let mut ports = vec![("tap:t0", "")];
    if cfg!(feature = "dpdk") {
        ports.push(("dpdk:net_tap0?iface=t0", "multi_queue"));
    }
    ports
}

#[test]
fn a_kernel_receives_what_was_sent() {
    let mut captures = Captures::new();
    let streams = captures.streams();
    for port in of_a_cable() {
        let file = captures.file();
        let lab = Lab::new();
        let host = silent(&lab);
        let recorder = Recorder::new(&host, "cable0", &file);
        let ended = lab.linecard(&arguments(port, &streams, &[])).end();
        sent_all(&ended);
        recorder.end();
        assert_eq!(host.cable().rx, ALL, "{port}");
    }
    for (port, kind) in taps() {
        let file = captures.file();
        let lab = Lab::new();
        lab.here.sh(&format!(
            "ip tuntap add dev t0 mode tap {kind} && ip link set dev t0 addrgenmode none arp off up"
        ));
        let recorder = Recorder::new(&lab.here, "t0", &file);
        let ended = lab.linecard(&arguments(port, &streams, &[])).end();
        sent_all(&ended);
        recorder.end();
        let t0 = lab.here.interfaces().into_iter().find(|i| i.name == "t0");
        assert_eq!(t0.map(|t0| t0.rx), Some(ALL), "{port}");
    }
    captures.approve();
}

/// A link in memory has its two ends in one process, where nobody else can look at it: our receiver does, by the stamps.
#[test]
fn a_link_in_memory_carries_what_was_sent() {
    let home = tempfile::tempdir().expect("a directory");
    let streams = streams(home.path());
    let ends = ["sim:a?peer=b", "sim:b"];
    let ended = Lab::new()
        .linecard(&arguments(ends[0], &streams, &["--receive", ends[1]]))
        .end();
    let said = all_came_back(&ended);
    let ports = &said["engine"]["ports"];
    assert_eq!(
        (&ports[0]["tx"], &ports[1]["rx"]),
        (&ALL.into(), &ALL.into())
    );
}

#[test]
fn files_have_what_was_sent() {
    let mut captures = Captures::new();
    let streams = captures.streams();
    let lab = Lab::new();
    let mut ports = vec!["pcap:?tx="];
    if cfg!(feature = "dpdk") {
        ports.push("dpdk:net_pcap0?tx_pcap=");
    }
    for port in ports {
        let port = format!("{port}{}", path(&captures.file()));
        sent_all(&lab.linecard(&arguments(&port, &streams, &[])).end());
    }
    captures.approve();
}

/// What a sink in another process says, once it has as many frames as there are.
#[cfg(feature = "dpdk")]
fn counted(sink: Process) -> Value {
    std::thread::sleep(std::time::Duration::from_millis(200));
    let ended = sink.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    json(&ended)
}

fn sink(host: &Host, port: &str, more: &[&str]) -> Process {
    let arguments = [
        "sink",
        "--port",
        port,
        "--json",
        "--stats-interval",
        "100ms",
    ];
    begun(host.linecard(&[&arguments[..], more].concat()), "receiving")
}

#[test]
fn a_sink_the_generator_and_the_kernel_count_alike() {
    let home = tempfile::tempdir().expect("a directory");
    let streams = streams(home.path());
    let mut pairs = vec![("uring:a", "uring:cable0")];
    if possible() {
        pairs.push(("xdp:a", "xdp:cable0"));
    }
    for (from, to) in pairs {
        let lab = Lab::new();
        let host = silent(&lab);
        let sink = sink(&host, to, &["--count", &ALL.to_string()]);
        // The 10 Gbit/s of a veth are nothing to have a share of.
        let refused = lab.linecard(&["gen", "--port", from, "--rate", "1%"]).end();
        assert_eq!(refused.code, 1, "{refused:#?}");
        assert!(refused.stderr.contains("only a name"), "{refused:#?}");
        let ended = lab.linecard(&arguments(from, &streams, &[])).end();
        sent_all(&ended);
        // It has all that it waited for.
        let ended = sink.end();
        assert_eq!(ended.code, 0, "{ended:#?}");
        let said = json(&ended);
        let names = [
            "sent",
            "received",
            "lost",
            "duplicated",
            "reordered",
            "foreign",
        ];
        let counts = names.map(|name| said["counts"][name].as_u64().expect(name));
        assert_eq!(counts, [ALL, ALL, 0, 0, 0, 0], "{said:#}");
        assert_eq!(said["frames"], ALL);
        assert_eq!(host.cable().rx, ALL);
        let lanes = said["lanes"].as_array().expect("lanes");
        assert!(lanes.iter().all(|lane| lane["received"] == N), "{said:#}");
        assert_eq!(lanes.len(), 4);
    }
}

#[test]
fn what_a_reflector_sends_back_is_all_there() {
    let home = tempfile::tempdir().expect("a directory");
    let streams = streams(home.path());
    let lab = Lab::new();
    let host = silent(&lab);
    let reflect = [
        "reflect",
        "--port",
        "uring:cable0?rx=mmsg",
        "--json",
        "--stats-interval",
        "0s",
    ];
    let reflect = begun(host.linecard(&reflect), "reflecting");
    let peer = host
        .mac("cable0")
        .map(|byte| format!("{byte:02x}"))
        .join(":");
    let port = "uring:a?rx=mmsg";
    let ended = lab
        .linecard(&arguments(
            port,
            &streams,
            &["--receive", port, "--peer", &peer],
        ))
        .end();
    all_came_back(&ended);
    let ended = reflect.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    assert_eq!((report.port(0).rx(), report.port(0).tx()), (ALL, ALL));
}

#[test]
fn the_gateway_is_asked_where_it_is() {
    // It asks for seconds before it gives up, and need not be waited for meanwhile.
    let silence = Lab::new();
    let _host = silent(&silence);
    let arguments = [
        "gen",
        "--port",
        "uring:a",
        "--count",
        "1",
        "--no-control",
        "--answer",
        "10.7.0.1",
        "--gateway",
        "10.7.0.9",
    ];
    let nobody = silence.linecard(&arguments);
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("got.pcap");
    for (gateway, from) in [("10.7.0.2", "10.7.0.1"), ("fd07::2", "fd07::1")] {
        let lab = Lab::new();
        let host = lab.host("a");
        host.up(&["10.7.0.2/24", "fd07::2/64"]);
        let recorder = Recorder::new(&host, "cable0", &file);
        let arguments = [
            "gen",
            "--port",
            "uring:a",
            "--count",
            "50",
            "--rate",
            "20kpps",
            "--catch-up",
            "1min",
            "--json",
            "--no-control",
            "--answer",
            from,
            "--gateway",
            gateway,
        ];
        let ended = lab.linecard(&arguments).end();
        assert!([0, 4].contains(&ended.code), "{ended:#?}");
        recorder.end();
        let frames = crate::frames::read_pcap(&std::fs::read(&file).expect("a file"));
        // Our own: UDP from the network of benchmarks.
        let ours = frames
            .iter()
            .filter(|frame| frame.get(26..28) == Some(&[198, 18]));
        assert_eq!(ours.clone().count(), 50);
        let mac = host.mac("cable0");
        assert!(ours.clone().all(|frame| frame[..6] == mac));
    }
    let ended = nobody.end();
    assert_eq!(ended.code, 1, "{ended:#?}");
    assert!(
        ended
            .stderr
            .contains("10.7.0.9 does not answer ARP on uring:a"),
        "{ended:#?}"
    );
}

#[cfg(feature = "dpdk")]
#[test]
fn shared_memory_has_what_was_sent() {
    let home = tempfile::tempdir().expect("a directory");
    let streams = streams(home.path());
    let lab = Lab::new();
    let socket = home.path().join("memif.sock");
    let port = |role: &str| {
        let socket = path(&socket);
        format!("dpdk:net_memif0?role={role}&socket={socket}&socket-abstract=no")
    };
    let sink = sink(&lab.here, &port("server"), &[]);
    wait_until("the socket", || socket.exists());
    let ended = lab
        .linecard(&arguments(&port("client"), &streams, &[]))
        .end();
    let sent = json(&ended);
    let said = counted(sink);
    // The link comes up when the two have met: what was sent before was dropped, and counted.
    assert_eq!(said["frames"], sent["engine"]["ports"][0]["tx"], "{sent:#}");
    assert_eq!(said["counts"]["lost"], 0, "{said:#}");
}
