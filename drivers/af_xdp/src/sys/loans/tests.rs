use proptest::prelude::*;

use linecard_hal::MempoolConfig;
use linecard_hal::ring::mapped::{MappedConsumer, MappedProducer, MappedRing};

use super::*;

pub(crate) fn pool(size: usize) -> Mempool {
    pool_of(MempoolConfig::new("loans", size))
}

fn pool_of(config: MempoolConfig) -> Mempool {
    Mempool::new(MempoolConfig { cache: 0, ..config }).unwrap()
}

/// A ring both ends of which are ours.
pub(crate) struct Ring<T: Copy> {
    pub(crate) producer: MappedProducer<T>,
    pub(crate) consumer: MappedConsumer<T>,
    _positions: Box<[u32; 2]>,
    _entries: Box<[T]>,
}

impl<T: Copy> Ring<T> {
    pub(crate) fn of(nothing: T) -> Self {
        Self::of_size(nothing, 4096)
    }

    fn of_size(nothing: T, size: usize) -> Self {
        let (mut positions, mut entries) =
            (Box::new([0; 2]), vec![nothing; size].into_boxed_slice());
        let words = NonNull::from(&mut *positions).cast::<u32>();
        let ring = MappedRing {
            producer: words,
            // SAFETY: the second of two.
            consumer: unsafe { words.add(1) },
            capacity: entries.len() as u32,
            entries: NonNull::from(&mut *entries).cast(),
        };
        // SAFETY: the memory is kept beside the ends, which are the only users.
        let (producer, consumer) =
            unsafe { (MappedProducer::new(ring), MappedConsumer::new(ring)) };
        Self {
            producer,
            consumer,
            _positions: positions,
            _entries: entries,
        }
    }

    pub(crate) fn put(&mut self, entries: &[T]) {
        let mut free = self.producer.reserve(entries.len() as u32);
        for (i, entry) in (0..).zip(entries) {
            free.write(i, *entry);
        }
        free.commit(entries.len() as u32);
    }

    fn take(&mut self) -> Vec<T> {
        let filled = self.consumer.reserve(u32::MAX);
        let entries = (0..filled.len()).map(|i| filled.read(i)).collect();
        let n = filled.len();
        filled.commit(n);
        entries
    }
}

pub(crate) fn nothing() -> libc::xdp_desc {
    descriptor(0, 0, 0)
}

pub(crate) fn descriptor(addr: u64, len: u32, options: u32) -> libc::xdp_desc {
    libc::xdp_desc { addr, len, options }
}

/// Addresses of up to `n` mbufs that were lent to be written to.
pub(crate) fn lend(account: &Account<'_>, n: usize) -> Vec<u64> {
    let mut fill = Ring::of(0);
    let mut free = fill.producer.reserve(n as u32);
    let filled = account.lend_fresh(&mut free);
    free.commit(filled);
    fill.take()
}

/// Descriptors of what is lent from the front of a burst, by `room` entries.
fn lend_front(account: &Account<'_>, burst: &mut Burst, room: u32) -> Vec<libc::xdp_desc> {
    let lengths = Lengths {
        shortest: 14,
        longest: 1000,
    };
    let mut tx = Ring::of(nothing());
    let mut free = tx.producer.reserve(room);
    let lent = account.lend_front(burst, &mut free, 0, lengths);
    free.commit(lent.packets as u32);
    let sent = tx.take();
    assert_eq!(sent.len() as u64, lent.packets);
    let bytes: u64 = sent.iter().map(|said| u64::from(said.len)).sum();
    assert_eq!(bytes, lent.bytes);
    sent
}

/// Says of addresses that they were sent; returns how many mbufs came home.
fn complete(account: &Account<'_>, addresses: &[u64]) -> usize {
    let mut completion = Ring::of(0);
    completion.put(addresses);
    let mut done = Burst::with_capacity(3);
    let before = account.pool.in_use();
    let completed = completion.consumer.reserve(u32::MAX);
    account.free_sent(&completed, &mut done);
    assert!(done.is_empty());
    before - account.pool.in_use()
}

