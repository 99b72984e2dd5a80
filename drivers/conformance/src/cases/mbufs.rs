//! Mbufs of every kind, and none.

use linecard_hal::{Burst, Mbuf, Mempool, MempoolConfig, Offloads, PortConfig};

use crate::bench::{Bench, WINDOW, is_whole, usual};
use crate::far::{filled, segment};
use crate::frame::{numbered, several};
use crate::rig::{Need, Source};
use crate::wire::bytes;
use crate::{Stand, Step, Stop, ensure};

fn empty() -> Stop {
    Stop::Failed("the pool is empty: the suite's own mistake".into())
}

pub(super) fn chains(stand: &mut Stand) -> Step {
    let mut bench = Bench::usual(stand)?;
    if !bench.info()?.offloads.contains(Offloads::TX_MULTI_SEGS) {
        return Err(Stop::NotApplicable(
            "does not offer frames of several segments: the engine copies them into one".into(),
        ));
    }
    let pool = bench.pool()?;
    let longest = bench.longest()?;
    let mut frames = Vec::new();
    let mut mbufs = Vec::new();
    for (n, segments) in (0..).zip([2, 3, 4, 5, 7, 8, 12, 16].repeat(3)) {
        let frame = numbered(n, (300 + 61 * n as usize).min(longest));
        mbufs.push(chain(&pool, &frame, segments).ok_or_else(empty)?);
        frames.push(frame);
    }
    // A segment of one byte, and long ones.
    let frame = numbered(500, longest);
    let mut head = segment(&pool, &frame[..14]).ok_or_else(empty)?;
    for part in [14..15, 15..16].map(|range| &frame[range]) {
        let part = segment(&pool, part).ok_or_else(empty)?;
        ensure!(head.chain(part).is_ok(), "a chain was too long");
    }
    let tail = filled(&pool, &frame[16..]).ok_or_else(empty)?;
    ensure!(head.chain(tail).is_ok(), "a chain was too long");
    mbufs.push(head);
    frames.push(frame);
    bench.transmit(0, mbufs)?;
    bench.expect_sent(&frames)?;
    bench.finish()
}

/// The frame in so many segments, of lengths that differ; all headers are in the first.
fn chain(pool: &Mempool, frame: &[u8], segments: usize) -> Option<Mbuf> {
    let (headers, rest) = frame.split_at(64);
    let mut head = segment(pool, headers)?;
    let each = rest.len().div_ceil(segments - 1);
    for part in rest.chunks(each) {
        head.chain(filled(pool, part)?).ok()?;
    }
    Some(head)
}

pub(super) fn clones(stand: &mut Stand) -> Step {
    let mut bench = Bench::usual(stand)?;
    let pool = bench.pool()?;
    let (mut kept, mut sent, mut frames) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..20 {
        let frame = numbered(n, 60 + 50 * n as usize);
        let mut origin = segment(&pool, &frame).ok_or_else(empty)?;
        sent.push(origin.share(&pool).ok_or_else(empty)?);
        kept.push((origin.share(&pool).ok_or_else(empty)?, frame.clone()));
        sent.push(origin);
        frames.extend([frame.clone(), frame]);
    }
    bench.transmit(0, sent)?;
    bench.expect_sent(&frames)?;
    bench.settle()?;
    for (clone, frame) in &kept {
        ensure!(
            bytes(clone) == *frame,
            "the bytes of a clone were changed: {:02x?}",
            &bytes(clone)[..14]
        );
    }
    drop(kept);
    bench.finish()
}

pub(super) fn foreign(stand: &mut Stand) -> Step {
    let mut bench = Bench::usual(stand)?;
    let pool = bench.pool()?;
    let other = Mempool::new(MempoolConfig::new("other", 256))?;
    let frames = several(0, 60, 300);
    let mut mbufs = Vec::new();
    for (n, frame) in frames.iter().enumerate() {
        // Ours, theirs, and a header of ours with their bytes.
        let from = if n % 3 == 0 { &pool } else { &other };
        let mut mbuf = segment(from, frame).ok_or_else(empty)?;
        if n % 3 == 2 {
            mbuf = mbuf.share(&pool).ok_or_else(empty)?;
        }
        mbufs.push(mbuf);
    }
    bench.transmit(0, mbufs)?;
    bench.expect_sent(&frames)?;
    let copies = bench.tx_stats().copies;
    ensure!(copies <= 60, "{copies} copies of 60 frames");
    if copies > 0 {
        bench
            .stand
            .remark("copies mbufs of such a pool, and counts them");
    }
    bench.finish()?;
    is_whole(&other)
}

