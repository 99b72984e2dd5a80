//! Rings: push and pop of pointer-sized objects, beside `crossbeam::ArrayQueue`.
//!
//! `benches/compare` runs this beside DPDK's `rte_ring`. See `benches/README.md` for the method.

mod support;

use std::hint::black_box;

use crossbeam_queue::ArrayQueue;
use linecard_hal::ring::{Consumer, Mode, Multi, Producer, Single, ring};
use support::{BULKS, OBJECTS, opaque_slice, report, time, time_across};

const SLOTS: usize = 1024;
const MAX_BULK: usize = 128;

fn main() {
    support::quiet_or_say_so();
    support::heading();
    for bulk in BULKS {
        report(
            "ring",
            "spsc",
            "one-core",
            bulk,
            "linecard",
            Some(one_core::<Single, Single>(bulk)),
        );
        report(
            "ring",
            "mpmc",
            "one-core",
            bulk,
            "linecard",
            Some(one_core::<Multi, Multi>(bulk)),
        );
        report(
            "ring",
            "mpmc",
            "one-core",
            bulk,
            "crossbeam",
            Some(crossbeam_one_core(bulk)),
        );
    }
    for bulk in BULKS {
        report(
            "ring",
            "spsc",
            "two-cores",
            bulk,
            "linecard",
            two_cores::<Single, Single>(bulk),
        );
        report(
            "ring",
            "mpmc",
            "two-cores",
            bulk,
            "linecard",
            two_cores::<Multi, Multi>(bulk),
        );
        report(
            "ring",
            "mpmc",
            "two-cores",
            bulk,
            "crossbeam",
            crossbeam_two_cores(bulk),
        );
    }
    for bulk in BULKS {
        report(
            "ring",
            "mpmc",
            "contended",
            bulk,
            "linecard",
            contended(bulk),
        );
        report(
            "ring",
            "mpmc",
            "contended",
            bulk,
            "crossbeam",
            crossbeam_contended(bulk),
        );
    }
}

/// Push a burst, pop it, on one thread.
fn one_core<P: Mode, C: Mode>(bulk: usize) -> f64 {
    support::pin(0);
    let (mut tx, mut rx) = ring::<u64, P, C>(SLOTS);
    time(|| push_and_pop(&mut tx, &mut rx, bulk))
}

#[inline(never)]
fn push_and_pop<P: Mode, C: Mode>(
    tx: &mut Producer<u64, P, C>,
    rx: &mut Consumer<u64, P, C>,
    bulk: usize,
) {
    let (mut items, mut out) = ([1; MAX_BULK], [0; MAX_BULK]);
    for _ in 0..OBJECTS / bulk {
        tx.push_slice(opaque_slice(&mut items, bulk));
        rx.pop_slice(opaque_slice(&mut out, bulk));
    }
}

/// One core pushes as fast as it can, the other pops.
fn two_cores<P: Mode, C: Mode>(bulk: usize) -> Option<f64> {
    let (mut tx, mut rx) = ring::<u64, P, C>(SLOTS);
    time_across(
        move || push_all(&mut tx, bulk),
        move || pop_all(&mut rx, bulk),
        false,
        || (),
    )
}

#[inline(never)]
fn push_all<P: Mode, C: Mode>(tx: &mut Producer<u64, P, C>, bulk: usize) {
    let mut items = [1; MAX_BULK];
    let mut left = OBJECTS;
    while left > 0 {
        left -= tx.push_slice(opaque_slice(&mut items, bulk.min(left)));
    }
}

#[inline(never)]
fn pop_all<P: Mode, C: Mode>(rx: &mut Consumer<u64, P, C>, bulk: usize) {
    let mut out = [0; MAX_BULK];
    let mut left = OBJECTS;
    while left > 0 {
        left -= rx.pop_slice(opaque_slice(&mut out, bulk.min(left)));
    }
}

/// Both cores push a burst and pop one, on the same ring.
fn contended(bulk: usize) -> Option<f64> {
    let (mut tx, mut rx) = ring::<u64, Multi, Multi>(SLOTS);
    let (mut tx2, mut rx2) = (tx.clone(), rx.clone());
    time_across(
        move || push_and_pop(&mut tx, &mut rx, bulk),
        move || push_and_pop(&mut tx2, &mut rx2, bulk),
        true,
        || (),
    )
}

fn crossbeam_one_core(bulk: usize) -> f64 {
    support::pin(0);
    let queue = ArrayQueue::new(SLOTS);
    time(|| crossbeam_push_and_pop(&queue, bulk))
}

#[inline(never)]
fn crossbeam_push_and_pop(queue: &ArrayQueue<u64>, bulk: usize) {
    for _ in 0..OBJECTS / bulk {
        for _ in 0..bulk {
            let _ = queue.push(black_box(1));
        }
        for _ in 0..bulk {
            black_box(queue.pop());
        }
    }
}

fn crossbeam_two_cores(bulk: usize) -> Option<f64> {
    let queue = ArrayQueue::new(SLOTS);
    time_across(
        || {
            let mut left = OBJECTS;
            while left > 0 {
                for _ in 0..bulk.min(left) {
                    left -= usize::from(queue.push(black_box(1)).is_ok());
                }
            }
        },
        || {
            let mut left = OBJECTS;
            while left > 0 {
                for _ in 0..bulk.min(left) {
                    left -= usize::from(black_box(queue.pop()).is_some());
                }
            }
        },
        false,
        || (),
    )
}

fn crossbeam_contended(bulk: usize) -> Option<f64> {
    let queue = ArrayQueue::new(SLOTS);
    time_across(
        || crossbeam_push_and_pop(&queue, bulk),
        || crossbeam_push_and_pop(&queue, bulk),
        true,
        || (),
    )
}
