//! The kinds that are always there: what answers, what asks, and a host's own.

use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::time::Duration;

use linecard_engine::WorkerIndex;
use linecard_stack::{InterfaceConfig, IpHost, Rate, Secret, Stack, StackConfig};
use linecard_wire::MacAddr;
use linecard_wire::describe::Headers;
use serde::Deserialize;

use super::file::duration;
use super::kinds::{HostPort, Part, Setting};
use crate::players::{Asker, Echo, Probe, ProbeConfig};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EchoSetting {
    #[serde(default = "seven")]
    port: u16,
    /// Only what is for these; everything if nothing is said.
    #[serde(default)]
    addresses: Vec<IpAddr>,
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
    fn asker(&self, headers: &Headers, worker: WorkerIndex) -> Result<Asker, String> {
        let bytes = headers
            .expression(&self.packet)
            .and_then(|packet| packet.to_bytes())
            .map_err(|error| format!("{}: {error}", self.packet))?;
        if bytes.len() > MOST_BYTES {
            return Err(format!("{}: {MOST_BYTES} bytes at most", self.packet));
        }
        let interval_ns = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        // One worker's instance asks.
        let count = if worker == 0 { self.count } else { 0 };
        Ok(Asker::new(bytes, count, interval_ns))
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

pub(super) fn echo(setting: Setting<'_>) -> Result<Part, String> {
    let EchoSetting { port, addresses } = setting.read()?;
    Ok(Part::new(Echo::new(port).at(addresses)))
}

pub(super) fn host(setting: Setting<'_>) -> Result<Part, String> {
    let stack = setting.look::<HostSetting>()?.stack(&setting)?;
    let keeps = stack.most_mbufs();
    Ok(Part::new(IpHost::new(stack)).keeping(keeps))
}

pub(super) fn ask(setting: Setting<'_>, headers: &Headers) -> Result<Part, String> {
    let (port, worker) = (setting.port().index, setting.worker);
    let given: AskSetting = setting.read()?;
    Ok(Part::new(given.asker(headers, worker)?.by(port)))
}

pub(super) fn probe(setting: Setting<'_>) -> Result<Part, String> {
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
}
