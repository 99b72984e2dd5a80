//! EAL, DPDK's environment: started once per process, from our own configuration, when the first port
//! is opened.
//!
//! It is started on a thread of its own, because it moves the thread that starts it to the processors
//! of its main lcore. It polls nothing; its memory is for devices' queues and for the caches of pools, not
//! for mbufs, which lie in Linecard's own regions.

mod arguments;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, mpsc};

use linecard_hal::{PortError, PortErrorKind};

use crate::{log, sys};

pub use arguments::{EalConfig, Pages};

/// The variable with further arguments for EAL, for what [`EalConfig`] does not have.
pub const ARGUMENTS_VARIABLE: &str = "LINECARD_DPDK_EAL_ARGS";

/// The variable that chooses the pages for DPDK's own data: `auto`, `huge` or `normal`.
pub const PAGES_VARIABLE: &str = "LINECARD_DPDK_PAGES";

/// The variable that says how much memory DPDK has on ordinary pages.
pub const MEMORY_VARIABLE: &str = "LINECARD_DPDK_MEMORY_MIB";

/// The variable with the name of this process among DPDK's.
pub const PREFIX_VARIABLE: &str = "LINECARD_DPDK_FILE_PREFIX";

/// The oldest DPDK that this works with.
const OLDEST: u32 = 2211;

