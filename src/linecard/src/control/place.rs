//! Where sockets are: found, made, and cleared away when their process is dead.
//!
//! A socket is `NAME.sock` in `$XDG_RUNTIME_DIR/linecard`, or in `/run/linecard` where that variable is not set or names another user's; the
//! name is the process's number if nothing is said. Whoever makes or clears sockets in that directory holds a lock on it, so that nobody
//! clears away what somebody else is about to listen on; for a socket elsewhere the lock is a file beside it, for as long as that takes.
//! A socket is cleared only if it is ours and nobody answers there.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;

/// How long to wait for somebody who makes a socket in the same directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// What a socket is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// By the number of the process, in the usual directory.
    #[default]
    Pid,
    /// By a name, in the usual directory.
    Name(String),
    /// Exactly there.
    Path(PathBuf),
}

impl std::str::FromStr for Place {
    type Err = String;

    /// A path has a slash.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Path(text.into()));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.is_empty() || text.starts_with('.') || text.len() > 64 || !text.chars().all(plain) {
            return Err(format!(
                "{text:?} is not a name: letters, digits, -, _ and dots, at most 64 (or a path, with a slash)"
            ));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

/// The directory of the sockets of this user.
pub fn directory() -> PathBuf {
    directory_of(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from))
}

fn directory_of(runtime: Option<PathBuf>) -> PathBuf {
    // With sudo -E it is another user's, who could not remove what root leaves there.
    let ours = |path: &Path| fs::metadata(path).map_or(true, |m| m.uid() == geteuid().as_raw());
    let runtime = runtime.filter(|path| path.is_absolute() && ours(path));
    runtime.unwrap_or_else(|| "/run".into()).join("linecard")
}

/// A socket that listens. Its name is gone when it is dropped.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode: what is there later may be somebody else's.
    identity: (u64, u64),
    pub(super) name: String,
}

impl Socket {
    /// Makes a socket that only its owner can connect to. Sockets of dead processes are cleared away on the way.
    pub fn bind(place: &Place) -> io::Result<Self> {
        let pid = std::process::id().to_string();
        match place {
            Place::Path(path) => {
                // Its directory may be everybody's, such as /tmp, and then anybody may hold a lock on it for ever.
                let _lock = Beside::lock(path)?;
                Self::bind_at(path)
            }
            Place::Name(name) => Self::bind_in(&directory(), name),
            // Another pid namespace may share the directory and have the same number.
            Place::Pid => match Self::bind_in(&directory(), &pid) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    Self::bind_in(&directory(), &format!("{pid}.2"))
                }
                bound => bound,
            },
        }
    }

    fn bind_in(directory: &Path, name: &str) -> io::Result<Self> {
        make_private(directory)?;
        let _lock = lock(directory)?;
        for path in sockets_in(directory) {
            clear_if_dead(&path);
        }
        Self::bind_at(&directory.join(format!("{name}.sock")))
    }

    fn bind_at(path: &Path) -> io::Result<Self> {
        clear_if_dead(path);
        let explain = |error: io::Error| {
            let what = match error.kind() {
                io::ErrorKind::AddrInUse => "something is there already".to_owned(),
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("{}: {what}", path.display()))
        };
        let listener = listen_privately(path).map_err(explain)?;
        let meta = fs::symlink_metadata(path)?;
        let stem = path.file_stem().unwrap_or_default();
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity: (meta.dev(), meta.ino()),
            name: stem.to_string_lossy().into_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = |m: &fs::Metadata| (m.dev(), m.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(|m| ours(&m)) {
            let _: io::Result<()> = fs::remove_file(&self.path);
        }
    }
}

/// Listens where only the owner can connect. The mode is the socket's before it has a name: there is no moment
/// in which others are let in, and nothing that somebody puts in the name's place is changed.
fn listen_privately(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&socket, Backlog::new(128)?)?;
    Ok(socket.into())
}

/// The sockets in a directory, by name; none if it is not there.
pub(super) fn sockets_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "sock"))
        .collect();
    paths.sort_unstable();
    paths
}

/// A directory that only its owner can look into: makes it, or checks the one that is there.
fn make_private(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    match builder.mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io::Error::new(
                error.kind(),
                format!("{}: {error}", directory.display()),
            ));
        }
        _ => {}
    }
    let meta = fs::symlink_metadata(directory)?;
    let safe = meta.is_dir() && meta.uid() == geteuid().as_raw() && meta.mode() & 0o022 == 0;
    if !safe {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{}: not a directory that only this user can write to",
                directory.display()
            ),
        ));
    }
    Ok(())
}

/// Holds others off a directory until it is dropped.
fn lock(directory: &Path) -> io::Result<Flock<File>> {
    hold(|| File::open(directory), directory)
}

/// Holds others off a socket's path until it is dropped: a locked file beside it, gone with the lock.
struct Beside {
    _lock: Flock<File>,
    path: PathBuf,
}

impl Beside {
    fn lock(socket: &Path) -> io::Result<Self> {
        let mut path = socket.as_os_str().to_owned();
        // Gone afterwards, so nobody may have another file of this name.
        path.push(".linecard-lock");
        let path = PathBuf::from(path);
        let open = || {
            let mut options = File::options();
            // What others put there is neither followed nor waited for, and what is made is only ours to lock.
            let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            let options = options.mode(0o600).custom_flags(flags.bits());
            options.create(true).truncate(false).write(true).open(&path)
        };
        loop {
            let lock = hold(open, &path)?;
            // Whoever held it before took the file away: then a lock on it holds off nobody.
            let locked = lock.metadata()?;
            let same =
                |there: fs::Metadata| (there.dev(), there.ino()) == (locked.dev(), locked.ino());
            if fs::symlink_metadata(&path).is_ok_and(same) {
                return Ok(Self { _lock: lock, path });
            }
        }
    }
}

