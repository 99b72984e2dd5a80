//! Claims offered to ports as flow rules.

use std::fmt;

use linecard_hal::Port;
use linecard_hal::flow::{FlowAction, FlowRule};
use serde::{Deserialize, Serialize};

use super::claim::Claim;
use super::rights::Home;
use crate::placement::Plan;

/// Which claims are offered to the ports.
///
/// A rule in a device has its price: there is room for few, and a port of AF_XDP then reads each frame's headers
/// once more. The software demultiplexer finds most claims with one look-up, and RSS has spread flows already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Steering {
    /// Those for which a device can do more: packets that belong on one worker are given to its queue, and
    /// claims that software has to compare one by one are marked.
    #[default]
    Useful,
    /// All that can be said as a rule: what has no better use is marked.
    Always,
    /// None.
    Never,
}

impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Useful => "useful",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// Where a claim is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// By the port, which gives the packets to a queue or marks them; software only checks.
    Hardware,
    /// That is for the port to say when it starts: the claim will be offered to it.
    Offered,
    /// By the demultiplexer.
    Software,
}

/// Where a claim is carried out on one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimReport {
    /// The claim.
    pub claim: String,
    /// The port, by name.
    pub port: String,
    /// Where.
    pub place: Place,
    /// What the port does, or why it is software.
    pub why: String,
}

impl fmt::Display for ClaimReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            claim, port, why, ..
        } = self;
        match self.place {
            Place::Hardware => write!(f, "{claim} on {port}: hardware, {why}"),
            Place::Offered => write!(f, "{claim} on {port}: to be offered as {why}"),
            Place::Software => write!(f, "{claim} on {port}: software, because {why}"),
        }
    }
}

/// A claim to be offered to one port.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) protocol: usize,
    pub(super) claim: Claim,
    pub(super) port: usize,
    pub(super) home: Home,
    /// What its packets would be marked with: 0 says nothing to the demultiplexer.
    pub(super) mark: u32,
}

impl Offer {
    /// Offers it; says what came of it.
    pub(super) fn make(&self, steering: Steering, plan: &Plan, port: &mut dyn Port) -> ClaimReport {
        let outcome = self
            .rule(steering, plan)
            .and_then(|rule| install(port, &rule));
        self.report(plan, Place::Hardware, outcome)
    }

    /// What is known of it before the port has started.
    pub(super) fn preview(&self, steering: Steering, plan: &Plan) -> ClaimReport {
        let rule = self.rule(steering, plan);
        self.report(
            plan,
            Place::Offered,
            rule.map(|rule| rule.action.to_string()),
        )
    }

    fn report(&self, plan: &Plan, place: Place, outcome: Result<String, String>) -> ClaimReport {
        let (place, why) = match outcome {
            Ok(action) => (place, action),
            Err(why) => (Place::Software, why),
        };
        ClaimReport {
            claim: self.claim.to_string(),
            port: plan.ports[self.port].name.clone(),
            place,
            why,
        }
    }

    /// The rule to offer, or why there is none.
    fn rule(&self, steering: Steering, plan: &Plan) -> Result<FlowRule, String> {
        if steering == Steering::Never {
            return Err("it is not to be offered".into());
        }
        if self.claim.rest {
            return Err("the rest is what no rule says".into());
        }
        if self.claim.fragments || !self.claim.bytes.is_empty() {
            return Err("flow rules have no field for it".into());
        }
        let action = match self.queue(plan)? {
            Some(queue) => FlowAction::Queue(queue),
            None if steering == Steering::Always || self.mark > 0 => FlowAction::Mark(self.mark),
            None => return Err("one look-up finds it".into()),
        };
        Ok(FlowRule {
            matches: self.claim.fields,
            action,
        })
    }

    /// The queue that its packets have to come by, if it matters.
    fn queue(&self, plan: &Plan) -> Result<Option<u16>, String> {
        let Home::Worker(worker) = self.home else {
            return Ok(None);
        };
        if plan.ports[self.port].rx_queues < 2 {
            return Ok(None);
        }
        let queues = &plan.workers[usize::from(worker)].queues;
        match queues.iter().find(|q| q.port == self.port) {
            Some(assigned) => Ok(Some(assigned.queue)),
            None => Err(format!("worker {worker} has no queue there: they cross")),
        }
    }
}

fn install(port: &mut dyn Port, rule: &FlowRule) -> Result<String, String> {
    let Some(rules) = port.flow_rules() else {
        return Err("the port takes no flow rules".into());
    };
    match rules.create(rule) {
        Ok(_) => Ok(rule.action.to_string()),
        Err(error) => Err(error.what),
    }
}
