//! `linecard dissector`, and what the real tshark makes of it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use std::net::Ipv6Addr;

use linecard::wire::describe::lua::Dissector;
use linecard::wire::describe::{Header as _, Headers};
use tempfile::TempDir;

use crate::files::{linecard, path};
use crate::frames::{ethernet, mac, pcap, udp};

/// A folder with a trace and dissectors.
struct Bench {
    dir: TempDir,
    scripts: Vec<PathBuf>,
}

impl Bench {
    fn new(frames: &[Vec<u8>]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("trace.pcap"), pcap(frames)).unwrap();
        Self {
            dir,
            scripts: Vec::new(),
        }
    }

    /// Adds what the command prints with these arguments.
    fn dissector(self, arguments: &[&str]) -> Self {
        let ended = linecard(&[&["dissector"], arguments].concat());
        assert_eq!(ended.code, 0, "{ended:#?}");
        self.script(&ended.stdout)
    }

    /// Adds a script.
    fn script(mut self, text: &str) -> Self {
        let script = self.dir.path().join(format!("{}.lua", self.scripts.len()));
        fs::write(&script, text).unwrap();
        self.scripts.push(script);
        self
    }

    /// What tshark prints.
    fn tshark(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tshark");
        for script in &self.scripts {
            command.args(["-X", &format!("lua_script:{}", path(script))]);
        }
        let trace = self.dir.path().join("trace.pcap");
        // With a home of its own: no settings and no plugins of whoever runs the tests.
        command
            .env("HOME", self.dir.path())
            .env("XDG_CONFIG_HOME", self.dir.path());
        let output = command
            .args(["-n", "-r", path(&trace)])
            .args(arguments)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !errors.contains("Lua"),
            "{errors}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// These fields of every frame.
    fn fields(&self, names: &[String]) -> Vec<Vec<String>> {
        let mut arguments = vec!["-T", "fields", "-E", "separator=|"];
        for name in names {
            arguments.extend(["-e", name]);
        }
        let lines = self.tshark(&arguments);
        lines
            .lines()
            .map(|line| line.split('|').map(plain).collect())
            .collect()
    }
}

/// A number without its base; anything else as it is.
fn plain(text: &str) -> String {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    match (number, text) {
        (Ok(number), _) => number.to_string(),
        (_, "True") => "1".into(),
        (_, "False") => "0".into(),
        _ => text.into(),
    }
}

fn frame(text: &str) -> Vec<u8> {
    Headers::standard()
        .expression(text)
        .unwrap()
        .to_bytes()
        .unwrap()
}

