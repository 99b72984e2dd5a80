//! What a worker only lets pass: from queue to queue, past the stage.
//!
//! Only a worker all of whose inputs have a [route](crate::Stage::route) does so, and no two of them the same one: then none waits
//! longer for another than that for it, and nothing that comes elsewhere waits for them.

use arrayvec::ArrayVec;
use linecard_hal::passage::{self, Forwarded, Passage};

use crate::context::Context;
use crate::output::Output;
use crate::stage::PortIndex;
use crate::work::Work;
use crate::worker::{Input, Turn};

/// Inputs of a worker that only passes on, at most: what is asked of them at once is on the stack.
const MOST: usize = 16;

/// Finds where each input goes; whether that is all there is to do with them. Then they are in the order of where they go.
pub(crate) fn find_routes(inputs: &mut [Input], work: &Work, outputs: &[Output]) -> bool {
    let is_ours = |port: &PortIndex| {
        let output = outputs.get(usize::from(*port));
        output.is_some_and(|output| output.owner.is_none())
    };
    for input in &mut *inputs {
        input.route = work.route(input.port).filter(is_ours);
    }
    if inputs.len() > MOST || inputs.iter().any(|input| input.route.is_none()) {
        return false;
    }
    inputs.sort_by_key(|input| input.route);
    inputs.windows(2).all(|two| two[0].route != two[1].route)
}

/// Goes round the inputs, up to `most` times. To be called only after `find_routes` has said so, and as long as nothing waits for
/// room and nobody looks.
#[inline(always)]
pub(crate) fn pass(inputs: &mut [Input], cx: &mut Context, most: u16) -> Turn {
    let done = between_queues(inputs, &mut cx.outputs, most);
    let mut turn = Turn::default();
    for (input, done) in inputs.iter_mut().zip(done) {
        let Some(route) = input.route else { continue };
        cx.outputs[usize::from(route)].taken += u64::from(done.sent);
        let frames = done.sent as usize + input.burst.len();
        cx.counters.rx += frames as u64;
        cx.counters.bursts += u64::from(done.asked.saturating_sub(u16::from(done.last == 0)));
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
) -> ArrayVec<Forwarded, MOST> {
    let mut passages = ArrayVec::<_, MOST>::new();
    let mut inputs = inputs.iter_mut().peekable();
    // Both are in the same order.
    for (port, output) in (0..).zip(outputs) {
        if let Some(input) = inputs.next_if(|input| input.route == Some(port))
            && let Some((tx, takes)) = output.way_out()
        {
            let Input { rx, burst, .. } = input;
            passages.push(Passage::new(&mut **rx, tx, burst, takes));
        }
    }
    passage::forward(&mut passages, most);
    passages.iter().map(|passage| passage.done).collect()
}