enum State {
    /// To be started like this.
    Before(EalConfig),
    /// Started, with or without PCI.
    Up { pci: bool, pages: Pages },
    /// It cannot be tried again in this process.
    Failed(PortErrorKind, String, String),
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

fn state() -> MutexGuard<'static, Option<State>> {
    STATE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Sets how EAL is to be started, whatever the environment says. `false`, and nothing is changed, if it was started already.
pub fn configure(config: EalConfig) -> bool {
    let mut state = state();
    match &*state {
        None | Some(State::Before(_)) => {
            *state = Some(State::Before(config));
            true
        }
        _ => false,
    }
}

/// The memory that EAL runs on, if it was started.
pub(crate) fn pages() -> Option<Pages> {
    match &*state() {
        Some(State::Up { pages, .. }) => Some(*pages),
        _ => None,
    }
}

/// Starts EAL if it was not started yet. `port` is for errors; `pci` says that it is a PCI device.
pub(crate) fn start(port: &str, pci: bool) -> Result<(), PortError> {
    let mut state = state();
    let config = match &*state {
        Some(State::Up { pci: false, .. }) if pci => {
            let what =
                "DPDK was started without PCI, because no device was bound to a driver for it";
            return Err(PortError::new(port, PortErrorKind::Busy, what)
                .remedy("bind the device first (linecard bind), then start the process again"));
        }
        Some(State::Up { .. }) => return Ok(()),
        Some(State::Failed(kind, what, remedy)) => {
            return Err(PortError::new(port, *kind, what).remedy(remedy.as_str()));
        }
        Some(State::Before(config)) => config.clone(),
        None => EalConfig::from_environment(|name| std::env::var(name).ok()).map_err(
            |(what, remedy)| PortError::new(port, PortErrorKind::Config, what).remedy(remedy),
        )?,
    };
    match try_start(&config, pci) {
        Ok(up) => {
            *state = Some(up);
            Ok(())
        }
        Err(Refusal {
            kind,
            what,
            remedy,
            again,
        }) => {
            let error = PortError::new(port, kind, &what).remedy(remedy.as_str());
            if !again {
                *state = Some(State::Failed(kind, what, remedy));
            }
            Err(error)
        }
    }
}

struct Refusal {
    kind: PortErrorKind,
    what: String,
    remedy: String,
    /// Whether it may be tried again: EAL itself was not touched.
    again: bool,
}

fn try_start(config: &EalConfig, pci: bool) -> Result<State, Refusal> {
    let (loaded, built) = sys::eal::version_numbers();
    if loaded < OLDEST {
        return Err(Refusal {
            kind: PortErrorKind::Unsupported,
            what: format!(
                "{} is loaded, and 22.11 or later is needed",
                sys::eal::version()
            ),
            remedy: "install it: scripts/setup --dpdk".into(),
            again: true,
        });
    }
    let pci = pci || arguments::any_bound(Path::new("/sys/bus/pci"));
    let pages = config.pages_here(Path::new("/sys/kernel/mm/hugepages"));
    let words = config.words(pci, pages).map_err(|(what, remedy)| Refusal {
        kind: PortErrorKind::Config,
        what,
        remedy,
        again: true,
    })?;
    tracing::debug!(?words, loaded, built, "starting EAL");
    log::forget();
    let started = start_aside(words);
    // EAL makes a directory for files that it then has none of. If it has, this does nothing.
    let _ = fs::remove_dir(sys::eal::runtime_dir());
    started.map_err(|error| explain(&error, pages, config))?;
    if !sys::eal::iova_is_va() {
        return Err(Refusal {
            kind: PortErrorKind::Unsupported,
            // Our mbufs name their bytes by virtual address in both fields; a device that is given physical
            // ones would read and write elsewhere.
            what: "DPDK chose physical addresses for devices (IOVA mode PA), and mbufs carry virtual ones".into(),
            remedy: "switch the IOMMU on (intel_iommu=on or amd_iommu=on for the kernel) and use vfio-pci".into(),
            again: false,
        });
    }
    Ok(State::Up { pci, pages })
}

/// Starts EAL on a thread that then sleeps for ever, as EAL keeps its number.
fn start_aside(words: Vec<String>) -> std::io::Result<()> {
    sys::eal::capture_log()?;
    let (answer, wait) = mpsc::channel();
    std::thread::Builder::new()
        .name("dpdk-main".into())
        .spawn(move || {
            let result = sys::eal::init(&words);
            let up = result.is_ok();
            let _ = answer.send(result);
            if up {
                loop {
                    std::thread::park();
                }
            }
        })?;
    wait.recv()
        .unwrap_or_else(|_| Err(std::io::Error::other("EAL ended its thread")))
}

/// What EAL said, with what to do about it.
fn explain(error: &std::io::Error, pages: Pages, config: &EalConfig) -> Refusal {
    let said = log::since();
    let (kind, remedy) = if said.contains("another primary process") || said.contains("create lock")
    {
        (
            PortErrorKind::Busy,
            format!(
                "another process uses this file prefix: choose another one, with {PREFIX_VARIABLE} or file_prefix in [dpdk]"
            ),
        )
    } else if pages == Pages::Huge && (said.contains("huge") || said.contains("memory")) {
        (
            PortErrorKind::System,
            format!(
                "free or reserve hugepages (linecard doctor says how), or do without: {PAGES_VARIABLE}=normal, or pages = \"normal\" in [dpdk]"
            ),
        )
    } else if said.contains("ermission denied")
        || error.kind() == std::io::ErrorKind::PermissionDenied
    {
        (
            PortErrorKind::Permission,
            "linecard doctor names what is missing".to_owned(),
        )
    } else if !config.eal_args.is_empty() {
        (
            PortErrorKind::Config,
            format!(
                "check {ARGUMENTS_VARIABLE}, or eal_args in [dpdk]: {}",
                config.eal_args.join(" ")
            ),
        )
    } else if said.contains("alloc") || said.contains("memory") {
        (
            PortErrorKind::System,
            format!(
                "DPDK was given {} MiB: give it another amount, 256 is usual, with {MEMORY_VARIABLE} or memory_mib in [dpdk]",
                config.memory_mib
            ),
        )
    } else {
        (
            PortErrorKind::System,
            "LINECARD_LOG=dpdk=trace shows all that DPDK says".to_owned(),
        )
    };
    let why = if said.is_empty() {
        error.to_string()
    } else {
        said
    };
    Refusal {
        kind,
        what: format!("DPDK does not start: {why}"),
        remedy,
        again: false,
    }
}