/// Takes frames into a burst as the receive queue does, but for what is not a frame alone: that is passed over.
fn take(account: &Account<'_>, come: &[libc::xdp_desc], burst: &mut Burst) -> u64 {
    let mut rx = Ring::of(nothing());
    rx.put(come);
    let come = rx.consumer.reserve(u32::MAX);
    let (mut at, mut fetched, mut bytes) = (0, 0, 0);
    while at < come.len() {
        let run = account.take_frames(&come, (at, &mut fetched), 7, burst);
        bytes += run.bytes;
        at += run.packets as u32 + 1;
    }
    bytes
}

fn frame(pool: &Mempool, len: usize) -> Mbuf {
    let mut mbuf = pool.alloc().unwrap();
    mbuf.append(len).unwrap();
    mbuf
}

pub(crate) const RX: Tag = Tag(1);
const TX: Tag = Tag(2);

/// The data's distance from an address that was lent, in the address that comes back.
pub(crate) const DISTANCE: u64 = (XDP_HEADROOM as u64) << ADDRESS_BITS;

#[test]
fn a_fill_address_puts_the_data_where_an_mbuf_has_it() {
    for headroom in [128, 192, 320] {
        let pool = pool_of(MempoolConfig {
            headroom,
            ..MempoolConfig::new("loans", 4)
        });
        let loans = Loans::new(&pool);
        let address = lend(&loans.under(RX), 1)[0];
        let back = loans.under(RX).received(address | DISTANCE, 60, 5).unwrap();
        let data = back.data_ptr() as u64 - loans.memory().0;
        assert_eq!(address + XDP_HEADROOM as u64, data);
        assert_eq!(
            (back.frame_len(), back.headroom(), back.port()),
            (60, usize::from(headroom), 5)
        );
        let twice = loans.under(RX).received(address | DISTANCE, 60, 5);
        assert!(twice.is_none());
    }
}