impl Drop for Beside {
    /// Before the lock is given up, so that it is nobody else's file.
    fn drop(&mut self) {
        let _: io::Result<()> = fs::remove_file(&self.path);
    }
}

/// Locks a file, for which it waits a little.
fn hold(open: impl FnOnce() -> io::Result<File>, path: &Path) -> io::Result<Flock<File>> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut file = open().map_err(named)?;
    let start = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, errno)) if errno != Errno::EWOULDBLOCK => return Err(named(errno.into())),
            Err((_, _)) if start.elapsed() > LOCK_PATIENCE => {
                let what = io::Error::new(io::ErrorKind::TimedOut, "somebody else holds its lock");
                return Err(named(what));
            }
            Err((same, _)) => file = same,
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Removes a socket of ours on which nobody listens. With the lock held: nobody is about to.
fn clear_if_dead(path: &Path) {
    let ours = |m: &fs::Metadata| m.file_type().is_socket() && m.uid() == geteuid().as_raw();
    if fs::symlink_metadata(path).is_ok_and(|m| ours(&m)) && nobody_listens(path) {
        let _: io::Result<()> = fs::remove_file(path);
    }
}

/// Whether a socket is certainly dead. Does not wait for a server that has no time to answer.
fn nobody_listens(path: &Path) -> bool {
    let kind = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let Ok(socket) = socket(AddressFamily::Unix, SockType::Stream, kind, None) else {
        return false;
    };
    UnixAddr::new(path)
        .is_ok_and(|address| connect(socket.as_raw_fd(), &address) == Err(Errno::ECONNREFUSED))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn names_and_paths() {
        assert_eq!("edge-1".parse(), Ok(Place::Name("edge-1".into())));
        assert_eq!("./x".parse(), Ok(Place::Path("./x".into())));
        for wrong in ["", ".hidden", "a b", "é", &"x".repeat(65)] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong:?}");
        }
        let run = |dir: Option<&str>| directory_of(dir.map(PathBuf::from));
        assert_eq!(run(None), Path::new("/run/linecard"));
        assert_eq!(run(Some("")), Path::new("/run/linecard"));
        assert_eq!(run(Some("/x")), Path::new("/x/linecard"));
    }

    #[test]
    fn the_dead_are_cleared_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let sockets = dir.path().join("linecard");
        let alive = Socket::bind_in(&sockets, "alive").unwrap();
        // The standard library's listener leaves its name behind, as a killed process does.
        drop(UnixListener::bind(sockets.join("dead.sock")).unwrap());
        fs::write(sockets.join("file.sock"), "not a socket").unwrap();
        fs::write(sockets.join("other"), "").unwrap();

        let mine = Socket::bind_in(&sockets, "mine").unwrap();
        let names = || {
            let paths = sockets_in(&sockets).into_iter();
            let names = paths.map(|p| p.file_stem().unwrap().to_string_lossy().into_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(), ["alive", "file", "mine"]);
        let taken = Socket::bind_in(&sockets, "alive").unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        assert!(Socket::bind_in(&sockets, "file").is_err());

        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(mine.path()), mode(&sockets)), (0o600, 0o700));
        // Somebody else's by now.
        fs::remove_file(alive.path()).unwrap();
        fs::write(sockets.join("alive.sock"), "").unwrap();
        drop((mine, alive));
        assert_eq!(names(), ["alive", "file"]);
    }

    #[test]
    fn a_path_needs_no_lock_on_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let _held = lock(dir.path()).unwrap();
        let path = dir.path().join("x.sock");
        let socket = Socket::bind(&Place::Path(path.clone())).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert!(std::os::unix::net::UnixStream::connect(socket.path()).is_ok());
    }

    #[test]
    fn a_socket_that_does_not_listen_yet_is_not_taken_for_dead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let lock = Beside::lock(&path).unwrap();
        let kind = SockFlag::SOCK_CLOEXEC;
        let first = socket(AddressFamily::Unix, SockType::Stream, kind, None).unwrap();
        bind(first.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        let place = Place::Path(path.clone());
        let second = std::thread::spawn(move || Socket::bind(&place));
        // Time for the second to do what it must not.
        std::thread::sleep(Duration::from_millis(20));
        listen(&first, Backlog::new(1).unwrap()).unwrap();
        drop(lock);
        let refused = second.join().unwrap().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{refused}");
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn of_two_that_want_one_path_at_once_one_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let place = Place::Path(path.clone());
        for _ in 0..50 {
            // A dead one, which both of them may clear away.
            drop(UnixListener::bind(&path).unwrap());
            let gate = std::sync::Barrier::new(2);
            let bind = || {
                gate.wait();
                Socket::bind(&place)
            };
            let [one, other] = std::thread::scope(|scope| {
                [scope.spawn(bind), scope.spawn(bind)].map(|thread| thread.join().unwrap())
            });
            let (socket, refused) = match (one, other) {
                (Ok(socket), Err(refused)) | (Err(refused), Ok(socket)) => (socket, refused),
                both => panic!("{both:?}"),
            };
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{refused}");
            assert!(std::os::unix::net::UnixStream::connect(socket.path()).is_ok());
            drop(socket);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_directory_that_others_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        let refused = Socket::bind_in(&open, "x").unwrap_err().to_string();
        assert!(refused.contains("only this user"), "{refused}");
        let missing = Socket::bind(&Place::Path(dir.path().join("no/x")));
        assert!(missing.unwrap_err().to_string().contains("no"), "named");
    }
}
