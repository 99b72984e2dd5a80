//! Calls for scenarios and scripts: the kinds `calls` and `caller`.

use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::time::Duration;

use linecard_simnet::Kinds;
use linecard_simnet::players::udp_at;
use linecard_simnet::scenario::{Part, duration};
use linecard_wire::describe::Headers;
use serde::Deserialize;

use crate::{Call, Caller, CallerConfig, ClientConfig, Dispatcher, PORT, Server};

/// The services of the demonstration: [`echo`](Call::KIND_ECHO), and since version 2
/// [`sum`](Call::KIND_SUM), of numbers of four bytes.
pub fn demonstration(oldest: u8, newest: u8) -> Dispatcher {
    Dispatcher::new(oldest..=newest)
        .on(Call::KIND_ECHO, 1, |body, reply| reply.put(body))
        .on(Call::KIND_SUM, 2, |body, reply| {
            let (numbers, []) = body.as_chunks() else {
                return Err(Call::STATUS_BAD_BODY);
            };
            let numbers = numbers.iter().map(|number| u32::from_be_bytes(*number));
            reply.put(&numbers.fold(0, u32::wrapping_add).to_be_bytes())
        })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerSetting {
    /// Only calls to these are answered; all if nothing is said.
    #[serde(default)]
    addresses: Vec<IpAddr>,
    #[serde(default = "one")]
    oldest: u8,
    #[serde(default = "two")]
    newest: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallerSetting {
    from: SocketAddr,
    to: SocketAddr,
    /// A number.
    #[serde(default = "one", rename = "type")]
    kind: u8,
    #[serde(default)]
    body: String,
    #[serde(default)]
    answer_len: usize,
    count: u64,
    #[serde(default = "one")]
    oldest: u8,
    #[serde(default = "two")]
    newest: u8,
    #[serde(default = "timeout", deserialize_with = "duration")]
    timeout: Duration,
    #[serde(default = "tries")]
    tries: u32,
    /// Calls at a time.
    #[serde(default = "at_once")]
    at_once: usize,
}

fn one() -> u8 {
    1
}

fn two() -> u8 {
    2
}

fn timeout() -> Duration {
    Duration::from_millis(200)
}

fn tries() -> u32 {
    5
}

fn at_once() -> usize {
    16
}

impl CallerSetting {
    fn config(self) -> Result<CallerConfig, String> {
        if self.from.is_ipv4() != self.to.is_ipv4() {
            return Err("from and to are not of one IP version".into());
        }
        let longest = crate::MOST_BYTES - crate::HEADER_LEN;
        if self.body.len().max(self.answer_len) > longest {
            return Err(format!("a body is {longest} bytes long at most"));
        }
        if !(1..128).contains(&self.kind) {
            return Err(format!("type = {}: types are 1 to 127", self.kind));
        }
        if !(1..=1024).contains(&self.at_once) {
            return Err(format!("at_once = {}: 1 to 1024", self.at_once));
        }
        Ok(CallerConfig {
            from: self.from,
            to: self.to,
            kind: self.kind,
            body: self.body.into_bytes(),
            answer_len: self.answer_len,
            count: self.count,
            client: ClientConfig {
                versions: versions(self.oldest, self.newest)?,
                timeout_ns: u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX),
                tries: self.tries,
                most_waiting: self.at_once,
            },
        })
    }
}

fn versions(oldest: u8, newest: u8) -> Result<std::ops::RangeInclusive<u8>, String> {
    if oldest == 0 || oldest > newest || newest > 15 {
        return Err(format!(
            "versions {oldest} to {newest}: there are 1 to 15, the oldest first"
        ));
    }
    Ok(oldest..=newest)
}

/// Adds `calls`, the server of the [demonstration], and `caller`, which calls one.
pub fn kinds(kinds: Kinds) -> Kinds {
    kinds
        .with("calls", |setting| {
            let given: ServerSetting = setting.read()?;
            versions(given.oldest, given.newest)?;
            let dispatcher = demonstration(given.oldest, given.newest);
            Ok(Part::new(Server::new(
                dispatcher,
                udp_at(PORT, &given.addresses),
            )))
        })
        .with("caller", |setting| {
            let first_id = setting.seed as u32;
            let (port, worker) = (setting.port().index, setting.worker);
            let mut config = setting.read::<CallerSetting>()?.config()?;
            if worker > 0 {
                // One worker's instance calls.
                config.count = 0;
            }
            let (caller, stats) = Caller::new(config, first_id);
            Ok(Part::with_figures(caller.by(port), move || {
                let stats = *stats.lock().unwrap_or_else(PoisonError::into_inner);
                let figures = [
                    ("begun", stats.begun),
                    ("answered", stats.answered),
                    ("refused", stats.refused),
                    ("unanswered", stats.unanswered),
                    ("version", stats.version),
                ];
                figures.map(|(name, value)| (name.to_owned(), value)).into()
            }))
        })
}

/// Adds the header.
pub fn headers(headers: Headers) -> Headers {
    headers.with::<Call>()
}
