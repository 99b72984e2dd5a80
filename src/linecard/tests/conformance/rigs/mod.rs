//! Rigs: one file for each kind of far end.

pub mod cable;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod files;
pub mod link;
pub mod loopback;
pub mod tap;

use std::process::Command;

use linecard_conformance::Rig;

pub type Made = Result<Box<dyn Rig>, String>;

/// Runs a command of the system; its own words are the error.
pub fn sh(script: &str) -> Result<(), String> {
    let ran = Command::new("sh").args(["-ec", script]).output();
    let output = ran.map_err(|e| format!("sh: {e}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{script}: {}", said.trim()))
    }
}
