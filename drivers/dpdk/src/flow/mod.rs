//! Flow rules: `rte_flow` behind [`FlowRules`].
//!
//! A rule that names a protocol but no version of IP becomes two of the device's, one for each version.
//! Of rules that overlap, a later one gets the next lower priority; where the driver has no priorities,
//! which of them wins is the driver's choice, and the log says so. A counter is asked for and done without
//! where it is refused. Rules end when the port stops.
//!
//! A device that is reset loses its rules. They are installed again in their order and under their ids, and
//! count from 0 again; one that the device refuses now stays known, with the reason, so that whoever asks for
//! its count hears of it (`sys/recovery.rs`).

mod rules;
#[cfg(test)]
mod tests;
mod translate;

use linecard_hal::flow::{FlowCount, FlowId, FlowRule, FlowRules};
use linecard_hal::{PortError, PortErrorKind};

use crate::log;
use crate::port::DpdkPort;
use crate::sys::flow::Refused;
pub(crate) use rules::Rules;
use rules::{No, Not};

/// A refusal, in words.
fn said(refused: &Refused) -> String {
    let logged = log::since();
    let mut why = match (refused.message.as_str(), logged.as_str()) {
        ("", "") => "it gives no reason".to_owned(),
        ("", logged) => logged.to_owned(),
        (message, _) => message.to_owned(),
    };
    if !refused.about.is_empty() {
        why = format!("{why} (about {})", refused.about);
    }
    why
}

impl DpdkPort {
    /// While nothing restarts the device.
    fn with_rules<T>(&mut self, body: impl FnOnce(&mut Rules) -> T) -> Result<T, PortError> {
        log::forget();
        if let Some(device) = &self.device
            && !device.events().is_destroyed()
            && let Some(rules) = &mut device.events().recovery().rules
        {
            return Ok(body(rules));
        }
        Err(self
            .wrong(
                PortErrorKind::Config,
                "flow rules of a port that does not run",
            )
            .remedy("start it first"))
    }

    fn not_installed(&self, rule: &FlowRule, not: Not) -> PortError {
        match not {
            Not::Impossible(why) => self.impossible(rule, &why),
            Not::Refused(no) => self.refusal(rule, no),
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
        let why = said(&refused);
        self.wrong(kind, format!("the device refuses {rule}: {why}"))
            .remedy(remedy)
            .cause(refused.error)
    }

    fn failed(&self, what: &str, refused: Refused) -> PortError {
        let why = said(&refused);
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
        self.with_rules(|rules| rules.try_out(rule))?
            .map_err(|not| self.not_installed(rule, not))
    }

    fn create(&mut self, rule: &FlowRule) -> Result<FlowId, PortError> {
        self.with_rules(|rules| rules.install(rule))?
            .map_err(|not| self.not_installed(rule, not))
    }

    fn destroy(&mut self, id: FlowId) -> Result<(), PortError> {
        match self.with_rules(|rules| rules.at(id).map(|at| rules.remove(at)))? {
            None => Err(self.unknown(id)),
            Some(ended) => ended.map_err(|refused| self.failed("destroying a rule", refused)),
        }
    }

    fn query(&mut self, id: FlowId) -> Result<Option<FlowCount>, PortError> {
        match self.with_rules(|rules| rules.at(id).map(|at| rules.count(at)))? {
            None => Err(self.unknown(id)),
            Some(Err(why)) => {
                let what = format!("the device was reset, and refuses the rule since: {why}");
                Err(self
                    .wrong(PortErrorKind::Unsupported, what)
                    .remedy("destroy the rule, or stop the port and start it again"))
            }
            Some(Ok(count)) => {
                count.map_err(|refused| self.failed("asking for a rule's count", refused))
            }
        }
    }

    fn flush(&mut self) -> Result<(), PortError> {
        self.with_rules(Rules::clear)?
            .map_err(|refused| self.failed("removing all rules", refused))
    }
}
