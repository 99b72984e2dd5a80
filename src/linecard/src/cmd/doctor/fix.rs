//! The remedies that are safe: they take effect at once, cost nothing that the machine needs, can
//! be taken back to the last digit, and do not outlive a reboot.
//!
//! Three qualify. Reserving 2 MiB hugepages, from memory that is free, on nodes that have none.
//! Mounting hugetlbfs when it is mounted nowhere. Raising the limit (not the size) of socket
//! buffers. What does not: `io_uring_disabled` and the user namespace settings are somebody's
//! decision about security; the governor costs power; isolation and the IOMMU need a reboot;
//! limits of the login session are not ours to set from below.

#[cfg(test)]
mod tests;

use std::fs;

use anyhow::Context;
use linecard_engine::topology::format_bytes;
use nix::errno::Errno;
use serde::Serialize;

use super::System;
use super::journal::{Change, Journal};
use super::memory::{
    PAGES_TO_RESERVE, SMALL_HUGEPAGE, hugetlbfs_mounts, reserve_file, worker_nodes,
};
use super::network::{RECEIVE_BUFFER_BYTES, RMEM_MAX};
use crate::cmd::table::{Paint, Tone};

/// Where hugetlbfs goes; DPDK and libvirt look there first.
const MOUNT_POINT: &str = "/dev/hugepages";

/// What became of one change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The setting, in words.
    pub what: String,
    /// The file or folder.
    pub path: String,
    /// The value before.
    pub old: String,
    /// The value after.
    pub new: String,
    /// What happened.
    pub result: Deed,
}

/// What happened to a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "deed", content = "reason")]
pub enum Deed {
    /// It would be changed, were this not a dry run.
    Planned,
    /// It was changed.
    Done,
    /// It was changed, but not as far as was asked.
    Partly(String),
    /// It was left alone, for a good reason.
    Left(String),
    /// It could not be changed.
    Failed(String),
}

impl Outcome {
    /// True if the change was wanted and did not happen.
    pub fn failed(&self) -> bool {
        matches!(self.result, Deed::Failed(_))
    }

    /// A line for a person.
    pub fn line(&self, paint: Paint) -> String {
        let (word, tone, reason) = match &self.result {
            Deed::Planned => ("would change", Tone::Plain, ""),
            Deed::Done => ("changed", Tone::Good, ""),
            Deed::Partly(reason) => ("changed in part", Tone::Caution, reason.as_str()),
            Deed::Left(reason) => ("left alone", Tone::Caution, reason.as_str()),
            Deed::Failed(reason) => ("failed", Tone::Bad, reason.as_str()),
        };
        let comma = if reason.is_empty() { "" } else { "; " };
        format!(
            "{}  {}: {} -> {} ({}{comma}{reason})",
            paint.tone(word, tone),
            self.what,
            self.old,
            self.new,
            self.path
        )
    }
}

/// What was done, and the file that `--undo` will read.
type Done = (Vec<Outcome>, Option<String>);

/// The file that `--undo` would read, if there is one. One that is damaged is `--undo`'s to report.
pub(super) fn journal(system: &System) -> Option<String> {
    Journal::open(system)
        .ok()
        .and_then(|journal| journal.location())
}

/// Applies what is safe and missing.
pub(super) fn fix(system: &System, dry_run: bool) -> anyhow::Result<Done> {
    let mut journal = Journal::open(system)?;
    let mut outcomes = Vec::new();
    for change in planned(system) {
        let mut outcome = describe(&change, Deed::Planned);
        if !dry_run {
            // Before the change: nothing is changed that could not be taken back.
            journal.changes.push(change.clone());
            journal.save(system)?;
            apply(system, &change, &mut journal, &mut outcome);
            journal.save(system).context("after a change was made")?;
        }
        outcomes.push(outcome);
    }
    Ok((outcomes, journal.location()))
}

/// Takes back everything in the journal, the last change first.
pub(super) fn undo(system: &System, dry_run: bool) -> anyhow::Result<Done> {
    let mut journal = Journal::open(system)?;
    let mut outcomes = Vec::new();
    let mut kept = Vec::new();
    for change in journal.changes.iter().rev() {
        let outcome = revert(system, change, dry_run);
        if outcome.failed() || dry_run {
            kept.push(change.clone());
        }
        outcomes.push(outcome);
    }
    if !dry_run {
        kept.reverse();
        journal.changes = kept;
        journal.save(system)?;
    }
    Ok((outcomes, journal.location()))
}

/// The changes that this machine needs.
fn planned(system: &System) -> Vec<Change> {
    let mut changes = Vec::new();
    for node in worker_nodes(system) {
        let path = reserve_file(system, node);
        let Some(0) = system.root.number::<u64>(&path) else {
            continue;
        };
        let free = system.root.node_memory(node).map_or(0, |(_, free)| free);
        let pages = PAGES_TO_RESERVE.min(free / 8 / SMALL_HUGEPAGE);
        if pages > 0 {
            changes.push(Change::Write {
                path,
                old: "0".to_owned(),
                new: pages.to_string(),
            });
        }
    }
    let supported = system.root.exists("/sys/kernel/mm/hugepages") || !changes.is_empty();
    if supported && hugetlbfs_mounts(system).is_empty() {
        changes.push(Change::Mount {
            path: MOUNT_POINT.to_owned(),
            made_folder: !system.root.exists(MOUNT_POINT),
        });
    }
    if let Some(limit) = system.root.number::<u64>(RMEM_MAX)
        && limit < RECEIVE_BUFFER_BYTES
    {
        changes.push(Change::Write {
            path: RMEM_MAX.to_owned(),
            old: limit.to_string(),
            new: RECEIVE_BUFFER_BYTES.to_string(),
        });
    }
    changes
}

