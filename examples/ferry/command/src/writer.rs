//! The thread that writes what was received to files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use linecard::engine::channel::{AppReceiver, AppSender};
use linecard_ferry::ConnectionId;

use super::progress::Progress;

/// From the worker to the writer.
pub(super) enum Piece {
    /// A message.
    Bytes(ConnectionId, Vec<u8>),
    /// There are no more.
    Whole(ConnectionId),
    /// The connection is over, and there was more to come.
    Broken(ConnectionId),
}

/// From the writer to the worker.
pub(super) enum Answer {
    /// Memory of a message that was written.
    Used(Vec<u8>),
    /// The whole file is written.
    Written(ConnectionId),
    /// It could not be.
    Failed(ConnectionId),
}

/// A file that is being written.
struct Arriving {
    file: BufWriter<File>,
    /// Where it is until it is whole: a file that this connection has made, and nobody else writes or deletes.
    part: PathBuf,
    path: PathBuf,
    announced: u64,
    written: u64,
}

pub(super) struct Writer {
    into: PathBuf,
    folder: bool,
    files: BTreeMap<ConnectionId, Arriving>,
    pieces: AppReceiver<Piece>,
    answers: AppSender<Answer>,
    progress: Arc<Progress>,
}

impl Writer {
    /// Writes into a folder, or to one file.
    pub(super) fn new(
        into: &Path,
        folder: bool,
        pieces: AppReceiver<Piece>,
        answers: AppSender<Answer>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            into: into.to_owned(),
            folder,
            files: BTreeMap::new(),
            pieces,
            answers,
            progress,
        }
    }

    /// Until the worker is gone, which wakes us as a piece does.
    pub(super) fn write(mut self) {
        while let Ok(piece) = self.pieces.recv_timeout(Duration::MAX) {
            self.take(piece);
            self.progress.ring();
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
            // The worker always makes room, or goes.
            let _ = self.answers.send_timeout(answer, Duration::MAX);
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

    /// The first message. In a folder nothing that is there is written over.
    fn announced(&self, message: &[u8]) -> Result<Arriving> {
        let (len, name) = message
            .split_first_chunk()
            .context("the first message is no announcement of a file")?;
        let path = match self.folder {
            true => self.into.join(file_name(name)?),
            false => self.into.clone(),
        };
        // It is looked at again when the file is whole; here it spares the sender the way.
        let is_there = self.folder && path.symlink_metadata().is_ok();
        ensure!(!is_there, "{path:?} is there already");
        let (part, file) =
            new_part(&path).with_context(|| format!("cannot write beside {path:?}"))?;
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
        let (part, path) = (&arriving.part, &arriving.path);
        match self.folder {
            true => publish(part, path),
            false => fs::rename(part, path),
        }
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow::anyhow!("{path:?} is there already"),
            _ => anyhow::Error::new(error).context(format!("cannot write {path:?}")),
        })?;
        self.files.remove(&id);
        Ok(())
    }

    fn give_up(&mut self, id: ConnectionId) {
        if let Some(arriving) = self.files.remove(&id) {
            drop(arriving.file);
            let _ = fs::remove_file(arriving.part);
        }
    }
}

/// A name from a stranger: only the last part of it counts, so that it stays in our directory. Whoever prints it quotes
/// it, for it may be meant for a terminal.
fn file_name(name: &[u8]) -> Result<&OsStr> {
    let name = Path::new(OsStr::from_bytes(name)).file_name();
    let name = name.context("the file has no name; receive it into a file, not a directory")?;
    ensure!(!name.as_bytes().contains(&0), "the file's name is none");
    Ok(name)
}

/// A new file beside `path`. What an earlier run that was killed has left there stays, and is in nobody's way.
fn new_part(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut number = 0;
    loop {
        let part = path.with_file_name(format!(".ferry-{number}.part"));
        match File::create_new(&part) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            made => return made.map(|file| (part, file)),
        }
    }
}

