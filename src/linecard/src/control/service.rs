//! What the server's thread does: one loop around `poll`, in which everybody has a turn.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::unistd::geteuid;
use serde::Serialize;

use super::capture::Recording;
use super::connection::{Connection, is_for_now};
use super::http;
use super::message::{Asked, Clients, Hello, Reply, Request, Status};
use super::metrics;
use super::place::Socket;
use super::server::SetLog;
use super::{Controlled, Refused, parse_rule};

/// Clients at a time.
const MOST_CLIENTS: usize = 16;

/// Readers of metrics at a time; one more, and the first of them has to go.
const MOST_READERS: usize = 16;

/// The kernel keeps no more than about this of what a client does not read, so that it is noticed soon.
const SEND_BUFFER: usize = 8 << 10;

/// How long a client may leave something unread.
const READ_PATIENCE: Duration = Duration::from_secs(2);

/// How long a reader of metrics may take from end to end.
const WEB_PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take over reading the answer and hanging up.
const FAREWELL: Duration = Duration::from_secs(2);

/// Shortest and longest time from one snapshot to the next.
const INTERVALS: (u64, u64) = (100, 3_600_000);

/// Somebody at the socket.
struct Client {
    connection: Connection,
    watch: Option<Watch>,
}

struct Watch {
    id: Option<u64>,
    every: Duration,
    next: Instant,
}

/// Somebody who reads metrics.
struct Reader {
    connection: Connection,
    until: Instant,
    answered: bool,
}

/// Why somebody is gone.
enum Gone {
    /// They left.
    Left,
    /// They were sent away.
    Dropped,
}

pub(super) struct Service {
    hello: Hello,
    program: Box<dyn Controlled>,
    set_log: Option<SetLog>,
    clients: Vec<Client>,
    readers: Vec<Reader>,
    recording: Option<Recording>,
    counts: Clients,
}

impl Service {
    pub(super) fn new(hello: Hello, program: Box<dyn Controlled>, set_log: Option<SetLog>) -> Self {
        Self {
            hello,
            program,
            set_log,
            clients: Vec::new(),
            readers: Vec::new(),
            recording: None,
            counts: Clients::default(),
        }
    }

    /// Until it is over.
    pub(super) fn run(
        mut self,
        socket: Option<&Socket>,
        web: Option<&TcpListener>,
        over: &AtomicBool,
        wake: &EventFd,
    ) {
        while !over.load(Ordering::Acquire) {
            self.wait(socket, web, wake);
            if let Some(socket) = socket {
                self.accept_clients(&socket.listener);
            }
            if let Some(web) = web {
                self.accept_readers(web);
            }
            self.serve_clients();
            self.serve_readers();
        }
    }

