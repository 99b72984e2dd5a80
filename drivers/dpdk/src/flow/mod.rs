//! Flow rules: `rte_flow` behind [`FlowRules`].
//!
//! A rule that names a protocol but no version of IP becomes two of the device's, one for each version.
//! Of rules that overlap, a later one gets the next lower priority; where the driver has no priorities,
//! which of them wins is the driver's choice, and the log says so. A counter is asked for and done without
//! where it is refused. Rules end when the port stops.

#[cfg(test)]
mod tests;
mod translate;

use linecard_hal::flow::{FlowAction, FlowCount, FlowId, FlowMatch, FlowRule, FlowRules};
use linecard_hal::{PortError, PortErrorKind};

use crate::log;
use crate::port::DpdkPort;
use crate::sys::flow::{Flow, Form, Refused};
use crate::sys::port::Device;
use translate::{Dialect, overlap, ways};

/// Drivers that keep the rules' order by themselves, first come first served at equal priority, and for
/// which a higher number comes first, against the rule of `rte_flow`.
const KEEP_THE_ORDER: [&str; 2] = ["net_e1000_igb", "net_ixgbe"];

/// Drivers that take an RSS rule for all frames, whatever it is to match.
const RSS_OF_EVERYTHING: [&str; 2] = ["net_e1000_igb", "net_ixgbe"];

/// A rule that the device has.
#[derive(Debug)]
struct Installed {
    id: FlowId,
    rule: FlowRule,
    priority: u32,
    /// One for each version of IP.
    flows: Vec<Flow>,
    counted: bool,
}

/// The rules of a port that runs.
#[derive(Debug)]
pub(crate) struct Rules {
    driver: String,
    dialect: Dialect,
    installed: Vec<Installed>,
    next: u64,
}

/// A refusal, with the version of IP of the part that was refused.
struct No {
    refused: Refused,
    ip: u8,
}

impl Rules {
    pub(crate) fn new(driver: String, queues: u16, key_len: usize, rss_types: u64) -> Self {
        Self {
            driver,
            dialect: Dialect {
                queues,
                key_len,
                rss_types,
            },
            installed: Vec::new(),
            next: 0,
        }
    }

    /// Refuses what the driver would take and not do.
    fn check(&self, rule: &FlowRule) -> Result<(), String> {
        if matches!(rule.action, FlowAction::Rss(_))
            && rule.matches != FlowMatch::default()
            && RSS_OF_EVERYTHING.contains(&self.driver.as_str())
        {
            return Err(format!(
                "the driver {} spreads all frames by an rss rule, whatever the rule says",
                self.driver
            ));
        }
        Ok(())
    }

    /// Behind every earlier rule that a frame could match as well.
    fn priority(&self, rule: &FlowRule) -> u32 {
        if KEEP_THE_ORDER.contains(&self.driver.as_str()) {
            return 0;
        }
        let others = self.installed.iter();
        let before = others.filter(|other| overlap(&other.rule.matches, &rule.matches));
        before.map(|other| other.priority + 1).max().unwrap_or(0)
    }

    /// Tries the ways to say one part, the best first. Which one it was, and what `attempt` gave.
    fn first_taken<T>(
        ways: &[Form],
        priority: u32,
        counted: &[bool],
        mut attempt: impl FnMut(&Form) -> Result<T, Refused>,
    ) -> Result<(T, Form), No> {
        let ip = ways.first().map_or(0, |way| way.flat.ip);
        let mut plainest = None;
        let levels = if priority == 0 {
            &[0][..]
        } else {
            &[priority, 0]
        };
        for way in ways {
            for level in levels {
                for count in counted {
                    let mut form = way.clone();
                    (form.flat.priority, form.flat.count) = (*level, *count);
                    match attempt(&form) {
                        Ok(taken) => return Ok((taken, form)),
                        Err(refused) => {
                            if refused.error.raw_os_error() == Some(libc::ENOSYS) {
                                return Err(No { refused, ip });
                            }
                            // What it says of the rule itself, and not of a counter or of a second
                            // spelling.
                            if *level == 0 && !*count && plainest.is_none() {
                                plainest = Some(refused);
                            }
                        }
                    }
                }
            }
        }
        let refused = plainest.unwrap_or_else(|| Refused {
            message: String::new(),
            about: String::new(),
            error: std::io::Error::from_raw_os_error(libc::ENOTSUP),
        });
        Err(No { refused, ip })
    }

