//! The file, and the network that it describes.

use std::collections::BTreeMap;
use std::time::Duration;

use linecard_sim::Impairments;
use serde::Deserialize;

use super::Scenario;
use super::kinds::{HostPort, Kinds};
use super::listed::{Listed, Made, Place, Tellers};
use crate::network::{Event, LinkId, Network, Wire};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) simulation: Settings,
    #[serde(default, rename = "host")]
    hosts: Vec<Host>,
    #[serde(default, rename = "link")]
    links: Vec<Link>,
    #[serde(default, rename = "event")]
    events: Vec<Arranged>,
    #[serde(default, rename = "expect")]
    pub(super) expectations: Vec<Expectation>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    #[serde(deserialize_with = "duration")]
    pub(super) duration: Duration,
    #[serde(default = "one")]
    pub(super) seed: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    name: String,
    /// Mbufs of its pool; as many as can be held if nothing is said.
    mbufs: Option<u32>,
    #[serde(default, rename = "protocol")]
    protocols: Vec<Listed>,
}

#[derive(Debug, Clone, Deserialize)]
struct Link {
    name: Option<String>,
    between: [String; 2],
    mtu: Option<u32>,
    depth: Option<usize>,
    #[serde(default)]
    back: toml::Table,
    #[serde(flatten)]
    options: toml::Table,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arranged {
    #[serde(deserialize_with = "duration")]
    at: Duration,
    link: String,
    state: State,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Up,
    Down,
}

/// What a figure has to be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expectation {
    pub(super) figure: String,
    pub(super) at_least: Option<u64>,
    pub(super) at_most: Option<u64>,
    pub(super) equals: Option<u64>,
}

fn one() -> u64 {
    1
}

/// Reads `250ns`, `10ms`, `1h 30m`: for `#[serde(deserialize_with)]` of a kind's own keys.
pub fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(|error| {
        serde::de::Error::custom(format!(
            "{text:?}: {error}; write a number with its unit, such as 10ms"
        ))
    })
}

/// A network that can start, and who tells what happened in it.
pub(super) struct Plan {
    pub(super) network: Network,
    /// By host: what its protocols say of themselves.
    pub(super) tellers: Vec<(String, Tellers)>,
    pub(super) links: Vec<(String, LinkId)>,
}

impl Scenario {
    pub(super) fn build(&self, seed: u64, kinds: &Kinds) -> Result<Plan, String> {
        let file = &self.file;
        if file.simulation.duration.is_zero() {
            return Err("simulation.duration: it would end before anything happens".into());
        }
        if file.links.is_empty() {
            return Err(
                "there is no [[link]], so nothing can happen; see linecard sim --help".into(),
            );
        }
        let mut plan = Plan {
            network: Network::new(seed),
            tellers: Vec::new(),
            links: Vec::new(),
        };
        let mut by_name = BTreeMap::new();
        for (number, host) in (0..).zip(&file.hosts) {
            let id = plan.network.host(&host.name);
            if by_name.insert(host.name.as_str(), id).is_some() {
                return Err(format!("there are two hosts with the name {:?}", host.name));
            }
            if let Some(mbufs) = host.mbufs {
                plan.network
                    .engine(id, |config| config.pool_size = Some(mbufs));
            }
            let ports = self.ports_of(&host.name);
            // What it has no link for is refused when it starts.
            if ports.is_empty() {
                plan.tellers.push((host.name.clone(), Tellers::default()));
                continue;
            }
            let made = host.protocols(number, &ports, &plan.network, kinds)?;
            plan.network.protocols(id, made.protocols);
            plan.tellers.push((host.name.clone(), made.figures));
        }
        for link in &file.links {
            let ends = [&link.between[0], &link.between[1]].map(|name| {
                let known = || by_name.keys().copied().collect::<Vec<_>>().join(", ");
                let id = by_name.get(name.as_str()).copied();
                id.ok_or_else(|| {
                    format!(
                        "link between {name:?}: there is no such host, but {}",
                        known()
                    )
                })
            });
            let [a, b] = ends;
            let name = link.name();
            let wire = link
                .wire()
                .map_err(|error| format!("link {name}: {error}"))?;
            if plan.links.iter().any(|(other, _)| *other == name) {
                return Err(format!(
                    "there are two links {name:?}; give them names: name = \"…\""
                ));
            }
            let id = plan.network.link(a?, b?, wire);
            plan.links.push((name, id));
        }
        self.arrange(&mut plan)?;
        Ok(plan)
    }

