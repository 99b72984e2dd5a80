//! Ferry in `linecard sim` and `linecard script`: whole hosts.
//!
//! | kind | what it is | keys beside those of `host` |
//! | --- | --- | --- |
//! | `ferry` | a host that takes messages | `echo`: sends them back; `window`, `half_open` |
//! | `ferry-client` | a host that sends numbered messages | `to`, `messages`, `size`; `interval`, `start`, `keep_alive`, `window`, `datagram` |
//!
//! An address with port 0 means Ferry as an IP protocol of its own. Secrets come from the seed, so a run is the same
//! run again, and in a script connection ids and cookies are the same each time.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use linecard_engine::WorkerIndex;
use linecard_simnet::{HostSetting, Kinds, Part, Setting};
use linecard_stack::{IpHost, Stack};
use serde::Deserialize;

use crate::players::{Job, Receiver, Sender, Shared};
use crate::transport::{Application, Ferry, fit};
use crate::{Config, Counters, Endpoint, Secret, UDP_PORT};

/// What both kinds can say of the endpoint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    #[serde(default)]
    echo: bool,
    window: Option<u32>,
    half_open: Option<usize>,
    #[serde(default = "usual_port")]
    port: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    to: SocketAddr,
    messages: u64,
    size: usize,
    #[serde(default)]
    interval: Span,
    #[serde(default)]
    start: Span,
    keep_alive: Option<Span>,
    window: Option<u32>,
    datagram: Option<u16>,
    #[serde(default = "usual_port")]
    port: u16,
}

fn usual_port() -> u16 {
    UDP_PORT
}

/// `10ms`.
#[derive(Clone, Copy, Default)]
struct Span(u64);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let wrong = |error| {
            let help = "write a number with its unit, such as 10ms";
            serde::de::Error::custom(format!("{text:?}: {error}; {help}"))
        };
        let span = humantime::parse_duration(&text).map_err(wrong)?;
        Ok(Self(Duration::as_nanos(&span) as u64))
    }
}

/// Adds the kinds `ferry` and `ferry-client`. Scripts also need the [headers](crate::headers).
pub fn kinds(kinds: Kinds) -> Kinds {
    kinds.with("ferry", server).with("ferry-client", client)
}

fn server(mut setting: Setting<'_>) -> Result<Part, String> {
    let stack = stack(&mut setting)?;
    let (seed, worker) = (setting.seed, setting.worker);
    let given: Server = setting.read()?;
    let usual = config(given.window);
    let config = Config {
        half_open: given.half_open.unwrap_or(usual.half_open),
        ..usual
    };
    let endpoint = Endpoint::new(fit(config, &stack), secret(seed, worker), true);
    let (receiver, tally) = Receiver::new(given.echo);
    Ok(part(
        stack,
        Ferry::new(endpoint, receiver).at_port(given.port),
        tally,
    ))
}

fn client(mut setting: Setting<'_>) -> Result<Part, String> {
    let stack = stack(&mut setting)?;
    let (seed, worker) = (setting.seed, setting.worker);
    let given: Client = setting.read()?;
    let usual = config(given.window);
    let longest = usual.message_len as usize;
    if !(8..=longest).contains(&given.size) {
        let size = given.size;
        return Err(format!("size = {size}: messages have 8 to {longest} bytes"));
    }
    let config = Config {
        keep_alive_ns: given.keep_alive.map(|span| span.0),
        datagram_len: given.datagram.unwrap_or(usual.datagram_len),
        ..usual
    };
    let endpoint = Endpoint::new(fit(config, &stack), secret(seed, worker), false);
    let (sender, tally) = Sender::new(Job {
        to: given.to,
        // One worker's instance sends.
        messages: if worker == 0 { given.messages } else { 0 },
        size: given.size,
        interval_ns: given.interval.0,
        start_ns: given.start.0,
    });
    Ok(part(
        stack,
        Ferry::new(endpoint, sender).at_port(given.port),
        tally,
    ))
}

fn stack(setting: &mut Setting<'_>) -> Result<Stack, String> {
    HostSetting::take(setting)?.stack(setting)
}

/// The workers of a host have one key.
fn secret(seed: u64, worker: WorkerIndex) -> Secret {
    let key = u128::from(seed) << 64 | u128::from(!seed);
    Secret::new(key.to_be_bytes(), worker)
}

fn config(window: Option<u32>) -> Config {
    let usual = Config::default();
    let window = window.unwrap_or(usual.receive_window);
    Config {
        receive_window: window,
        send_buffer: window,
        message_len: usual.message_len.min(window / 2),
        ..usual
    }
}

fn part<A: Application + 'static>(stack: Stack, ferry: Ferry<A>, tally: Shared) -> Part {
    let (counters, keeps) = (ferry.last_words(), stack.most_mbufs());
    let host = IpHost::new(stack).with(ferry);
    Part::with_figures(host, move || figures(&tally, &counters)).keeping(keeps)
}

fn figures(tally: &Shared, counters: &Arc<OnceLock<Counters>>) -> Vec<(String, u64)> {
    let tally = tally.read();
    let counters = counters.get().copied().unwrap_or_default();
    let figures = [
        ("messages_sent", tally.sent),
        ("messages", tally.received),
        ("damaged", tally.damaged),
        ("bytes", tally.bytes),
        ("finished", tally.finished),
        ("broken", tally.broken),
        ("ended_ns", tally.ended_ns),
        ("packets", counters.sent),
        ("lost", counters.lost),
        ("mistaken", counters.mistaken),
        ("probes", counters.probes),
        ("timeouts", counters.timeouts),
        ("moves", counters.moves),
        ("cookies", counters.cookies),
        ("bad_cookie", counters.bad_cookie),
    ];
    figures.map(|(name, value)| (name.to_owned(), value)).into()
}