    fn install(
        &mut self,
        device: &mut Device,
        rule: &FlowRule,
    ) -> Result<Result<FlowId, No>, String> {
        self.check(rule)?;
        let wanted = self.priority(rule);
        let (mut flows, mut counted, mut priority) = (Vec::new(), true, wanted);
        for ways in ways(rule, &self.dialect)? {
            match Self::first_taken(&ways, wanted, &[true, false], |f| device.create_flow(f)) {
                Ok((flow, form)) => {
                    flows.push(flow);
                    counted &= form.flat.count;
                    priority = priority.min(form.flat.priority);
                }
                Err(no) => {
                    // All of a rule or nothing.
                    for flow in flows {
                        let _ = device.destroy_flow(flow);
                    }
                    return Ok(Err(no));
                }
            }
        }
        if priority < wanted {
            tracing::info!(
                rule = %rule, driver = %self.driver,
                "the driver has no such priority: which of the rules that overlap wins is its choice"
            );
        }
        let id = FlowId(self.next);
        self.next += 1;
        self.installed.push(Installed {
            id,
            rule: rule.clone(),
            priority,
            flows,
            counted,
        });
        Ok(Ok(id))
    }

    fn try_out(&self, device: &mut Device, rule: &FlowRule) -> Result<Result<(), No>, String> {
        self.check(rule)?;
        let priority = self.priority(rule);
        for ways in ways(rule, &self.dialect)? {
            let tried =
                Self::first_taken(&ways, priority, &[true, false], |f| device.validate_flow(f));
            if let Err(no) = tried {
                return Ok(Err(no));
            }
        }
        Ok(Ok(()))
    }

    fn at(&self, id: FlowId) -> Option<usize> {
        self.installed.iter().position(|i| i.id == id)
    }

    fn remove(&mut self, device: &mut Device, at: usize) -> Result<(), Refused> {
        let gone = self.installed.remove(at);
        let mut all = Ok(());
        for flow in gone.flows {
            // Also behind one that fails.
            let one = device.destroy_flow(flow);
            all = all.and(one);
        }
        all
    }

    /// Removes all, the latest first.
    pub(crate) fn clear(&mut self, device: &mut Device) -> Result<(), Refused> {
        let mut all = Ok(());
        while let Some(last) = self.installed.len().checked_sub(1) {
            let one = self.remove(device, last);
            all = all.and(one);
        }
        all
    }
}

impl DpdkPort {
    fn with_rules<T>(
        &mut self,
        body: impl FnOnce(&mut Rules, &mut Device) -> T,
    ) -> Result<T, PortError> {
        log::forget();
        match (&mut self.rules, &mut self.device) {
            (Some(rules), Some(device)) if !device.events().is_destroyed() => {
                // No restart meanwhile, and none that would lose a rule.
                let events = device.events().clone();
                let mut recovery = events.recovery();
                let answer = body(rules, device);
                recovery.rules = rules.installed.len();
                Ok(answer)
            }
            _ => Err(self
                .wrong(
                    PortErrorKind::Config,
                    "flow rules of a port that does not run",
                )
                .remedy("start it first")),
        }
    }

    fn impossible(&self, rule: &FlowRule, why: &str) -> PortError {
        self.wrong(PortErrorKind::Unsupported, format!("{rule}: {why}"))
            .remedy("the actions of a device are drop, queue N, rss N,N and mark N, as far as it has them")
    }

