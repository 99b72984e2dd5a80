//! What goes over the socket: a line of JSON each.

use linecard_engine::Report;
use serde::{Deserialize, Serialize};

/// The version of the protocol. It changes when something that was there means something else or is gone; new requests
/// and fields do not change it.
pub const PROTOCOL: u32 = 1;

/// The first line that a server sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the library.
    pub linecard: String,
    /// That of the protocol: [`PROTOCOL`].
    pub protocol: u32,
    /// The process.
    pub pid: u32,
    /// What it does: `fwd`, `run`, `gen`, or a program's own name.
    pub command: String,
    /// What it is called: the socket's name.
    pub name: String,
}

/// A line of a client's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Asked {
    /// Comes back with every answer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

/// What a client can ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Everything that is known, once.
    Status,
    /// The same again and again, until the client hangs up; 100 ms to an hour. A watch takes the place of the one before.
    Watch {
        /// Milliseconds from one to the next.
        interval_ms: u64,
    },
    /// Another rate, as the program's command line takes it: `20kpps`, `5Gbps`, `40%`, `max`.
    Rate {
        /// The rate.
        rate: String,
    },
    /// The flow rules.
    Rules,
    /// One more flow rule.
    AddRule {
        /// As on the command line: `0: proto=udp => drop`.
        rule: String,
    },
    /// One less.
    RemoveRule {
        /// Its number.
        rule: u64,
    },
    /// What is logged.
    Log {
        /// `error`, `warn`, `info`, `debug`, `trace`, or directives as `LINECARD_LOG` takes them.
        filter: String,
    },
    /// Begins to record frames.
    CaptureStart(CaptureRequest),
    /// Ends that.
    CaptureStop,
    /// How the capture is.
    Capture,
    /// Stops the engine in order, as Ctrl-C does.
    Stop,
}

/// What is to be recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureRequest {
    /// The file, by a path as the engine's process sees it.
    pub file: String,
    /// Which frames; all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Bytes of each frame at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snap: Option<u32>,
    /// Ports by place; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
}

/// How a capture is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureStatus {
    /// Whether it goes on.
    pub running: bool,
    /// The file.
    pub file: String,
    /// Frames recorded.
    pub frames: u64,
    /// Frames that matched and were not recorded, because the file could not follow.
    pub drops: u64,
    /// Frames that the device or the kernel lost before anybody saw them.
    #[serde(default)]
    pub missed: u64,
    /// Why it ended by itself, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A line of the server's, behind its hello.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// The request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What is answered.
    #[serde(flatten)]
    pub reply: Reply,
}

/// What a server answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To `status`, and again and again to `watch`.
    Status(Box<Status>),
    /// To `rules`.
    Rules(Vec<RuleStatus>),
    /// To `add_rule`: its number.
    Added(u64),
    /// To what concerns captures.
    Capture(CaptureStatus),
    /// It was done, and how.
    Done(String),
    /// It was not done, and why.
    Error(String),
}

/// Everything that is known of a program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Who it is.
    pub hello: Hello,
    /// What its engine has counted.
    pub report: Report,
    /// What its generator sends, or its sink receives, stream by stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamStatus>,
    /// Its capture, if there is or was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<CaptureStatus>,
    /// Those who ask.
    pub clients: Clients,
}

/// Those who ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// Connected at this moment.
    pub connected: usize,
    /// Sent away since the start, because they did not read, or said too much.
    pub dropped: u64,
    /// Snapshots that were left out, because a client had not read the one before.
    pub skipped: u64,
}

/// A flow rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Its number, by which it can be removed.
    pub rule: u64,
    /// The port, by its place.
    pub port: u16,
    /// The port, by name.
    pub port_name: String,
    /// The rule as text.
    pub text: String,
    /// Frames that matched, where the device counts them.
    pub packets: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One stream of a generator, or one lane of a sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// What it is called.
    pub name: String,
    /// Which of that name: its place in a generator, a lane's number. None has what stands for several. With the name it
    /// is what a stream is known by, as others may come before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// The rate that it is to have; of what is received from elsewhere nothing is known of that.
    pub rate: String,
    /// Frames sent; of a lane, as far as the numbers in its frames tell.
    pub sent: u64,
    /// Frames that should have been sent by now and were not.
    pub unsent: u64,
    /// Frames that were sent late.
    pub late: u64,
    /// Frames received: by a sink, or by a generator that looks at what comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// Frames that were sent and not received, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
}

impl Status {
    /// The flow rules of all ports.
    pub fn rules(&self) -> Vec<RuleStatus> {
        let ports = (0..).zip(&self.report.ports);
        let rules = ports.flat_map(|(index, port)| {
            port.flows.iter().map(move |flow| RuleStatus {
                rule: flow.id,
                port: index,
                port_name: port.name.clone(),
                text: flow.rule.to_string(),
                packets: flow.packets,
                bytes: flow.bytes,
                problem: flow.problem.clone(),
            })
        });
        let mut rules: Vec<_> = rules.collect();
        rules.sort_by_key(|rule| rule.rule);
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_as_one_would_type_them() {
        for (line, request) in [
            (r#"{"do":"status"}"#, Request::Status),
            (
                r#"{"do":"watch","interval_ms":500}"#,
                Request::Watch { interval_ms: 500 },
            ),
            (
                r#"{"do":"remove_rule","rule":3}"#,
                Request::RemoveRule { rule: 3 },
            ),
            (
                r#"{"do":"capture_start","file":"/tmp/a.pcapng"}"#,
                Request::CaptureStart(CaptureRequest {
                    file: "/tmp/a.pcapng".into(),
                    ..CaptureRequest::default()
                }),
            ),
        ] {
            let asked: Asked = serde_json::from_str(line).unwrap();
            assert_eq!((asked.id, asked.request), (None, request.clone()));
            let asked = Asked {
                id: Some(7),
                request,
            };
            let again: Asked =
                serde_json::from_str(&serde_json::to_string(&asked).unwrap()).unwrap();
            assert_eq!((again.id, again.request), (Some(7), asked.request));
        }
        for line in [r#"{"do":"dance"}"#, r#"{"do":"watch"}"#, "{}", "7"] {
            assert!(serde_json::from_str::<Asked>(line).is_err(), "{line}");
        }
    }

    #[test]
    fn answers_have_one_key_beside_the_id() {
        let answer = Answer {
            id: Some(1),
            reply: Reply::Error("no".into()),
        };
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(text, r#"{"id":1,"error":"no"}"#);
        let again: Answer = serde_json::from_str(r#"{"added":4}"#).unwrap();
        assert!(matches!(again.reply, Reply::Added(4)) && again.id.is_none());
    }
}
