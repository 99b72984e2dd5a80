//! A whole configuration: the file, the environment over it, and whether it makes sense.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use linecard::PortIndex;
use linecard::wire::MacAddr;

use super::environment;
use super::keys::Settings;
use super::ports::{PairEntry, PortSetting, check_pairs, check_ports, no_port};
use super::problem::{Place, Problem, Problems, Refusal};
use super::protocols::{self, ProtocolEntry};
use super::read::Draft;

/// A configuration that can be run, as far as can be told without opening a port.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file as it was named.
    pub file: String,
    /// The ports in order.
    pub ports: Vec<PortSetting>,
    /// The pairs in order.
    pub pairs: Vec<PairEntry>,
    /// By port: where its frames leave, unless there are protocols.
    pub partners: Vec<PortIndex>,
    /// The protocols in order.
    pub protocols: Vec<ProtocolEntry>,
    /// Mbufs that they keep, for each worker.
    pub kept: u32,
    /// The scalars.
    pub settings: Settings,
    /// By key: where its value is from.
    pub origins: Vec<Place>,
}

impl Config {
    /// Reads a file, with the variables of this process over it.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let file = path.display().to_string();
        // Not `read_to_string`, so that a file in another encoding is told from one that is missing.
        let text = std::fs::read(path)
            .map_err(|error| {
                unreadable(
                    &error.to_string(),
                    "name a file that exists and may be read",
                )
            })
            .and_then(|bytes| {
                String::from_utf8(bytes)
                    .map_err(|error| unreadable(&error.to_string(), "save it in UTF-8"))
            })
            .map_err(|problem| Problems::new(&file, vec![problem]))?;
        Self::parse(&file, &text, std::env::vars_os())
    }

    /// Reads a text, with the variables of an environment over it.
    pub fn parse(
        file: &str,
        text: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Problems> {
        let mut draft = Draft::read(text);
        environment::apply(environment, &mut draft);
        check_workers(&mut draft);
        check_pool(&mut draft);
        protocols::check_alone(&mut draft);
        let mut problems = std::mem::take(&mut draft.problems);
        if draft.ports.is_empty() && !draft.ports_unread {
            problems.push(no_port());
        }
        let ports = check_ports(&draft.ports, &mut problems);
        // A port that could not be read may be the one that a pair names.
        let all_known = draft.whole && !draft.ports_unread && ports.len() == draft.ports.len();
        let (mut partners, mut kept) = (Vec::new(), 0);
        if all_known && draft.protocols.is_empty() {
            partners = check_pairs(draft.settings.mode, &ports, &draft.pairs, &mut problems);
        } else if all_known && !ports.is_empty() {
            let (kinds, workers) = (crate::cmd::kinds::known(), workers(&draft.settings));
            let workers = u16::try_from(workers).unwrap_or(u16::MAX);
            kept = protocols::check(&kinds, &draft.protocols, &ports, workers, &mut problems);
        }
        if !problems.is_empty() {
            return Err(Problems::new(file, problems));
        }
        Ok(Self {
            file: file.to_owned(),
            ports,
            pairs: draft.pairs,
            partners,
            protocols: draft.protocols,
            kept,
            settings: draft.settings,
            origins: draft.origins,
        })
    }

    /// How many workers there will be, if the ports have queues for them.
    pub fn workers(&self) -> usize {
        workers(&self.settings)
    }

    /// By port: the MAC address at the other end of its link; made up where none is given.
    pub fn peers(&self) -> Vec<MacAddr> {
        (0..=u8::MAX)
            .zip(&self.ports)
            .map(|(index, port)| port.peer.unwrap_or(MacAddr([2, 0, 0, 0, 0, index])))
            .collect()
    }
}

fn unreadable(error: &str, remedy: &str) -> Problem {
    let remedy = format!("{remedy}, or begin with one: linecard config example > linecard.toml");
    Refusal::new(format!("cannot read it: {error}"), remedy).at(Place::File, "")
}

fn workers(settings: &Settings) -> usize {
    match (&settings.engine.lcores, settings.engine.workers) {
        (Some(lcores), _) => lcores.len(),
        (None, workers) => workers.unwrap_or(1).into(),
    }
}

/// What no machine can do; whether this one can is for the placement to say.
fn check_workers(draft: &mut Draft) {
    let engine = &draft.settings.engine;
    let Some(lcores) = &engine.lcores else { return };
    let place = draft.origin("engine", "lcores").clone();
    let mut refusals = Vec::new();
    if let Some(workers) = engine.workers.filter(|w| usize::from(*w) != lcores.len()) {
        let what = format!(
            "{} cpus are listed for the {workers} workers of {}",
            lcores.len(),
            draft.origin("engine", "workers")
        );
        refusals.push(Refusal::new(
            what,
            "leave out workers: each listed cpu gets one",
        ));
    }
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<u32> = lcores
        .iter()
        .copied()
        .filter(|cpu| !seen.insert(*cpu))
        .collect();
    if let (Some(cpu), false) = (twice.first(), engine.oversubscribe) {
        let remedy = "two workers on one cpu wait for one another; remove one, or for tests set \
                      oversubscribe = true";
        refusals.push(Refusal::new(format!("cpu {cpu} is listed twice"), remedy));
    }
    let problems = refusals
        .into_iter()
        .map(|r| r.at(place.clone(), "engine.lcores"));
    draft.problems.extend(problems);
}

/// With fewer mbufs, a worker could not receive one burst while another is on its way out.
fn check_pool(draft: &mut Draft) {
    let (workers, burst) = (workers(&draft.settings), draft.settings.engine.burst);
    let least = 2 * burst * workers;
    let Some(size) = draft.settings.engine.pool_size else {
        return;
    };
    if (size as usize) < least {
        let what =
            format!("{size} mbufs are too few for {workers} worker(s) with bursts of {burst}");
        let remedy = format!("use {least} or more, or leave it out");
        let place = draft.origin("pool", "size").clone();
        draft
            .problems
            .push(Refusal::new(what, remedy).at(place, "pool.size"));
    }
}
