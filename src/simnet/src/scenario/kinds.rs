//! The kinds of protocols that files can name.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Duration;

use linecard_engine::protocol::Protocol;
use linecard_engine::{PortIndex, WorkerIndex};
use linecard_stack::{InterfaceConfig, IpHost, Rate, Secret, Stack, StackConfig};
use linecard_wire::MacAddr;
use linecard_wire::describe::Headers;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::file::duration;
use crate::players::{Asker, Echo, Probe, ProbeConfig};

/// Tells a protocol's figures, by name.
pub(super) type Teller = Box<dyn Fn() -> Vec<(String, u64)>>;

/// One worker's instance of a protocol, and what it says of itself.
pub struct Part {
    pub(super) protocol: Box<dyn Protocol>,
    pub(super) figures: Teller,
    pub(super) keeps: u32,
}

impl Part {
    /// A protocol that says nothing.
    pub fn new(protocol: impl Protocol + 'static) -> Self {
        Self {
            protocol: Box::new(protocol),
            figures: Box::new(Vec::new),
            keeps: 0,
        }
    }

    /// A protocol, and what tells its figures at the end.
    pub fn with_figures(
        protocol: impl Protocol + 'static,
        figures: impl Fn() -> Vec<(String, u64)> + 'static,
    ) -> Self {
        Self {
            protocol: Box::new(protocol),
            figures: Box::new(figures),
            keeps: 0,
        }
    }

    /// It keeps up to so many of its worker's mbufs, for which the pool then has room.
    pub fn keeping(mut self, mbufs: usize) -> Self {
        self.keeps = u32::try_from(mbufs).unwrap_or(u32::MAX);
        self
    }
}

/// A port of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Its place among the host's ports: what a protocol sends by.
    pub index: PortIndex,
    /// What files call it.
    pub name: String,
    /// Its own Ethernet address, if it has one.
    pub mac: Option<MacAddr>,
    /// Its longest layer-3 packet.
    pub mtu: u32,
}

/// What a file says of a protocol, and what is known of where it runs. A kind makes a [`Part`] for each worker.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The host's name.
    pub host: &'a str,
    /// For dice of its own, the same for all workers: in a simulation from its seed, elsewhere from the system's
    /// random numbers.
    pub seed: u64,
    /// The worker that this instance is for.
    pub worker: WorkerIndex,
    /// How many workers there are.
    pub workers: u16,
    /// The ports that it may use: those that the file names for it, or all of the host's. One at least.
    pub ports: &'a [HostPort],
    /// Where [`each`](Self::each) keeps what is for other workers.
    pub together: &'a Together,
    /// The keys beside `kind` and `ports`.
    pub settings: toml::Table,
}

impl Setting<'_> {
    /// The first of its ports, for a protocol that has one.
    pub fn port(&self) -> &HostPort {
        &self.ports[0]
    }

    /// The keys, as a type that knows them.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, String> {
        self.look()
    }

    /// The same, and the setting is still there.
    pub fn look<T: DeserializeOwned>(&self) -> Result<T, String> {
        let keys = self.settings.clone();
        keys.try_into()
            .map_err(|error: toml::de::Error| error.message().to_owned())
    }

    /// This worker's of what is made for all workers together, for the first of them.
    pub fn each<T: 'static>(
        &self,
        make: impl FnOnce(u16) -> Result<Vec<T>, String>,
    ) -> Result<T, String> {
        let mut together = self.together.0.borrow_mut();
        if together.is_none() {
            let all: Vec<_> = make(self.workers)?.into_iter().map(Some).collect();
            *together = Some(Box::new(all));
        }
        let all = together
            .as_mut()
            .and_then(|all| all.downcast_mut::<Vec<Option<T>>>());
        all.and_then(|all| all.get_mut(usize::from(self.worker))?.take())
            .ok_or_else(|| format!("there is nothing for worker {}", self.worker))
    }
}

/// What the instances of one protocol have together, while they are made.
#[derive(Default)]
pub struct Together(RefCell<Option<Box<dyn Any>>>);

impl std::fmt::Debug for Together {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Together")
    }
}

