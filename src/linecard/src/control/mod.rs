//! Watching and controlling a running engine from outside of its process.
//!
//! A program gives a [`Server`] what it can do ([`Controlled`]; a [`Remote`] alone gives status, flow rules, captures and stop) and a
//! [`Socket`]. One thread answers all who connect; no worker ever waits for it.
//!
//! ```no_run
//! use linecard::control::{Config, Place, Server, Socket};
//! # let running: linecard::Running = unimplemented!();
//! let socket = Socket::bind(&Place::default())?;
//! let _server = Server::start(Config::new("my-probe").socket(socket), Box::new(running.remote()))?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! `linecard top` and `linecard ctl` find it by itself; a [`Client`] is the other end in a program.
//!
//! # The protocol
//!
//! A unix stream socket, open to its owner (and root) only: `NAME.sock` in `$XDG_RUNTIME_DIR/linecard`, or in `/run/linecard`.
//! Each side sends lines of JSON. The server begins with its [`Hello`]; then each line of the client is a [`Request`], and each
//! has an [`Answer`], in order, with the request's `id` if it had one:
//!
//! ```text
//! < {"linecard":"0.1.0","protocol":1,"pid":4711,"command":"fwd","name":"4711"}
//! > {"do":"add_rule","rule":"0: proto=udp dport=53 => drop"}
//! < {"added":2}
//! > {"id":7,"do":"rate","rate":"20kpps"}
//! < {"id":7,"error":"fwd sends at no rate of its own; linecard gen does"}
//! > {"id":8,"do":"watch","interval_ms":1000}
//! < {"id":8,"status":{…}}
//! < {"id":8,"status":{…}}
//! ```
//!
//! | request | with | answer |
//! | --- | --- | --- |
//! | `status` | | `status`: [`Status`] |
//! | `watch` | `interval_ms` | `status`, at once and then each interval |
//! | `rate` | `rate` | `done` |
//! | `rules` | | `rules`: a list of [`RuleStatus`] |
//! | `add_rule` | `rule`: `"PORT: FIELD=VALUE … => ACTION"` | `added`: its number |
//! | `remove_rule` | `rule`: its number | `done` |
//! | `log` | `filter` | `done` |
//! | `capture_start` | [`CaptureRequest`] | `capture`: [`CaptureStatus`] |
//! | `capture_stop`, `capture` | | `capture` |
//! | `stop` | | `done` |
//!
//! Whatever was refused or not understood is answered by `error`, a sentence; the connection goes on. Fields and requests may be added; an
//! unknown field is to be skipped. Everything is bounded: so many clients, so long a line, one answer at a time for each. A client
//! that does not read is skipped at first and sent away after a while, which [`Clients`] counts.
//!
//! ```console
//! $ (echo '{"do":"status"}'; sleep 1) | nc -U /run/linecard/4711.sock | jq .status.report.account
//! ```
//!
//! # Metrics
//!
//! With [`Config::metrics`] the same thread answers HTTP GET `/metrics` in the format of OpenMetrics or of Prometheus 0.0.4,
//! whichever the reader accepts.

mod capture;
mod client;
mod connection;
mod http;
mod message;
mod metrics;
mod place;
mod server;
mod service;
#[cfg(test)]
mod tests;

use linecard_engine::{PortRule, Remote};

pub use client::{Client, ClientError, Found, find, list};
pub use message::{
    Answer, Asked, CaptureRequest, CaptureStatus, Clients, Hello, PROTOCOL, Reply, Request,
    RuleStatus, Status, StreamStatus,
};
pub use metrics::{Format, render as render_metrics};
pub use place::{Place, Socket, directory};
pub use server::{Config, Server, SetLog};

/// Why something was not done: a sentence for whoever asked, with what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Refused {
    /// From any error.
    pub fn because(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }

    /// From an error and what is behind it, as whoever asked sees nothing but this text.
    pub fn chain(error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let causes: Vec<_> = causes.map(ToString::to_string).collect();
        Self(causes.join(": "))
    }
}

/// What a running program lets others do. What it does not implement is refused.
///
/// Called by the server's thread, one call at a time: each has to return soon, as others wait meanwhile.
pub trait Controlled: Send {
    /// Its engine: status, flow rules, captures and stopping are the engine's own.
    fn engine(&self) -> &Remote;

    /// What its generator sends, or its sink receives.
    fn streams(&mut self) -> Vec<StreamStatus> {
        Vec::new()
    }

    /// Sends at another rate from now on; says what it came to.
    fn set_rate(&mut self, rate: &str) -> Result<String, Refused> {
        let _ = rate;
        Err(Refused(
            "there is no rate to set here; linecard gen has one".to_owned(),
        ))
    }

    /// Ends in order, as Ctrl-C does.
    fn stop(&mut self) {
        self.engine().stop();
    }
}

/// An engine with nothing around it.
impl Controlled for Remote {
    fn engine(&self) -> &Remote {
        self
    }
}

/// A flow rule for a port, as command lines and requests have it: the port's number, a colon, the rule.
pub fn parse_rule(text: &str) -> Result<PortRule, String> {
    let split = text.split_once(':');
    let (port, rule) = split
        .and_then(|(port, rule)| Some((port.trim().parse().ok()?, rule)))
        .ok_or_else(|| {
            format!("{text:?} does not begin with a port's number, as in \"0: proto=udp => drop\"")
        })?;
    let rule = rule
        .parse()
        .map_err(|e: linecard_hal::flow::FlowSyntaxError| e.to_string())?;
    Ok(PortRule { port, rule })
}