/// A reading of the example's sensor, by hand: labels `cellar`, payload `21.5`.
fn reading(seq: u8) -> Vec<u8> {
    let fixed = [
        0x5e, 0x05, 0x12, 0xc2, 0, 0, 0, 7, seq, 1, 0, 4, 2, 0, 0, 0, 0, 7,
    ];
    let rest = b"cellar\x00\x0021.5";
    let sum = crc32(&[&fixed[..], &[0; 4], rest].concat());
    [&fixed[..], &sum.to_be_bytes(), rest].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| {
        if crc & 1 == 1 {
            crc >> 1 ^ 0xedb8_8320
        } else {
            crc >> 1
        }
    };
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

fn in_udp(payload: &[u8]) -> Vec<u8> {
    let datagram = udp(([10, 0, 0, 1], 1000), ([10, 0, 0, 2], 4919), payload);
    ethernet(mac(2), mac(1), 0x0800, &datagram)
}

#[test]
fn wireshark_reads_a_header_of_an_example() {
    let bench = Bench::new(&[in_udp(&reading(2))]).dissector(&["sensor"]);
    let page = bench.tshark(&["-V", "-O", "sensor"]);
    for line in [
        "Readings of sensors, kind=reading\n    magic: 0x5e05\n    0001 .... = version: 1\n    .... 0010 = kind: reading (2)\n",
        "    110. .... = state: 0x6\n        ..0. .... = battery_low: False\n",
        "        .1.. .... = calibrated: True\n",
        "    ...0 0010 = labels_len: 2\n    id: 7\n    seq: 258\n    len: 4\n    radio: 02:00:00:00:00:07",
        " [right]\n    labels: 63656c6c61720000\nData (4 bytes)\n",
    ] {
        assert!(page.contains(line), "{line:?} is not in\n{page}");
    }
    // The list of packets and filters.
    assert!(bench.tshark(&[]).contains("SENSOR 76 kind=reading"));
    let filtered = |filter: &str| bench.tshark(&["-Y", filter, "-T", "fields", "-e", "sensor.id"]);
    assert_eq!(
        filtered("sensor.kind == 2 && sensor.state.last == 1"),
        "7\n"
    );
    assert_eq!(filtered("sensor.seq == 259"), "");
}

#[test]
fn wireshark_says_what_is_wrong_with_a_packet() {
    let changed = |at: usize, value: u8| {
        let mut packet = reading(2);
        packet[at] = value;
        in_udp(&packet)
    };
    let bench = Bench::new(&[
        changed(1, 6),
        changed(21, 0),
        changed(11, 5),
        changed(3, 0xdf),
        in_udp(&reading(2)[..21]),
    ])
    .dissector(&["sensor"]);
    let page = bench.tshark(&["-V", "-O", "sensor"]);
    let frames: Vec<&str> = page.split("Frame ").skip(1).collect();
    assert!(frames[0].contains("magic is not 0x5e05"), "{page}");
    assert!(frames[1].contains("checksum is wrong: 0x"), "{page}");
    assert!(
        frames[2].contains("len: 5\n        [Expert Info (Error/Malformed): Wrong length]"),
        "{page}"
    );
    assert!(
        frames[3].contains("labels_len: 31\n        [Expert Info (Error/Malformed): Wrong length]"),
        "{page}"
    );
    assert!(
        frames[4].contains("21 bytes are too few for this header of 22"),
        "{page}"
    );
}

#[test]
fn wireshark_finds_messages_in_a_tcp_stream() {
    let stream = [reading(1), reading(2), reading(3)].concat();
    let segment = |from: usize, to: usize| {
        let mut frame = frame(&format!(
            "eth/ipv4(src=10.0.0.1, dst=10.0.0.2)/tcp(sport=9, dport=700, seq={}, flags=ack|psh)/data(0x00*{})",
            from + 1,
            to - from
        ));
        let payload = frame.len() - (to - from);
        frame[payload..].copy_from_slice(&stream[from..to]);
        frame
    };
    // One and a half messages, a piece that ends within a header, the rest.
    let bench = Bench::new(&[segment(0, 50), segment(50, 75), segment(75, stream.len())])
        .dissector(&["sensor", "--tcp-port", "700"]);
    let page = bench.tshark(&["-V", "-O", "sensor"]);
    for seq in 257..260 {
        let seq = format!("    seq: {seq}\n");
        assert!(page.contains(&seq), "{seq} is not in\n{page}");
    }
    assert_eq!(page.matches("Readings of sensors").count(), 3, "{page}");
    assert_eq!(page.matches("[right]").count(), 3, "{page}");
    assert!(!page.contains("Expert Info"), "{page}");
}

/// A header, a packet with it, and its fields as we and as Wireshark call them.
type Both = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// Headers of which Wireshark has a dissector, which has to agree with ours.
const BOTH: [Both; 8] = [
    (
        "vlan",
        "eth/vlan(pcp=5, dei=1, vid=2748)/ipv4",
        &[
            ("pcp", "vlan.priority"),
            ("dei", "vlan.dei"),
            ("vid", "vlan.id"),
            ("ethertype", "vlan.etype"),
        ],
    ),
    (
        "arp",
        "eth/arp(op=reply, sender_mac=02:00:00:00:00:01, sender_ip=10.0.0.1, target_mac=02:00:00:00:00:02, target_ip=10.0.0.2)",
        &[
            ("hardware_type", "arp.hw.type"),
            ("protocol_type", "arp.proto.type"),
            ("op", "arp.opcode"),
            ("sender_mac", "arp.src.hw_mac"),
            ("sender_ip", "arp.src.proto_ipv4"),
            ("target_mac", "arp.dst.hw_mac"),
            ("target_ip", "arp.dst.proto_ipv4"),
        ],
    ),
    (
        "ipv4",
        "eth/ipv4(dscp=46, ecn=3, ident=4660, df=0, mf=1, ttl=7, src=10.1.2.3, dst=10.3.2.1, options=0x94040000)/udp",
        &[
            ("version", "ip.version"),
            ("dscp", "ip.dsfield.dscp"),
            ("ecn", "ip.dsfield.ecn"),
            ("total_len", "ip.len"),
            ("ident", "ip.id"),
            ("df", "ip.flags.df"),
            ("mf", "ip.flags.mf"),
            ("ttl", "ip.ttl"),
            ("protocol", "ip.proto"),
            ("checksum", "ip.checksum"),
            ("src", "ip.src"),
            ("dst", "ip.dst"),
        ],
    ),
    (
        "ipv6",
        "eth/ipv6(dscp=46, ecn=1, flow_label=0xabcde, hop_limit=9, src=2001:db8::1, dst=2001:db8::2)/udp/data(\"hi\")",
        &[
            ("version", "ipv6.version"),
            ("dscp", "ipv6.tclass.dscp"),
            ("ecn", "ipv6.tclass.ecn"),
            ("flow_label", "ipv6.flow"),
            ("payload_len", "ipv6.plen"),
            ("next_header", "ipv6.nxt"),
            ("hop_limit", "ipv6.hlim"),
            ("src", "ipv6.src"),
            ("dst", "ipv6.dst"),
        ],
    ),
    (
        "udp",
        "eth/ipv6(src=fe80::1, dst=fe80::2)/udp(sport=4000, dport=4001)/data(\"odd\")",
        &[
            ("sport", "udp.srcport"),
            ("dport", "udp.dstport"),
            ("len", "udp.length"),
            ("checksum", "udp.checksum"),
        ],
    ),
    (
        "tcp",
        "eth/ipv4(src=10.0.0.1)/tcp(sport=9, dport=10, seq=4294967295, ack=7, flags=syn|ece|cwr, window=500, urgent=3, options=0x020405b4)",
        &[
            ("sport", "tcp.srcport"),
            ("dport", "tcp.dstport"),
            ("seq", "tcp.seq_raw"),
            ("ack", "tcp.ack_raw"),
            ("flags", "tcp.flags"),
            ("window", "tcp.window_size_value"),
            ("checksum", "tcp.checksum"),
            ("urgent", "tcp.urgent_pointer"),
            ("options", "tcp.options"),
        ],
    ),
    (
        "icmp",
        "eth/ipv4/icmp(type=echo_reply)/echo(ident=1, seq=2)/data(\"ping\")",
        &[
            ("type", "icmp.type"),
            ("code", "icmp.code"),
            ("checksum", "icmp.checksum"),
        ],
    ),
    (
        "icmp6",
        "eth/ipv6(src=fe80::1, dst=ff02::1)/icmp6/nd_ns(target=fe80::2)/nd_option(type=source_lladdr, body=0x020000000001)",
        &[
            ("type", "icmpv6.type"),
            ("code", "icmpv6.code"),
            ("checksum", "icmpv6.checksum"),
        ],
    ),
];

#[test]
fn our_dissectors_agree_with_wiresharks_own() {
    let frames: Vec<Vec<u8>> = BOTH.iter().map(|(_, text, _)| frame(text)).collect();
    for (nth, (header, text, fields)) in BOTH.iter().enumerate() {
        let plain = Bench::new(&frames[nth..=nth]);
        let theirs: Vec<String> = fields.iter().map(|(_, theirs)| (*theirs).into()).collect();
        let ours: Vec<String> = fields
            .iter()
            .map(|(ours, _)| format!("linecard_{header}.{ours}"))
            .collect();
        let theirs = plain.fields(&theirs);
        // A field that Wireshark does not know would be an error; one that is not there is empty.
        assert!(
            theirs[0].iter().all(|value| !value.is_empty()),
            "{header}: {theirs:?}"
        );
        let bench = Bench::new(&frames[nth..=nth]).dissector(&[header]);
        assert_eq!(bench.fields(&ours), theirs, "{text}");
        let page = bench.tshark(&["-V", "-O", &format!("linecard_{header}")]);
        assert_eq!(
            page.contains("[right]"),
            page.contains("checksum:"),
            "{page}"
        );
        assert!(!page.contains("Expert"), "{page}");
    }
    // What we fill in is right by Wireshark's own measure.
    let all = Bench::new(&frames);
    let checks = ["ip", "udp", "tcp"].map(|protocol| format!("{protocol}.check_checksum:TRUE"));
    let checks: Vec<&str> = checks.iter().flat_map(|check| ["-o", check]).collect();
    let bad = all.tshark(
        &[
            &checks[..],
            &["-Y", "_ws.malformed || _ws.expert.group == checksum"],
        ]
        .concat(),
    );
    assert_eq!(bad, "");
}

/// A header of a program of one's own, with every kind of field in awkward places.
#[derive(linecard::Header)]
#[header(ethertype = 0x88b5)]
struct Motley {
    #[field(bits = 4, flags(a = 1, d = 8))]
    flags: u8,
    eight: u8,
    on: bool,
    #[field(bits = 17)]
    seventeen: u32,
    #[field(bits = 34)]
    long: u64,
    wide: u64,
    #[field(bits = 24, little)]
    odd: u32,
    #[field(bits = 40)]
    forty: u64,
    #[field(little)]
    little: u64,
    #[field(constant = 0xfedc_ba98_7654_3210)]
    constant: u64,
    v6: Ipv6Addr,
    #[field(checksum = "internet")]
    checksum: u16,
    raw: [u8; 3],
    #[field(values(much = 0x8000_0000))]
    word: u32,
}

#[test]
fn wireshark_reads_every_kind_of_field() {
    let motley = Motley {
        flags: 9,
        eight: 0xa5,
        on: true,
        seventeen: 0x1_0001,
        long: 0x2_0000_0001,
        wide: 0xfedc_ba98_7654_3210,
        odd: 0x80_0001,
        forty: 0x80_0000_0001,
        little: 0x8000_0000_0000_0001,
        v6: "2001:db8::1".parse().unwrap(),
        raw: [1, 2, 3],
        word: Motley::WORD_MUCH,
        ..Motley::default()
    };
    let mut packet = vec![0; motley.header_len() + 1];
    motley.emit(&mut packet, 1).unwrap().fill_checksum();
    let view = MotleyView::parse(&packet).unwrap();
    let checksum = view.checksum().to_string();
    // The nine bytes of a number that begins within one.
    assert_eq!((view.long(), view.wide()), (motley.long, motley.wide));

    let lua = Dissector::of(Motley::DESCRIPTION).to_string();
    let bench = Bench::new(&[ethernet(mac(2), mac(1), 0x88b5, &packet)]).script(&lua);
    let want = [
        ("flags", "9"),
        ("flags.a", "1"),
        ("flags.d", "1"),
        ("eight", "165"),
        ("on", "1"),
        ("seventeen", "65537"),
        ("long", "8589934593"),
        ("wide", "18364758544493064720"),
        ("odd", "8388609"),
        ("forty", "549755813889"),
        ("little", "9223372036854775809"),
        ("constant", "18364758544493064720"),
        ("v6", "2001:db8::1"),
        ("checksum", &checksum),
        ("raw", "10203"),
        ("word", "2147483648"),
    ];
    let names: Vec<String> = want
        .iter()
        .map(|(name, _)| format!("motley.{name}"))
        .collect();
    let values: Vec<&str> = want.iter().map(|(_, value)| *value).collect();
    assert_eq!(bench.fields(&names), [values]);
    let page = bench.tshark(&["-V", "-O", "motley"]);
    assert!(
        page.contains("word: much (2147483648)") && page.contains("[right]"),
        "{page}"
    );
    assert!(!page.contains("Expert"), "{page}");
}

#[test]
fn a_field_of_one_header_hands_on_to_another() {
    let frames = [frame("eth/ipv4/icmp/echo(ident=258, seq=3)/data(\"ping\")")];
    let bench = Bench::new(&frames)
        .dissector(&["icmp"])
        .dissector(&["echo"]);
    let page = bench.tshark(&["-V"]);
    assert!(
        page.contains("ICMP (linecard_icmp), type=echo\n    type: echo (8)\n"),
        "{page}"
    );
    assert!(
        page.contains("(linecard_echo)\n    ident: 258\n    seq: 3\n"),
        "{page}"
    );
}

#[test]
fn dissectors_are_listed_and_wrong_usage_is_refused() {
    let list = linecard(&["dissector", "--list"]);
    assert!(list.stdout.contains("sensor"), "{list:#?}");
    let list = linecard(&["dissector", "--list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list.stdout).unwrap();
    let hook = |name: &str| {
        let mut headers = list.as_array().unwrap().iter();
        let header = headers.find(|header| header["name"] == name).unwrap();
        header["hooks"][0].as_str().unwrap().to_owned()
    };
    assert_eq!(hook("sensor"), "udp_port 4919");
    assert_eq!(hook("call"), "udp_port 4600");
    let wrong: [(&[&str], i32, &[&str]); 6] = [
        (&["dissector"], 2, &["NAME", "--help"]),
        (&["dissector", "snesor"], 1, &["snesor", "sensor", "--list"]),
        (
            &["dissector", "eth"],
            1,
            &["eth", "--udp-port 5000", "--ethertype"],
        ),
        (
            &["dissector", "sensor", "--udp-port", "65536"],
            2,
            &["65536", "65535"],
        ),
        (&["dissector", "sensor", "--ethertype", "x"], 2, &["0x88b5"]),
        (&["dissector", "sensor", "--json"], 2, &["--json", "NAME"]),
    ];
    for (arguments, code, named) in wrong {
        let ended = linecard(arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {ended:#?}");
        for name in named {
            assert!(
                ended.stderr.contains(name),
                "{arguments:?} does not name {name}: {ended:#?}"
            );
        }
    }
}