    /// A host's ports have the names of its links.
    fn ports_of(&self, host: &str) -> Vec<HostPort> {
        let links = self.file.links.iter();
        // A link of a host with itself is two of its ports.
        let ends = links.flat_map(|link| link.between.iter().map(move |end| (link, end)));
        (0..)
            .zip(ends.filter(|(_, end)| *end == host))
            .map(|(index, (link, _))| HostPort {
                index,
                name: link.name(),
                mac: None,
                mtu: link.mtu.unwrap_or(Wire::default().mtu),
            })
            .collect()
    }

    fn arrange(&self, plan: &mut Plan) -> Result<(), String> {
        for event in &self.file.events {
            let found = plan.links.iter().find(|(name, _)| *name == event.link);
            let Some((_, link)) = found else {
                let known: Vec<_> = plan.links.iter().map(|(name, _)| name.as_str()).collect();
                return Err(format!(
                    "event: there is no link {:?}, but {}",
                    event.link,
                    known.join(", ")
                ));
            };
            let what = match event.state {
                State::Up => Event::Up(*link),
                State::Down => Event::Down(*link),
            };
            plan.network.at(event.at, what);
        }
        for expectation in &self.file.expectations {
            expectation.check()?;
        }
        Ok(())
    }
}

impl Host {
    fn protocols(
        &self,
        number: u64,
        ports: &[HostPort],
        network: &Network,
        kinds: &Kinds,
    ) -> Result<Made, String> {
        let here = Place {
            host: &self.name,
            workers: 1,
            ports,
        };
        let mut made = Made::default();
        for (place, listed) in (0..).zip(&self.protocols) {
            let seed = network.seed_for((1 << 32) + (number << 16) + place);
            made.add(kinds, listed, &here, seed).map_err(|error| {
                format!("host {}, protocol {}: {error}", self.name, listed.kind)
            })?;
        }
        Ok(made)
    }
}

impl Link {
    fn name(&self) -> String {
        let [a, b] = &self.between;
        self.name.clone().unwrap_or_else(|| format!("{a}-{b}"))
    }

    fn wire(&self) -> Result<Wire, String> {
        let there = impairments(&self.options)?;
        let mut options = self.options.clone();
        options.extend(self.back.clone());
        let back = impairments(&options)?;
        let usual = Wire::default();
        Ok(Wire {
            there,
            back,
            mtu: self.mtu.unwrap_or(usual.mtu),
            depth: self.depth.unwrap_or(usual.depth),
        })
    }
}

fn impairments(options: &toml::Table) -> Result<Impairments, String> {
    let mut texts = Vec::new();
    for (key, value) in options {
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(_) | toml::Value::Float(_) => value.to_string(),
            _ => return Err(format!("{key}: neither a text nor a number")),
        };
        texts.push((key.as_str(), text));
    }
    let pairs = texts.iter().map(|(key, text)| (*key, text.as_str()));
    Impairments::from_options(pairs).map_err(|error| error.to_string())
}

impl Expectation {
    fn check(&self) -> Result<(), String> {
        let Self {
            figure,
            at_least,
            at_most,
            equals,
        } = self;
        if at_least.is_none() && at_most.is_none() && equals.is_none() {
            return Err(format!(
                "expect {figure}: neither at_least nor at_most nor equals"
            ));
        }
        Ok(())
    }

    /// Whether a value is as expected.
    pub(super) fn holds(&self, value: u64) -> bool {
        self.at_least.is_none_or(|least| value >= least)
            && self.at_most.is_none_or(|most| value <= most)
            && self.equals.is_none_or(|wanted| value == wanted)
    }

    /// What is expected, in words.
    pub(super) fn wanted(&self) -> String {
        let parts = [
            self.at_least.map(|n| format!("at least {n}")),
            self.at_most.map(|n| format!("at most {n}")),
            self.equals.map(|n| n.to_string()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}
