//! The keys that a configuration has, beside its ports: one table from which the reading of the
//! file, the environment's names and `config show` all follow.

use std::fmt;
use std::time::Duration;

use linecard::engine::protocol::Steering;
use linecard::modes::Mode;
use linecard::{EngineConfig, Idle};
use serde_json::{Value, json};

use super::given::Given;
use super::problem::{Refusal, nearest};

/// What the scalar keys decide.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Workers, pools and the like.
    pub engine: EngineConfig,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// How often to show figures; never if `None`.
    pub stats_interval: Option<Duration>,
    /// What is done with the frames.
    pub mode: Mode,
    /// Bytes of the frames of `tx-only`, with FCS.
    pub frame_size: u16,
    pub tx_first: u32,
    /// Which claims of protocols are offered to the ports.
    pub steering: Steering,
    /// How DPDK's environment is started, if a port needs it.
    pub dpdk: Dpdk,
}

/// What `[dpdk]` decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dpdk {
    /// Where DPDK keeps its own data.
    pub pages: Pages,
    /// How much of it on ordinary pages.
    pub memory_mib: u32,
    /// The name of its files; one of our own if not set.
    pub file_prefix: Option<String>,
    /// Further arguments.
    pub eal_args: Option<Vec<String>>,
}

impl Default for Dpdk {
    fn default() -> Self {
        Self {
            pages: Pages::Auto,
            memory_mib: 256,
            file_prefix: None,
            eal_args: None,
        }
    }
}

/// The pages for DPDK's own data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Hugepages if enough are free.
    Auto,
    /// Hugepages.
    Huge,
    /// Ordinary ones.
    Normal,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Huge => "huge",
            Self::Normal => "normal",
        })
    }
}

impl Settings {
    /// The settings of DPDK, in a build that has it.
    fn dpdk(&mut self) -> Result<&mut Dpdk, Refusal> {
        if cfg!(feature = "dpdk") {
            return Ok(&mut self.dpdk);
        }
        Err(Refusal::new(
            "this build has no DPDK",
            "build it with: scripts/setup --dpdk && cargo build --release --features dpdk",
        ))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            engine: EngineConfig::default(),
            duration: None,
            stats_interval: Some(Duration::from_secs(1)),
            mode: Mode::default(),
            frame_size: 64,
            tx_first: 0,
            steering: Steering::default(),
            dpdk: Dpdk::default(),
        }
    }
}

/// A key of the file.
pub struct Key {
    /// Its section.
    pub section: &'static str,
    /// Its name within the section.
    pub name: &'static str,
    /// What holds if there is no value, in words.
    pub unset: &'static str,
    /// Takes a value.
    pub set: fn(&mut Settings, Given<'_>) -> Result<(), Refusal>,
    /// Gives the value; null if there is none.
    pub show: fn(&Settings) -> Value,
}

impl Key {
    /// `engine.burst`
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// `LINECARD_ENGINE_BURST`
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}_{}", self.section, self.name).to_uppercase()
    }
}

/// How the variables begin.
pub const PREFIX: &str = "LINECARD_";

/// Variables with the prefix that are not keys: they mean something elsewhere.
pub const OTHER_VARIABLES: &[&str] = &["LINECARD_LOG"];

/// The sections, with `port`, `protocol` and `pairs`, which are not scalars.
pub const SECTIONS: &[&str] = &["engine", "pool", "port", "forward", "protocol", "dpdk"];

