//! What `--fix` changed, kept until `--undo`.
//!
//! The journal is written before each change and not after: a crash in between then leaves an
//! entry for something that did not happen, which `--undo` can tell, and never a change without an
//! entry. It is replaced by renaming, so that it is always one whole file. It lies in `/run`,
//! which a reboot empties together with everything that it describes; where `/run` outlives a boot
//! the boot's identity tells.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::System;

/// A change to the machine that can be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(super) enum Change {
    /// A setting of the kernel's.
    Write {
        /// The file.
        path: String,
        /// What was there.
        old: String,
        /// What is there now.
        new: String,
    },
    /// A hugetlbfs was mounted.
    Mount {
        /// Where.
        path: String,
        /// True if the folder was made for it.
        made_folder: bool,
    },
}

/// All changes that have not been taken back, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    version: u32,
    boot_id: String,
    pub(super) changes: Vec<Change>,
    /// Where it was found or is to be kept, inside the examined machine.
    #[serde(skip)]
    path: String,
}

const FILE: &str = "doctor-undo.json";
const VERSION: u32 = 1;

impl Journal {
    /// The journal of this boot, or an empty one.
    pub(super) fn open(system: &System) -> anyhow::Result<Self> {
        let boot_id = boot_id(system);
        for folder in folders(system) {
            let path = format!("{folder}/{FILE}");
            let Ok(text) = system.root.read(&path) else {
                continue;
            };
            let mut journal: Self = serde_json::from_str(&text).with_context(|| {
                format!(
                    "the journal {path} is damaged; look at what it says was there before, put \
                     that back by hand, and delete it"
                )
            })?;
            anyhow::ensure!(
                journal.version == VERSION,
                "the journal {path} was written by another version of linecard (format {}, not \
                 {VERSION}); undo with that version",
                journal.version
            );
            journal.path = path;
            if journal.boot_id != boot_id {
                // The reboot has undone everything.
                journal.changes.clear();
                journal.boot_id = boot_id;
            }
            return Ok(journal);
        }
        Ok(Self {
            version: VERSION,
            boot_id,
            changes: Vec::new(),
            path: String::new(),
        })
    }

    /// Writes it down, or deletes it if there is nothing to take back.
    pub(super) fn save(&mut self, system: &System) -> anyhow::Result<()> {
        if self.changes.is_empty() {
            return self.delete(system);
        }
        if !self.path.is_empty() {
            return self.write(system);
        }
        let mut refused = None;
        for folder in folders(system) {
            self.path = format!("{folder}/{FILE}");
            match self.write(system) {
                Ok(()) => return Ok(()),
                Err(error) => refused = Some(error),
            }
        }
        self.path.clear();
        Err(refused.unwrap_or_else(|| anyhow::anyhow!("there is no folder for the journal")))
    }

    /// Where it is, if there is anything in it.
    pub(super) fn location(&self) -> Option<String> {
        (!self.changes.is_empty() && !self.path.is_empty()).then(|| self.path.clone())
    }

    fn write(&self, system: &System) -> anyhow::Result<()> {
        let path = system.root.path(&self.path);
        let temporary = path.with_extension("json.new");
        let attempt = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        attempt().with_context(|| {
            format!(
                "cannot write the journal {}, without which nothing is changed; run `sudo linecard \
                 doctor --fix`",
                self.path
            )
        })
    }

    fn delete(&mut self, system: &System) -> anyhow::Result<()> {
        if self.path.is_empty() {
            return Ok(());
        }
        let path: PathBuf = system.root.path(&self.path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("cannot delete the journal {}", self.path));
            }
            _ => {}
        }
        // Ours alone if it is empty; others may keep theirs there.
        if let Some(folder) = path.parent() {
            let _ = fs::remove_dir(folder);
        }
        self.path.clear();
        Ok(())
    }
}

/// Where a journal may be, best first.
fn folders(system: &System) -> Vec<String> {
    let mut folders = vec!["/run/linecard".to_owned()];
    folders.extend(
        system
            .runtime_dir
            .as_ref()
            .filter(|folder| folder.starts_with('/'))
            .map(|folder| format!("{folder}/linecard")),
    );
    folders
}

fn boot_id(system: &System) -> String {
    system
        .root
        .text("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeMachine;
    use super::*;

    fn change(new: &str) -> Change {
        Change::Write {
            path: "/proc/sys/x".into(),
            old: "1".into(),
            new: new.into(),
        }
    }

    #[test]
    fn survives_the_process_and_goes_when_empty() {
        let machine = FakeMachine::healthy();
        let system = machine.system();
        let mut journal = Journal::open(&system).expect("an empty journal");
        assert!(journal.changes.is_empty());
        journal.changes.push(change("2"));
        journal.save(&system).expect("written");
        let mut again = Journal::open(&system).expect("read");
        assert_eq!(again.changes, [change("2")]);
        assert_eq!(
            again.location().as_deref(),
            Some("/run/linecard/doctor-undo.json")
        );
        again.changes.clear();
        again.save(&system).expect("deleted");
        assert_eq!(machine.read("/run/linecard/doctor-undo.json"), None);
        assert!(!system.root.exists("/run/linecard"));
    }

    #[test]
    fn a_reboot_has_undone_everything() {
        let machine = FakeMachine::healthy();
        let system = machine.system();
        let mut journal = Journal::open(&system).expect("an empty journal");
        journal.changes.push(change("2"));
        journal.save(&system).expect("written");
        machine.write("/proc/sys/kernel/random/boot_id", "boot-2");
        let mut journal = Journal::open(&system).expect("read");
        assert!(journal.changes.is_empty());
        journal.save(&system).expect("deleted");
        assert!(!system.root.exists("/run/linecard"));
    }

    #[test]
    fn goes_to_the_users_folder_if_run_is_not_writable() {
        let machine = FakeMachine::healthy();
        // A file in the place of the folder: root could write anywhere else.
        machine.write("/run/linecard", "in the way");
        let mut system = machine.system();
        system.runtime_dir = Some("/run/user/1000".into());
        let mut journal = Journal::open(&system).expect("an empty journal");
        journal.changes.push(change("2"));
        journal.save(&system).expect("written");
        assert_eq!(
            journal.location().as_deref(),
            Some("/run/user/1000/linecard/doctor-undo.json")
        );
        assert_eq!(Journal::open(&system).expect("read").changes.len(), 1);
        system.runtime_dir = None;
        let mut journal = Journal::open(&system).expect("an empty journal");
        journal.changes.push(change("2"));
        let error = journal.save(&system).expect_err("no folder").to_string();
        assert!(error.contains("nothing is changed"), "{error}");
    }

    #[test]
    fn a_damaged_journal_is_not_guessed_at() {
        let machine = FakeMachine::healthy();
        machine.write("/run/linecard/doctor-undo.json", "{\"version\":1");
        let error = Journal::open(&machine.system()).expect_err("damaged");
        assert!(error.to_string().contains("by hand"), "{error}");
        machine.write(
            "/run/linecard/doctor-undo.json",
            r#"{"version":9,"boot_id":"","changes":[]}"#,
        );
        let error = Journal::open(&machine.system()).expect_err("another version");
        assert!(error.to_string().contains("format 9"), "{error}");
    }
}