/// Gives a whole file its name, unless something else has got that meanwhile.
fn publish(part: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(part, path) {
        Ok(()) => {
            let _ = fs::remove_file(part);
            Ok(())
        }
        // There are file systems without hard links, FAT for one: there the name is taken by an empty file first.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::Unsupported
            ) =>
        {
            File::create_new(path)?;
            fs::rename(part, path).inspect_err(|_| _ = fs::remove_file(path))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use linecard::engine::channel::{WorkerReceiver, WorkerSender, to_application, to_worker};
    use linecard_ferry::{Config, Endpoint, Secret, UDP_PORT};

    use super::*;

    /// A writer, and what it hears and says.
    type Whole = (Writer, WorkerSender<Piece>, WorkerReceiver<Answer>);

    fn writer(into: &Path, folder: bool) -> Whole {
        let progress = Arc::new(Progress::new().unwrap());
        let (pieces, to_write) = to_application(8, 8);
        let (answers, answered) = to_worker(8);
        let writer = Writer::new(into, folder, to_write, answers, progress);
        (writer, pieces, answered)
    }

    fn two_connections() -> [ConnectionId; 2] {
        let secret = Secret::new([7; 16], 0);
        let mut endpoint = Endpoint::new(Config::default(), secret, false);
        [1, 2].map(|last| {
            endpoint
                .connect(0, ([127, 0, 0, last], UDP_PORT).into())
                .unwrap()
        })
    }

    fn announcement(len: u64, name: &str) -> Vec<u8> {
        [&len.to_be_bytes(), name.as_bytes()].concat()
    }

    /// What is in a folder, in order.
    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_name_twice_at_a_time_is_written_once_and_not_mixed() {
        let folder = tempfile::tempdir().unwrap();
        let own = ["notes.part", ".ferry-0.part"];
        for name in own {
            fs::write(folder.path().join(name), "mine").unwrap();
        }
        let (mut writer, _pieces, mut answers) = writer(folder.path(), true);
        let [one, other] = two_connections();
        for id in [one, other] {
            writer.take(Piece::Bytes(id, announcement(3, "notes")));
        }
        writer.take(Piece::Bytes(other, b"oth".to_vec()));
        writer.take(Piece::Bytes(one, b"one".to_vec()));
        writer.take(Piece::Whole(other));
        writer.take(Piece::Whole(one));
        let said: Vec<Answer> = std::iter::from_fn(|| answers.pop())
            .filter(|answer| !matches!(answer, Answer::Used(_)))
            .collect();
        assert!(
            matches!(said[..], [Answer::Written(first), Answer::Failed(then)] if (first, then) == (other, one))
        );
        let failure = writer.progress.failure().unwrap();
        assert!(failure.contains("notes\" is there already"), "{failure}");
        assert_eq!(fs::read(folder.path().join("notes")).unwrap(), b"oth");
        for name in own {
            assert_eq!(fs::read(folder.path().join(name)).unwrap(), b"mine");
        }
        assert_eq!(names(folder.path()), [own[1], "notes", own[0]]);
    }

    #[test]
    fn what_came_into_being_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, _pieces, _answers) = writer(folder.path(), true);
        let [id, _] = two_connections();
        writer.take(Piece::Bytes(id, announcement(0, "notes")));
        std::os::unix::fs::symlink("elsewhere", folder.path().join("notes")).unwrap();
        writer.take(Piece::Whole(id));
        assert!(writer.progress.failure().is_some());
        assert_eq!(names(folder.path()), ["notes"]);
    }

    #[test]
    fn a_file_that_was_asked_for_is_replaced_when_another_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("here");
        fs::write(&file, "before").unwrap();
        let (mut writer, _pieces, _answers) = writer(&file, false);
        let [one, other] = two_connections();
        for id in [one, other] {
            writer.take(Piece::Bytes(id, announcement(3, "")));
        }
        writer.take(Piece::Bytes(other, b"oth".to_vec()));
        writer.take(Piece::Bytes(one, b"one".to_vec()));
        assert_eq!(fs::read(&file).unwrap(), b"before");
        writer.take(Piece::Whole(one));
        writer.take(Piece::Broken(other));
        assert_eq!(fs::read(&file).unwrap(), b"one");
        assert_eq!(names(folder.path()), ["here"]);
        assert_eq!(writer.progress.failure(), None);
    }

    #[test]
    fn a_strangers_name_stays_in_the_folder_and_off_the_terminal() {
        for (name, is) in [("a/b", "b"), ("/etc/passwd", "passwd"), ("../../x", "x")] {
            assert_eq!(file_name(name.as_bytes()).unwrap(), is);
        }
        for name in ["", "/", ".", "..", "a/..", "a\0b"] {
            assert!(file_name(name.as_bytes()).is_err(), "{name:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let name = "\x1b]0;x\x07";
        fs::write(folder.path().join(name), "mine").unwrap();
        let (mut writer, _pieces, _answers) = writer(folder.path(), true);
        writer.take(Piece::Bytes(two_connections()[0], announcement(0, name)));
        let failure = writer.progress.failure().unwrap();
        assert!(!failure.chars().any(char::is_control), "{failure:?}");
    }
}