/// All scalar keys, in the order of the example.
pub const KEYS: &[Key] = &[
    Key {
        section: "engine",
        name: "workers",
        unset: "1, or one for each of lcores",
        set: |s, v| {
            let workers = v.number(1..=1024, "leave it out for one worker")?;
            s.engine.workers = Some(workers as u16);
            Ok(())
        },
        show: |s| json!(s.engine.workers),
    },
    Key {
        section: "engine",
        name: "lcores",
        unset: "the best of the machine",
        set: |s, v| {
            s.engine.lcores = Some(v.lcores()?);
            Ok(())
        },
        show: |s| json!(s.engine.lcores),
    },
    Key {
        section: "engine",
        name: "oversubscribe",
        unset: "",
        set: |s, v| {
            s.engine.oversubscribe = v.flag()?;
            Ok(())
        },
        show: |s| json!(s.engine.oversubscribe),
    },
    Key {
        section: "engine",
        name: "pin",
        unset: "",
        set: |s, v| {
            s.engine.pin = v.flag()?;
            Ok(())
        },
        show: |s| json!(s.engine.pin),
    },
    Key {
        section: "engine",
        name: "burst",
        unset: "",
        set: |s, v| {
            s.engine.burst = v.number(1..=512, "32 is usual")? as usize;
            Ok(())
        },
        show: |s| json!(s.engine.burst),
    },
    Key {
        section: "engine",
        name: "idle",
        unset: "",
        set: |s, v| {
            s.engine.idle = v.choice(&[Idle::Spin, Idle::Adaptive, Idle::Sleep])?;
            Ok(())
        },
        show: |s| json!(s.engine.idle),
    },
    Key {
        section: "engine",
        name: "promiscuous",
        unset: "",
        set: |s, v| {
            s.engine.promiscuous = v.flag()?;
            Ok(())
        },
        show: |s| json!(s.engine.promiscuous),
    },
    Key {
        section: "engine",
        name: "steering",
        unset: "",
        set: |s, v| {
            s.steering = v.choice(&[Steering::Useful, Steering::Always, Steering::Never])?;
            Ok(())
        },
        show: |s| json!(s.steering.to_string()),
    },
    Key {
        section: "engine",
        name: "duration",
        unset: "until Ctrl-C",
        set: |s, v| {
            s.duration = Some(some_time(v)?);
            Ok(())
        },
        show: |s| time(s.duration),
    },
    Key {
        section: "engine",
        name: "packets",
        unset: "no limit",
        set: |s, v| {
            let usual = "leave it out to run without a limit";
            s.engine.packet_limit = Some(v.number(1..=u64::MAX, usual)?);
            Ok(())
        },
        show: |s| json!(s.engine.packet_limit),
    },
    Key {
        section: "engine",
        name: "stats_interval",
        unset: "never",
        set: |s, v| {
            s.stats_interval = Some(v.duration()?).filter(|interval| !interval.is_zero());
            Ok(())
        },
        show: |s| time(s.stats_interval),
    },
    Key {
        section: "pool",
        name: "size",
        unset: "the sum of all possible holders",
        set: |s, v| {
            let usual = "leave it out and it will be the sum of all possible holders";
            s.engine.pool_size = Some(v.number(2..=1 << 26, usual)? as u32);
            Ok(())
        },
        show: |s| json!(s.engine.pool_size),
    },
    Key {
        section: "forward",
        name: "mode",
        unset: "",
        set: |s, v| {
            s.mode = v.choice(&Mode::ALL)?;
            Ok(())
        },
        show: |s| json!(s.mode),
    },
    Key {
        section: "forward",
        name: "frame_size",
        unset: "",
        set: |s, v| {
            let usual = "64 is the least that Ethernet carries, 1518 the most, with the FCS";
            s.frame_size = v.number(64..=1518, usual)? as u16;
            Ok(())
        },
        show: |s| json!(s.frame_size),
    },
    Key {
        section: "forward",
        name: "tx_first",
        unset: "",
        set: |s, v| {
            s.tx_first = v.number(0..=1_000_000, "bursts to begin with")? as u32;
            Ok(())
        },
        show: |s| json!(s.tx_first),
    },
    Key {
        section: "dpdk",
        name: "pages",
        unset: "",
        set: |s, v| {
            s.dpdk()?.pages = v.choice(&[Pages::Auto, Pages::Huge, Pages::Normal])?;
            Ok(())
        },
        show: |s| json!(s.dpdk.pages.to_string()),
    },
    Key {
        section: "dpdk",
        name: "memory_mib",
        unset: "",
        set: |s, v| {
            s.dpdk()?.memory_mib = v.number(32..=1 << 20, "256 is usual")? as u32;
            Ok(())
        },
        show: |s| json!(s.dpdk.memory_mib),
    },
    Key {
        section: "dpdk",
        name: "file_prefix",
        unset: "linecard and the number of the process",
        set: |s, v| {
            s.dpdk()?.file_prefix = Some(file_name(v)?);
            Ok(())
        },
        show: |s| json!(s.dpdk.file_prefix),
    },
    Key {
        section: "dpdk",
        name: "eal_args",
        unset: "none",
        set: |s, v| {
            s.dpdk()?.eal_args = Some(v.words()?);
            Ok(())
        },
        show: |s| json!(s.dpdk.eal_args),
    },
];