    /// The device's own reason, and what else to try.
    fn refusal(&self, rule: &FlowRule, no: No) -> PortError {
        let No { refused, ip } = no;
        let ranges = [rule.matches.src_port, rule.matches.dst_port];
        let number = refused.error.raw_os_error();
        let (kind, remedy) = if number == Some(libc::ENOSYS) {
            (
                PortErrorKind::Unsupported,
                "its driver has no flow rules: leave the rule out",
            )
        } else if number == Some(libc::EEXIST) {
            (PortErrorKind::Busy, "there is such a rule already")
        } else if ip == 6 && rule.matches.implied_ether_type().is_none() {
            (
                PortErrorKind::Unsupported,
                "this was the part for IPv6: add ether=0x0800 to have the rule for IPv4 alone",
            )
        } else if ranges.iter().flatten().any(|r| r.first != r.last) {
            (
                PortErrorKind::Unsupported,
                "the device may take single ports only: a rule for each",
            )
        } else {
            (
                PortErrorKind::Unsupported,
                "try fewer fields, or whole addresses; linecard ports shows the driver",
            )
        };
        let mut why = self.said(&refused);
        if !refused.about.is_empty() {
            why = format!("{why} (about {})", refused.about);
        }
        self.wrong(kind, format!("the device refuses {rule}: {why}"))
            .remedy(remedy)
            .cause(refused.error)
    }

    fn said(&self, refused: &Refused) -> String {
        let logged = log::since();
        match (refused.message.as_str(), logged.as_str()) {
            ("", "") => "it gives no reason".into(),
            ("", logged) => logged.into(),
            (message, _) => message.into(),
        }
    }

    fn failed(&self, what: &str, refused: Refused) -> PortError {
        let why = self.said(&refused);
        self.wrong(PortErrorKind::System, format!("{what}: {why}"))
            .remedy("stopping the port ends all its rules")
            .cause(refused.error)
    }

    fn unknown(&self, id: FlowId) -> PortError {
        self.wrong(
            PortErrorKind::NotFound,
            format!("there is no rule {}", id.0),
        )
        .remedy("rules end when they are destroyed and when the port stops")
    }
}

impl FlowRules for DpdkPort {
    fn validate(&mut self, rule: &FlowRule) -> Result<(), PortError> {
        match self.with_rules(|rules, device| rules.try_out(device, rule))? {
            Ok(Ok(())) => Ok(()),
            Ok(Err(no)) => Err(self.refusal(rule, no)),
            Err(why) => Err(self.impossible(rule, &why)),
        }
    }

    fn create(&mut self, rule: &FlowRule) -> Result<FlowId, PortError> {
        match self.with_rules(|rules, device| rules.install(device, rule))? {
            Ok(Ok(id)) => Ok(id),
            Ok(Err(no)) => Err(self.refusal(rule, no)),
            Err(why) => Err(self.impossible(rule, &why)),
        }
    }

    fn destroy(&mut self, id: FlowId) -> Result<(), PortError> {
        let ended =
            self.with_rules(|rules, device| rules.at(id).map(|at| rules.remove(device, at)))?;
        match ended {
            None => Err(self.unknown(id)),
            Some(Ok(())) => Ok(()),
            Some(Err(refused)) => Err(self.failed("destroying a rule", refused)),
        }
    }

    fn query(&mut self, id: FlowId) -> Result<Option<FlowCount>, PortError> {
        let counted = self.with_rules(|rules, device| {
            let one = &rules.installed[rules.at(id)?];
            if !one.counted {
                return Some(Ok(None));
            }
            let mut sum = FlowCount::default();
            for flow in &one.flows {
                match device.query_flow(flow) {
                    Ok(Some(count)) => {
                        sum.packets += count.packets;
                        sum.bytes += count.bytes;
                    }
                    Ok(None) => return Some(Ok(None)),
                    Err(refused) => return Some(Err(refused)),
                }
            }
            Some(Ok(Some(sum)))
        })?;
        match counted {
            None => Err(self.unknown(id)),
            Some(Ok(count)) => Ok(count),
            Some(Err(refused)) => Err(self.failed("asking for a rule's count", refused)),
        }
    }

    fn flush(&mut self) -> Result<(), PortError> {
        self.with_rules(|rules, device| rules.clear(device))?
            .map_err(|refused| self.failed("removing all rules", refused))
    }
}
