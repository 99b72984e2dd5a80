//! What is derived, held against plain code that reads bit by bit.

use core::net::{Ipv4Addr, Ipv6Addr};

use linecard_derive::Header;
use linecard_wire::describe::{Header as _, Headers, Role};
use linecard_wire::{EmitError, MacAddr, ParseError, Pseudo};
use proptest::prelude::*;

/// Every kind of field, in awkward places.
#[derive(Header, Clone, Debug, PartialEq)]
#[header(crate = linecard_wire, udp_port = 7, ip_protocol = 254, name = "motley")]
struct Motley<'a> {
    #[field(bits = 3, constant = 5)]
    version: u8,
    urgent: bool,
    /// Crosses a byte.
    #[field(bits = 12, key)]
    channel: u16,
    #[field(constant = 0xbeef, hex)]
    magic: u16,
    #[field(bits = 4, flags(first = 1, last = 2, more = 8))]
    flags: u8,
    /// Touches nine bytes.
    #[field(key)]
    wide: u64,
    #[field(bits = 4, len = "header", unit = 8)]
    rest: u8,
    #[field(little)]
    little: u32,
    #[field(bits = 24, little, key)]
    odd: u32,
    #[field(bits = 40)]
    forty: u64,
    #[field(key)]
    mac: MacAddr,
    v4: Ipv4Addr,
    #[field(key)]
    v6: Ipv6Addr,
    #[field(key)]
    raw: [u8; 3],
    #[field(len = "tags")]
    before: u8,
    #[field(checksum = "crc32", little)]
    crc: u32,
    #[field(
        default = 9,
        values(one = 1, r#type = 2),
        selects = "motley.kind",
        name = "type"
    )]
    r#type: u8,
    #[field(bits = 17)]
    len_bits: u32,
    #[field(bits = 7, len = "payload")]
    payload_len: u8,
    tags: &'a [u8],
    fixed_tail: &'a [u8],
}

/// A checksum as UDP has it.
#[derive(Header, Clone, Copy, Debug, PartialEq)]
#[header(crate = linecard_wire, name = "sum")]
struct Summed {
    #[field(checksum = "internet", pseudo = 254)]
    sum: u16,
    #[field(len = "all")]
    len: u16,
}

/// Announced by a field of another one.
#[derive(Header, Clone, Copy, Debug, PartialEq)]
#[header(crate = linecard_wire, under("motley.kind" = 1), no_payload)]
struct Child {
    #[field(checksum = "internet", covers = "header")]
    sum: u16,
    x: bool,
    #[field(bits = 15)]
    y: u16,
}

fn headers() -> Headers {
    Headers::standard()
        .with::<Motley<'_>>()
        .with::<Summed>()
        .with::<Child>()
}

/// Where each number of `Motley` is, by hand: first bit, bits, little.
const PLACES: [(&str, usize, usize, bool); 16] = [
    ("version", 0, 3, false),
    ("urgent", 3, 1, false),
    ("channel", 4, 12, false),
    ("magic", 16, 16, false),
    ("flags", 32, 4, false),
    ("wide", 36, 64, false),
    ("rest", 100, 4, false),
    ("little", 104, 32, true),
    ("odd", 136, 24, true),
    ("forty", 160, 40, false),
    ("raw", 408, 24, false),
    ("before", 432, 8, false),
    ("crc", 440, 32, true),
    ("type", 472, 8, false),
    ("len_bits", 480, 17, false),
    ("payload_len", 497, 7, false),
];
const FIXED_LEN: usize = 63;

fn naive(bytes: &[u8], name: &str) -> u64 {
    let (_, at, width, little) = PLACES.into_iter().find(|place| place.0 == name).unwrap();
    let bit = |n: usize| u64::from(bytes[n / 8] >> (7 - n % 8) & 1);
    let big = (at..at + width).fold(0, |value, n| value << 1 | bit(n));
    if little {
        big.swap_bytes() >> (64 - width)
    } else {
        big
    }
}

