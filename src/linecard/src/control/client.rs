//! The other end: finding engines, asking them, watching them.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::message::{Answer, Asked, Hello, PROTOCOL, Reply, Request, Status};
use super::place::{directory, sockets_in};

/// How long to wait for an answer. A server that works answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// A line of a server's at most.
const MOST_LINE: u64 = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is nobody.
    #[error(
        "no engine runs here (none answers in {}); start one, for example: linecard fwd --port uring:eth1 --port uring:eth2{}",
        .0.display(),
        of_root()
    )]
    Nobody(PathBuf),
    /// There are several.
    #[error("several engines run here; name one of {0}")]
    Several(String),
    /// Not this one.
    #[error("no engine {0:?} runs here; {1}")]
    Unknown(String, String),
    /// It cannot be reached.
    #[error("no answer from {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// What answers there is not what we expect.
    #[error("{path}: {what}")]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It was understood and not done.
    #[error("{0}")]
    Refused(String),
}

/// Where else to look: engines that root started do not answer others.
fn of_root() -> &'static str {
    if !nix::unistd::geteuid().is_root() && Path::new("/run/linecard").exists() {
        "; root's engines are in /run/linecard: use sudo to see them"
    } else {
        ""
    }
}

/// An engine that answers.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its socket.
    pub path: PathBuf,
    /// Who it is.
    pub hello: Hello,
}

/// All engines of this user that answer, by name.
pub fn list() -> Vec<Found> {
    let answers = sockets_in(&directory()).into_iter().filter_map(|path| {
        let client = Client::connect(&path).ok()?;
        let hello = client.hello;
        Some(Found { path, hello })
    });
    answers.collect()
}

/// The engine that somebody means by a name, a process's number or a path; the only one if nothing is said.
pub fn find(target: Option<&str>) -> Result<Client, ClientError> {
    if let Some(path) = target.filter(|target| target.contains('/')) {
        return Client::connect(Path::new(path));
    }
    let mut found = list();
    let Some(target) = target else {
        return match found.len() {
            0 => Err(ClientError::Nobody(directory())),
            1 => Client::connect(&found.remove(0).path),
            _ => Err(ClientError::Several(names(&found))),
        };
    };
    let pid = target.parse().ok();
    let meant = |f: &&Found| f.hello.name == target || Some(f.hello.pid) == pid;
    match found.iter().find(meant) {
        Some(found) => Client::connect(&found.path),
        None if found.is_empty() => Err(ClientError::Nobody(directory())),
        None => {
            let there = format!("there is {}", names(&found));
            Err(ClientError::Unknown(target.to_owned(), there))
        }
    }
}

fn names(found: &[Found]) -> String {
    let names = found.iter().map(|Found { hello, .. }| {
        format!("{} ({}, pid {})", hello.name, hello.command, hello.pid)
    });
    names.collect::<Vec<_>>().join(", ")
}

/// A connection to a running engine.
#[derive(Debug)]
pub struct Client {
    /// Who answers.
    pub hello: Hello,
    path: PathBuf,
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects, and hears who it is.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let io = |source| ClientError::Io {
            path: path.to_owned(),
            source,
        };
        let stream = UnixStream::connect(path).map_err(io)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(io)?;
        let mut client = Self {
            hello: Hello {
                linecard: String::new(),
                protocol: 0,
                pid: 0,
                command: String::new(),
                name: String::new(),
            },
            path: path.to_owned(),
            reader: BufReader::new(stream),
        };
        let line = client.line()?;
        client.hello = match serde_json::from_str::<Hello>(&line) {
            Ok(hello) if hello.protocol == PROTOCOL => hello,
            Ok(hello) => {
                return Err(client.wrong(format!(
                    "Linecard {} answers there, whose protocol is {} and not {PROTOCOL}; use its own command",
                    hello.linecard, hello.protocol
                )));
            }
            // Sent away, perhaps.
            Err(_) => match serde_json::from_str::<Answer>(&line) {
                Ok(Answer {
                    reply: Reply::Error(why),
                    ..
                }) => return Err(ClientError::Refused(why)),
                _ => return Err(client.wrong("something else listens there".to_owned())),
            },
        };
        Ok(client)
    }

    /// Asks for something that has one answer.
    pub fn ask(&mut self, request: Request) -> Result<Reply, ClientError> {
        self.say(request)?;
        self.answer()
    }

    /// Everything that is known.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        match self.ask(Request::Status)? {
            Reply::Status(status) => Ok(*status),
            other => Err(self.wrong(format!("it answered {other:?}"))),
        }
    }

    /// Everything that is known, again and again. Ends with an error when the engine does.
    pub fn watch(
        mut self,
        interval: Duration,
    ) -> Result<impl Iterator<Item = Result<Status, ClientError>>, ClientError> {
        let interval_ms = interval.as_millis().try_into().unwrap_or(u64::MAX);
        self.say(Request::Watch { interval_ms })?;
        let patience = interval.saturating_add(PATIENCE);
        let stream = self.reader.get_ref();
        stream
            .set_read_timeout(Some(patience))
            .map_err(|e| self.io(e))?;
        Ok(std::iter::from_fn(move || {
            Some(match self.answer() {
                Ok(Reply::Status(status)) => Ok(*status),
                Ok(other) => Err(self.wrong(format!("it answered {other:?}"))),
                Err(error) => Err(error),
            })
        }))
    }

    fn say(&mut self, request: Request) -> Result<(), ClientError> {
        let asked = Asked { id: None, request };
        let mut line = serde_json::to_vec(&asked).map_err(|e| self.wrong(e.to_string()))?;
        line.push(b'\n');
        let outcome = self.reader.get_mut().write_all(&line);
        outcome.map_err(|source| self.io(source))
    }

    fn answer(&mut self) -> Result<Reply, ClientError> {
        let line = self.line()?;
        match serde_json::from_str::<Answer>(&line) {
            Ok(Answer {
                reply: Reply::Error(why),
                ..
            }) => Err(ClientError::Refused(why)),
            Ok(answer) => Ok(answer.reply),
            Err(error) => Err(self.wrong(error.to_string())),
        }
    }

    fn line(&mut self) -> Result<String, ClientError> {
        let mut line = String::new();
        let read = self.reader.by_ref().take(MOST_LINE).read_line(&mut line);
        match read {
            Ok(_) if line.ends_with('\n') => Ok(line),
            Ok(_) => Err(self.io(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the engine has ended",
            ))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let what = "is the process stopped?";
                Err(self.io(io::Error::new(io::ErrorKind::TimedOut, what)))
            }
            Err(error) => Err(self.io(error)),
        }
    }

    fn io(&self, source: io::Error) -> ClientError {
        ClientError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn wrong(&self, what: String) -> ClientError {
        ClientError::Protocol {
            path: self.path.clone(),
            what,
        }
    }
}
