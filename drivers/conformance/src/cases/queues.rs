//! Several queues, their end, and sleep.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use linecard_hal::{Mbuf, PortConfig, QueueState};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::bench::{Bench, PATIENCE, usual};
use crate::frame::{Packet, number, numbered, packet, several};
use crate::rig::{Need, Sink, Source};
use crate::wire::bytes;
use crate::{Stand, Step, Stop, ensure};

const FLOWS: u16 = 40;
const EACH: u32 = 5;

/// The `i`-th packet of a flow: the number tells both.
fn of_flow(flow: u16, i: u32, reply: bool) -> Step<Vec<u8>> {
    let packet = packet(Packet {
        tcp: false,
        number: i * 1000 + u32::from(flow),
        flow: 20_000 + flow,
        reply,
        payload: 60,
    });
    packet.ok_or_else(|| Stop::Failed("a packet could not be made".into()))
}

pub(super) fn queues(stand: &mut Stand) -> Step {
    let mut bench = Bench::open(stand)?;
    let queues = bench.info()?.max_queues.min(4);
    if queues < 2 {
        return Err(Stop::NotApplicable("has one queue".into()));
    }
    bench.start(PortConfig { queues, ..usual() })?;
    each_sends(&mut bench, queues)?;
    if bench.source() == Source::Endless {
        let got = bench.receive(64 * usize::from(queues))?;
        let used: BTreeSet<_> = got.iter().map(|(queue, _)| *queue).collect();
        ensure!(
            used.len() == usize::from(queues),
            "frames came by {} of {queues} queues",
            used.len()
        );
        drop(got);
        return bench.finish();
    }
    let there = flows(&mut bench, false)?;
    let back = flows(&mut bench, true)?;
    match bench.stand.rig.lacks(Need::Spread) {
        Some(reason) => bench.stand.remark(reason),
        None => {
            ensure!(
                there == back,
                "replies came by other queues: {there:?}, {back:?}"
            );
            let used: BTreeSet<_> = there.values().collect();
            ensure!(
                used.len() == usize::from(queues),
                "{FLOWS} flows came by {} of {queues} queues",
                used.len()
            );
        }
    }
    bench.finish()
}

/// Every queue sends, in turn; frames of one queue keep their order.
fn each_sends(bench: &mut Bench<'_>, queues: u16) -> Step {
    let mut expected = BTreeSet::new();
    for round in 0..5 {
        for queue in 0..u32::from(queues) {
            let frames = several(10_000 * (queue + 1) + 20 * round, 20, 90);
            let mbufs = bench.mbufs(&frames)?;
            bench.transmit(queue as usize, mbufs)?;
            expected.extend(frames);
        }
    }
    if bench.sink() == Sink::Nowhere {
        return Ok(());
    }
    let came = bench.collect(expected.len())?;
    let mut last: BTreeMap<u32, u32> = BTreeMap::new();
    for frame in &came {
        ensure!(
            expected.remove(frame),
            "a frame came twice or was never sent: {:?}",
            number(frame)
        );
        let n = number(frame).unwrap_or_default();
        let before = last.insert(n / 10_000, n);
        ensure!(
            before.is_none_or(|before| before < n),
            "frames of one queue were reordered"
        );
    }
    Ok(())
}