#[test]
fn what_was_not_lent_does_not_come_back() {
    let pool = pool(4);
    let loans = Loans::new(&pool);
    let rx = loans.under(RX);
    let address = lend(&rx, 1)[0];
    assert_eq!(complete(&loans.under(TX), &[address]), 0, "another's");
    assert!(rx.received((address + 64) | DISTANCE, 60, 0).is_none());
    assert_eq!(pool.in_use(), 1);
    // A frame that makes no sense is freed, and not lent any more.
    assert!(rx.received(address | DISTANCE, 2049, 0).is_none());
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_a_header_said_before_is_forgotten() {
    let pool = pool(1);
    let loans = Loans::new(&pool);
    let mut before = frame(&pool, 900);
    assert!(before.adjust(30));
    before.set_flags(MbufFlags::TX_UDP_CKSUM | MbufFlags::RX_VLAN);
    drop(before);
    let address = lend(&loans.under(RX), 1)[0];
    let mut burst = Burst::with_capacity(1);
    take(
        &loans.under(RX),
        &[descriptor(address | DISTANCE, 60, 0)],
        &mut burst,
    );
    let known = burst.plain().expect("known");
    assert_eq!((known.bytes, known.each), (60, 60));
    let mbuf = &burst.as_slice()[0];
    assert_eq!((mbuf.flags(), mbuf.headroom()), (MbufFlags::empty(), 128));
    assert_eq!((mbuf.data().len(), mbuf.port()), (60, 7));
}

#[test]
fn only_what_lies_in_the_region_is_lent() {
    let (pool, other) = (pool(4), pool(4));
    let loans = Loans::new(&pool);
    assert!(loans.under(TX).lend(other.alloc().unwrap()).is_err());
    let mut foreign = Burst::with_capacity(2);
    // Known to be plain, and not.
    other.alloc_frames(&mut foreign, 2, 60);
    assert!(foreign.plain().is_some());
    assert!(lend_front(&loans.under(TX), &mut foreign, 2).is_empty());
    foreign.as_mut_slice();
    assert!(lend_front(&loans.under(TX), &mut foreign, 2).is_empty());
    assert_eq!(foreign.len(), 2);
    foreign.clear();
    let mut mbuf = frame(&pool, 100);
    let clone = mbuf.share(&pool).unwrap();
    assert!(
        loans.under(TX).lend(clone).is_err(),
        "a clone's bytes are another's"
    );
    assert!(mbuf.adjust(10));
    let data = mbuf.data_ptr() as u64 - loans.memory().0;
    let address = loans.under(TX).lend(mbuf).unwrap();
    assert_eq!((address & ADDRESS_MASK) + (address >> 48), data);
    assert_eq!(complete(&loans.under(TX), &[address, address]), 1);
    assert_eq!((pool.in_use(), other.in_use()), (0, 0));
}

#[test]
fn every_mbuf_has_a_word_of_its_own() {
    // Small and large ones, and more than a chunk of them.
    for (data_room, size) in [(64, 40), (2048, 2000), (60_000, 70), (65_400, 70)] {
        let pool = pool_of(MempoolConfig {
            data_room,
            ..MempoolConfig::new("loans", size)
        });
        let loans = Loans::new(&pool);
        let addresses = lend(&loans.under(RX), size + 1);
        assert_eq!(addresses.len(), size);
        assert!(pool.alloc().is_none());
        for address in addresses {
            for wrong in [64, 1 << 11, 1 << 16] {
                let elsewhere = complete(&loans.under(RX), &[address + wrong]);
                assert_eq!(elsewhere, 0, "{data_room}: {wrong}");
            }
            let frame = loans.under(RX).received(address | DISTANCE, 60, 0);
            assert!(frame.is_some());
        }
        assert_eq!((pool.in_use(), loans.under(RX).end_all()), (0, 0));
    }
}

#[test]
fn what_a_closed_socket_had_comes_home() {
    let pool = pool(16);
    let loans = Loans::new(&pool);
    lend(&loans.under(RX), 6);
    let mut burst = Burst::with_capacity(4);
    pool.alloc_frames(&mut burst, 2, 60);
    lend_front(&loans.under(TX), &mut burst, 4);
    burst.push(frame(&pool, 60)).unwrap();
    burst.push(frame(&pool, 60)).unwrap();
    lend_front(&loans.under(TX), &mut burst, 4);
    assert_eq!((loans.under(RX).end_all(), pool.in_use()), (6, 4));
    assert_eq!(
        (loans.under(RX).end_all(), loans.under(TX).end_all()),
        (0, 4)
    );
    assert_eq!(pool.leaks(), []);
}

#[test]
fn a_long_segment_comes_home_with_its_last_piece() {
    let pool = pool(4);
    let loans = Loans::new(&pool);
    let mbuf = frame(&pool, 2000);
    let data = mbuf.data_ptr() as u64 - loans.memory().0;
    let pieces: Vec<_> = loans.under(TX).lend_in_pieces(mbuf, 900).collect();
    let places = pieces
        .iter()
        .map(|(a, len)| ((a & ADDRESS_MASK) + (a >> 48), *len));
    assert!(places.eq([(data, 900), (data + 900, 900), (data + 1800, 200)]));
    assert_eq!(complete(&loans.under(TX), &[pieces[0].0, pieces[1].0]), 0);
    assert_eq!(complete(&loans.under(TX), &[pieces[2].0]), 1);
    let empty = loans.under(TX).lend_in_pieces(pool.alloc().unwrap(), 900);
    assert_eq!(empty.count(), 0);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn frames_are_lent_from_the_front_and_the_first_other_stays() {
    let pool = pool(8);
    let loans = Loans::new(&pool);
    let tx = loans.under(TX);
    let mut burst = Burst::with_capacity(8);
    for len in [60, 70, 0, 80] {
        burst.push(frame(&pool, len)).unwrap();
    }
    let lens = |sent: Vec<libc::xdp_desc>| sent.iter().map(|said| said.len).collect::<Vec<_>>();
    assert_eq!(lens(lend_front(&tx, &mut burst, 8)), [60, 70]);
    assert_eq!(Loans::take_front(&mut burst).unwrap().frame_len(), 0);
    assert!(lend_front(&tx, &mut burst, 0).is_empty());
    assert_eq!(burst.len(), 1);
    burst.clear();
    assert!(Loans::take_front(&mut burst).is_none());
    // What is known of a burst does not say whether it may be sent.
    pool.alloc_frames(&mut burst, 3, 1001);
    assert!(lend_front(&tx, &mut burst, 8).is_empty());
    burst.clear();
    assert_eq!(pool.in_use(), 2);
    assert_eq!((tx.end_all(), pool.in_use()), (2, 0));
}

#[test]
fn a_clone_that_still_uses_the_bytes_is_seen_when_they_come_home() {
    let pool = pool(4);
    let loans = Loans::new(&pool);
    let mut burst = Burst::with_capacity(4);
    pool.alloc_frames(&mut burst, 2, 60);
    // Among known ones in one completion.
    let mut sent = lend_front(&loans.under(TX), &mut burst, 4);
    let mut mbuf = frame(&pool, 60);
    let clone = mbuf.share(&pool).unwrap();
    burst.push(mbuf).unwrap();
    sent.extend(lend_front(&loans.under(TX), &mut burst, 4));
    let addresses: Vec<u64> = sent.iter().map(|said| said.addr).collect();
    assert_eq!(addresses.len(), 3);
    assert_eq!(complete(&loans.under(TX), &addresses), 2);
    assert_eq!(clone.data().len(), 60);
    drop(clone);
    assert_eq!(pool.in_use(), 0);
}

/// What an RX descriptor says.
fn said() -> impl Strategy<Value = (usize, u64, u32, u32)> {
    let distance = prop_oneof![4 => Just(256u64), 1 => 0u64..3000];
    let len = prop_oneof![4 => 14u32..2048, 1 => any::<u32>()];
    let options = prop_oneof![4 => Just(0), 1 => Just(libc::XDP_PKT_CONTD)];
    (0usize..12, distance, len, options)
}

proptest! {
    #[test]
    fn each_frame_comes_once_and_in_order(come in prop::collection::vec(said(), 1..100), room in 1usize..100) {
        let pool = pool(8);
        let loans = Loans::new(&pool);
        let lent = lend(&loans.under(RX), 8);
        // Four that were not lent.
        let addresses: Vec<u64> = lent.iter().copied().chain([7, 1 << 40, lent[0] + 64, 0]).collect();
        let (mut out, mut expected) = (vec![true; 8], Vec::new());
        for &(which, distance, len, options) in come.iter().take(room) {
            let fits = distance >= 128 && u64::from(len) + distance <= 256 + 2048;
            if which < 8 && out[which] && options == 0 && fits {
                out[which] = false;
                expected.push((which, distance, len));
            }
        }
        let come: Vec<_> = come
            .iter()
            .take(room)
            .map(|&(which, distance, len, options)| descriptor(addresses[which] | distance << ADDRESS_BITS, len, options))
            .collect();
        let mut burst = Burst::with_capacity(room);
        let bytes = take(&loans.under(RX), &come, &mut burst);
        let found: Vec<_> = burst.iter().map(|mbuf| {
            let data = mbuf.data_ptr() as u64 - loans.memory().0;
            let which = lent.iter().rposition(|address| *address <= data).unwrap();
            (which, data - lent[which], mbuf.frame_len() as u32)
        }).collect();
        prop_assert_eq!(bytes, expected.iter().map(|(_, _, len)| u64::from(*len)).sum::<u64>());
        prop_assert_eq!(found, expected);
        burst.clear();
        prop_assert_eq!(pool.in_use(), out.iter().filter(|out| **out).count());
        loans.under(RX).end_all();
        prop_assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn whatever_is_lent_is_where_the_ring_says_and_comes_home(
        bursts in prop::collection::vec((0u8..4, 1usize..7, 60usize..1100, 0usize..9, 0usize..9), 1..40),
    ) {
        let pool = pool(16);
        let loans = Loans::new(&pool);
        let tx = loans.under(TX);
        // Small, so that nearly all that is written or read goes beyond their ends.
        let (mut ring, mut completion) = (Ring::of_size(nothing(), 8), Ring::of_size(0, 8));
        let mut done = Burst::with_capacity(3);
        for (kind, n, len, written, room) in bursts {
            let mut burst = Burst::with_capacity(8);
            if kind == 0 {
                pool.alloc_frames(&mut burst, n, len as u16);
            } else {
                pool.alloc_burst(&mut burst, n);
                for (mbuf, i) in burst.iter_mut().zip(1..) {
                    mbuf.append(len).unwrap();
                    // Of their own, each.
                    prop_assert!(mbuf.adjust(i) && mbuf.trim(i));
                }
            }
            match kind {
                // Known, and not alike.
                1 => prop_assert!(burst.find_plain().is_some()),
                2 => prop_assert!(burst.plain().is_none()),
                // One of them asks for something.
                3 => burst.as_mut_slice()[n / 2].set_flags(MbufFlags::TX_UDP_CKSUM),
                _ => {}
            }
            let fits = |mbuf: &Mbuf| mbuf.frame_len() <= 1000 && !mbuf.flags().intersects(MbufFlags::TX_REQUESTS);
            let mut expected = Vec::new();
            {
                // Looked at by its headers alone: the burst stays as it is.
                let mut look = Burst::with_capacity(8);
                core::mem::swap(&mut look, &mut burst);
                if kind != 0 {
                    for mbuf in look.iter().take_while(|mbuf| fits(mbuf)) {
                        expected.push((mbuf.data_ptr() as u64 - loans.memory().0, mbuf.frame_len() as u32));
                    }
                } else if len <= 1000 {
                    for header in look.headers() {
                        let place = header.as_ptr() as u64 - loans.memory().0;
                        expected.push((place + 128 + 128, len as u32));
                    }
                }
                core::mem::swap(&mut look, &mut burst);
            }
            let all = burst.len();
            let lengths = Lengths { shortest: 14, longest: 1000 };
            let mut free = ring.producer.reserve((written + room).min(8) as u32);
            let first = written.min(free.len() as usize) as u32;
            for i in 0..first {
                free.write(i, nothing());
            }
            expected.truncate((free.len() - first) as usize);
            let lent = tx.lend_front(&mut burst, &mut free, first, lengths);
            free.commit(first + lent.packets as u32);
            let sent: Vec<_> = ring.take().into_iter().skip(first as usize).collect();
            let found: Vec<_> = sent.iter().map(|said| ((said.addr & ADDRESS_MASK) + (said.addr >> ADDRESS_BITS), said.len)).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(lent.packets as usize, found.len());
            prop_assert_eq!(lent.bytes, found.iter().map(|(_, len)| u64::from(*len)).sum::<u64>());
            // What stayed says what it did.
            prop_assert_eq!(burst.len(), all - found.len());
            prop_assert!(kind != 0 || burst.plain().is_some() || burst.is_empty());
            prop_assert!(kind != 1 || burst.plain().is_some() || !found.is_empty());
            for (mbuf, i) in burst.iter().zip(found.len() + 1..) {
                let cut = if kind == 0 { 0 } else { 2 * i };
                prop_assert_eq!(mbuf.frame_len(), len - cut);
            }
            drop(burst);
            prop_assert_eq!(pool.in_use(), found.len());
            let addresses: Vec<u64> = sent.iter().map(|said| said.addr).collect();
            completion.put(&addresses);
            let completed = completion.consumer.reserve(u32::MAX);
            let n = completed.len();
            tx.free_sent(&completed, &mut done);
            completed.commit(n);
            prop_assert_eq!(pool.in_use(), 0);
        }
    }

    #[test]
    fn no_address_does_harm(addresses in prop::collection::vec((any::<u64>(), any::<u32>(), any::<u32>()), 1..50)) {
        let pool = pool(8);
        let loans = Loans::new(&pool);
        lend(&loans.under(RX), 8);
        let mut burst = Burst::with_capacity(64);
        for (address, len, options) in addresses {
            for address in [(address % 40_000) | (address & !ADDRESS_MASK), address] {
                take(&loans.under(RX), &[descriptor(address, len, options)], &mut burst);
                drop(loans.under(RX).received(address, len, 0));
                complete(&loans.under(TX), &[address]);
            }
        }
        burst.clear();
        loans.under(RX).end_all();
        prop_assert_eq!(pool.in_use(), 0);
    }
}
