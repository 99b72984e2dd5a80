//! The ports of a running engine and their flow rules: created when the ports have started and while they run.

use linecard_hal::flow::{FlowId, FlowRule};
use linecard_hal::{LinkState, Mempool, Port, PortError, PortErrorKind};
use serde::{Deserialize, Serialize};

use super::EngineError;
use crate::stage::PortIndex;

/// A flow rule for a port of the engine. Of two rules that match a frame the one that was created first wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRule {
    /// The port, by its place.
    pub port: PortIndex,
    /// The rule.
    pub rule: FlowRule,
}

/// What became of a flow rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FlowReport {
    /// Its number, by which it can be [removed](super::Remote::remove_rule): never used again.
    #[serde(default)]
    pub id: u64,
    /// The rule.
    pub rule: FlowRule,
    /// Frames that matched; `None` where the device does not count for rules.
    pub packets: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// What is wrong with it: the device may have lost it when it was reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A rule that a port has taken.
struct Installed {
    rule: PortRule,
    /// Our number for it, over all ports.
    id: u64,
    /// The port's.
    at_port: FlowId,
}

/// Ports that have started. What is asked of them goes through one lock, which no worker ever takes.
#[derive(Default)]
pub(super) struct AtWork {
    pub(super) ports: Vec<Box<dyn Port>>,
    /// What their mbufs lie in: behind the ports, so that it outlives them.
    pub(super) pools: Vec<Mempool>,
    rules: Vec<Installed>,
    next_id: u64,
    pub(super) stopped: bool,
}

impl AtWork {
    pub(super) fn new(ports: Vec<Box<dyn Port>>, pools: Vec<Mempool>) -> Self {
        Self {
            ports,
            pools,
            ..Self::default()
        }
    }

    /// What is left when the ports are gone.
    pub(super) fn over() -> Self {
        Self {
            stopped: true,
            ..Self::default()
        }
    }

    /// Creates a rule, at once in force, and gives its number. That a port refuses it is an error: who wants
    /// a frame dropped or steered must not find it elsewhere.
    pub(super) fn create_rule(&mut self, rule: PortRule) -> Result<u64, EngineError> {
        self.check_running()?;
        let ports = self.ports.len();
        let Some(port) = self.ports.get_mut(usize::from(rule.port)) else {
            return Err(EngineError::Config {
                what: format!(
                    "the rule {:?} is for port {}",
                    rule.rule.to_string(),
                    rule.port
                ),
                remedy: format!("the ports are 0 to {}", ports.saturating_sub(1)),
            });
        };
        let at_port = match port.flow_rules() {
            Some(rules) => rules.create(&rule.rule)?,
            None => {
                let what = format!("it takes no flow rules: {}", rule.rule);
                let name = port.info().name;
                return Err(PortError::new(name, PortErrorKind::Unsupported, what).into());
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        self.rules.push(Installed { rule, id, at_port });
        Ok(id)
    }

    /// Removes a rule; it stays if the port refuses.
    pub(super) fn remove_rule(&mut self, id: u64) -> Result<PortRule, EngineError> {
        self.check_running()?;
        let Some(place) = self.rules.iter().position(|rule| rule.id == id) else {
            let ids: Vec<_> = self.rules.iter().map(|rule| rule.id.to_string()).collect();
            return Err(EngineError::Config {
                what: format!("there is no rule {id}"),
                remedy: match ids.len() {
                    0 => "there are none at all".to_owned(),
                    _ => format!("there are {}", ids.join(", ")),
                },
            });
        };
        let (port, at_port) = (self.rules[place].rule.port, self.rules[place].at_port);
        if let Some(rules) = self.ports[usize::from(port)].flow_rules() {
            rules.destroy(at_port)?;
        }
        Ok(self.rules.remove(place).rule)
    }

    /// Rules end with their ports.
    fn check_running(&self) -> Result<(), EngineError> {
        if self.stopped {
            return Err(EngineError::Config {
                what: "the engine has stopped, and its rules with it".to_owned(),
                remedy: "start it again".to_owned(),
            });
        }
        Ok(())
    }

    /// What the rules have counted, by port.
    pub(super) fn rule_reports(&mut self) -> Vec<Vec<FlowReport>> {
        let mut reports: Vec<Vec<FlowReport>> = self.ports.iter().map(|_| Vec::new()).collect();
        for Installed { rule, id, at_port } in &self.rules {
            let index = usize::from(rule.port);
            let asked = self.ports[index]
                .flow_rules()
                .map(|rules| rules.query(*at_port));
            let (count, problem) = match asked {
                Some(Ok(count)) => (count, None),
                Some(Err(error)) => (None, Some(error.to_string())),
                None => (None, None),
            };
            reports[index].push(FlowReport {
                id: *id,
                rule: rule.rule.clone(),
                packets: count.map(|c| c.packets),
                bytes: count.map(|c| c.bytes),
                problem,
            });
        }
        reports
    }

    pub(super) fn links(&self) -> Vec<(LinkState, Option<u32>)> {
        let ports = self.ports.iter();
        ports.map(|port| (port.link(), port.ifindex())).collect()
    }

    /// Stops the ports. Their rules end with them.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.rules.clear();
        for port in &mut self.ports {
            if let Err(error) = port.stop() {
                tracing::warn!(%error, "stopping a port");
            }
        }
    }
}