    /// Until somebody says something, or it is time for something.
    fn wait(&self, socket: Option<&Socket>, web: Option<&TcpListener>, wake: &EventFd) {
        let mut fds = vec![PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
        if let Some(socket) = socket {
            fds.push(PollFd::new(socket.listener.as_fd(), PollFlags::POLLIN));
        }
        if let Some(web) = web {
            fds.push(PollFd::new(web.as_fd(), PollFlags::POLLIN));
        }
        for client in &self.clients {
            fds.push(interest(&client.connection));
        }
        for reader in &self.readers {
            fds.push(interest(&reader.connection));
        }
        let due = self.clients.iter().flat_map(|client| {
            let watch = client.watch.as_ref().map(|watch| watch.next);
            let patience = client.connection.waiting_since();
            [watch, patience.map(|since| since + READ_PATIENCE)]
        });
        let due = due.flatten().chain(self.readers.iter().map(|r| r.until));
        let timeout = match due.min() {
            // A millisecond more than is left, so as not to wake too early.
            _ if self.clients.iter().any(|c| c.connection.has_line()) => PollTimeout::ZERO,
            Some(due) => {
                let left = due.saturating_duration_since(Instant::now()).as_millis() + 1;
                PollTimeout::from(left.min(60_000) as u16)
            }
            None => PollTimeout::NONE,
        };
        let _: nix::Result<i32> = poll(&mut fds, timeout);
    }

    fn accept_clients(&mut self, listener: &UnixListener) {
        // Some at a time: those who are here have their turn as well.
        for _ in 0..MOST_CLIENTS {
            let Some((stream, _)) = accepted(listener.accept()) else {
                return;
            };
            if let Some(client) = self.admit(stream) {
                self.clients.push(client);
            } else {
                self.counts.dropped += 1;
            }
        }
    }

    /// Only who may, and only so many.
    fn admit(&self, stream: UnixStream) -> Option<Client> {
        stream.set_nonblocking(true).ok()?;
        let uid = getsockopt(&stream, sockopt::PeerCredentials).ok()?.uid();
        // That the buffer is as large as usual is no reason to refuse anybody.
        let _: nix::Result<()> = setsockopt(&stream, sockopt::SndBuf, &SEND_BUFFER);
        let mut client = Client {
            connection: Connection::new(Box::new(stream)),
            watch: None,
        };
        let refusal = if uid != 0 && uid != geteuid().as_raw() {
            Some("this engine is another user's".to_owned())
        } else if self.clients.len() >= MOST_CLIENTS {
            Some(format!("there are {MOST_CLIENTS} clients already"))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            client.answer(None, &Reply::Error(refusal));
            let _: io::Result<()> = client.connection.flush();
            return None;
        }
        client.connection.push(&line(&self.hello));
        Some(client)
    }

    fn accept_readers(&mut self, listener: &TcpListener) {
        for _ in 0..MOST_READERS {
            let Some((stream, _)) = accepted(listener.accept()) else {
                return;
            };
            if self.readers.len() == MOST_READERS {
                // Who has been at it for the longest: a reader that means it is done in a moment.
                self.readers.remove(0);
            }
            if stream.set_nonblocking(true).is_ok() {
                self.readers.push(Reader {
                    connection: Connection::new(Box::new(stream)),
                    until: Instant::now() + WEB_PATIENCE,
                    answered: false,
                });
            }
        }
    }

    fn serve_clients(&mut self) {
        let mut clients = std::mem::take(&mut self.clients);
        self.counts.connected = clients.len();
        // One for all who want one now.
        let mut status = None;
        clients.retain_mut(|client| match self.serve(client, &mut status) {
            Ok(()) => true,
            Err(Gone::Left) => false,
            Err(Gone::Dropped) => {
                self.counts.dropped += 1;
                false
            }
        });
        self.clients = clients;
    }

    /// Reads, answers one request, writes. Only who has read the answer before gets another.
    fn serve(&mut self, client: &mut Client, status: &mut Option<Reply>) -> Result<(), Gone> {
        let connection = &mut client.connection;
        connection.flush().map_err(|_| Gone::Left)?;
        connection.fill().map_err(|_| Gone::Left)?;
        if connection.is_drained() {
            if let Some(line) = connection.take_line() {
                self.answer(client, &line);
            } else if !connection.has_room() {
                client.answer(None, &Reply::Error("the line is too long".to_owned()));
                let _: io::Result<()> = client.connection.flush();
                return Err(Gone::Dropped);
            } else if connection.ended {
                return Err(Gone::Left);
            }
        }
        self.show(client, status);
        client.connection.flush().map_err(|_| Gone::Left)?;
        match client.connection.waiting_since() {
            Some(since) if since.elapsed() >= READ_PATIENCE => Err(Gone::Dropped),
            _ => Ok(()),
        }
    }

    /// The next snapshot of a watch, if it is time.
    fn show(&mut self, client: &mut Client, status: &mut Option<Reply>) {
        let now = Instant::now();
        let Some(watch) = client.watch.as_mut().filter(|watch| watch.next <= now) else {
            return;
        };
        // In step with the beginning, however late this one is.
        let late = now.duration_since(watch.next).as_nanos() / watch.every.as_nanos();
        watch.next += watch.every * (late as u32 + 1);
        if !client.connection.is_drained() {
            self.counts.skipped += 1;
            return;
        }
        let id = watch.id;
        let reply = status.get_or_insert_with(|| self.status());
        client.answer(id, reply);
    }

    fn answer(&mut self, client: &mut Client, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let Asked { id, request } = match serde_json::from_slice(line) {
            Ok(asked) => asked,
            Err(error) => {
                let why = format!("not a request: {error}; for example {{\"do\":\"status\"}}");
                return client.answer(None, &Reply::Error(why));
            }
        };
        if let Request::Watch { interval_ms } = request {
            let every = Duration::from_millis(interval_ms.clamp(INTERVALS.0, INTERVALS.1));
            let next = Instant::now();
            client.watch = Some(Watch { id, every, next });
            return;
        }
        let reply = self
            .reply(request)
            .unwrap_or_else(|Refused(why)| Reply::Error(why));
        client.answer(id, &reply);
    }

    fn reply(&mut self, request: Request) -> Result<Reply, Refused> {
        let program = &mut self.program;
        Ok(match request {
            Request::Status | Request::Watch { .. } => self.status(),
            Request::Rate { rate } => Reply::Done(program.set_rate(&rate)?),
            Request::Rules => match self.status() {
                Reply::Status(status) => Reply::Rules(status.rules()),
                other => other,
            },
            Request::AddRule { rule } => {
                let rule = parse_rule(&rule).map_err(Refused)?;
                Reply::Added(program.engine().add_rule(rule).map_err(Refused::because)?)
            }
            Request::RemoveRule { rule } => {
                let removed = program.engine().remove_rule(rule);
                let removed = removed.map_err(Refused::because)?;
                Reply::Done(format!("removed {}: {}", removed.port, removed.rule))
            }
            Request::Log { filter } => {
                let unset = || Refused("this program's log cannot be changed".to_owned());
                self.set_log.ok_or_else(unset)?(&filter).map_err(Refused)?;
                Reply::Done(format!("logs {filter}"))
            }
            Request::CaptureStart(request) => {
                if let Some(running) = self.recording.as_ref().map(Recording::status)
                    && running.running
                {
                    let why = format!("there is one already, to {}", running.file);
                    return Err(Refused(why));
                }
                let recording = Recording::start(program.engine(), &request)?;
                Reply::Capture(self.recording.insert(recording).status())
            }
            Request::CaptureStop | Request::Capture => match &self.recording {
                Some(recording) => {
                    if request == Request::CaptureStop {
                        recording.stop();
                    }
                    Reply::Capture(recording.status())
                }
                None => return Err(Refused("there is no capture".to_owned())),
            },
            Request::Stop => {
                program.stop();
                Reply::Done("stopping".to_owned())
            }
        })
    }

    fn status(&mut self) -> Reply {
        Reply::Status(Box::new(Status {
            hello: self.hello.clone(),
            report: self.program.engine().snapshot(),
            streams: self.program.streams(),
            capture: self.recording.as_ref().map(Recording::status),
            clients: self.counts,
        }))
    }

    fn serve_readers(&mut self) {
        let mut readers = std::mem::take(&mut self.readers);
        readers.retain_mut(|reader| self.serve_reader(reader).is_ok());
        self.readers = readers;
    }

    fn serve_reader(&mut self, reader: &mut Reader) -> io::Result<()> {
        let gone = || Err(io::ErrorKind::ConnectionAborted.into());
        if reader.until <= Instant::now() {
            return gone();
        }
        let connection = &mut reader.connection;
        connection.fill()?;
        let full = !connection.has_room();
        if reader.answered {
            // What comes now is read only so that the answer is not cut off by a reset.
            connection.input().clear();
        } else if let Some(request) = http::parse(connection.input(), full) {
            let response = http::respond(&request, |format| match self.status() {
                Reply::Status(status) => metrics::render(&status, format),
                _ => String::new(),
            });
            reader.connection.push(&response);
            reader.answered = true;
            reader.until = Instant::now() + FAREWELL;
        }
        let connection = &mut reader.connection;
        connection.flush()?;
        if reader.answered && connection.is_drained() {
            connection.finish();
        }
        // Who has said all may still be reading.
        if connection.ended && connection.is_drained() {
            return gone();
        }
        Ok(())
    }
}

impl Client {
    fn answer(&mut self, id: Option<u64>, reply: &Reply) {
        /// An [`Answer`](super::message::Answer) whose reply is somebody else's.
        #[derive(Serialize)]
        struct Answer<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<u64>,
            #[serde(flatten)]
            reply: &'a Reply,
        }
        self.connection.push(&line(&Answer { id, reply }));
    }
}

/// Who has connected; nobody if there is nobody more.
fn accepted<T>(outcome: io::Result<T>) -> Option<T> {
    match outcome {
        Ok(stream) => Some(stream),
        Err(error) => {
            if !is_for_now(&error) {
                // No descriptors left, most likely, and whoever waits goes on waiting.
                std::thread::sleep(Duration::from_millis(20));
            }
            None
        }
    }
}

/// As one line.
fn line(message: &impl Serialize) -> Vec<u8> {
    // Nothing of ours has a key that is not text, which is all that could fail.
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Who has something to read first reads it, before we listen again.
fn interest(connection: &Connection) -> PollFd<'_> {
    let events = if !connection.is_drained() {
        PollFlags::POLLOUT
    } else {
        PollFlags::POLLIN
    };
    PollFd::new(connection.fd(), events)
}
