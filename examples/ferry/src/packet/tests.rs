use super::*;
use proptest::prelude::*;

const TERMS: Terms = Terms {
    from: 9,
    window: 1 << 20,
    message_len: 1 << 18,
    idle_ms: 30_000,
    datagram_len: 1_232,
    ack_delay_ms: 25,
};

/// A packet with everything in it.
fn full(buffer: &mut [u8]) -> usize {
    let mut writer = Writer::data(buffer, 7, 1_000, 990);
    writer.ack(5_000, 3_000_000, [(90, 95), (80, 80), (10, 70)].into_iter());
    writer.extras(Some(11), Some(12), Some(13));
    writer.ping();
    writer.chunk(4_000, 5, true).copy_from_slice(b"hello");
    writer.finish()
}

#[test]
fn everything_comes_back() {
    let mut buffer = [0; 1_300];
    let len = full(&mut buffer);
    let Ok(Packet::Data(data)) = Packet::parse(&buffer[..len]) else {
        panic!()
    };
    assert_eq!(
        (data.to, data.number, data.floor, data.ping),
        (7, 1_000, 990, true)
    );
    assert_eq!(
        (data.challenge, data.response, data.close),
        (Some(11), Some(12), Some(13))
    );
    let ack = data.ack.unwrap();
    assert_eq!(
        (ack.credit, ack.largest, ack.delay_ns),
        (5_000, 95, 3_000_000)
    );
    assert_eq!(
        ack.ranges().collect::<Vec<_>>(),
        [(90, 95), (80, 80), (10, 70)]
    );
    let chunk = data.chunk.unwrap();
    assert_eq!(
        (chunk.offset, chunk.bytes, chunk.end),
        (4_000, &b"hello"[..], true)
    );
}

#[test]
fn the_handshake_comes_back_and_is_padded() {
    let mut buffer = [0xff; 1_300];
    let cookie = Cookie {
        issued_ms: 5,
        mac: 6,
    };
    assert_eq!(write_hello(&mut buffer, &TERMS, cookie), 1_232);
    let hello = Packet::parse(&buffer[..1_232]);
    assert!(
        matches!(hello, Ok(Packet::Hello { terms: TERMS, cookie: c }) if c == cookie),
        "{hello:?}"
    );
    let len = write_cookie(&mut buffer, 9, cookie);
    assert!(len < 64, "the answer to a stranger is short");
    assert!(
        matches!(Packet::parse(&buffer[..len]), Ok(Packet::Cookie { to: 9, cookie: c }) if c == cookie)
    );
    assert_eq!(write_welcome(&mut buffer, 9, &TERMS, 500), 500);
    assert!(matches!(
        Packet::parse(&buffer[..500]),
        Ok(Packet::Welcome {
            to: 9,
            terms: TERMS
        })
    ));
}

#[test]
fn every_changed_bit_is_noticed() {
    let mut buffer = [0; 1_300];
    let len = full(&mut buffer);
    for bit in 0..len * 8 {
        buffer[bit / 8] ^= 1 << (bit % 8);
        assert!(Packet::parse(&buffer[..len]).is_err(), "bit {bit}");
        buffer[bit / 8] ^= 1 << (bit % 8);
    }
    for len in 0..len {
        assert!(Packet::parse(&buffer[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn contradictions() {
    let mut buffer = [0; 1_300];
    let len = full(&mut buffer);
    let parse_with = |at: usize, bytes: &[u8]| {
        let mut copy = buffer;
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        sign(&mut copy[..len]);
        Packet::parse(&copy[..len]).err()
    };
    assert_eq!(parse_with(0, &[VERSION << 4 | DATA]), None);
    assert_eq!(
        parse_with(0, &[(VERSION + 1) << 4 | DATA]),
        Some(Malformed::Unknown)
    );
    assert_eq!(
        parse_with(1, &[0xff]),
        Some(Malformed::Unknown),
        "a part without a meaning"
    );
    assert_eq!(
        parse_with(24, &1_001u32.to_be_bytes()),
        Some(Malformed::Contradiction),
        "a floor below zero"
    );
    assert_eq!(
        parse_with(28 + 8 + 8 + 4, &97u16.to_be_bytes()),
        Some(Malformed::Contradiction),
        "ranges below zero"
    );
    assert_eq!(
        parse_with(28 + 8 + 8 + 4, &0u16.to_be_bytes()),
        Some(Malformed::Contradiction),
        "an empty range"
    );
    assert_eq!(
        parse_with(28 + 8 + 8 + 6, &[255]),
        Some(Malformed::Truncated),
        "more ranges than bytes"
    );
    assert_eq!(
        parse_with(len - 13, &[0xff; 8]),
        Some(Malformed::Contradiction),
        "an offset beyond all rows"
    );
}

fn ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((1u64..50, 1u64..50), 1..MOST_RANGES).prop_map(|steps| {
        let mut low = 10_000;
        let step = |(missing, present): (u64, u64)| {
            let last = low - missing - 1;
            low = last + 1 - present;
            (low, last)
        };
        steps.into_iter().map(step).collect()
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..6, parts: u8) {
        if bytes.len() >= HEADER_LEN {
            bytes[..4].copy_from_slice(&[VERSION << 4 | kind, parts, 0, 0]);
            sign(&mut bytes);
        }
        if let Ok(Packet::Data(Data { ack: Some(ack), .. })) = Packet::parse(&bytes) {
            let mut above = ack.largest + 1;
            for (first, last) in ack.ranges() {
                prop_assert!(first <= last && last < above);
                above = first;
            }
        }
    }

    #[test]
    fn ranges_come_back(ranges in ranges(), len in LEAST_DATAGRAM..1_300) {
        let mut buffer = [0; 1_300];
        let mut writer = Writer::data(&mut buffer[..len], 1, 2, 0);
        writer.ack(0, 0, ranges.iter().copied());
        let len = writer.finish();
        let Ok(Packet::Data(Data { ack: Some(ack), .. })) = Packet::parse(&buffer[..len]) else { panic!() };
        let back: Vec<_> = ack.ranges().collect();
        prop_assert_eq!(&back[..], &ranges[..back.len()]);
        prop_assert!(back.len() == ranges.len() || len < 300);
    }
}
