//! Receiving: the application that reads connections, and a thread that writes files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use linecard::engine::channel::{
    AppReceiver, AppSender, RecvError, WorkerReceiver, WorkerSender, to_application, to_worker,
};
use linecard::engine::protocol::Wake;
use linecard_ferry::transport::Application;
use linecard_ferry::{ConnectionId, Ending, Endpoint, State};

use super::progress::Progress;

/// Pieces that the worker is ahead of the writer.
const AHEAD: usize = 64;
const A_WHILE: Duration = Duration::from_millis(100);
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

/// From the worker to the writer.
enum Piece {
    /// A message.
    Bytes(ConnectionId, Vec<u8>),
    /// There are no more.
    Whole(ConnectionId),
    /// The connection is over, and there was more to come.
    Broken(ConnectionId),
}

/// From the writer to the worker.
enum Answer {
    /// Memory of a message that was written.
    Used(Vec<u8>),
    /// The whole file is written.
    Written(ConnectionId),
    /// It could not be.
    Failed(ConnectionId),
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
    stages: BTreeMap<ConnectionId, Stage>,
    pieces: WorkerSender<Piece>,
    answers: WorkerReceiver<Answer>,
    empty: Vec<Vec<u8>>,
    /// Empty between calls.
    ids: Vec<ConnectionId>,
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
    let writer = Writer {
        into: into.to_owned(),
        folder,
        files: BTreeMap::new(),
        pieces: to_write,
        answers,
        progress: progress.clone(),
    };
    let thread = std::thread::Builder::new().name("writer".into());
    let thread = thread.spawn(move || writer.write())?;
    let receiver = FileReceiver {
        left: count,
        stages: BTreeMap::new(),
        pieces,
        answers: answered,
        empty: Vec::with_capacity(2 * AHEAD),
        ids: Vec::new(),
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
            return;
        }
        let stage = self.stages.remove(&id);
        endpoint.remove(now_ns, id);
        let written = stage == Some(Stage::Written);
        if !written {
            let _ = self.pieces.put(Piece::Broken(id));
        }
        // Of a file that is written, the sender's last word may be lost: it waits for ours, and not for ever.
        let failure = match ending {
            Ending::Silence if written => None,
            ending => explain(peer, ending),
        };
        let ended_ns = if written { self.written_ns } else { now_ns };
        self.progress.end(ended_ns, failure);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.progress.finish();
        }
    }
}

impl Application for FileReceiver {
    fn work(&mut self, now_ns: u64, endpoint: &mut Endpoint) {
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
        let was_full = self.pieces.room() == 0;
        self.pieces.flush();
        // While there is none, the writer wakes us when it has made room.
        self.next_look_ns = (was_full && self.pieces.room() > 0).then_some(now_ns);
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

/// A file that is being written.
struct Arriving {
    file: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
    announced: u64,
    written: u64,
}

struct Writer {
    into: PathBuf,
    folder: bool,
    files: BTreeMap<ConnectionId, Arriving>,
    pieces: AppReceiver<Piece>,
    answers: AppSender<Answer>,
    progress: Arc<Progress>,
}

impl Writer {
    /// Until the worker is gone.
    fn write(mut self) {
        loop {
            match self.pieces.recv_timeout(A_WHILE) {
                Ok(piece) => self.take(piece),
                Err(RecvError::Empty) => {}
                Err(RecvError::Closed) => break,
            }
        }
        // What is not whole by now never will be.
        let ids: Vec<ConnectionId> = self.files.keys().copied().collect();
        ids.into_iter().for_each(|id| self.give_up(id));
    }

    fn take(&mut self, piece: Piece) {
        let (id, done) = match piece {
            Piece::Bytes(id, bytes) => {
                let done = self.write_some(id, &bytes);
                let _ = self.answers.try_send(Answer::Used(bytes));
                (id, done.map(|()| None))
            }
            Piece::Whole(id) => (id, self.complete(id).map(|()| Some(Answer::Written(id)))),
            Piece::Broken(id) => return self.give_up(id),
        };
        let answer = done.unwrap_or_else(|error| {
            self.progress.fail(format!("{error:#}"));
            self.give_up(id);
            Some(Answer::Failed(id))
        });
        if let Some(answer) = answer {
            let _ = self.answers.send_timeout(answer, A_WHILE);
        }
    }

    fn write_some(&mut self, id: ConnectionId, bytes: &[u8]) -> Result<()> {
        let Some(arriving) = self.files.get_mut(&id) else {
            let arriving = self.announced(bytes)?;
            self.progress
                .total
                .fetch_add(arriving.announced, Ordering::Relaxed);
            self.files.insert(id, arriving);
            return Ok(());
        };
        arriving.written += bytes.len() as u64;
        if arriving.written > arriving.announced {
            bail!("more bytes have come than were announced");
        }
        arriving.file.write_all(bytes)?;
        self.progress
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The first message. Its name comes from a stranger: only the last part of it counts, in our directory, and
    /// nothing that is there is written over.
    fn announced(&self, message: &[u8]) -> Result<Arriving> {
        let (len, name) = message
            .split_first_chunk()
            .context("the first message is no announcement of a file")?;
        let path = if self.folder {
            let name = Path::new(OsStr::from_bytes(name)).file_name();
            let name =
                name.context("the file has no name; receive it into a file, not a directory")?;
            ensure!(!name.as_bytes().contains(&0), "the file's name is none");
            self.into.join(name)
        } else {
            self.into.clone()
        };
        if self.folder {
            ensure!(!path.exists(), "{} is there already", path.display());
        }
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let file =
            File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
        Ok(Arriving {
            file: BufWriter::with_capacity(1 << 18, file),
            part,
            path,
            announced: u64::from_be_bytes(*len),
            written: 0,
        })
    }

    fn complete(&mut self, id: ConnectionId) -> Result<()> {
        let arriving = self.files.get_mut(&id).context("nothing has come")?;
        let (written, announced) = (arriving.written, arriving.announced);
        ensure!(
            written == announced,
            "{written} bytes have come, {announced} were announced"
        );
        arriving.file.flush()?;
        std::fs::rename(&arriving.part, &arriving.path)
            .with_context(|| format!("cannot write {}", arriving.path.display()))?;
        self.files.remove(&id);
        Ok(())
    }

    fn give_up(&mut self, id: ConnectionId) {
        if let Some(arriving) = self.files.remove(&id) {
            drop(arriving.file);
            let _ = std::fs::remove_file(arriving.part);
        }
    }
}