/// Makes one change; the last entry of the journal is its own.
fn apply(system: &System, change: &Change, journal: &mut Journal, outcome: &mut Outcome) {
    match change {
        Change::Write { path, new, .. } => match write_setting(system, path, new) {
            Ok(actual) if actual == *new => outcome.result = Deed::Done,
            Ok(actual) => {
                // The kernel reserves as many pages as it finds, and says how many.
                outcome.result = Deed::Partly(format!("asked for {new}: memory is fragmented"));
                outcome.new.clone_from(&actual);
                if let Some(Change::Write { new, .. }) = journal.changes.last_mut() {
                    *new = actual;
                }
            }
            Err(error) => {
                outcome.result = Deed::Failed(advise(&error));
                journal.changes.pop();
            }
        },
        Change::Mount { path, made_folder } => {
            let at = system.root.path(path);
            let made = if *made_folder {
                fs::create_dir(&at)
            } else {
                Ok(())
            };
            let result = match made {
                Ok(()) => system
                    .probes
                    .mount_hugetlbfs(&at)
                    .map_err(|errno| advise(&errno.into())),
                Err(error) => Err(advise(&error)),
            };
            outcome.result = match result {
                Ok(()) => Deed::Done,
                Err(reason) => {
                    if *made_folder {
                        let _ = fs::remove_dir(&at);
                    }
                    journal.changes.pop();
                    Deed::Failed(reason)
                }
            };
        }
    }
}

/// Takes back one change.
fn revert(system: &System, change: &Change, dry_run: bool) -> Outcome {
    let mut outcome = describe(change, Deed::Planned);
    std::mem::swap(&mut outcome.old, &mut outcome.new);
    match change {
        Change::Write { path, old, new } => match system.root.read(path) {
            Err(error) => outcome.result = Deed::Failed(advise(&error)),
            Ok(now) if now == *old => {
                outcome.result = Deed::Left("it has its old value already".to_owned());
            }
            Ok(now) if now != *new => {
                let reason = format!("somebody has set it to {now} since");
                outcome.result = Deed::Left(reason);
            }
            Ok(_) if dry_run => {}
            Ok(_) => {
                outcome.result = match write_setting(system, path, old) {
                    Ok(actual) if actual == *old => Deed::Done,
                    Ok(actual) => Deed::Partly(format!(
                        "it is {actual} until programs give back the pages that they use"
                    )),
                    Err(error) => Deed::Failed(advise(&error)),
                };
            }
        },
        Change::Mount { path, made_folder } => {
            let at = system.root.path(path);
            if !hugetlbfs_mounts(system).contains(path) {
                outcome.result = Deed::Left("it is not mounted any more".to_owned());
            } else if !dry_run {
                outcome.result = match system.probes.unmount(&at) {
                    Ok(()) => Deed::Done,
                    Err(Errno::EBUSY) => Deed::Failed(format!(
                        "a program still uses it: see `fuser -vm {path}`, end it and try again"
                    )),
                    Err(errno) => Deed::Failed(advise(&errno.into())),
                };
            }
            if *made_folder && !dry_run && !outcome.failed() {
                let _ = fs::remove_dir(&at);
            }
        }
    }
    outcome
}

/// Writes a setting and reads back what the kernel made of it.
fn write_setting(system: &System, path: &str, value: &str) -> std::io::Result<String> {
    // Not created if it does not exist: a setting that is gone must not become a plain file.
    let mut file = fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(system.root.path(path))?;
    std::io::Write::write_all(&mut file, format!("{value}\n").as_bytes())?;
    drop(file);
    system.root.read(path)
}

fn advise(error: &std::io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => format!("{error}; run it with sudo"),
        Some(Errno::EROFS) => {
            format!("{error}; a container sees the host's settings: run it on the host")
        }
        _ => error.to_string(),
    }
}

fn describe(change: &Change, result: Deed) -> Outcome {
    let (what, path, old, new) = match change {
        Change::Write { path, old, new } if path == RMEM_MAX => (
            "largest receive buffer, bytes".to_owned(),
            path,
            old.clone(),
            new.clone(),
        ),
        Change::Write { path, old, new } => (
            format!("hugepages of {}", format_bytes(SMALL_HUGEPAGE)),
            path,
            old.clone(),
            new.clone(),
        ),
        Change::Mount { path, .. } => (
            "hugetlbfs".to_owned(),
            path,
            "not mounted".to_owned(),
            "mounted".to_owned(),
        ),
    };
    Outcome {
        what,
        path: path.clone(),
        old,
        new,
        result,
    }
}
