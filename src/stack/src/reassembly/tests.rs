//! Against a plain map of bytes, and against those who mean no good.

use super::*;
use crate::testing::{bytes, ip, mbuf, packet, pool};
use linecard_hal::MempoolConfig;
use linecard_wire::{IpProtocol, Ipv4, Ipv6, L4, parse_layers};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn addresses(v6: bool) -> (IpAddr, IpAddr) {
    if v6 {
        (ip("2001:db8::1"), ip("2001:db8::2"))
    } else {
        (ip("192.0.2.1"), ip("192.0.2.2"))
    }
}

fn table(config: ReassemblyConfig) -> Reassembly {
    Reassembly::new(config, Secret::from_seed(1))
}

/// Hands in the bytes `at..at + body.len()` of a datagram.
fn add(
    table: &mut Reassembly,
    pool: &Mempool,
    v6: bool,
    (at, more, ident): (u16, bool, u32),
    body: &[u8],
    now: u64,
) -> Added {
    let (src, dst) = addresses(v6);
    let frame = packet(src, dst, IpProtocol::UDP, Some((at, more, ident)), body);
    let mut frame = mbuf(pool, &frame);
    // Ethernet fills short frames up.
    let padding = 60usize.saturating_sub(frame.frame_len());
    frame.append(padding).unwrap().fill(0xaa);
    let fragment = Fragment {
        key: FragmentKey {
            interface: 0,
            src,
            dst,
            protocol: if v6 { 0 } else { 17 },
            ident,
        },
        offset: at,
        len: body.len() as u16,
        more,
        l3_offset: 14,
        data_offset: if v6 { 14 + 48 } else { 14 + 20 },
        ecn: 0,
    };
    table.add(frame, &fragment, pool, now)
}

/// The payload of a datagram that became whole, and whose headers say so.
fn payload(whole: &Mbuf, v6: bool) -> Vec<u8> {
    let frame = bytes(whole);
    let layers = parse_layers(whole.data());
    assert!(!layers.malformed && layers.l4 == L4::Udp, "{layers:?}");
    if v6 {
        let ip = Ipv6::parse(&frame[14..]).unwrap();
        assert_eq!(ip.next_header(), IpProtocol::UDP);
        ip.payload().to_vec()
    } else {
        let ip = Ipv4::parse(&frame[14..]).unwrap();
        assert!(ip.checksum_ok() && !ip.is_fragment());
        ip.payload().to_vec()
    }
}

