//! Senders and receivers, beside a list of what was sent.

use linecard_hal::{Mempool, MempoolConfig};

use super::*;

fn pool(name: &str) -> Mempool {
    Mempool::new(MempoolConfig::new(name, 64)).unwrap()
}

fn fresh() -> &'static Sent {
    Box::leak(Box::new(Sent::new()))
}

fn burst(pool: &Mempool, lens: &[u16]) -> Burst {
    let mut burst = Burst::with_capacity(8);
    for &len in lens {
        let mut mbuf = pool.alloc().unwrap();
        mbuf.append(len.into()).unwrap();
        burst.push(mbuf).unwrap();
    }
    burst
}

#[test]
fn receivers_know_what_all_senders_have_said() {
    let (a, b) = (pool("a"), pool("b"));
    let token = burst(&a, &[60]).as_slice()[0].pool_token();
    let of = |each| Some(Frames { pool: token, each });
    let sent = fresh();
    let (mut one, mut two) = (Sender::new(sent), Sender::new(sent));
    assert_eq!(sent.frames(), None);
    one.tell(&mut burst(&a, &[]));
    assert_eq!(sent.frames(), None, "nothing was sent");
    one.tell(&mut burst(&a, &[60, 60]));
    assert_eq!(sent.frames(), of(60));
    // What the burst knows of itself counts as much as what is found out.
    let mut known = Burst::with_capacity(8);
    a.alloc_frames(&mut known, 3, 60);
    two.tell(&mut known);
    assert_eq!(sent.frames(), of(60));
    two.tell(&mut burst(&a, &[61]));
    assert_eq!(sent.frames(), of(0));
    one.tell(&mut burst(&a, &[60, 60]));
    two.tell(&mut burst(&a, &[1, 2]));
    assert_eq!(sent.frames(), of(0));
    one.tell(&mut burst(&b, &[60]));
    assert_eq!(sent.frames(), None);
    two.tell(&mut burst(&a, &[60]));
    assert_eq!(sent.frames(), None, "for good");
}

#[test]
fn one_that_is_not_plain_is_enough() {
    let a = pool("a");
    let sent = fresh();
    let mut sender = Sender::new(sent);
    sender.tell(&mut burst(&a, &[60, 60]));
    let mut odd = burst(&a, &[60, 60]);
    let clone = odd.as_mut_slice()[1].share(&a).unwrap();
    sender.tell(&mut odd);
    assert_eq!(sent.frames(), None);
    drop(clone);
    sender.tell(&mut odd);
    assert_eq!(sent.frames(), None);
}

#[test]
fn who_does_not_know_what_it_sends_says_so_before() {
    let a = pool("a");
    let sent = fresh();
    let (mut one, mut two) = (Sender::new(sent), Sender::new(sent));
    one.tell(&mut burst(&a, &[60, 60]));
    assert!(sent.frames().is_some());
    two.tell_anything();
    two.tell_anything();
    assert_eq!(sent.frames(), None);
    one.tell(&mut burst(&a, &[60, 60]));
    assert_eq!(sent.frames(), None);
}

#[test]
fn receivers_never_know_more_than_was_said() {
    let a = pool("a");
    let token = burst(&a, &[60]).as_slice()[0].pool_token();
    for round in 0..200 {
        let sent = fresh();
        let in_ring = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut sender = Sender::new(sent);
                for n in 1..=3 {
                    // The third is another length; in the even rounds, anything.
                    match n {
                        3 if round % 2 == 0 => sender.tell_anything(),
                        3 => sender.tell(&mut burst(&a, &[61])),
                        _ => sender.tell(&mut burst(&a, &[60])),
                    }
                    // As the ring's own index is.
                    in_ring.store(n, Ordering::Release);
                }
            });
            loop {
                let n = in_ring.load(Ordering::Acquire);
                let known = sent.frames();
                if let Some(frames) = known {
                    assert_eq!(frames.pool, token);
                    assert!([0, 60].contains(&frames.each));
                }
                if n == 3 {
                    let each = (round % 2 == 1).then_some(0);
                    assert_eq!(known.map(|frames| frames.each), each);
                    break;
                }
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn bytes_are_counted_with_or_without_a_look() {
    let a = pool("a");
    let (even, uneven) = (burst(&a, &[60, 60, 60]), burst(&a, &[1, 20, 300]));
    let of = |each| Frames { pool: 8, each };
    assert_eq!(of(0).plain(&even, 3).bytes, 180);
    assert_eq!(of(60).plain(&even, 3).bytes, 180);
    assert_eq!(of(0).plain(&uneven, 3).bytes, 321);
}

#[test]
fn the_size_of_null_frames_is_known_if_it_is_said_plainly() {
    let sizes = [
        ("", 64),
        ("copy=1", 64),
        ("size=128", 128),
        ("copy=1,size=1518,no-rx=0", 1518),
        ("size=0x40", 0),
        ("size=0100", 0),
        ("size=99999", 0),
        ("size=64,size=128", 0),
    ];
    for (arguments, size) in sizes {
        assert_eq!(null_size(arguments), size, "{arguments}");
    }
}
