//! Links that are lost and devices that are taken away.

use linecard_hal::{Burst, LinkState, QueueState};

use crate::bench::Bench;
use crate::frame::several;
use crate::rig::{Need, Source};
use crate::{Stand, Step, Stop, ensure};

/// One turn of a worker's loop: some frames out, some in.
fn turn(bench: &mut Bench<'_>, number: u32, burst: &mut Burst) -> Step {
    let frames = several(number * 100, 16, 200);
    if let (Ok(mbufs), true) = (bench.mbufs(&frames), burst.room() >= frames.len()) {
        burst.extend(mbufs);
    }
    bench.transmit_once(0, burst)?;
    if bench.source() == Source::FarEnd {
        // As much as there is room for, if there is still a link.
        bench.stand.rig.inject(&frames).map_err(Stop::Failed)?;
    }
    bench.poll()?;
    bench.take_pending();
    bench.pump()?;
    bench.pairs[0].tx.reclaim();
    Ok(())
}

fn state(bench: &mut Bench<'_>) -> Step<[QueueState; 2]> {
    let pair = &mut bench.pairs[0];
    Ok([pair.rx.maintain(), pair.tx.maintain()])
}

/// The worker drops what waits for a link that is down, as the engine does.
fn again(bench: &mut Bench<'_>, burst: &mut Burst) -> Step {
    burst.clear();
    bench.until("the link to come back", |bench| {
        let states = state(bench)?;
        Ok(bench.port()?.link() == LinkState::Up && states == [QueueState::Up; 2])
    })?;
    bench.discard()?;
    bench.works()
}

pub(super) fn link(stand: &mut Stand) -> Step {
    stand.need(Need::Carrier)?;
    let mut bench = Bench::usual(stand)?;
    let mut burst = Burst::with_capacity(64);
    for round in 0..2 {
        for n in 0..20 {
            turn(&mut bench, n, &mut burst)?;
        }
        bench.slack.lossy = true;
        bench.slack.misses = true;
        bench.stand.rig.carrier(false).map_err(Stop::Failed)?;
        bench.until("the link to be seen down", |bench| {
            let states = state(bench)?;
            Ok(bench.port()?.link() == LinkState::Down && states == [QueueState::Down; 2])
        })?;
        ensure!(
            !bench.pairs[0].rx.finished(),
            "a link that is down is finished (round {round})"
        );
        for n in 20..40 {
            turn(&mut bench, n, &mut burst)?;
        }
        bench.stand.rig.carrier(true).map_err(Stop::Failed)?;
        again(&mut bench, &mut burst)?;
    }
    bench.finish()
}

pub(super) fn removal(stand: &mut Stand) -> Step {
    stand.need(Need::Removal)?;
    let mut bench = Bench::usual(stand)?;
    let mut burst = Burst::with_capacity(64);
    for n in 0..200 {
        turn(&mut bench, n, &mut burst)?;
        if n == 50 {
            bench.slack.lossy = true;
            bench.slack.misses = true;
            bench.stand.rig.remove().map_err(Stop::Failed)?;
        }
        if n % 10 == 0 {
            bench.maintain();
        }
        // What waits for a device that is gone is dropped by its worker.
        if n > 60 {
            burst.clear();
        }
    }
    ensure!(
        bench.port()?.link() != LinkState::Up,
        "a device that was removed is up"
    );
    ensure!(
        state(&mut bench)?[0] != QueueState::Up,
        "a queue of a device that was removed is up"
    );
    if bench.stand.rig.restore().map_err(Stop::Failed)? {
        again(&mut bench, &mut burst)?;
    } else {
        bench
            .stand
            .remark("a device of this kind does not come back under its port");
    }
    drop(burst);
    bench.finish()
}
