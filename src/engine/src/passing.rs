//! What a worker only lets pass: from queue to queue, past the stage.
//!
//! Only a worker all of whose inputs, sixteen at most, have a [route](crate::Stage::route) does so, and no two of them the same one:
//! then nothing waits for the others for longer than a round. As long as a frame waits for room, all go by the stage.

use std::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use linecard_hal::passage::{self, Forwarded, Passage};

use crate::context::Context;
use crate::handoff::Inbox;
use crate::output::Output;
use crate::stage::PortIndex;
use crate::work::Work;
use crate::worker::{Input, Turn};

/// Inputs of a worker that only passes on, at most: what is asked of them at once is on the stack.
const MOST: usize = 16;

/// Finds where each input goes; whether that is all there is to do with them.
pub(crate) fn find_routes(inputs: &mut [Input], work: &Work, outputs: &[Output]) -> bool {
    let is_ours = |port: &PortIndex| outputs.get(usize::from(*port)).is_some_and(Output::is_ours);
    for input in &mut *inputs {
        input.route = work.route(input.port).filter(is_ours);
    }
    let mut routes: Vec<_> = inputs.iter().filter_map(|input| input.route).collect();
    routes.sort_unstable();
    routes.dedup();
    (1..=MOST).contains(&inputs.len()) && routes.len() == inputs.len()
}

/// Goes round the inputs, up to `most` times, or until there is a rest; mail, a tap that comes or goes, or an end are looked for every
/// [eighth](passage::LOOK_EVERY) round. To be called only after `find_routes` has said so, and as long as nothing waits for room and
/// nobody looks.
#[inline(always)]
pub(crate) fn pass(inputs: &mut [Input], inbox: &Inbox, cx: &mut Context, most: u16) -> Turn {
    let Context {
        outputs,
        taps,
        control,
        ..
    } = cx;
    let is_over =
        || !inbox.ring.is_empty() || taps.is_stale() || control.stop.load(Ordering::Relaxed);
    let done = between_queues(inputs, outputs, most, &is_over);
    debug_assert_eq!(done.len(), inputs.len());
    let mut turn = Turn::default();
    for (input, done) in inputs.iter_mut().zip(done) {
        let Some(route) = input.route else { continue };
        cx.outputs[usize::from(route)].taken += u64::from(done.sent);
        let frames = done.sent as usize + input.burst.len();
        cx.counters.rx += frames as u64;
        cx.counters.bursts += u64::from(done.asked.saturating_sub(done.empty));
        if !input.burst.is_empty() {
            cx.forward_rest(route, &mut input.burst);
        }
        turn.rounds = turn.rounds.max(done.asked);
        turn.frames += frames;
        turn.last += usize::from(done.last);
    }
    turn
}

#[inline(always)]
fn between_queues(
    inputs: &mut [Input],
    outputs: &mut [Output],
    most: u16,
    is_over: &dyn Fn() -> bool,
) -> ArrayVec<Forwarded, MOST> {
    // No more than there are inputs, as a worker transmits where it receives.
    let mut ways: ArrayVec<(PortIndex, Option<_>), MOST> = (0..)
        .zip(outputs)
        .filter_map(|(port, output)| Some((port, Some(output.way_out()?))))
        .collect();
    let mut passages = ArrayVec::<_, MOST>::new();
    // In the order in which the stage would see them.
    for Input {
        rx, burst, route, ..
    } in inputs
    {
        let way = ways.iter_mut().find(|(port, _)| Some(*port) == *route);
        if let Some((tx, takes)) = way.and_then(|(_, way)| way.take()) {
            passages.push(Passage::new(&mut **rx, tx, burst, takes));
        }
    }
    passage::forward(&mut passages, most, is_over);
    passages.iter().map(|passage| passage.done).collect()
}
