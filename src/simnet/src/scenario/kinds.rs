//! The kinds of protocols that a scenario can name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Duration;

use linecard_engine::protocol::Protocol;
use linecard_stack::{InterfaceConfig, IpHost, Rate, Secret, Stack, StackConfig};
use linecard_wire::describe::Headers;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::file::duration;
use crate::players::{Asker, Echo, Probe, ProbeConfig};

/// Tells a protocol's figures, by name.
pub(super) type Teller = Box<dyn Fn() -> Vec<(String, u64)>>;

/// A protocol of a host, and what it says of itself.
pub struct Part {
    pub(crate) protocol: Box<dyn Protocol>,
    pub(super) figures: Teller,
}

impl Part {
    /// A protocol that says nothing.
    pub fn new(protocol: impl Protocol + 'static) -> Self {
        Self {
            protocol: Box::new(protocol),
            figures: Box::new(Vec::new),
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
        }
    }
}

/// What a file says of a protocol.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The host's name.
    pub host: &'a str,
    /// For dice of its own.
    pub seed: u64,
    /// The keys beside `kind`.
    pub settings: toml::Table,
}

impl Setting<'_> {
    /// The keys, as a type that knows them.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, String> {
        self.settings
            .try_into()
            .map_err(|error: toml::de::Error| error.message().to_owned())
    }
}

type Make = Box<dyn Fn(Setting<'_>) -> Result<Part, String> + Send + Sync>;

/// The kinds of protocols that a scenario can name. Add your own with [`with`](Self::with).
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

/// A host's own: what answers ARP and neighbour discovery, ping and traceroute.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostSetting {
    /// With their prefixes: `10.0.0.2/24`.
    addresses: Vec<String>,
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
    fn stack(&self, seed: u64) -> Result<Stack, String> {
        let mac = self.mac.as_deref().unwrap_or("02:00:00:00:00:02");
        let mac = mac
            .parse()
            .map_err(|_| format!("mac = {mac:?} is no Ethernet address"))?;
        let mut interface = InterfaceConfig {
            detect: self.detect,
            link_local: self.link_local,
            ..InterfaceConfig::new(0, mac)
        };
        interface.mtu = self.mtu.unwrap_or(interface.mtu);
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
        Stack::new(config, Secret::from_seed(seed), 0).map_err(|error| error.to_string())
    }
}

/// What an mbuf of a simulated host holds.
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
                let seed = setting.seed;
                let given: HostSetting = setting.read()?;
                Ok(Part::new(IpHost::new(given.stack(seed)?)))
            })
            .with("probe", |setting| {
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
                    count: given.count,
                    interval_ns: u64::try_from(given.interval.as_nanos()).unwrap_or(u64::MAX),
                    size: given.size,
                });
                Ok(Part::with_figures(probe, move || {
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

    pub(crate) fn make(&self, kind: &str, setting: Setting<'_>) -> Result<Part, String> {
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