/// The CRC of Ethernet, a bit at a time.
fn naive_crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[test]
fn the_description_has_the_same_places() {
    let motley = Motley::DESCRIPTION;
    assert_eq!(
        (motley.fixed_len(), Motley::FIXED_LEN),
        (FIXED_LEN, FIXED_LEN)
    );
    for (name, at, width, _) in PLACES {
        let field = motley.field(name).unwrap();
        assert_eq!(
            (field.offset_bits as usize, field.width_bits as usize),
            (at, width),
            "{name}"
        );
    }
    assert_eq!(motley.title(), "Every kind of field, in awkward places");
    assert_eq!(motley.field("channel").unwrap().docs, "Crosses a byte.");
    assert_eq!(
        motley.tails().map(|tail| tail.name).collect::<Vec<_>>(),
        ["tags", "fixed_tail"]
    );
    assert_eq!(Motley::FLAGS_MORE | Motley::TYPE_TYPE, 10);
    assert_eq!(Motley::default().r#type, 9);
}

#[test]
fn constants_and_lengths_are_checked() {
    let mut buf = [0; 100];
    let tags = [1, 2, 3, 4, 5];
    Motley {
        tags: &tags,
        ..Default::default()
    }
    .emit(&mut buf, 10)
    .unwrap();
    let bad = |at: usize, value: u8| {
        let mut buf = buf;
        buf[at] = value;
        let error = MotleyView::parse(&buf).map(|_| ()).unwrap_err();
        assert_eq!(MotleyMut::parse(&mut buf).map(|_| ()).unwrap_err(), error);
        error
    };
    assert_eq!(bad(3, 0).to_string(), "bad magic: 0xbe00, not 0xbeef");
    assert_eq!(bad(0, 0).to_string(), "bad version: 0x0, not 0x5");
    // The header says nine times eight bytes, which ten bytes of tags exceed.
    assert!(
        matches!(bad(54, 10), ParseError::BadField { field, found: 9 } if field.name == "rest")
    );
    assert_eq!(
        bad(62, 33),
        ParseError::Truncated {
            need: 105,
            have: 100
        }
    );
    assert_eq!(
        MotleyView::parse(&buf[..62]).unwrap_err(),
        ParseError::Truncated { need: 63, have: 62 }
    );

    let long = Motley {
        fixed_tail: &[1],
        ..Default::default()
    };
    assert_eq!(
        long.emit(&mut buf, 128).unwrap_err(),
        EmitError::TooLong { len: 128, max: 127 }
    );
    assert_eq!(
        long.emit(&mut buf[..80], 17).unwrap_err(),
        EmitError::NoRoom { need: 81, have: 80 }
    );
    assert!(long.emit(&mut buf[..80], 16).is_ok());
}

/// The bytes of an arbitrary header that fits in `buf`, and the payload behind it.
fn arbitrary(
    bytes: &[u8],
    tags: usize,
    tail: usize,
    payload: usize,
) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let mut all = bytes.iter().copied().cycle();
    let mut take = |len: usize| all.by_ref().take(len).collect::<Vec<u8>>();
    (take(tags), take(tail), take(payload))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_written_is_read(
        bytes in proptest::collection::vec(any::<u8>(), 64), tags in 0usize..30, tail in 0usize..20, payload in 0usize..100,
        wide: u64, little: u32, odd: u32, v6: u128, mac: [u8; 6], numbers: (bool, u16, u8, u64, u8, u32),
    ) {
        let (tags, tail, payload) = arbitrary(&bytes, tags, tail, payload);
        let motley = Motley {
            urgent: numbers.0,
            channel: numbers.1,
            flags: numbers.2,
            forty: numbers.3,
            r#type: numbers.4,
            len_bits: numbers.5,
            wide,
            little,
            odd,
            mac: MacAddr(mac),
            v4: Ipv4Addr::from(little),
            v6: Ipv6Addr::from(v6),
            raw: [mac[0], mac[1], mac[2]],
            tags: &tags,
            fixed_tail: &tail,
            ..Default::default()
        };
        let header_len = motley.header_len();
        prop_assert!(header_len.is_multiple_of(8) && header_len - FIXED_LEN - tags.len() - tail.len() < 8);
        let mut buf = vec![0xaa; header_len + payload.len() + 5];
        buf[header_len..][..payload.len()].copy_from_slice(&payload);
        motley.emit(&mut buf, payload.len()).unwrap().fill_checksum();
        prop_assert_eq!(&buf[header_len + payload.len()..], &[0xaa; 5]);

        let view = MotleyView::parse(&buf).unwrap();
        prop_assert_eq!((view.version(), view.magic(), view.header_len()), (5, 0xbeef, header_len));
        prop_assert_eq!((view.rest(), view.before(), view.payload_len()), ((header_len / 8) as u8, tags.len() as u8, payload.len() as u8));
        prop_assert_eq!((view.tags(), view.payload()), (&tags[..], &payload[..]));
        prop_assert!(view.fixed_tail().starts_with(&tail));
        prop_assert_eq!((view.urgent(), view.channel(), view.flags()), (numbers.0, numbers.1 & 0xfff, numbers.2 & 15));
        prop_assert_eq!((view.wide(), view.little(), view.odd()), (wide, little, odd & 0xff_ffff));
        prop_assert_eq!((view.forty(), view.r#type(), view.len_bits()), (numbers.3 & 0xff_ffff_ffff, numbers.4, numbers.5 & 0x1_ffff));
        prop_assert_eq!((view.mac(), view.v4(), view.v6(), view.raw()), (motley.mac, motley.v4, motley.v6, motley.raw));

        // The checksum is over everything with zeros in its own place, and sees every changed bit.
        let mut covered = buf[..header_len + payload.len()].to_vec();
        covered[55..59].fill(0);
        prop_assert_eq!(view.crc(), naive_crc32(&covered));
        prop_assert!(view.checksum_ok());
        // Again, from what was read: the same bytes.
        let mut again = buf.clone();
        Motley::from(view).emit(&mut again, payload.len()).unwrap().fill_checksum();
        prop_assert_eq!(&again, &buf);
        let at = numbers.5 as usize % header_len;
        let mut broken = buf.clone();
        broken[at] ^= 1 << (numbers.2 & 7);
        if let Ok(view) = MotleyView::parse(&broken) {
            prop_assert!(!view.checksum_ok());
        }

        // Alike in text.
        let packet = &buf[..header_len + payload.len()];
        let text = headers().dissect("motley", packet).to_string();
        prop_assert_eq!(headers().expression(&text).unwrap().to_bytes().unwrap(), packet, "{}", text);

        let key = view.key();
        prop_assert_eq!((key.wide, key.raw), (wide, motley.raw));
        let octets = key.to_bytes();
        prop_assert_eq!(MotleyKey::LEN, 2 + 8 + 4 + 6 + 16 + 3);
        prop_assert_eq!(&octets[..10], &[&view.channel().to_be_bytes()[..], &wide.to_be_bytes()].concat()[..]);
        prop_assert_eq!(&octets[36..], &motley.raw);
    }

    #[test]
    fn getters_agree_with_bits_and_nothing_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), likely: bool) {
        if likely && bytes.len() > FIXED_LEN {
            bytes[0] = 0xa0 | bytes[0] & 0x1f;
            bytes[2..4].copy_from_slice(&[0xbe, 0xef]);
            bytes[12] = bytes[12] & 0xf0 | 9;
            bytes[54] %= 12;
        }
        let mut copy = bytes.clone();
        let Ok(view) = MotleyView::parse(&bytes) else {
            prop_assert!(MotleyMut::parse(&mut copy).is_err());
            return Ok(());
        };
        let _ = (view.checksum_ok(), view.key(), format!("{view:?}"));
        let numbers = [
            ("version", view.version().into()),
            ("urgent", view.urgent().into()),
            ("channel", view.channel().into()),
            ("magic", view.magic().into()),
            ("flags", view.flags().into()),
            ("wide", view.wide()),
            ("rest", view.rest().into()),
            ("little", view.little().into()),
            ("odd", view.odd().into()),
            ("forty", view.forty()),
            ("raw", u32::from_be_bytes([0, view.raw()[0], view.raw()[1], view.raw()[2]]).into()),
            ("before", view.before().into()),
            ("crc", view.crc().into()),
            ("type", view.r#type().into()),
            ("len_bits", view.len_bits().into()),
            ("payload_len", view.payload_len().into()),
        ];
        for (name, value) in numbers {
            prop_assert_eq!(value, naive(&bytes, name), "{}", name);
            // So does the table.
            let field = Motley::DESCRIPTION.field(name).unwrap();
            if field.is_number() {
                prop_assert_eq!(linecard_wire::describe::bits::read(&bytes, field), Some(value), "{}", name);
            }
        }
        let end = view.header_len() + view.payload().len();
        prop_assert_eq!(&bytes[view.header_len()..end], view.payload());
        prop_assert_eq!(&bytes[FIXED_LEN..view.header_len()], &[view.tags(), view.fixed_tail()].concat()[..]);
        // Everything written back to where it was read.
        let mut copied = MotleyMut::parse(&mut copy).unwrap();
        copied.set_urgent(view.urgent());
        copied.set_channel(view.channel());
        copied.set_wide(view.wide());
        copied.set_rest(view.rest());
        copied.set_odd(view.odd() | 0xff00_0000);
        copied.set_forty(view.forty() | 1 << 63);
        copied.set_mac(view.mac());
        copied.set_v6(view.v6());
        copied.set_raw(view.raw());
        copied.set_len_bits(view.len_bits());
        copied.set_crc(view.crc());
        copied.tags_mut().copy_from_slice(view.tags());
        copied.payload_mut().copy_from_slice(view.payload());
        prop_assert_eq!(copied.view().payload(), view.payload());
        prop_assert_eq!(&copy, &bytes);
    }

    #[test]
    fn any_bytes_come_back_from_text(mut bytes in proptest::collection::vec(any::<u8>(), 0..150), likely: bool) {
        if likely && bytes.len() > FIXED_LEN {
            (bytes[12], bytes[54], bytes[59]) = (9, bytes[54] % 12, 1);
        }
        for first in ["motley", "sum", "child"] {
            let text = headers().dissect(first, &bytes).to_string();
            let again = headers().expression(&text).unwrap().to_bytes().unwrap();
            prop_assert_eq!(&again, &bytes, "{}", text);
        }
    }

    #[test]
    fn internet_checksums_are_right(payload: Vec<u8>, src: u32, dst: u32) {
        let mut buf = [&[0; 4][..], &payload].concat();
        let pseudo = Pseudo::v4(src.into(), dst.into());
        Summed { sum: 1, len: 2 }.emit(&mut buf, payload.len()).unwrap().fill_checksum(pseudo);
        let view = SummedView::parse(&buf).unwrap();
        prop_assert!(view.checksum_ok(pseudo));
        prop_assert!(!view.checksum_ok(Pseudo::v4((src ^ 1).into(), dst.into())));
        let headers = headers();
        let mut text = format!("ipv4(src={}, dst={})/sum", Ipv4Addr::from(src), Ipv4Addr::from(dst));
        if !payload.is_empty() {
            let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
            text += &format!("/data(0x{hex})");
        }
        // The text has it announced by nothing, so that a checksum of the same protocol number is made.
        let packet = headers.expression(&text).unwrap().to_bytes().unwrap();
        prop_assert_eq!(&packet[20..], &buf);
    }
}

#[test]
fn a_header_announces_another() {
    let text = "ipv4/motley(tags=0x0102)/child(x=1, y=5)/pad(0xff)";
    let bytes = headers().expression(text).unwrap().to_bytes().unwrap();
    let motley = MotleyView::parse(&bytes[20..]).unwrap();
    assert_eq!(
        (bytes[9], motley.r#type(), motley.payload().len()),
        (254, Motley::TYPE_ONE, 4)
    );
    let child = ChildView::parse(motley.payload()).unwrap();
    assert!(child.checksum_ok() && child.x() && child.y() == 5 && child.payload().is_empty());
    // The tags are filled up to eight bytes, with what is a field of its own.
    let back = text.replace("0x0102", "0x0102, fixed_tail=0x00000000000000");
    assert_eq!(headers().dissect("ipv4", &bytes).to_string(), back);
    let is_const = |name| {
        matches!(
            Motley::DESCRIPTION.field(name).map(|field| field.role),
            Some(Role::Constant(_))
        )
    };
    assert!(is_const("magic") && !is_const("wide"));
}