type Make = Box<dyn Fn(Setting<'_>) -> Result<Part, String> + Send + Sync>;

/// The kinds of protocols that files can name: scenarios, scripts and what `linecard run` reads. Add your own
/// with [`with`](Self::with).
pub struct Kinds {
    kinds: BTreeMap<&'static str, Make>,
    headers: Headers,
}

impl Default for Kinds {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EchoSetting {
    #[serde(default = "seven")]
    port: u16,
}

fn seven() -> u16 {
    7
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeSetting {
    from: SocketAddr,
    to: SocketAddr,
    count: u64,
    #[serde(deserialize_with = "duration")]
    interval: Duration,
    #[serde(default = "hundred")]
    size: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskSetting {
    /// As scripts write it: `eth/ipv4(dst=10.0.0.2)/udp(dport=7)/data("hello")`.
    packet: String,
    count: u64,
    #[serde(deserialize_with = "duration")]
    interval: Duration,
}

impl AskSetting {
    fn asker(&self, headers: &Headers) -> Result<Asker, String> {
        let bytes = headers
            .expression(&self.packet)
            .and_then(|packet| packet.to_bytes())
            .map_err(|error| format!("{}: {error}", self.packet))?;
        if bytes.len() > MOST_BYTES {
            return Err(format!("{}: {MOST_BYTES} bytes at most", self.packet));
        }
        let interval_ns = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        Ok(Asker::new(bytes, self.count, interval_ns))
    }
}

/// A host's own: what answers ARP and neighbour discovery, ping and traceroute. For kinds that are whole hosts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSetting {
    /// With their prefixes: `10.0.0.2/24`.
    addresses: Vec<String>,
    /// The port's own if nothing is said.
    mac: Option<String>,
    /// Whether addresses are tried out before they are used.
    #[serde(default)]
    detect: bool,
    #[serde(default)]
    link_local: bool,
    mtu: Option<u16>,
    /// ICMP errors a second.
    errors: Option<u32>,
}

impl HostSetting {
    const KEYS: [&'static str; 6] = ["addresses", "mac", "detect", "link_local", "mtu", "errors"];

    /// Takes a host's keys out of a setting and leaves those of what runs on it.
    pub fn take(setting: &mut Setting<'_>) -> Result<Self, String> {
        let all = std::mem::take(&mut setting.settings).into_iter();
        let (own, rest) = all.partition(|(key, _)| Self::KEYS.contains(&key.as_str()));
        setting.settings = rest;
        toml::Table::try_into(own).map_err(|error| error.message().to_owned())
    }

    /// The stack of such a host at its first port, for the setting's worker. Those of several workers
    /// [tell each other](Stack::several) what they hear.
    pub fn stack(&self, setting: &Setting<'_>) -> Result<Stack, String> {
        let config = self.config(setting.port())?;
        let secret = Secret::from_seed(setting.seed);
        setting.each(|workers| {
            Stack::several(&config, secret, 0, workers).map_err(|error| error.to_string())
        })
    }

    fn config(&self, port: &HostPort) -> Result<StackConfig, String> {
        let mac = match &self.mac {
            Some(mac) => mac
                .parse()
                .map_err(|_| format!("mac = {mac:?} is no Ethernet address"))?,
            None => port.mac.unwrap_or(MacAddr([2, 0, 0, 0, 0, 2])),
        };
        let mut interface = InterfaceConfig {
            detect: self.detect,
            link_local: self.link_local,
            ..InterfaceConfig::new(port.index, mac)
        };
        let mtu = u16::try_from(port.mtu).unwrap_or(u16::MAX);
        interface.mtu = self.mtu.unwrap_or(mtu);
        for address in &self.addresses {
            let address = address.parse().map_err(|_| {
                format!("{address:?} is no address with a prefix, such as 10.0.0.2/24")
            })?;
            interface = interface.address(address);
        }
        let mut config = StackConfig {
            interfaces: vec![interface],
            ..StackConfig::default()
        };
        if let Some(per_second) = self.errors {
            config.errors = Rate {
                burst: per_second,
                per_second,
            };
        }
        Ok(config)
    }
}

/// What an mbuf holds.
const MOST_BYTES: usize = 2048;

fn hundred() -> usize {
    100
}

impl Kinds {
    /// `echo`, `probe` and `ask` ([`players`](crate::players)), and `host` ([`IpHost`]).
    pub fn new() -> Self {
        let none = Self {
            kinds: BTreeMap::new(),
            headers: Headers::standard(),
        };
        none.with_headers(Headers::standard())
            .with("echo", |setting| {
                let EchoSetting { port } = setting.read()?;
                Ok(Part::new(Echo::new(port)))
            })
            .with("host", |setting| {
                let stack = setting.look::<HostSetting>()?.stack(&setting)?;
                let keeps = stack.most_mbufs();
                Ok(Part::new(IpHost::new(stack)).keeping(keeps))
            })
            .with("probe", |setting| {
                let (port, worker) = (setting.port().index, setting.worker);
                let given: ProbeSetting = setting.read()?;
                if given.size > MOST_BYTES {
                    return Err(format!(
                        "size = {}: a datagram has to fit an mbuf: {MOST_BYTES} bytes at most",
                        given.size
                    ));
                }
                if given.from.is_ipv4() != given.to.is_ipv4() {
                    return Err("from and to are not of one IP version".into());
                }
                let (probe, stats) = Probe::new(ProbeConfig {
                    from: given.from,
                    to: given.to,
                    // One worker's instance sends.
                    count: if worker == 0 { given.count } else { 0 },
                    interval_ns: u64::try_from(given.interval.as_nanos()).unwrap_or(u64::MAX),
                    size: given.size,
                });
                Ok(Part::with_figures(probe.by(port), move || {
                    let stats = *stats.lock().unwrap_or_else(PoisonError::into_inner);
                    let figures = [
                        ("sent", stats.sent),
                        ("answered", stats.answered),
                        ("duplicates", stats.duplicates),
                        ("reordered", stats.reordered),
                        ("damaged", stats.damaged),
                        ("rtt_min_ns", stats.rtt_min_ns),
                        ("rtt_mean_ns", stats.rtt_mean_ns()),
                        ("rtt_max_ns", stats.rtt_max_ns),
                    ];
                    figures.map(|(name, value)| (name.to_owned(), value)).into()
                }))
            })
    }

    /// Adds a kind, or replaces it.
    pub fn with(
        mut self,
        name: &'static str,
        make: impl Fn(Setting<'_>) -> Result<Part, String> + Send + Sync + 'static,
    ) -> Self {
        self.kinds.insert(name, Box::new(make));
        self
    }

    /// The headers that scripts, and `ask`, can name, and that are found in packets, instead of the
    /// [standard](Headers::standard) ones.
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.headers = headers.clone();
        self.with("ask", move |setting| {
            let given: AskSetting = setting.read()?;
            Ok(Part::new(given.asker(&headers)?))
        })
    }

    /// The headers that scripts can name.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.keys().copied()
    }

    pub(super) fn make(&self, kind: &str, setting: Setting<'_>) -> Result<Part, String> {
        let make = self.kinds.get(kind).ok_or_else(|| {
            let known: Vec<_> = self.names().collect();
            format!("there is no such kind, but {}", known.join(", "))
        })?;
        make(setting)
    }
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
