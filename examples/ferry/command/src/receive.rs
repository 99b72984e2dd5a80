//! Receiving: the application that reads connections, for a thread that [writes](super::writer) files.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Result, ensure};
use linecard::engine::channel::{WorkerReceiver, WorkerSender, to_application, to_worker};
use linecard::engine::protocol::Wake;
use linecard_ferry::transport::Application;
use linecard_ferry::{ConnectionId, Ending, Endpoint, State};

use super::progress::Progress;
use super::writer::{Answer, Piece, Writer};

/// Pieces that the worker is ahead of the writer.
const AHEAD: usize = 64;
/// The file could not be written.
const NOT_WRITTEN: u32 = 2;

/// How a connection ended, unless as it should.
pub(super) fn explain(peer: SocketAddr, ending: Ending) -> Option<String> {
    let what = match ending {
        Ending::Finished => return None,
        Ending::NoHandshake => "nobody answers; start `ferry receive` there first",
        Ending::Silence => "nothing was heard for 30 s",
        Ending::AbortedByPeer(NOT_WRITTEN) => "the file could not be written there, or not be read",
        Ending::Aborted(_) | Ending::AbortedByPeer(_) => "the connection was broken off",
    };
    Some(format!("{peer}: {what}"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reading,
    /// The writer was told that this is all.
    Asked,
    /// It has written all, and the sender is told.
    Written,
}

/// Receives files.
pub(super) struct FileReceiver {
    /// How many files are still to come.
    left: u64,
    /// There was only one to come: when it breaks, and there is nobody else to send it, that is the end.
    one: bool,
    stages: BTreeMap<ConnectionId, Stage>,
    pieces: WorkerSender<Piece>,
    answers: WorkerReceiver<Answer>,
    empty: Vec<Vec<u8>>,
    /// Empty between calls.
    ids: Vec<ConnectionId>,
    /// Something was left for want of room.
    was_full: bool,
    next_look_ns: Option<u64>,
    /// When the latest file was written.
    written_ns: u64,
    progress: Arc<Progress>,
}

/// Begins to receive `count` files into a directory, or one into a file.
pub(super) fn open(
    into: &Path,
    count: u64,
    progress: &Arc<Progress>,
) -> Result<(FileReceiver, JoinHandle<()>)> {
    let metadata = into.metadata();
    let folder = metadata.is_ok_and(|metadata| metadata.is_dir());
    ensure!(
        folder || count == 1,
        "{} is no directory, and {count} files do not go into one",
        into.display()
    );
    let (pieces, to_write) = to_application(AHEAD, 8);
    let (answers, answered) = to_worker(4 * AHEAD);
    let writer = Writer::new(into, folder, to_write, answers, progress.clone());
    let thread = std::thread::Builder::new().name("writer".into());
    let thread = thread.spawn(move || writer.write())?;
    let receiver = FileReceiver {
        left: count,
        one: count == 1,
        stages: BTreeMap::new(),
        pieces,
        answers: answered,
        empty: Vec::with_capacity(2 * AHEAD),
        ids: Vec::new(),
        was_full: false,
        next_look_ns: None,
        written_ns: 0,
        progress: progress.clone(),
    };
    Ok((receiver, thread))
}

impl FileReceiver {
    fn hear(&mut self, now_ns: u64, endpoint: &mut Endpoint) {
        while let Some(answer) = self.answers.pop() {
            match answer {
                Answer::Used(memory) if self.empty.len() < self.empty.capacity() => {
                    self.empty.push(memory)
                }
                Answer::Used(_) => {}
                // From here on the sender knows that its file is written.
                Answer::Written(id) => {
                    // Unless its connection is over already.
                    if let Some(stage) = self.stages.get_mut(&id) {
                        *stage = Stage::Written;
                        self.written_ns = now_ns;
                    }
                    if let Some(connection) = endpoint.connection(id) {
                        connection.close();
                    }
                }
                Answer::Failed(id) => {
                    if let Some(connection) = endpoint.connection(id) {
                        connection.abort(NOT_WRITTEN);
                    }
                }
            }
        }
    }

    /// Hands the messages of one connection to the writer, as far as there is room.
    fn read(&mut self, endpoint: &mut Endpoint, id: ConnectionId) {
        let (Some(connection), Some(stage)) = (endpoint.connection(id), self.stages.get_mut(&id))
        else {
            return;
        };
        if *stage != Stage::Reading {
            return;
        }
        loop {
            if self.pieces.room() == 0 {
                self.was_full = true;
                return;
            }
            let mut message = self.empty.pop().unwrap_or_default();
            if !connection.receive_message(&mut message) {
                self.empty.push(message);
                break;
            }
            let _ = self.pieces.put(Piece::Bytes(id, message));
        }
        if connection.is_drained() {
            if self.pieces.room() == 0 {
                self.was_full = true;
                return;
            }
            *stage = Stage::Asked;
            let _ = self.pieces.put(Piece::Whole(id));
        }
    }

    /// A connection that is over is forgotten.
    fn look_for_the_end(&mut self, now_ns: u64, endpoint: &mut Endpoint, id: ConnectionId) {
        let over = endpoint
            .peek(id)
            .and_then(|connection| match connection.state() {
                State::Closed(ending) if !connection.has_message() => {
                    Some((connection.peer(), ending))
                }
                _ => None,
            });
        let Some((peer, ending)) = over else { return };
        if self.pieces.room() == 0 {
            self.was_full = true;
            return;
        }
        let stage = self.stages.remove(&id);
        endpoint.remove(now_ns, id);
        let written = stage == Some(Stage::Written);
        if !written {
            let _ = self.pieces.put(Piece::Broken(id));
        }
        if written {
            // However it ended: the sender's last word may be lost, and it waits for ours, but not for ever.
            self.progress.end(self.written_ns, None);
            self.left = self.left.saturating_sub(1);
        } else {
            self.progress.end(now_ns, explain(peer, ending));
        }
        // What is broken is no file. Others may be on their way, and are not to suffer for it.
        if self.left == 0 || (self.one && !written && self.stages.is_empty()) {
            self.progress.finish();
        }
    }
}

impl Application for FileReceiver {
    fn work(&mut self, now_ns: u64, endpoint: &mut Endpoint) {
        self.was_full = false;
        self.hear(now_ns, endpoint);
        while let Some(id) = endpoint.changed() {
            self.progress.begin(now_ns);
            self.stages.entry(id).or_insert(Stage::Reading);
        }
        let mut ids = std::mem::take(&mut self.ids);
        ids.extend(self.stages.keys());
        for id in ids.drain(..) {
            self.read(endpoint, id);
            self.look_for_the_end(now_ns, endpoint, id);
        }
        self.ids = ids;
        self.pieces.flush();
        // While there is no room, the writer wakes us when it has made some.
        self.next_look_ns = (self.was_full && self.pieces.room() > 0).then_some(now_ns);
    }

    fn attach(&mut self, wake: &Wake) {
        self.pieces.attach(wake);
        self.answers.attach(wake);
    }

    fn is_ready(&self) -> bool {
        self.pieces.is_ready() || self.answers.is_ready()
    }

    fn deadline(&self) -> Option<u64> {
        self.next_look_ns
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use linecard_ferry::{Config, Secret, UDP_PORT};

    use super::*;

    /// A sender and a receiver with nothing but memory between them, in a time of their own.
    struct Pair {
        now_ns: u64,
        client: Endpoint,
        server: Endpoint,
        receiver: FileReceiver,
        progress: Arc<Progress>,
        writer: JoinHandle<()>,
    }

    impl Pair {
        fn new(into: &Path, count: u64) -> Self {
            let progress = Arc::new(Progress::new().unwrap());
            let (receiver, writer) = open(into, count, &progress).unwrap();
            let [client, server] = [1, 2]
                .map(|key| Endpoint::new(Config::default(), Secret::new([key; 16], 0), key == 2));
            Self {
                now_ns: 0,
                client,
                server,
                receiver,
                progress,
                writer,
            }
        }

        /// Carries packets until the receiver knows of this.
        fn until(&mut self, happens: impl Fn(&Self) -> bool) {
            let [here, there] = [1, 2].map(|last| ([10, 0, 0, last], UDP_PORT).into());
            let mut buffer = [0; 2048];
            while !happens(self) {
                // Slower than the clock on the wall, so that nothing but the test breaks anything off.
                std::thread::sleep(Duration::from_micros(100));
                self.now_ns += 100_000;
                while let Some((_, len)) = self.client.transmit(self.now_ns, &mut buffer) {
                    self.server.receive(self.now_ns, here, &buffer[..len]);
                }
                self.receiver.work(self.now_ns, &mut self.server);
                while let Some((_, len)) = self.server.transmit(self.now_ns, &mut buffer) {
                    self.client.receive(self.now_ns, there, &buffer[..len]);
                }
                self.client.expire(self.now_ns);
                self.server.expire(self.now_ns);
            }
        }

        /// Begins to send a file of three bytes.
        fn announce(&mut self, name: &str) -> ConnectionId {
            let to = ([10, 0, 0, 2], UDP_PORT).into();
            let id = self.client.connect(self.now_ns, to).unwrap();
            let message = [&3_u64.to_be_bytes(), name.as_bytes()].concat();
            self.client.connection(id).unwrap().send(&message).unwrap();
            let before = self.receiver.stages.len();
            self.until(|pair| pair.receiver.stages.len() > before);
            id
        }

        fn break_off(&mut self, id: ConnectionId) {
            self.client.connection(id).unwrap().abort(9);
            let before = self.receiver.stages.len();
            self.until(|pair| pair.receiver.stages.len() < before);
        }

        fn complete(&mut self, id: ConnectionId) {
            let connection = self.client.connection(id).unwrap();
            connection.send(b"abc").unwrap();
            connection.close();
            let before = self.receiver.left;
            self.until(|pair| pair.receiver.left < before);
        }

        /// How many files were written, and whether anything went wrong.
        fn end(self) -> (u64, bool) {
            drop(self.receiver);
            self.writer.join().unwrap();
            let files = self
                .progress
                .files
                .load(std::sync::atomic::Ordering::Relaxed);
            (files, self.progress.failure().is_some())
        }
    }

    #[test]
    fn a_connection_that_breaks_does_not_end_another() {
        let folder = tempfile::tempdir().unwrap();
        let mut pair = Pair::new(folder.path(), 1);
        let (one, other) = (pair.announce("one"), pair.announce("other"));
        pair.break_off(one);
        assert!(!pair.progress.is_over());
        pair.complete(other);
        assert!(pair.progress.is_over());
        assert_eq!(pair.end(), (1, true));
        assert_eq!(std::fs::read(folder.path().join("other")).unwrap(), b"abc");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_only_one_that_breaks_is_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut pair = Pair::new(folder.path(), 1);
        let one = pair.announce("one");
        pair.break_off(one);
        assert!(pair.progress.is_over());
        assert_eq!(pair.end(), (0, true));
    }

    #[test]
    fn of_several_files_one_that_breaks_can_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut pair = Pair::new(folder.path(), 2);
        let one = pair.announce("one");
        pair.break_off(one);
        for name in ["one", "other"] {
            assert!(!pair.progress.is_over());
            let id = pair.announce(name);
            pair.complete(id);
        }
        assert!(pair.progress.is_over());
        assert_eq!(pair.end(), (2, true));
    }

    #[test]
    fn who_says_nothing_does_not_keep_a_file_from_ending_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut pair = Pair::new(folder.path(), 1);
        let (_silent, one) = (pair.announce("silent"), pair.announce("one"));
        pair.complete(one);
        assert!(pair.progress.is_over());
        assert_eq!(pair.end(), (1, false));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
