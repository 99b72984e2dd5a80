//! Frames of all sizes, in bursts of all sizes, and their statistics.

use linecard_hal::{Burst, PortConfig};

use crate::bench::{Bench, WINDOW, usual};
use crate::frame::{number, numbered, several};
use crate::rig::{Need, Sink, Source};
use crate::{Stand, Step, ensure};

/// Every length up to 200, then steps, and both sides of every usual edge.
fn lengths(longest: usize) -> Vec<usize> {
    let edges = [
        1513, 1514, 1515, 1517, 1518, 1519, 1522, 1535, 1536, 1537, 1919, 1920, 1921, 2047, 2048,
        2049, 3517, 3518, 4095, 4096, 4097, 8999, 9000,
    ];
    let steps = (200..longest).step_by(113);
    let mut all: Vec<_> = (14..200).chain(steps).chain(edges).collect();
    all.extend([longest - 1, longest]);
    all.retain(|len| *len <= longest);
    all.sort_unstable();
    all.dedup();
    all
}

pub(super) fn sizes(stand: &mut Stand) -> Step {
    let longest = Bench::open(stand)?.longest()?;
    if longest < 9000 {
        stand.remark(format!("frames of up to {longest} bytes, its longest"));
    }
    let frames: Vec<_> = (0..)
        .zip(lengths(longest))
        .map(|(n, len)| numbered(n, len))
        .collect();
    let mut bench = Bench::usual_with(stand, &frames)?;
    match bench.sink() {
        Sink::Nowhere => bench.stand.remark("sent frames can only be counted"),
        _ => bench.sends(&frames)?,
    }
    if bench.source() == Source::Endless {
        bench.stand.remark("receives frames of its own");
        let got = bench.receive(1000)?;
        let len = got[0].1.frame_len();
        ensure!(
            got.iter().all(|(_, m)| m.frame_len() == len && len >= 14),
            "frames of differing lengths"
        );
    } else if bench.source() != Source::Loop {
        bench.receives(&frames)?;
    }
    bench.finish()
}

pub(super) fn limits(stand: &mut Stand) -> Step {
    stand.need(Need::Collect)?;
    stand.need(Need::Limits)?;
    let mut bench = Bench::usual(stand)?;
    // Two tags may come on top of the MTU and the header; nothing more.
    let most = bench.info()?.mtu as usize + 14 + 8;
    let mut good = Vec::new();
    let mut mbufs = Vec::new();
    for (n, len) in (0..).zip([
        60,
        13,
        61,
        most + 1,
        62,
        1,
        63,
        most + 500,
        64,
        most + 5000,
        65,
    ]) {
        let frame = numbered(n, len);
        mbufs.push(bench.mbuf(&frame)?);
        if (14..=most).contains(&len) {
            good.push(frame);
        } else {
            bench.expect_errors(1, len as u64);
        }
    }
    bench.transmit(0, mbufs)?;
    bench.expect_sent(&good)?;
    bench.finish()
}

const BURSTS: [usize; 24] = [
    1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 512,
];

pub(super) fn bursts(stand: &mut Stand) -> Step {
    let all: usize = BURSTS.iter().sum();
    let frames = several(0, all, 80);
    let mut bench = Bench::open_with(stand, &frames)?;
    bench.start(PortConfig {
        burst: 512,
        ..usual()
    })?;
    let mut rest = &frames[..];
    for n in BURSTS {
        let (now, later) = rest.split_at(n);
        rest = later;
        let mut burst = Burst::with_capacity(n);
        burst.extend(bench.mbufs(now)?);
        bench.until("the port to take the burst", |bench| {
            bench.transmit_once(0, &mut burst)?;
            bench.pump()?;
            Ok(burst.is_empty())
        })?;
        bench.expect_sent(now)?;
    }
    if bench.source() != Source::Loop {
        received_bursts(&mut bench, &frames)?;
    }
    bench.finish()
}

/// Received by bursts with room for as many as were sent.
fn received_bursts(bench: &mut Bench<'_>, frames: &[Vec<u8>]) -> Step {
    let mut rest = frames;
    for n in BURSTS {
        let (now, later) = rest.split_at(n);
        rest = later;
        bench.set_room(n);
        for some in now.chunks(WINDOW) {
            bench.offer(some)?;
            let got = bench.receive(some.len())?;
            bench.same(some, got)?;
        }
    }
    Ok(())
}

pub(super) fn forwards(stand: &mut Stand) -> Step {
    let len = 80;
    let frames: Vec<_> = (0..200).map(|n| numbered(n, len)).collect();
    let mut bench = Bench::usual_with(stand, &frames)?;
    match bench.source() {
        Source::Endless => {
            let len = bench.receive(1)?[0].1.frame_len();
            bench.forward(1000, len)?;
        }
        Source::Loop => {
            // Not offered, which would wait for them.
            let mut burst = Burst::with_capacity(frames.len());
            burst.extend(bench.mbufs(&frames)?);
            bench.transmit_once(0, &mut burst)?;
            ensure!(burst.is_empty(), "no room for {} frames", frames.len());
            bench.forward(1000, len)?;
            let mut got = bench.receive(frames.len())?;
            // They have gone round several times, and not all as often.
            got.sort_by_key(|(_, mbuf)| number(mbuf.data()));
            bench.same(&frames, got)?;
        }
        Source::FarEnd | Source::Recorded => {
            bench.offer(&frames)?;
            bench.forward(frames.len(), len)?;
            bench.expect_sent(&frames)?;
        }
    }
    bench.finish()
}

pub(super) fn descriptors(stand: &mut Stand) -> Step {
    let frames = several(0, 1024, 200);
    let mut bench = Bench::open_with(stand, &frames)?;
    bench.start(PortConfig {
        burst: 512,
        rx_descriptors: 64,
        tx_descriptors: 64,
        ..usual()
    })?;
    for some in frames.chunks(512) {
        let mbufs = bench.mbufs(some)?;
        bench.transmit(0, mbufs)?;
        bench.expect_sent(some)?;
    }
    if bench.source() != Source::Loop {
        // As many as a ring of so few descriptors has to hold.
        for some in frames.chunks(32) {
            bench.receives(some)?;
        }
    }
    bench.finish()
}

/// Knuth's linear congruence (The Art of Computer Programming 3.3.4): every run the same.
fn random(state: &mut u64, below: usize) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % below
}

pub(super) fn statistics(stand: &mut Stand) -> Step {
    let longest = Bench::open(stand)?.longest()?;
    let mut state = 42;
    let frames: Vec<_> = (0..1500)
        .map(|n| numbered(n, 14 + random(&mut state, longest - 13)))
        .collect();
    let mut bench = Bench::usual_with(stand, &frames)?;
    let (mut rest, mut before) = (&frames[..], [0; 4]);
    while !rest.is_empty() {
        let n = (1 + random(&mut state, 100)).min(rest.len());
        bench.sends(&rest[..n])?;
        if bench.source() != Source::Loop {
            bench.receives(&rest[..n])?;
        }
        rest = &rest[n..];
        let (tx, rx) = (bench.tx_stats(), bench.rx_stats());
        let now = [tx.packets, tx.bytes, rx.packets, rx.bytes];
        ensure!(
            now.iter().zip(&before).all(|(now, before)| now >= before),
            "a count went back: {before:?}, then {now:?}"
        );
        before = now;
    }
    // For people; it must not disturb.
    bench.port()?.extended_stats();
    bench.finish()
}
