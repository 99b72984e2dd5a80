//! A port's life: started and stopped, in every order, with whatever is on its way.

use linecard_hal::{Burst, Offloads, PortConfig, PortError, TxStats};

use crate::bench::{Bench, usual};
use crate::frame::{numbered, several};
use crate::rig::{Need, Source};
use crate::wire::bytes;
use crate::{Stand, Step, Stop, ensure, fail};

pub(super) fn in_flight(stand: &mut Stand) -> Step {
    let frames = several(0, 200, 300);
    let mut bench = Bench::usual_with(stand, &frames)?;
    for _ in 0..2 {
        bench.offer(&frames)?;
        let held = bench.receive(50)?;
        let before: Vec<_> = held.iter().map(|(_, m)| bytes(m)).collect();
        // Nobody waits for these, and nobody receives those.
        let late = several(500, 64, 300);
        let mut burst = Burst::with_capacity(64);
        burst.extend(bench.mbufs(&late)?);
        let taken = bench.transmit_once(0, &mut burst)?;
        bench.record(&late[..taken]);
        drop(burst);
        if bench.source() == Source::FarEnd {
            bench.offer(&several(700, 100, 300))?;
        }
        bench.stop_port()?;
        for ((_, mbuf), before) in held.iter().zip(&before) {
            ensure!(
                bytes(mbuf) == *before,
                "a held mbuf was changed when the port stopped"
            );
        }
        drop(held);
        bench.whole()?;
        bench.start(usual())?;
        if bench.source() != Source::Recorded {
            bench.discard()?;
        }
    }
    if bench.source() == Source::Recorded {
        bench.receives(&frames)?;
    }
    bench.works()?;
    bench.finish()
}

pub(super) fn restart(stand: &mut Stand) -> Step {
    let mut bench = Bench::open(stand)?;
    for round in 0..4 {
        bench.start(usual())?;
        let (tx, rx) = (bench.tx_stats(), bench.rx_stats());
        ensure!(
            tx == TxStats::default() && rx.packets + rx.bytes == 0,
            "statistics of start {round} begin with {tx:?}, {rx:?}"
        );
        bench.works()?;
        bench.stop()?;
    }
    bench.close()
}

pub(super) fn reconfigure(stand: &mut Stand) -> Step {
    let mut bench = Bench::open(stand)?;
    let most = bench.info()?.max_queues;
    let with = |queues: u16, burst, rx_descriptors, tx_descriptors| PortConfig {
        queues: queues.min(most),
        burst,
        rx_descriptors,
        tx_descriptors,
        ..usual()
    };
    let plain = PortConfig {
        offloads: Offloads::empty(),
        ..usual()
    };
    for config in [
        with(1, 32, 1024, 1024),
        with(2, 64, 128, 256),
        with(1, 512, 512, 64),
        with(4, 8, 64, 512),
        plain,
        with(3, 1, 256, 256),
        with(1, 32, 1024, 1024),
    ] {
        // A port may need the offload that its other end uses, and says so.
        match bench.port()?.configure(&config) {
            Err(error) if config.offloads.is_empty() => named(&error, "")?,
            other => {
                other?;
                bench.start(config)?;
                bench.works()?;
                bench.stop()?;
            }
        }
    }
    bench.close()
}

pub(super) fn mtu(stand: &mut Stand) -> Step {
    stand.need(Need::Mtu)?;
    let mut bench = Bench::open(stand)?;
    let first = bench.info()?.mtu;
    for mtu in [1500, 600, 1400, first] {
        if !bench.stand.rig.set_mtu(mtu).map_err(Stop::Failed)? {
            bench.reopen()?;
        }
        bench.start(usual())?;
        let said = bench.info()?.mtu;
        ensure!(said == mtu, "its MTU was set to {mtu} and it says {said}");
        let longest = mtu as usize + 14;
        let frames = [60, longest - 1, longest].map(|len| numbered(mtu, len));
        bench.sends(&frames)?;
        bench.receives(&frames)?;
        if bench.stand.rig.lacks(Need::Limits).is_none() {
            let too_long = numbered(mtu, longest + 9);
            let mbuf = bench.mbuf(&too_long)?;
            bench.transmit(0, vec![mbuf])?;
            bench.expect_errors(1, too_long.len() as u64);
        }
        bench.stop()?;
    }
    bench.close()
}

