//! Sockets that a killed process has left.
//!
//! A virtual device whose peer connects to it binds a socket to a path. A process that is killed leaves the file, and
//! the next one could not bind to it. So a file that no process listens behind any more is deleted. `net_vhost` does
//! that by itself.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::{fs, thread};

/// An option, and those of its values that make the device a server.
type Needs = (&'static str, &'static [&'static str]);

/// By driver: the option with the path, and those with which the device binds to it.
const SERVERS: [(&str, &str, &[Needs]); 2] = [
    (
        "memif",
        "socket",
        &[
            ("role", &["server", "master"]),
            ("socket-abstract", &["no"]),
        ],
    ),
    ("virtio_user", "path", &[("server", &["1"])]),
];

/// The path that a device with these options binds to, if it does.
fn path<'a>(driver: &str, arguments: &'a str) -> Option<&'a Path> {
    let option = |name: &str| {
        let mut pairs = arguments.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let driver = driver.trim_start_matches("net_");
    let (_, at, needs) = SERVERS.iter().find(|(name, ..)| *name == driver)?;
    needs
        .iter()
        .all(|(name, values)| option(name).is_some_and(|value| values.contains(&value)))
        .then(|| option(at).map(Path::new))?
}

/// Whether this is a socket behind which nobody listens.
fn is_stale(path: &Path) -> bool {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return false;
    }
    // Asked first, as it disturbs nobody. It does not know of other network namespaces.
    let bound = fs::read_to_string("/proc/thread-self/net/unix").unwrap_or_default();
    if bound
        .lines()
        .any(|line| line.split_whitespace().nth(7).map(Path::new) == Some(path))
    {
        return false;
    }
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Deletes what is in the way of a device that is about to be made.
pub(crate) fn clear(driver: &str, arguments: &str) {
    let Some(path) = path(driver, arguments).filter(|path| is_stale(path)) else {
        return;
    };
    // Another process may just be between binding and listening.
    thread::sleep(std::time::Duration::from_millis(50));
    if is_stale(path) && fs::remove_file(path).is_ok() {
        tracing::info!(target: "dpdk", path = %path.display(), "deleted the socket that a process has left which was killed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    #[test]
    fn devices_that_bind_a_socket() {
        let s = Some(Path::new("/s"));
        assert_eq!(path("net_memif", "socket=/s,socket-abstract=no"), None);
        assert_eq!(path("net_memif", "role=server,socket=/s"), None, "no file");
        let server = "role=server,socket=/s,socket-abstract=no";
        assert_eq!(path("net_memif", server), s);
        assert_eq!(path("net_virtio_user", "path=/s"), None);
        assert_eq!(path("virtio_user", "path=/s,server=1"), s);
        assert_eq!(path("virtio_user", "server=1"), None);
        assert_eq!(path("net_tap", "iface=/s"), None);
    }

    #[test]
    fn only_a_socket_that_nobody_listens_behind_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let cleared = |name: &str| {
            let path = dir.path().join(name);
            clear(
                "net_virtio_user",
                &format!("server=1,path={}", path.display()),
            );
            !path.exists()
        };
        let path = dir.path().join("alive");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(!cleared("alive"));
        drop(listener);
        assert!(cleared("alive"), "it is not any more");
        let _other = UnixDatagram::bind(dir.path().join("datagrams")).unwrap();
        fs::write(dir.path().join("file"), "mine").unwrap();
        assert!(!cleared("datagrams") && !cleared("file"));
        clear("net_virtio_user", "server=1,path=/nowhere/s");
    }
}
