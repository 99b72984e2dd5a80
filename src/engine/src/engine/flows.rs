//! Flow rules of the configuration: created when the ports have started, read when they stop.

use linecard_hal::flow::{FlowId, FlowRule};
use linecard_hal::{PortError, PortErrorKind};
use serde::Serialize;

use super::{Engine, EngineError};
use crate::stage::PortIndex;

/// A flow rule for a port of the engine. Of two rules that match a frame the first one wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRule {
    /// The port, by its place.
    pub port: PortIndex,
    /// The rule.
    pub rule: FlowRule,
}

/// What became of a flow rule.
#[derive(Debug, Clone, Serialize)]
pub struct FlowReport {
    /// The rule.
    pub rule: FlowRule,
    /// Frames that matched; `None` where the device does not count for rules.
    pub packets: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// What is wrong with it: the device may have lost it when it was reset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A rule that a port has taken.
pub(super) struct Installed {
    rule: PortRule,
    id: FlowId,
}

impl Engine {
    /// Creates the configured rules. A rule that a port refuses is an error: who wants a frame dropped
    /// or steered must not find it elsewhere.
    pub(super) fn create_rules(&mut self) -> Result<Vec<Installed>, EngineError> {
        let mut installed = Vec::new();
        for rule in self.config.flows.clone() {
            let Some(port) = self.ports.get_mut(usize::from(rule.port)) else {
                return Err(EngineError::Config {
                    what: format!(
                        "the rule {:?} is for port {}",
                        rule.rule.to_string(),
                        rule.port
                    ),
                    remedy: format!("the ports are 0 to {}", self.ports.len().saturating_sub(1)),
                });
            };
            let id = match port.flow_rules() {
                Some(rules) => rules.create(&rule.rule)?,
                None => {
                    let what = format!("it takes no flow rules: {}", rule.rule);
                    let name = port.info().name;
                    return Err(PortError::new(name, PortErrorKind::Unsupported, what).into());
                }
            };
            installed.push(Installed { rule, id });
        }
        Ok(installed)
    }

    /// What the rules have counted, by port.
    pub(super) fn rule_reports(&mut self, installed: &[Installed]) -> Vec<Vec<FlowReport>> {
        let mut reports: Vec<Vec<FlowReport>> = self.ports.iter().map(|_| Vec::new()).collect();
        for Installed { rule, id } in installed {
            let index = usize::from(rule.port);
            let asked = self.ports[index].flow_rules().map(|rules| rules.query(*id));
            let (count, problem) = match asked {
                Some(Ok(count)) => (count, None),
                Some(Err(error)) => (None, Some(error.to_string())),
                None => (None, None),
            };
            reports[index].push(FlowReport {
                rule: rule.rule.clone(),
                packets: count.map(|c| c.packets),
                bytes: count.map(|c| c.bytes),
                problem,
            });
        }
        reports
    }
}
