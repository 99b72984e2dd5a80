//! The checked-in inputs of the fuzz targets, as code: where a fuzzer begins (`seeds`), and what
//! has gone wrong in packet parsers before (`nasty`).

/// An input: the target it is for, its file name, its bytes.
pub(crate) type Input = (&'static str, &'static str, Vec<u8>);

const MACS: &str = "020000000002 020000000001";
const V4_ADDRESSES: &str = "c0000201 c0000202";
const V6_ADDRESSES: &str = "20010db8000000000000000000000001 20010db8000000000000000000000002";
const TCP: &str = "04d2 0050 00000001 00000002 80d8 ffff 0000 0000 0101080a 00000001 00000002";
const TCP_LEN: usize = 32;

fn hex(parts: &[&str]) -> Vec<u8> {
    let digits: Vec<u8> = parts
        .iter()
        .flat_map(|part| part.chars())
        .filter_map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect();
    assert!(digits.len().is_multiple_of(2));
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn v4(protocol: u8, len: usize) -> String {
    format!(
        "0800 4500 {:04x} 0001 4000 40{protocol:02x} 0000 {V4_ADDRESSES}",
        20 + len
    )
}

fn v6(next: u8, len: usize) -> String {
    format!("86dd 60000000 {len:04x} {next:02x} 40 {V6_ADDRESSES}")
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let udp = "04d2 0035 000c 0000 70696e67";
    let fragment = "1100 0001 00000007";
    let chain = "3c00 0502 0000 0100 2b00 0104 00000000 3300 0000 00000000 0604 0000 00000001
        00000002 00000000 00000000 00000000";
    vec![
        (
            "arp",
            hex(&[
                MACS,
                "0806 0001 0800 06 04 0001 020000000001 c0000201 000000000000 c0000202",
            ]),
        ),
        ("v4_tcp", hex(&[MACS, &v4(6, TCP_LEN + 3), TCP, "616263"])),
        (
            "v4_udp_qinq",
            hex(&[MACS, "88a8 0064 8100 000a", &v4(17, 12), udp]),
        ),
        (
            "v4_icmp",
            hex(&[MACS, &v4(1, 12), "0800 0000 0007 0001 70696e67"]),
        ),
        (
            "v4_sctp",
            hex(&[MACS, &v4(132, 16), "0b59 0b5a 00000001 00000000 03000004"]),
        ),
        (
            "v6_tcp_vlan",
            hex(&[MACS, "8100 0001", &v6(6, TCP_LEN), TCP]),
        ),
        ("v6_udp", hex(&[MACS, &v6(17, 12), udp])),
        (
            "v6_icmp",
            hex(&[MACS, &v6(58, 12), "8000 0000 0007 0001 70696e67"]),
        ),
        ("v6_fragment", hex(&[MACS, &v6(44, 20), fragment, udp])),
        (
            "v6_extensions",
            hex(&[MACS, &v6(0, 48 + TCP_LEN), chain, TCP]),
        ),
    ]
}

/// Well-formed inputs, a few for each target.
pub(crate) fn seeds() -> Vec<Input> {
    let mut list = Vec::new();
    for (name, frame) in frames() {
        list.push(("parse", name, frame.clone()));
        list.push(("flow", name, frame.clone()));
        list.push(("describe", name, [&[0], &frame[..]].concat()));
        if name.ends_with("icmp") {
            list.push(("echo_reply", name, [&[1], &frame[..]].concat()));
        }
        // Segments of 40 bytes, the payload in pieces of 7.
        let control = |flags: u8| vec![flags, 0, 0, 0, 0, 40, 7];
        let payload: Vec<u8> = (0..150).collect();
        if name.contains("tcp") || name == "v6_extensions" {
            list.push(("segment", name, [control(1), frame, payload].concat()));
        } else if name.contains("udp") {
            list.push(("segment", name, [control(3), frame, payload].concat()));
        }
    }
    let text = "eth(dst=02:00:00:00:00:02)/ipv4(ihl=6, dst=10.0.0.2)/tcp(flags=syn|ack)/data(\"a\\x00\"*3)/pad(0x00*9)";
    list.push(("describe", "text", [&[0], text.as_bytes()].concat()));
    list
}

/// Inputs that lie about lengths, counts and offsets.
pub(crate) fn nasty() -> Vec<Input> {
    let options = "94040000";
    let link = "3c00 0104 00000000";
    let frames = [
        ("empty", vec![]),
        ("thirteen_bytes", vec![0xff; 13]),
        ("tag_cut_short", hex(&[MACS, "8100 0001 08"])),
        (
            "three_tags",
            hex(&[MACS, "88a8 0001 8100 0002 8100 0003", &v4(6, 32)]),
        ),
        (
            "v4_header_60_of_20",
            hex(&[MACS, "0800 4f00 003c 0000 4000 4006 0000", V4_ADDRESSES]),
        ),
        (
            "v4_header_16",
            hex(&[MACS, "0800 4400 0014 0000 4000 4006 0000", V4_ADDRESSES]),
        ),
        (
            "v4_total_zero",
            hex(&[MACS, "0800 4500 0000 0000 4000 4006 0000", V4_ADDRESSES]),
        ),
        ("v4_total_below_header", {
            hex(&[
                MACS,
                "0800 4600 0014 0000 4000 4006 0000",
                V4_ADDRESSES,
                options,
            ])
        }),
        ("v4_total_ends_in_tcp", hex(&[MACS, &v4(6, 19), TCP])),
        (
            "v4_last_offset",
            hex(&[
                MACS,
                "0800 4500 0034 0000 1fff 4011 0000",
                V4_ADDRESSES,
                TCP,
            ]),
        ),
        ("v4_option_zero_len", {
            hex(&[
                MACS,
                "0800 4600 0018 0000 4000 4006 0000",
                V4_ADDRESSES,
                "83000000",
            ])
        }),
        ("v4_option_over_end", {
            hex(&[
                MACS,
                "0800 4600 0018 0000 4000 4006 0000",
                V4_ADDRESSES,
                "83ff0000",
            ])
        }),
        (
            "v4_says_v6",
            hex(&[MACS, "0800 6500 0014 0000 4000 4006 0000", V4_ADDRESSES]),
        ),
        (
            "v6_hop_by_hop_255",
            hex(&[MACS, &v6(0, 16), "06ff 0000 00000000", link]),
        ),
        (
            "v6_nine_extensions",
            hex(&[MACS, &v6(60, 72), &link.repeat(9)]),
        ),
        (
            "v6_extension_of_two_bytes",
            hex(&[MACS, &v6(60, 2), "0600"]),
        ),
        (
            "v6_ah_255",
            hex(&[MACS, &v6(51, 16), "06ff 0000 00000000", link]),
        ),
        (
            "v6_fragment_then_nothing",
            hex(&[MACS, &v6(44, 8), "3c00 0001 00000007"]),
        ),
        (
            "v6_jumbo_zero",
            hex(&[MACS, &v6(0, 0), "0600 c204 00010000"]),
        ),
        (
            "v6_option_over_end",
            hex(&[MACS, &v6(60, 8), "3b00 c6ff 00000000"]),
        ),
        (
            "tcp_offset_zero",
            hex(&[
                MACS,
                &v4(6, 20),
                "04d2 0050 0000000000000000 0010 0000 00000000",
            ]),
        ),
        (
            "tcp_offset_60",
            hex(&[
                MACS,
                &v4(6, 20),
                "04d2 0050 0000000000000000 f010 0000 00000000",
            ]),
        ),
        ("tcp_option_zero_len", {
            hex(&[
                MACS,
                &v4(6, 24),
                "04d2 0050 0000000000000000 6002 0000 00000000 02000000",
            ])
        }),
        ("tcp_sack_of_nine", {
            hex(&[
                MACS,
                &v4(6, 32),
                "04d2 0050 0000000000000000 8010 0000 00000000 0509",
                "0000000000000000 0000",
            ])
        }),
        (
            "udp_len_seven",
            hex(&[MACS, &v4(17, 8), "0035 0035 0007 0000"]),
        ),
        (
            "udp_len_65535",
            hex(&[MACS, &v6(17, 8), "0035 0035 ffff 0000"]),
        ),
        (
            "udp_in_padding",
            hex(&[MACS, &v4(17, 0), "0035 0035 0008 0000"]),
        ),
        ("arp_of_other_lengths", {
            hex(&[
                MACS,
                "0806 0001 0800 ff ff 0001 020000000001 c0000201 000000000000 c0000202",
            ])
        }),
    ];
    let mut list = Vec::new();
    for (name, frame) in frames {
        list.push(("parse", name, frame.clone()));
        list.push(("echo_reply", name, [&[1], &frame[..]].concat()));
        list.push(("describe", name, [&[0], &frame[..]].concat()));
        list.push(("flow", name, frame));
    }

    let tcp = hex(&[&v4(6, 32)[4..], TCP]);
    let super_frame = |control: [u8; 7]| [&control[..], &tcp, &[0x5a; 200]].concat();
    list.push(("segment", "mss_zero", super_frame([0, 0, 20, 32, 0, 0, 0])));
    list.push(("segment", "mss_one", super_frame([0, 0, 20, 32, 0, 1, 3])));
    list.push((
        "segment",
        "mss_max",
        super_frame([0, 0, 20, 32, 0xff, 0xff, 1]),
    ));
    list.push((
        "segment",
        "lengths_over_end",
        super_frame([0, 255, 255, 255, 1, 0, 0]),
    ));
    list.push((
        "segment",
        "l4_len_too_long",
        super_frame([0, 0, 20, 60, 1, 0, 0]),
    ));
    list.push((
        "segment",
        "l4_len_too_short",
        super_frame([0, 0, 20, 20, 1, 0, 0]),
    ));
    list.push((
        "segment",
        "l3_len_zero",
        super_frame([0, 0, 0, 32, 1, 0, 0]),
    ));
    list.push(("segment", "tcp_as_udp", super_frame([2, 0, 20, 8, 1, 0, 0])));
    list
}
