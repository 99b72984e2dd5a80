//! The rules of a port, in their order, and what the device has for each.

use linecard_hal::flow::{FlowAction, FlowCount, FlowId, FlowMatch, FlowRule};

use super::said;
use super::translate::{Dialect, overlap, ways};
use crate::log;
use crate::sys::flow::{Flow, Form, Refused, Table};

/// Drivers that keep the rules' order by themselves, first come first served at equal priority, and for
/// which a higher number comes first, against the rule of `rte_flow`.
const KEEP_THE_ORDER: [&str; 2] = ["net_e1000_igb", "net_ixgbe"];

/// Drivers that take an RSS rule for all frames, whatever it is to match.
const RSS_OF_EVERYTHING: [&str; 2] = ["net_e1000_igb", "net_ixgbe"];

/// A rule that the device has, or had before a reset.
#[derive(Debug)]
struct Installed {
    id: FlowId,
    rule: FlowRule,
    /// Why the device does not have it any more.
    lost: Option<String>,
    taken: Taken,
}

/// What the device has for a rule.
#[derive(Debug, Default)]
struct Taken {
    priority: u32,
    /// One for each version of IP.
    flows: Vec<Flow>,
    counted: bool,
}

/// The rules of a port that runs.
#[derive(Debug)]
pub(crate) struct Rules {
    table: Box<dyn Table>,
    driver: String,
    dialect: Dialect,
    installed: Vec<Installed>,
    next: u64,
}

/// Why a rule is not installed.
pub(super) enum Not {
    /// No device could do it, or this driver would not do what it means.
    Impossible(String),
    /// The device does not.
    Refused(No),
}

/// A refusal, with the version of IP of the part that was refused.
pub(super) struct No {
    pub(super) refused: Refused,
    pub(super) ip: u8,
}