/// Every flow's queue; its frames came once, in order, and by that queue alone unless the rig spreads nothing.
fn flows(bench: &mut Bench<'_>, reply: bool) -> Step<BTreeMap<u16, usize>> {
    let mut frames = Vec::new();
    for i in 1..=EACH {
        for flow in 0..FLOWS {
            frames.push(of_flow(flow, i, reply)?);
        }
    }
    bench.offer(&frames)?;
    let got: Vec<(usize, Mbuf)> = bench.receive(frames.len())?;
    let mut expected: BTreeSet<Vec<u8>> = frames.into_iter().collect();
    let (mut queue_of, mut last) = (BTreeMap::new(), BTreeMap::new());
    for (queue, mbuf) in &got {
        let frame = bytes(mbuf);
        ensure!(
            expected.remove(&frame),
            "a frame came twice or changed: {:?}",
            number(&frame)
        );
        let n = number(&frame).unwrap_or_default();
        let flow = (n % 1000) as u16;
        let before = last.insert(flow, n);
        ensure!(
            before.is_none_or(|before| before < n),
            "flow {flow} was reordered"
        );
        let first = *queue_of.entry(flow).or_insert(*queue);
        ensure!(
            first == *queue || bench.stand.rig.lacks(Need::Spread).is_some(),
            "flow {flow} came by queues {first} and {queue}"
        );
    }
    Ok(queue_of)
}

pub(super) fn finished(stand: &mut Stand) -> Step {
    stand.need(Need::End)?;
    let frames = several(0, 100, 100);
    let mut bench = Bench::usual_with(stand, &frames)?;
    let ends = bench.source() == Source::Recorded;
    bench.set_room(10);
    for some in frames.chunks(10) {
        ensure!(
            !bench.pairs[0].rx.finished(),
            "it is finished before the last frame"
        );
        bench.receives(some)?;
    }
    let more = bench.receive_rest()?;
    let more = more.len();
    let endless = bench.source() == Source::Endless;
    ensure!(endless || more == 0, "{more} frames too many");
    let state = bench.pairs[0].rx.maintain();
    let said = bench.pairs[0].rx.finished();
    if ends {
        ensure!(
            said && state == QueueState::Finished,
            "after the last frame: {state:?}, finished: {said}"
        );
    } else {
        ensure!(
            !said && state == QueueState::Up,
            "while the link is up: {state:?}, finished: {said}"
        );
    }
    bench.finish()
}

/// Whether it becomes readable.
fn readable(fd: &OwnedFd, timeout: PollTimeout) -> Step<bool> {
    use std::os::fd::AsFd as _;
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, timeout)? > 0)
}

fn arm(bench: &mut Bench<'_>) -> Step<Option<OwnedFd>> {
    match bench.pairs[0].rx.wait_fd() {
        Some(fd) => Ok(Some(fd.try_clone_to_owned()?)),
        None => Ok(None),
    }
}

pub(super) fn sleep(stand: &mut Stand) -> Step {
    let mut bench = Bench::usual(stand)?;
    let can_wait = bench.info()?.can_wait;
    let Some(_) = arm(&mut bench)? else {
        ensure!(!can_wait, "it says that it can be waited on, and cannot");
        let reason = "cannot be waited on: its worker sleeps for short times".into();
        return Err(Stop::NotApplicable(reason));
    };
    ensure!(can_wait, "it says that it cannot be waited on, and can");
    let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    for n in 0..20 {
        // Left alone: after what was there is received it does not wake again and again.
        bench.until("silence", |bench| {
            bench.receive_rest()?;
            let fd = arm(bench)?;
            fd.map_or(Ok(true), |fd| Ok(!readable(&fd, PollTimeout::ZERO)?))
        })?;
        let frames = several(n * 10, 3, 100);
        // Asleep before the frames come, or about to fall asleep when they are there.
        let asleep = if n % 2 == 0 { arm(&mut bench)? } else { None };
        bench.offer(&frames)?;
        let mut got = Vec::new();
        let mut fd = asleep;
        while got.len() < frames.len() {
            if let Some(fd) = fd
                .take()
                .map_or_else(|| arm(&mut bench), |fd| Ok(Some(fd)))?
            {
                ensure!(readable(&fd, patience)?, "frame {n} did not wake a sleeper");
            }
            bench.poll()?;
            got.extend(bench.take_pending());
        }
        bench.same(&frames, got)?;
    }
    // A lone frame, too.
    bench.receives(&[numbered(5000, 60)])?;
    bench.finish()
}
