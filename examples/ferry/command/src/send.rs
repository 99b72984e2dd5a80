//! Sending: a thread that reads the file, and the application that sends what it read.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use linecard::engine::channel::{
    AppReceiver, AppSender, WorkerReceiver, WorkerSender, to_application, to_worker,
};
use linecard::engine::protocol::Wake;
use linecard_ferry::transport::Application;
use linecard_ferry::{ConnectionId, Endpoint, SendError, State};

use super::progress::Progress;
use super::receive::explain;

/// Bytes of the file in a message.
const MESSAGE_LEN: usize = 64 << 10;
/// Messages that the reader is ahead of the connection.
const AHEAD: usize = 64;

/// A message: the last one is `None`, and then there is nothing.
type Message = Option<Vec<u8>>;

/// Sends one file.
#[derive(Debug)]
pub(super) struct FileSender {
    to: SocketAddr,
    connection: Option<ConnectionId>,
    messages: WorkerReceiver<Message>,
    used: WorkerSender<Vec<u8>>,
    /// A message that there was no room for.
    waiting: Option<Vec<u8>>,
    announced: bool,
    read_all: bool,
    /// It could send, and there is nothing.
    starved: bool,
    progress: Arc<Progress>,
}

/// Opens the file and begins to read it. The first message has its length and its name.
pub(super) fn open(
    path: &Path,
    to: SocketAddr,
    progress: &Arc<Progress>,
) -> Result<(FileSender, JoinHandle<()>)> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let metadata = file.metadata()?;
    ensure!(metadata.is_file(), "{} is no file", path.display());
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let announcement = [&metadata.len().to_be_bytes(), name].concat();
    progress.total.store(metadata.len(), Ordering::Relaxed);
    let (messages, to_send) = to_worker(AHEAD);
    let (used, empty) = to_application(2 * AHEAD, AHEAD);
    let mut reader = Reader {
        file,
        left: metadata.len(),
        messages,
        empty,
        progress: progress.clone(),
    };
    let (shown, progress) = (path.display().to_string(), progress.clone());
    let thread = std::thread::Builder::new().name("reader".into());
    let thread = thread.spawn({
        let progress = progress.clone();
        move || {
            if let Err(error) = reader.read(announcement) {
                progress.fail(format!("cannot read {shown}: {error}"));
            }
            // Only now does the worker see that there is no more to come, and why is said already.
            drop(reader);
            progress.ring();
        }
    })?;
    let sender = FileSender {
        to,
        connection: None,
        messages: to_send,
        used,
        waiting: None,
        announced: false,
        read_all: false,
        starved: false,
        progress,
    };
    Ok((sender, thread))
}

struct Reader {
    file: File,
    left: u64,
    messages: AppSender<Message>,
    /// Memory of messages that were sent.
    empty: AppReceiver<Vec<u8>>,
    progress: Arc<Progress>,
}

impl Reader {
    /// Reads what was announced, however the file grows meanwhile. The end is only said if there was so much.
    fn read(&mut self, announcement: Vec<u8>) -> std::io::Result<()> {
        if !self.hand_over(Some(announcement)) {
            return Ok(());
        }
        while self.left > 0 {
            let mut message = self.empty.try_recv().unwrap_or_default();
            message.resize(self.left.min(MESSAGE_LEN as u64) as usize, 0);
            self.file.read_exact(&mut message)?;
            self.left -= message.len() as u64;
            if !self.hand_over(Some(message)) {
                return Ok(());
            }
        }
        self.hand_over(None);
        Ok(())
    }

    /// Waits for room. Whether the worker is still there: its going wakes us, too.
    fn hand_over(&mut self, message: Message) -> bool {
        let sent = self.messages.send_timeout(message, Duration::MAX).is_ok();
        self.progress.ring();
        sent
    }
}

impl FileSender {
    /// Moves messages from the reader to the connection, as many as there are and fit.
    fn pump(&mut self, now_ns: u64, endpoint: &mut Endpoint, id: ConnectionId) {
        self.starved = false;
        if self.look_for_the_end(now_ns, endpoint, id) {
            return;
        }
        let Some(connection) = endpoint.connection(id) else {
            return;
        };
        while !self.read_all {
            let Some(message) = self.waiting.take().or_else(|| self.next()) else {
                break;
            };
            match connection.send(&message) {
                Ok(()) => {
                    // The announcement is not of the file.
                    let len = message.len() as u64 * u64::from(self.announced);
                    self.announced = true;
                    self.progress.bytes.fetch_add(len, Ordering::Relaxed);
                    // Where there is no room for it, it is freed here.
                    let _ = self.used.put(message);
                }
                Err(SendError::Full) => {
                    self.waiting = Some(message);
                    break;
                }
                Err(error) => {
                    self.progress.fail(format!("{}: {error}", self.to));
                    connection.abort(2);
                    break;
                }
            }
        }
        self.used.flush();
        if self.read_all {
            connection.close();
        } else if self.messages.is_finished() {
            // The reader is gone before the end.
            connection.abort(2);
        }
        // What was broken off here has nothing more to wake us for.
        self.look_for_the_end(now_ns, endpoint, id);
    }

    /// Whether the connection is over. Then so is all.
    fn look_for_the_end(&self, now_ns: u64, endpoint: &mut Endpoint, id: ConnectionId) -> bool {
        let state = endpoint.peek(id).map(|connection| connection.state());
        let Some(State::Closed(ending)) = state else {
            return false;
        };
        self.progress.end(now_ns, explain(self.to, ending));
        endpoint.remove(now_ns, id);
        self.progress.finish();
        true
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        match self.messages.pop() {
            Some(Some(message)) => Some(message),
            Some(None) => {
                self.read_all = true;
                None
            }
            None => {
                self.starved = true;
                None
            }
        }
    }
}

impl Application for FileSender {
    fn work(&mut self, now_ns: u64, endpoint: &mut Endpoint) {
        while endpoint.changed().is_some() {}
        if self.progress.is_over() {
            self.starved = false;
            return;
        }
        if self.connection.is_none() {
            self.progress.begin(now_ns);
            self.connection = endpoint.connect(now_ns, self.to);
        }
        if let Some(id) = self.connection {
            self.pump(now_ns, endpoint, id);
        }
    }

    fn deadline(&self) -> Option<u64> {
        // To connect, at the beginning.
        let begins = self.connection.is_none() && !self.progress.is_over();
        begins.then_some(0)
    }

    fn attach(&mut self, wake: &Wake) {
        self.messages.attach(wake);
    }

    fn is_ready(&self) -> bool {
        self.starved && self.messages.is_ready()
    }
}

#[cfg(test)]
mod tests {
    use linecard_ferry::{Config, Secret, UDP_PORT};

    use super::*;

    #[test]
    fn a_reader_that_fails_is_the_end_at_once() {
        let progress = Arc::new(Progress::new().unwrap());
        let to = ([10, 0, 0, 2], UDP_PORT).into();
        // It has fewer bytes than it says.
        let short = Path::new("/sys/class/net/lo/address");
        let (mut sender, reader) = open(short, to, &progress).unwrap();
        reader.join().unwrap();
        let mut endpoint = Endpoint::new(Config::default(), Secret::new([7; 16], 0), false);
        sender.work(1, &mut endpoint);
        assert!(progress.is_over(), "nothing would call again");
        let failure = progress.failure().unwrap();
        assert!(failure.contains("cannot read /sys"), "{failure}");
        assert_eq!(endpoint.population().0, 0);
    }
}