impl Rules {
    pub(crate) fn new(
        table: Box<dyn Table>,
        driver: String,
        queues: u16,
        key_len: usize,
        rss_types: u64,
    ) -> Self {
        Self {
            table,
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
    fn check(&self, rule: &FlowRule) -> Result<(), Not> {
        if matches!(rule.action, FlowAction::Rss(_))
            && rule.matches != FlowMatch::default()
            && RSS_OF_EVERYTHING.contains(&self.driver.as_str())
        {
            return Err(Not::Impossible(format!(
                "the driver {} spreads all frames by an rss rule, whatever the rule says",
                self.driver
            )));
        }
        Ok(())
    }

    /// Behind every rule of `earlier` that a frame could match as well.
    fn priority(&self, rule: &FlowRule, earlier: &[Installed]) -> u32 {
        if KEEP_THE_ORDER.contains(&self.driver.as_str()) {
            return 0;
        }
        let before = earlier
            .iter()
            .filter(|other| other.lost.is_none() && overlap(&other.rule.matches, &rule.matches));
        before
            .map(|other| other.taken.priority + 1)
            .max()
            .unwrap_or(0)
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

    /// Has the device take a rule, as the one behind the first `earlier` of those that are known.
    fn take(&mut self, rule: &FlowRule, earlier: usize) -> Result<Taken, Not> {
        self.check(rule)?;
        let wanted = self.priority(rule, &self.installed[..earlier]);
        let mut taken = Taken {
            priority: wanted,
            flows: Vec::new(),
            counted: true,
        };
        for ways in ways(rule, &self.dialect).map_err(Not::Impossible)? {
            let table = &mut self.table;
            match Self::first_taken(&ways, wanted, &[true, false], |f| table.create(f)) {
                Ok((flow, form)) => {
                    taken.flows.push(flow);
                    taken.counted &= form.flat.count;
                    taken.priority = taken.priority.min(form.flat.priority);
                }
                Err(no) => {
                    // All of a rule or nothing.
                    for flow in taken.flows {
                        let _ = self.table.destroy(flow);
                    }
                    return Err(Not::Refused(no));
                }
            }
        }
        if taken.priority < wanted {
            tracing::info!(
                rule = %rule, driver = %self.driver,
                "the driver has no such priority: which of the rules that overlap wins is its choice"
            );
        }
        Ok(taken)
    }

    pub(super) fn install(&mut self, rule: &FlowRule) -> Result<FlowId, Not> {
        let taken = self.take(rule, self.installed.len())?;
        let id = FlowId(self.next);
        self.next += 1;
        self.installed.push(Installed {
            id,
            rule: rule.clone(),
            lost: None,
            taken,
        });
        Ok(id)
    }

    pub(super) fn try_out(&mut self, rule: &FlowRule) -> Result<(), Not> {
        self.check(rule)?;
        let priority = self.priority(rule, &self.installed);
        for ways in ways(rule, &self.dialect).map_err(Not::Impossible)? {
            let table = &mut self.table;
            Self::first_taken(&ways, priority, &[true, false], |f| table.validate(f))
                .map_err(Not::Refused)?;
        }
        Ok(())
    }

    /// What a rule has counted; the reason if the device has lost it.
    pub(super) fn count(
        &mut self,
        at: usize,
    ) -> Result<Result<Option<FlowCount>, Refused>, String> {
        let one = &self.installed[at];
        if let Some(why) = &one.lost {
            return Err(why.clone());
        }
        if !one.taken.counted {
            return Ok(Ok(None));
        }
        let mut sum = FlowCount::default();
        for flow in &one.taken.flows {
            match self.table.query(flow) {
                Ok(Some(count)) => {
                    sum.packets += count.packets;
                    sum.bytes += count.bytes;
                }
                other => return Ok(other),
            }
        }
        Ok(Ok(Some(sum)))
    }

    pub(super) fn at(&self, id: FlowId) -> Option<usize> {
        self.installed.iter().position(|i| i.id == id)
    }

    pub(super) fn remove(&mut self, at: usize) -> Result<(), Refused> {
        let gone = self.installed.remove(at);
        self.end(gone.taken)
    }

    fn end(&mut self, taken: Taken) -> Result<(), Refused> {
        let mut all = Ok(());
        for flow in taken.flows {
            // Also behind one that fails.
            let one = self.table.destroy(flow);
            all = all.and(one);
        }
        all
    }

    /// Removes all, the latest first.
    pub(crate) fn clear(&mut self) -> Result<(), Refused> {
        let mut all = Ok(());
        while let Some(last) = self.installed.len().checked_sub(1) {
            let one = self.remove(last);
            all = all.and(one);
        }
        all
    }

    /// How many rules are known.
    pub(crate) fn len(&self) -> usize {
        self.installed.len()
    }

    /// How many of them the device has refused after a reset.
    pub(crate) fn missing(&self) -> usize {
        self.installed.iter().filter(|i| i.lost.is_some()).count()
    }

    /// Before a device without a reset of its own is set up afresh: it is to keep none of them by itself,
    /// or it would have them twice.
    pub(crate) fn take_off(&mut self) {
        for at in (0..self.installed.len()).rev() {
            let taken = core::mem::take(&mut self.installed[at].taken);
            if let Err(refused) = self.end(taken) {
                tracing::debug!(target: "dpdk", ?refused, "a flow rule ends with its device");
            }
        }
    }

    /// The device has forgotten all of them, and what it called them means nothing any more.
    pub(crate) fn lost(&mut self) {
        for one in &mut self.installed {
            one.taken = Taken::default();
        }
    }

    /// Installs all again, in their order and under their ids.
    pub(crate) fn again(&mut self, port: u16) {
        for at in 0..self.installed.len() {
            log::forget();
            let rule = self.installed[at].rule.clone();
            let (taken, lost) = match self.take(&rule, at) {
                Ok(taken) => (taken, None),
                Err(not) => {
                    let why = match not {
                        Not::Impossible(why) => why,
                        Not::Refused(no) => said(&no.refused),
                    };
                    tracing::error!(target: "dpdk", port, rule = %rule, "the reset device refuses a flow rule that it had: {why}");
                    (Taken::default(), Some(why))
                }
            };
            let one = &mut self.installed[at];
            (one.taken, one.lost) = (taken, lost);
        }
    }
}
