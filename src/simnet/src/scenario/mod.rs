//! Scenarios: networks from a file, with what is expected of them.
//!
//! ```toml
//! [simulation]
//! duration = "10s"
//! seed = 1                       # of everything random; 1 if nothing is said
//!
//! [[host]]
//! name = "client"
//!
//! [[host.protocol]]
//! kind = "probe"                 # one of Kinds; the rest is its own
//! # ports = ["wan"]              # the links that it may use; all if nothing is said
//! from = "10.0.0.1:4000"
//! to = "10.0.0.2:7"
//! count = 1000
//! interval = "1ms"
//!
//! [[host]]
//! name = "server"
//!
//! [[host.protocol]]
//! kind = "echo"
//!
//! [[link]]
//! name = "wan"                   # optional: its hosts' names with a dash in between
//! between = ["client", "server"]
//! delay = "10ms"                 # what a sim: port has for options
//! back = { loss = "5%" }         # what is different from the second to the first
//!
//! [[event]]
//! at = "2s"
//! link = "wan"
//! state = "down"
//!
//! [[expect]]
//! figure = "client.probe.answered"
//! at_least = 700
//! ```
//!
//! # Figures
//!
//! | name | what |
//! | --- | --- |
//! | `HOST.rx`, `.tx`, `.drops`, `.drops.REASON` | frames, as the host's engine accounts for them |
//! | `HOST.KIND.received`, `.sent`, `.faults`, `.drops.REASON` | what the engine counts for a protocol |
//! | `HOST.KIND.…` | what the protocol says of itself |
//! | `LINK.there.sent`, `.delivered`, `.lost`, `.duplicated`, `.reordered`, `.corrupted`, `.queue_dropped`, `.down_dropped` | frames from the first host to the second; `LINK.back.…` the others |
//!
//! A drop that did not occur is 0, also for a reason of a protocol's own that it does not have: mind the spelling. Besides what a file expects, every run expects that all frames and mbufs
//! are accounted for and that no protocol panicked.

mod file;
mod kinds;
mod listed;
mod run;
mod usual;

use std::path::Path;

use crate::error::SimError;
use file::File;

pub use file::duration;
pub use kinds::{HostPort, Kinds, Part, Setting, Together};
pub use listed::{Listed, Made, Place, Tellers};
pub use run::{Check, Figures, Run};
pub use usual::HostSetting;

/// A network as a file describes it. It can be run many times, in many threads.
#[derive(Debug, Clone)]
pub struct Scenario {
    file: File,
}

impl Scenario {
    /// Reads a file and looks whether it makes sense, as far as that can be seen without running it.
    pub fn load(path: &Path, kinds: &Kinds) -> Result<Self, SimError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| SimError::scenario(&name, error.to_string()))?;
        Self::parse(&name, &text, kinds)
    }

    /// The same of a text; `name` is for errors.
    pub fn parse(name: &str, text: &str, kinds: &Kinds) -> Result<Self, SimError> {
        let wrong = |what: String| SimError::scenario(name, what);
        let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let scenario = Self { file };
        scenario.build(scenario.seed(), kinds).map_err(wrong)?;
        Ok(scenario)
    }

    /// The seed that the file names.
    pub fn seed(&self) -> u64 {
        self.file.simulation.seed
    }

    /// How much virtual time it takes.
    pub fn duration(&self) -> std::time::Duration {
        self.file.simulation.duration
    }

    /// Runs it with this seed; `record` is a pcapng file for all frames. `go_on` is told the virtual time between
    /// events, and may say that it is enough.
    pub fn run(
        &self,
        seed: u64,
        record: Option<&Path>,
        kinds: &Kinds,
        go_on: impl FnMut(u64) -> bool,
    ) -> Result<Run, SimError> {
        let wrong = |what: String| SimError::scenario("scenario", what);
        let mut plan = self.build(seed, kinds).map_err(wrong)?;
        if let Some(path) = record {
            plan.network.record(path);
        }
        run::run(plan, &self.file, seed, go_on)
    }
}