/// The names in a section, with those that are not scalars.
pub fn names(section: &str) -> Vec<&'static str> {
    let scalars = KEYS.iter().filter(|key| key.section == section);
    let more: &[&str] = match section {
        "forward" => &["pairs"],
        "port" => &["name", "open", "peer"],
        // And what its kind knows.
        "protocol" => &["kind", "ports"],
        _ => &[],
    };
    scalars
        .map(|key| key.name)
        .chain(more.iter().copied())
        .collect()
}

/// That nobody knows a key, and which was probably meant.
pub fn unknown(section: &str, name: &str) -> Refusal {
    let known = names(section);
    let list = known.join(", ");
    let what = format!("there is no such key in {}", written(section));
    if let Some(meant) = nearest(name, known) {
        return Refusal::new(what, format!("did you mean {meant}? It has: {list}"));
    }
    // Right name, wrong section.
    match SECTIONS.iter().find(|other| names(other).contains(&name)) {
        Some(other) => Refusal::new(what, format!("{name} belongs below {}", written(other))),
        None => Refusal::new(what, format!("it has: {list}")),
    }
}

/// A section's header.
pub fn written(section: &str) -> String {
    match section {
        "port" | "protocol" => format!("[[{section}]]"),
        _ => format!("[{section}]"),
    }
}

/// A duration in which something can happen.
fn some_time(given: Given<'_>) -> Result<Duration, Refusal> {
    let duration = given.duration()?;
    if duration.is_zero() {
        return Err(Refusal::new(
            format!("{given} would end before the first frame"),
            "write a longer time, or leave it out to run until Ctrl-C",
        ));
    }
    Ok(duration)
}

/// A word that can be the name of a file.
fn file_name(given: Given<'_>) -> Result<String, Refusal> {
    match given.text() {
        Some(text)
            if !text.is_empty()
                && text.len() <= 32
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                && !text.starts_with(['-', '.']) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(Refusal::new(
            format!("{given} cannot be the name of files"),
            "write up to 32 letters, digits, - and _ in double quotes, or leave it out",
        )),
    }
}

fn time(duration: Option<Duration>) -> Value {
    json!(duration.map(|d| humantime::format_duration(d).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_variable_of_its_own_and_shows_what_it_takes() {
        let mut seen = std::collections::BTreeSet::new();
        // Its keys are refused in a build without it.
        let here = |key: &&Key| cfg!(feature = "dpdk") || key.section != "dpdk";
        for key in KEYS.iter().filter(here) {
            assert!(SECTIONS.contains(&key.section));
            assert!(seen.insert(key.variable()), "{} twice", key.variable());
            let value = match key.name {
                "lcores" => "3,5",
                "idle" => "spin",
                "mode" => "rx-drop",
                "steering" => "never",
                "pages" => "huge",
                "duration" | "stats_interval" => "7s",
                "oversubscribe" => "true",
                "pin" | "promiscuous" => "false",
                _ => "77",
            };
            let mut settings = Settings::default();
            let before = (key.show)(&settings);
            (key.set)(&mut settings, Given::Variable(value)).expect(key.name);
            let after = (key.show)(&settings);
            assert_ne!(before, after, "{} was not set", key.path());
            assert_eq!(before.is_null(), !key.unset.is_empty() && before.is_null());
        }
        assert!(seen.contains("LINECARD_FORWARD_FRAME_SIZE"));
    }

    #[test]
    fn unknown_keys_are_told_what_was_meant() {
        for (section, name, remedy) in [
            ("engine", "brust", "did you mean burst?"),
            ("engine", "mode", "mode belongs below [forward]"),
            ("pool", "colour", "it has: size"),
            ("port", "opne", "did you mean open?"),
        ] {
            let refusal = unknown(section, name);
            assert!(refusal.remedy.contains(remedy), "{refusal:?}");
        }
    }
}