/// The orders in which queues and port go.
#[derive(Debug, Clone, Copy)]
enum Order {
    RxFirst,
    TxFirst,
    LastQueueFirst,
    OneQueueLater,
    PortFirst,
    NeverUsed,
}

pub(super) fn drops(stand: &mut Stand) -> Step {
    for order in [
        Order::RxFirst,
        Order::TxFirst,
        Order::LastQueueFirst,
        Order::OneQueueLater,
        Order::PortFirst,
        Order::NeverUsed,
    ] {
        if let Err(Stop::Failed(what)) = dropped(stand, order) {
            return fail(format!("{order:?}: {what}"));
        }
    }
    Bench::open(stand).map(drop)
}

fn dropped(stand: &mut Stand, order: Order) -> Step {
    let mut bench = Bench::open(stand)?;
    let queues = bench.info()?.max_queues.min(2);
    bench.start(PortConfig { queues, ..usual() })?;
    let mut burst = Burst::with_capacity(32);
    if !matches!(order, Order::NeverUsed) {
        let frames = several(0, 32, 200);
        bench.offer(&frames)?;
        burst.extend(bench.mbufs(&frames)?);
        let n = bench.transmit_once(usize::from(queues) - 1, &mut burst)?;
        bench.record(&frames[..n]);
        burst.clear();
    }
    match order {
        Order::RxFirst | Order::TxFirst => {
            let (mut rx, mut tx) = (Vec::new(), Vec::new());
            for pair in bench.pairs.drain(..) {
                rx.push(pair.rx);
                tx.push(pair.tx);
            }
            if matches!(order, Order::RxFirst) {
                drop((rx, tx));
            } else {
                drop((tx, rx));
            }
        }
        Order::LastQueueFirst => while bench.pairs.pop().is_some() {},
        Order::OneQueueLater => {
            drop(bench.pairs.remove(0));
            for pair in &mut bench.pairs {
                pair.rx.receive(&mut burst);
                pair.tx.reclaim();
            }
            burst.clear();
            bench.pairs.clear();
        }
        Order::PortFirst => {
            bench.drop_port();
            bench.pairs.clear();
        }
        Order::NeverUsed => bench.pairs.clear(),
    }
    if !matches!(order, Order::PortFirst) {
        // Even numbers stop the port, the others only drop it.
        if (order as u8).is_multiple_of(2) {
            bench.port()?.stop()?;
        }
        bench.drop_port();
    }
    bench.whole()
}

/// The error says which port it is about, and the value.
fn named(error: &PortError, value: &str) -> Step {
    let text = error.to_string();
    ensure!(
        text.contains(value) && !error.what.is_empty(),
        "the refusal does not name {value:?}: {text}"
    );
    ensure!(
        error.port.contains(':'),
        "the refusal does not name the port: {text}"
    );
    Ok(())
}

pub(super) fn refusals(stand: &mut Stand) -> Step {
    let mut bench = Bench::open(stand)?;
    let most = bench.info()?.max_queues;
    let with = |queues, burst| PortConfig {
        queues,
        burst,
        ..usual()
    };
    for (config, value) in [
        (with(0, 32), "0 queues".to_owned()),
        (with(most + 1, 32), format!("{} queues", most + 1)),
        (with(1, 0), "burst of 0".to_owned()),
    ] {
        match bench.port()?.configure(&config) {
            Ok(()) => return fail(format!("{value} were not refused")),
            Err(error) => {
                named(&error, &value)?;
                ensure!(!error.remedy.is_empty(), "no remedy is named: {error}");
            }
        }
    }
    bench.port()?.configure(&usual())?;
    match bench.port()?.start(&[]) {
        Ok(_) => return fail("it started without a pool"),
        Err(error) => named(&error, "pool")?,
    }
    bench.start(usual())?;
    let pool = bench.pool()?;
    if bench.port()?.start(std::slice::from_ref(&pool)).is_ok() {
        return fail("it was started twice");
    }
    if bench.port()?.configure(&usual()).is_ok() {
        return fail("it was configured while it ran");
    }
    drop(pool);
    bench.works()?;
    bench.finish()
}