/// A UDP datagram of this length.
fn datagram(len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    bytes[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    bytes
}

fn refused(added: Added) -> Option<Reason> {
    match added {
        Added::Refused(_, reason) => Some(reason),
        _ => None,
    }
}

#[test]
fn two_parts_in_either_order_make_a_whole() {
    for v6 in [false, true] {
        for turned in [false, true] {
            let (pool, mut table) = (pool(64), table(ReassemblyConfig::default()));
            let whole = datagram(1024 + 3);
            let mut parts = [(0, true, &whole[..1024]), (1024, false, &whole[1024..])];
            if turned {
                parts.reverse();
            }
            let (at, more, body) = parts[0];
            let first = add(&mut table, &pool, v6, (at, more, 7), body, 0);
            assert!(matches!(first, Added::Kept), "{first:?}");
            assert_eq!(table.deadline_ns(), Some(60 * SECOND));
            let (at, more, body) = parts[1];
            let Added::Whole(joined) = add(&mut table, &pool, v6, (at, more, 7), body, 0) else {
                panic!("not whole");
            };
            assert_eq!(payload(&joined, v6), whole);
            assert_eq!((table.waiting(), table.deadline_ns()), (0, None));
            drop(joined);
            assert_eq!(pool.in_use(), 0);
        }
    }
}

#[test]
fn an_overlap_ends_the_datagram_and_what_is_still_to_come() {
    let (pool, mut table) = (pool(64), table(ReassemblyConfig::default()));
    let body = datagram(64);
    let mut part =
        |at, more, len| refused(add(&mut table, &pool, true, (at, more, 1), &body[..len], 0));
    assert_eq!(part(0, true, 32), None);
    assert_eq!(part(48, true, 16), None);
    // The teardrop: a piece that lies within another.
    assert_eq!(part(8, true, 16), Some(Reason::FragmentOverlap));
    assert_eq!(part(32, false, 16), Some(Reason::FragmentLate));
    assert_eq!((table.waiting(), pool.in_use()), (0, 0));
    assert_eq!(table.drops().of(Reason::FragmentOverlap), 2);
    assert!(table.poll(60 * SECOND).unwrap().first.is_none());
    assert!(table.poll(60 * SECOND).is_none());
}

#[test]
fn the_same_fragment_twice_is_no_overlap_but_other_bytes_are() {
    let (pool, mut table) = (pool(64), table(ReassemblyConfig::default()));
    let body = datagram(600);
    let part = (0, true, 1);
    assert!(matches!(
        add(&mut table, &pool, false, part, &body, 0),
        Added::Kept
    ));
    let again = add(&mut table, &pool, false, part, &body, 0);
    assert_eq!(refused(again), Some(Reason::FragmentDuplicate));
    let mut other = body.clone();
    other[599] ^= 1;
    let forged = add(&mut table, &pool, false, part, &other, 0);
    assert_eq!(refused(forged), Some(Reason::FragmentOverlap));
}

#[test]
fn two_ends_contradict_each_other() {
    let body = datagram(64);
    let cases: [[(u16, bool, usize); 2]; 3] = [
        [(32, false, 32), (48, false, 32)],
        [(32, false, 32), (64, true, 8)],
        [(32, true, 32), (16, false, 8)],
    ];
    for [first, second] in cases {
        let (pool, mut table) = (pool(64), table(ReassemblyConfig::default()));
        let mut part = |(at, more, len): (u16, bool, usize)| {
            refused(add(
                &mut table,
                &pool,
                false,
                (at, more, 1),
                &body[..len],
                0,
            ))
        };
        assert_eq!(part(first), None);
        assert_eq!(part(second), Some(Reason::FragmentOverlap), "{second:?}");
    }
}

#[test]
fn impossible_fragments_are_refused_at_once() {
    let (pool, mut table) = (pool(64), table(ReassemblyConfig::default()));
    let body = datagram(64);
    let cases: [(u16, bool, usize); 4] = [
        (0, true, 12),
        (8, true, 0),
        (8, false, 0),
        (65_528, false, 64),
    ];
    for (at, more, len) in cases {
        let added = add(&mut table, &pool, false, (at, more, 1), &body[..len], 0);
        assert_eq!(refused(added), Some(Reason::BadFragment), "{at} {len}");
    }
    assert_eq!((table.deadline_ns(), pool.in_use()), (None, 0));
    // The "ping of death": the last fragment makes it longer than a header can say.
    let large = datagram(1024);
    for n in 0..63 {
        let part = (n * 1024, true, 2);
        assert!(matches!(
            add(&mut table, &pool, false, part, &large, 0),
            Added::Kept
        ));
    }
    let last = add(
        &mut table,
        &pool,
        false,
        (64_512, false, 2),
        &large[..1020],
        0,
    );
    assert!(matches!(last, Added::Kept));
    assert_eq!(
        (table.drops().of(Reason::BadFragment), pool.in_use()),
        (64, 0)
    );
}

#[test]
fn what_does_not_come_in_time_is_given_up() {
    let (pool, mut table) = (pool(64), table(ReassemblyConfig::default()));
    let body = datagram(64);
    add(&mut table, &pool, false, (0, true, 1), &body, 0);
    add(&mut table, &pool, false, (64, true, 2), &body, SECOND);
    assert!(table.poll(60 * SECOND - 1).is_none());
    let first = table.poll(60 * SECOND).unwrap().first.unwrap();
    assert_eq!(first.frame_len(), 14 + 20 + 64);
    assert!(table.poll(60 * SECOND).is_none());
    assert_eq!(table.deadline_ns(), Some(61 * SECOND));
    assert!(table.poll(61 * SECOND).unwrap().first.is_none());
    drop(first);
    assert_eq!(pool.in_use(), 0);
    assert_eq!(table.drops().of(Reason::FragmentTimeout), 2);
}

#[test]
fn tiny_fragments_exhaust_their_own_datagram_only() {
    let (pool, mut table) = (pool(256), table(ReassemblyConfig::default()));
    let body = datagram(8);
    for n in 0..200u16 {
        add(&mut table, &pool, false, (n * 16, true, 1), &body, 0);
    }
    assert_eq!((table.waiting(), pool.in_use()), (0, 0));
    assert_eq!(table.drops().of(Reason::FragmentLimit), 128);
}

#[test]
fn a_flood_stays_within_every_limit_and_keeps_the_newest() {
    let config = ReassemblyConfig {
        datagrams: 16,
        fragments: 32,
        bytes: 8 << 10,
        ..ReassemblyConfig::default()
    };
    let (pool, mut table) = (pool(256), table(config));
    let body = datagram(1024);
    for n in 0..1000u32 {
        let v6 = n % 2 == 0;
        add(&mut table, &pool, v6, (0, true, n), &body, u64::from(n));
        assert!(table.waiting() <= 32 && table.waiting_bytes() <= 8 << 10);
        assert_eq!(pool.in_use(), table.waiting());
    }
    // The flood has not made the newest impossible.
    let last = add(&mut table, &pool, false, (1024, false, 999), &body, 1000);
    assert!(matches!(last, Added::Whole(_)));
}

#[test]
fn one_pair_of_hosts_pushes_out_only_its_own() {
    let (pool, mut table) = (pool(256), table(ReassemblyConfig::default()));
    let body = datagram(64);
    add(&mut table, &pool, true, (0, true, 7), &body, 0);
    for n in 0..1000 {
        add(&mut table, &pool, false, (0, true, n), &body, 1);
    }
    assert_eq!(table.waiting(), 9);
    let last = add(&mut table, &pool, true, (64, false, 7), &body, 2);
    assert!(matches!(last, Added::Whole(_)));
}

#[test]
fn congestion_marks_survive_and_contradictions_do_not() {
    for (ecn, want) in [([1, 3], Some(3)), ([2, 2], Some(2)), ([0, 3], None)] {
        let (pool, mut table) = (pool(64), table(ReassemblyConfig::default()));
        let body = datagram(16);
        let (src, dst) = addresses(false);
        let mut last = Added::Kept;
        for (n, ecn) in ecn.into_iter().enumerate() {
            let (at, more) = (n as u16 * 8, n == 0);
            let part = &body[at.into()..][..8];
            let mut frame = packet(src, dst, IpProtocol::UDP, Some((at, more, 1)), part);
            frame[15] |= ecn;
            let fragment = Fragment {
                key: FragmentKey {
                    interface: 0,
                    src,
                    dst,
                    protocol: 17,
                    ident: 1,
                },
                offset: at,
                len: 8,
                more,
                l3_offset: 14,
                data_offset: 34,
                ecn,
            };
            last = table.add(mbuf(&pool, &frame), &fragment, &pool, 0);
        }
        let found = match last {
            Added::Whole(whole) => Some(Ipv4::parse(&bytes(&whole)[14..]).unwrap().ecn()),
            _ => None,
        };
        assert_eq!(found, want);
    }
}

#[test]
fn an_empty_pool_is_only_a_missed_copy() {
    // The first fragment is too short to hold the headers in one piece: the whole has to be copied.
    let config = MempoolConfig {
        cache: 0,
        ..MempoolConfig::new("small", 2)
    };
    let (pool, mut table) = (
        Mempool::new(config).unwrap(),
        table(ReassemblyConfig::default()),
    );
    let body = datagram(16);
    add(&mut table, &pool, false, (0, true, 1), &body[..8], 0);
    add(&mut table, &pool, false, (8, false, 1), &body[8..], 0);
    assert_eq!(table.drops().of(Reason::NoMbuf), 2);
    assert_eq!((table.waiting(), pool.in_use()), (0, 0));
}

/// What a datagram is known to consist of, byte by byte.
#[derive(Default)]
struct Plain {
    bytes: Vec<Option<u8>>,
    end: Option<usize>,
    parts: Vec<(usize, bool, Vec<u8>)>,
    dead: bool,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Kept,
    Whole(Vec<u8>),
    Refused,
}

impl Plain {
    fn add(&mut self, at: usize, more: bool, body: &[u8]) -> Outcome {
        if at == 0 && !more {
            return Outcome::Whole(body.to_vec());
        }
        if self.dead {
            return Outcome::Refused;
        }
        let end = at + body.len();
        let long = self.bytes.len();
        let impossible = match self.end {
            Some(known) => end > known || (!more && end != known),
            None => !more && end < long,
        };
        if !impossible
            && self
                .parts
                .iter()
                .any(|(a, m, b)| (*a, *m) == (at, more) && b == body)
        {
            return Outcome::Refused;
        }
        self.bytes.resize(long.max(end), None);
        if impossible || self.bytes[at..end].iter().any(Option::is_some) {
            self.dead = true;
            return Outcome::Refused;
        }
        for (place, byte) in self.bytes[at..end].iter_mut().zip(body) {
            *place = Some(*byte);
        }
        self.parts.push((at, more, body.to_vec()));
        if !more {
            self.end = Some(end);
        }
        let all: Option<Vec<u8>> = self.bytes.iter().copied().collect();
        match (self.end, all) {
            (Some(_), Some(all)) => {
                *self = Self::default();
                Outcome::Whole(all)
            }
            _ => Outcome::Kept,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any pieces in any order, some of them forged, against a map of bytes.
    #[test]
    fn equals_a_map_of_bytes(
        v6: bool,
        pieces in proptest::collection::vec((0usize..8, 1usize..4, any::<bool>(), 0u8..8), 1..24),
    ) {
        let (pool, mut table) = (pool(128), table(ReassemblyConfig::default()));
        let source = datagram(96);
        let mut plain = Plain::default();
        for (at, len, more, forged) in pieces {
            let (at, len) = (at * 8, len * 8);
            let mut body = source[at..at + len].to_vec();
            if forged == 0 {
                body[len - 1] ^= 0xff;
            }
            let want = plain.add(at, more, &body);
            let found = match add(&mut table, &pool, v6, (at as u16, more, 3), &body, 0) {
                Added::Kept => Outcome::Kept,
                Added::Refused(..) => Outcome::Refused,
                Added::Whole(whole) => {
                    // The header of UDP is whatever it is here: only the bytes count.
                    let frame = bytes(&whole);
                    Outcome::Whole(if v6 {
                        Ipv6::parse(&frame[14..]).unwrap().payload().to_vec()
                    } else {
                        Ipv4::parse(&frame[14..]).unwrap().payload().to_vec()
                    })
                }
            };
            prop_assert_eq!(found, want);
            prop_assert_eq!(pool.in_use(), table.waiting());
        }
    }

    /// A datagram cut anyhow and shuffled comes together again.
    #[test]
    fn any_cut_in_any_order(
        v6: bool, len in 8usize..6000, step in 1usize..180, seed: u64,
    ) {
        let (pool, mut table) = (pool(1024), table(ReassemblyConfig {
            fragments_each: 1024, fragments: 1024, bytes: 1 << 22, ..ReassemblyConfig::default()
        }));
        let whole = datagram(len);
        let mut parts: Vec<_> = whole.chunks(step * 8).enumerate().collect();
        let count = parts.len();
        let mut random = crate::secret::Random::new(Secret::from_seed(seed));
        for i in 0..count {
            parts.swap(i, random.below(count as u64) as usize);
        }
        let mut came = None;
        for (n, body) in parts {
            let part = ((n * step * 8) as u16, n + 1 < count, 9);
            match add(&mut table, &pool, v6, part, body, 0) {
                Added::Kept => {}
                Added::Whole(joined) => came = Some(payload(&joined, v6)),
                Added::Refused(_, reason) => prop_assert!(false, "{:?}", reason),
            }
        }
        prop_assert_eq!(came, Some(whole));
        prop_assert_eq!(pool.in_use(), 0);
    }
}