pub(super) fn held(stand: &mut Stand) -> Step {
    let rounds: Vec<_> = (0..6).map(|r| several(r * 1000, 200, 700)).collect();
    let mut bench = Bench::open_with(stand, &rounds.concat())?;
    bench.start(PortConfig {
        rx_descriptors: 256,
        ..usual()
    })?;
    bench.offer(&rounds[0])?;
    let held = bench.receive(200)?;
    let before: Vec<_> = held.iter().map(|(_, m)| bytes(m)).collect();
    for round in &rounds[1..] {
        bench.receives(round)?;
    }
    for ((_, mbuf), before) in held.iter().zip(&before) {
        ensure!(
            bytes(mbuf) == *before,
            "a held mbuf was changed by later traffic"
        );
    }
    bench.same(&rounds[0], held)?;
    bench.finish()
}

pub(super) fn exhausted(stand: &mut Stand) -> Step {
    stand.need(Need::Misses)?;
    let frames = several(0, WINDOW, 120);
    let mut bench = Bench::usual_with(stand, &frames)?;
    bench.slack.misses = true;
    let pool = bench.pool()?;
    // What a loop sends it needs an mbuf for, and has it before the others are gone.
    let looped = match bench.source() {
        Source::Loop => bench.mbufs(&frames)?,
        _ => Vec::new(),
    };
    pool.flush_cache();
    let mut taken = Burst::with_capacity(pool.config().size);
    pool.alloc_burst(&mut taken, pool.config().size);
    ensure!(
        pool.alloc().is_none(),
        "the pool has mbufs left: the suite's own mistake"
    );
    if looped.is_empty() {
        bench.offer(&frames)?;
    } else {
        bench.transmit(0, looped)?;
    }
    let mut got = bench.receive_rest()?;
    if bench.source() == Source::Endless {
        drop(taken);
        got.extend(bench.receive(500)?);
        drop(got);
        return bench.finish();
    }
    drop(taken);
    pool.flush_cache();
    // What was not missed comes now; frames of a wire may have been, and are counted then.
    bench.until("the frames that waited", |bench| {
        got.extend(bench.receive_rest()?);
        let missed = bench.rx_stats().misses as usize;
        ensure!(
            got.len() + missed <= WINDOW,
            "{} received and {missed} missed of {WINDOW}",
            got.len()
        );
        Ok(got.len() + missed == WINDOW)
    })?;
    for (_, mbuf) in got {
        let frame = bytes(&mbuf);
        ensure!(
            frames.contains(&frame),
            "a frame of {} bytes is none of ours",
            frame.len()
        );
    }
    if bench.source() != Source::Recorded {
        bench.receives(&several(5000, WINDOW, 120))?;
    }
    bench.finish()
}

pub(super) fn full(stand: &mut Stand) -> Step {
    stand.need(Need::HoldBack)?;
    let mut bench = Bench::open(stand)?;
    bench.start(PortConfig {
        tx_descriptors: 64,
        ..usual()
    })?;
    let (mut sent, mut burst) = (Vec::new(), Burst::with_capacity(64));
    let mut number = 0;
    loop {
        while burst.room() > 0 {
            let frame = numbered(number, 80);
            number += 1;
            let _ = burst.push(bench.mbuf(&frame)?);
            sent.push(frame);
        }
        if bench.transmit_once(0, &mut burst)? < burst.capacity() {
            break;
        }
        ensure!(
            number < 4 * WINDOW as u32 + 512,
            "it takes {number} frames that nobody receives"
        );
    }
    ensure!(!burst.is_empty(), "it is full and kept nothing back");
    let left: Vec<_> = burst.iter().map(bytes).collect();
    ensure!(
        left[..] == sent[sent.len() - left.len()..],
        "the frames that are left are not the last ones, in order"
    );
    // Asked again it takes none, and none is lost.
    for _ in 0..10 {
        bench.transmit_once(0, &mut burst)?;
    }
    let mut came = Vec::new();
    bench.until("the rest to be taken", |bench| {
        came.extend(bench.collect(0)?);
        bench.transmit_once(0, &mut burst)?;
        Ok(burst.is_empty())
    })?;
    came.extend(bench.collect(sent.len() - came.len())?);
    crate::frame::compare(&sent, &came).map_err(Stop::Failed)?;
    bench.finish()
}
