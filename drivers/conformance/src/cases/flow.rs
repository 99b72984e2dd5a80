//! Flow rules: taken, with their effect and count, or refused with a reason.

use linecard_hal::flow::{FlowAction, FlowId, FlowRule};
use linecard_hal::{Mbuf, PortConfig};

use crate::bench::{Bench, usual};
use crate::frame::{Packet, packet};
use crate::rig::{Need, Source};
use crate::{Stand, Step, Stop, ensure, fail};

/// Packets of the flow that rules are about, and of another one.
const THEIRS: u16 = 20_001;
const OTHERS: u16 = 20_002;
const EACH: usize = 20;

fn packets(flow: u16) -> Step<Vec<Vec<u8>>> {
    (0..EACH as u32)
        .map(|i| {
            let made = packet(Packet {
                tcp: false,
                number: u32::from(flow) * 100 + i,
                flow,
                reply: false,
                payload: 50,
            });
            made.ok_or_else(|| Stop::Failed("a packet could not be made".into()))
        })
        .collect()
}

pub(super) fn flow_rules(stand: &mut Stand) -> Step {
    stand.need(Need::FlowRules)?;
    let mut bench = Bench::open(stand)?;
    let queues = bench.info()?.max_queues.min(2);
    bench.start(PortConfig { queues, ..usual() })?;
    if bench.port()?.flow_rules().is_none() {
        return Err(Stop::NotApplicable(
            "the device has no flow rules: the engine carries them out".into(),
        ));
    }
    let last = queues - 1;
    let mut taken = Vec::new();
    let mut refused = String::new();
    for action in [
        FlowAction::Drop,
        FlowAction::Queue(last),
        FlowAction::Rss((0..queues).collect()),
        FlowAction::Mark(77),
        FlowAction::Kernel,
    ] {
        let text = format!("src=198.51.100.0/24 proto=udp sport={THEIRS} => {action}");
        let rule: FlowRule = text.parse()?;
        match create(&mut bench, &rule)? {
            Ok(id) => {
                works(&mut bench, &rule, id)?;
                taken.push(action.to_string());
            }
            Err(reason) if refused.is_empty() => refused = reason,
            Err(_) => {}
        }
    }
    // Rules that are still there when it stops end with it.
    let rules = bench.port()?.flow_rules();
    let Some(rules) = rules else {
        return fail("its flow rules are gone while it runs");
    };
    rules.flush()?;
    if taken.is_empty() {
        bench
            .stand
            .remark(format!("refuses all rules, with the reason: {refused}"));
    } else {
        bench.stand.remark(format!("takes: {}", taken.join(", ")));
    }
    bench.works()?;
    bench.finish()
}

/// Creates the rule, or says why not; both answers agree.
fn create(bench: &mut Bench<'_>, rule: &FlowRule) -> Step<Result<FlowId, String>> {
    let Some(rules) = bench.port()?.flow_rules() else {
        return fail("its flow rules are gone while it runs");
    };
    match (rules.validate(rule), rules.create(rule)) {
        (Ok(()), Ok(id)) => Ok(Ok(id)),
        (Ok(()), Err(error)) => fail(format!("{rule} is valid and refused: {error}")),
        (Err(error), Ok(_)) => fail(format!("{rule} is invalid and taken: {error}")),
        (Err(_), Err(error)) => {
            ensure!(
                !error.what.is_empty(),
                "{rule} is refused without a reason: {error}"
            );
            Ok(Err(error
                .cause
                .map_or(error.what, |cause| cause.to_string())))
        }
    }
}

/// The rule does what it says to its flow and nothing to another one, counts, and is gone afterwards.
fn works(bench: &mut Bench<'_>, rule: &FlowRule, id: FlowId) -> Step {
    if bench.source() != Source::FarEnd {
        return destroy(bench, id);
    }
    let (theirs, others) = (packets(THEIRS)?, packets(OTHERS)?);
    bench.offer(&theirs)?;
    bench.offer(&others)?;
    let vanishes = matches!(rule.action, FlowAction::Drop | FlowAction::Kernel);
    let got = bench.receive(if vanishes { EACH } else { 2 * EACH })?;
    let mut matched: Vec<(usize, Mbuf)> = Vec::new();
    let mut rest = Vec::new();
    for (queue, mbuf) in got {
        let of_theirs = theirs.iter().any(|f| f[..] == *mbuf.data());
        if of_theirs { &mut matched } else { &mut rest }.push((queue, mbuf));
    }
    bench.same(&others, rest)?;
    for (queue, mbuf) in &matched {
        match rule.action {
            FlowAction::Queue(n) => {
                ensure!(*queue == usize::from(n), "{rule}: came by queue {queue}");
            }
            FlowAction::Mark(n) => {
                ensure!(mbuf.mark() == Some(n), "{rule}: marked {:?}", mbuf.mark());
            }
            _ => {}
        }
    }
    bench.same(if vanishes { &[] } else { &theirs }, matched)?;
    let Some(rules) = bench.port()?.flow_rules() else {
        return fail("its flow rules are gone while it runs");
    };
    if let Some(count) = rules.query(id)? {
        ensure!(
            count.packets == EACH as u64,
            "{rule} counted {count:?} of {EACH} frames"
        );
    }
    destroy(bench, id)?;
    bench.receives(&theirs)
}

fn destroy(bench: &mut Bench<'_>, id: FlowId) -> Step {
    match bench.port()?.flow_rules() {
        Some(rules) => Ok(rules.destroy(id)?),
        None => fail("its flow rules are gone while it runs"),
    }
}
