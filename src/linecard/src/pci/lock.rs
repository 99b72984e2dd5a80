//! One change of hands at a time.
//!
//! Two commands that bind the same device would each read who has it before the other writes, and the second
//! would write down the first one's driver as the one to go back to. So whoever changes something holds a lock
//! from the reading on: `flock` on a file, which ends with its process however that ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;

use linecard_engine::topology::SysRoot;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::machine::Machine;

const FOLDER: &str = "/run/linecard";
const FILE: &str = "/run/linecard/bind.lock";

/// The right to change who has devices, until it is dropped. See [`lock`].
#[derive(Debug)]
pub struct Lock {
    root: SysRoot,
    _file: Flock<File>,
}

/// Why devices may not be changed now.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has the lock.
    #[error(
        "another linecard bind or unbind is changing devices right now{}; try again when it has ended",
        .holder.as_deref().map(|pid| format!(": process {pid}")).unwrap_or_default()
    )]
    Busy {
        /// Its process number, if that could be read.
        holder: Option<String>,
    },
    /// The file cannot be made or locked.
    #[error("cannot lock {FILE}, which keeps two changes of devices apart: {0}; run it with sudo")]
    File(#[from] io::Error),
}

/// Takes the lock, before devices are read that are to be changed.
pub fn lock(machine: &Machine) -> Result<Lock, LockError> {
    let path = machine.root.path(FILE);
    // Whoever had it before has deleted the file, and perhaps the folder, between our steps: a new one then.
    for _ in 0..100 {
        fs::create_dir_all(machine.root.path(FOLDER))?;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((file, Errno::EWOULDBLOCK)) => {
                return Err(LockError::Busy {
                    holder: holder(file),
                });
            }
            Err((_, errno)) => return Err(io::Error::from(errno).into()),
        };
        let ours = file.metadata()?;
        if !fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino()))
        {
            continue;
        }
        // One who was killed has left its own.
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        return Ok(Lock {
            root: machine.root.clone(),
            _file: file,
        });
    }
    Err(LockError::Busy { holder: None })
}

/// The process that has it.
fn holder(file: File) -> Option<String> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    let pid = text.trim();
    (!pid.is_empty() && pid.bytes().all(|digit| digit.is_ascii_digit())).then(|| pid.to_owned())
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked still: nobody else can have taken this file meanwhile.
        let _ = fs::remove_file(self.root.path(FILE));
        // If it is empty.
        let _ = fs::remove_dir(self.root.path(FOLDER));
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn a_second_one_is_refused_with_the_process_that_has_it() {
        let fake = Fake::new();
        let machine = fake.machine();
        let first = lock(&machine).unwrap();
        let error = lock(&machine).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(
            error.contains(&format!("right now: process {pid}; try again")),
            "{error}"
        );
        drop(first);
        assert!(!fake.root().path(FOLDER).exists(), "nothing is left");
        drop(lock(&machine).unwrap());
    }

    #[test]
    fn what_a_killed_process_left_is_in_nobodys_way() {
        let fake = Fake::new();
        fake.write(FILE, "4194305 and more than that");
        fake.write("/run/linecard/doctor-undo.json", "{}");
        let held = lock(&fake.machine()).unwrap();
        let text = fs::read_to_string(fake.root().path(FILE)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        drop(held);
        assert!(!fake.root().path(FILE).exists());
        assert!(fake.root().path("/run/linecard/doctor-undo.json").exists());
    }

    #[test]
    fn where_nothing_can_be_written_it_says_what_and_what_to_do() {
        let fake = Fake::new();
        fake.write("/run", "no folder");
        let error = lock(&fake.machine()).unwrap_err();
        assert!(matches!(error, LockError::File(_)));
        let text = error.to_string();
        assert!(text.contains(FILE) && text.contains("sudo"), "{text}");
    }
}
