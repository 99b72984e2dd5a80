//! Who had a device before, kept until it is given back.
//!
//! One small file for each device, `/run/linecard/bind/ADDRESS`, written before the device changes
//! hands and replaced by renaming, so that it is always one whole file. A reboot forgets both the
//! binding and `/run`; where `/run` outlives a boot, the boot's identity tells.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use linecard_engine::topology::SysRoot;
use serde::{Deserialize, Serialize};

use super::address::PciAddress;

const FOLDER: &str = "/run/linecard/bind";
const VERSION: u32 = 1;

/// Who had a device before it was bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    boot_id: String,
    /// The device.
    pub address: PciAddress,
    /// The driver that had it; `None` if none had.
    pub driver_before: Option<String>,
    /// What `driver_override` said.
    pub override_before: Option<String>,
    /// The interfaces that it had.
    pub interfaces_before: Vec<String>,
    /// The driver that it was bound to.
    pub bound_to: String,
}

/// A record that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file is there, and not as we write it.
    #[error(
        "{path}, which says who had the device before, is damaged ({reason}); look at what it says, \
         delete it, and let the kernel choose: linecard unbind --default {address}"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
        /// The device.
        address: PciAddress,
    },
    /// The file cannot be written or deleted.
    #[error("cannot write {path}, which says who had the device before: {error}; run it with sudo")]
    Write {
        /// The file.
        path: String,
        /// Why not.
        error: io::Error,
    },
}

impl Record {
    /// A record of this boot.
    pub(super) fn new(
        root: &SysRoot,
        device: &super::PciDevice,
        override_before: Option<String>,
        bound_to: &str,
    ) -> Self {
        Self {
            version: VERSION,
            boot_id: boot_id(root),
            address: device.address,
            driver_before: device.driver.clone(),
            override_before,
            interfaces_before: device.interfaces.clone(),
            bound_to: bound_to.to_owned(),
        }
    }

    /// The same, after the device went on to another driver.
    pub(super) fn rebound(&self, driver: &str) -> Self {
        Self {
            bound_to: driver.to_owned(),
            ..self.clone()
        }
    }

    /// The file that it is kept in.
    pub fn path(address: PciAddress) -> String {
        format!("{FOLDER}/{address}")
    }

    /// What this boot's record says about a device, if there is one.
    pub fn load(root: &SysRoot, address: PciAddress) -> Result<Option<Self>, RecordError> {
        let path = Self::path(address);
        let damaged = |reason: String| RecordError::Damaged {
            path: path.clone(),
            reason,
            address,
        };
        let text = match root.read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(damaged(error.to_string())),
        };
        let record: Self =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if record.version != VERSION {
            return Err(damaged(format!("its format is {}", record.version)));
        }
        if record.address != address {
            return Err(damaged(format!("it speaks of {}", record.address)));
        }
        let drivers = [
            record.driver_before.as_deref(),
            record.override_before.as_deref(),
        ];
        // These become parts of paths.
        if drivers
            .into_iter()
            .flatten()
            .any(|name| !is_driver_name(name))
        {
            return Err(damaged("it names no driver".to_owned()));
        }
        Ok((record.boot_id == boot_id(root)).then_some(record))
    }

    /// Writes it down.
    pub(super) fn save(&self, root: &SysRoot) -> Result<(), RecordError> {
        let path = root.path(Self::path(self.address));
        // In full: an address has an extension of its own.
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let attempt = || -> io::Result<()> {
            fs::create_dir_all(root.path(FOLDER))?;
            let mut file = fs::File::create(&temporary)?;
            file.write_all((serde_json::to_string_pretty(self)? + "\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        attempt().map_err(|error| {
            let _ = fs::remove_file(&temporary);
            RecordError::Write {
                path: Self::path(self.address),
                error,
            }
        })
    }

    /// Forgets it.
    pub(super) fn delete(root: &SysRoot, address: PciAddress) -> Result<(), RecordError> {
        let path = Self::path(address);
        match fs::remove_file(root.path(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RecordError::Write { path, error });
            }
            _ => {}
        }
        // Ours alone if they are empty; others may keep theirs there.
        let _ = fs::remove_dir(root.path(FOLDER));
        let _ = fs::remove_dir(root.path("/run/linecard"));
        Ok(())
    }
}

/// Names that can stand in a path of sysfs.
pub(super) fn is_driver_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+');
    !name.is_empty() && name.len() < 64 && !name.starts_with('.') && name.chars().all(plain)
}

fn boot_id(root: &SysRoot) -> String {
    root.text("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
}
