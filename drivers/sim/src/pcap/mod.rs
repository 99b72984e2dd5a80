//! `pcap:` ports: capture files as ports.
//!
//! ```text
//!   in.pcap ─► records ─► mbufs with the file's times ─► stages ─► records ─► out.pcapng
//! ```
//!
//! `pcap:in.pcap` receives the frames of a file, as fast as they are asked for; `pcap:?tx=out.pcapng`
//! writes what it transmits; `pcap:in.pcap?tx=out.pcapng` or `pcap:?rx=in.pcap&tx=out.pcapng` does both.
//! A name alone is always an input: it is never created, and output is written only where `tx=` says so.
//!
//! | option | meaning | default |
//! | --- | --- | --- |
//! | `rx=FILE` | receive from this file; the same as the name after `pcap:` | none |
//! | `tx=FILE` | write to this file: pcapng if it ends in `.pcapng`, else pcap with nanoseconds | none |
//! | `loop=N` | receive the file `N` times, 1 or more | 1 |
//! | `infinite=0\|1` | receive the file for ever | 0 |
//!
//! **Received** are pcap files in microseconds and nanoseconds and pcapng files, of either byte order,
//! with Ethernet frames. A frame longer than the pool's data room becomes a chain. The mbuf's time is the
//! file's, in nanoseconds since 1970. A frame that the capture cut short is received as short as it is.
//! At the end of the file the queue is [finished](linecard_hal::QueueState::Finished). A file that turns
//! out to be broken in the middle gives the frames before, then counts one error, says where in the log
//! and in [`PortInfo::notes`], and is finished too. A file that is received more than once is kept in memory
//! (1 GiB at most) and must be whole. When the pool is empty no frame is lost: the file waits.
//!
//! **Written** are frames as they are handed over, with the mbuf's receive time if it has one, else the
//! time of the burst. What is on the disk ends with a whole record at all times; see how often in
//! [`wrap::Tap`](crate::wrap::Tap), which writes the same way. An existing file is overwritten when the
//! port first starts; later starts continue it.
//!
//! A port with output only has a receive queue that is finished from the start, so a forwarder between
//! `pcap:in.pcap` and `pcap:?tx=out.pcap` ends by itself. A port with input only refuses what it is
//! to transmit: counted as errors. There is one queue in each direction.
//!
//! On the library: `pcap-file` 2.0.0 rather than one of the release candidates of 3.0.0. It is the stable
//! one; its two faults that matter here (times of pcapng, cut frames of pcap) are avoided by asking it
//! for raw records; 3.0.0-rc1 can overflow on a hostile time, and rc.3 needs a newer compiler than the
//! rest of Linecard.
//!
//! [`PortInfo::notes`]: linecard_hal::PortInfo::notes

mod queue;
mod source;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linecard_hal::{
    LinkState, Mempool, Offloads, Port, PortConfig, PortError, PortErrorKind, PortInfo, PortName,
    QueuePair,
};

use crate::common::{check_config, check_pools, check_stopped, mac_of, not_configured};
use crate::units::Switch;
use linecard_capfile::read::{MAX_FRAME_LEN, OpenError, Reader};
use linecard_capfile::write::Writer;
use queue::{PcapRx, PcapTx};
use source::Source;

const OPTIONS: [&str; 4] = ["rx", "tx", "loop", "infinite"];

/// How often a file is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// So many times.
    Times(u64),
    /// For ever.
    Endless,
}

/// What a pcap port reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcapConfig {
    /// The file to receive.
    pub rx: Option<PathBuf>,
    /// The file to write.
    pub tx: Option<PathBuf>,
    /// How often `rx` is received.
    pub passes: Passes,
}

/// A capture file as a port. See the [module](self).
pub struct PcapPort {
    name: String,
    files: PcapConfig,
    config: Option<PortConfig>,
    running: bool,
    /// Checked and opened; goes to the receive queue when the port starts.
    source: Option<Source>,
    /// Stays with the port, so that a restart continues the file.
    writer: Option<Arc<Mutex<Writer>>>,
    /// What happened to the input, told by the queue.
    broken: Arc<Mutex<Option<String>>>,
}

impl PcapPort {
    /// A port for these files. The input is opened and its header checked now.
    pub fn new(name: impl Into<String>, files: PcapConfig) -> Result<Self, PortError> {
        let name = name.into();
        let wrong = |what: &str, remedy: &str| {
            Err(PortError::new(&name, PortErrorKind::Config, what).remedy(remedy))
        };
        if files.rx.is_none() && files.tx.is_none() {
            return wrong(
                "no file is named",
                "use pcap:in.pcap to read or pcap:?tx=out.pcap to write",
            );
        }
        if files.rx.is_none() && files.passes != Passes::Times(1) {
            return wrong(
                "loop= and infinite= need a file to read",
                "name one: pcap:in.pcap?loop=3",
            );
        }
        if files.passes == Passes::Times(0) {
            return wrong(
                "loop=0 would receive nothing",
                "use loop=1 or more, or infinite=1",
            );
        }
        if let (Some(rx), Some(tx)) = (&files.rx, &files.tx)
            && same_file(rx, tx)
        {
            return wrong(
                "rx= and tx= are the same file, which would be overwritten before it is read",
                "write to another file",
            );
        }
        let mut port = Self {
            name,
            files,
            config: None,
            running: false,
            source: None,
            writer: None,
            broken: Arc::default(),
        };
        port.source = port.open_source()?;
        Ok(port)
    }

    /// The port that `name` describes.
    pub fn open(mut name: PortName) -> Result<Self, PortError> {
        let fail = |what: &str| Err(PortError::new(name.full(), PortErrorKind::Name, what));
        let device = (!name.device().is_empty()).then(|| PathBuf::from(name.device()));
        let mut parsed = name.clone();
        let rx = parsed.take::<PathBuf>("rx")?;
        let tx = parsed.take::<PathBuf>("tx")?;
        let times = parsed.take::<u64>("loop")?;
        let endless = parsed.take::<Switch>("infinite")?.is_some_and(|s| s.0);
        parsed.finish(&OPTIONS)?;
        if device.is_some() && rx.is_some() {
            return fail("two files to read: one after pcap: and one in rx=");
        }
        if times.is_some() && endless {
            return fail("loop= and infinite= exclude each other");
        }
        let passes = if endless {
            Passes::Endless
        } else {
            Passes::Times(times.unwrap_or(1))
        };
        name = parsed;
        Self::new(
            name.full(),
            PcapConfig {
                rx: device.or(rx),
                tx,
                passes,
            },
        )
    }

    fn open_source(&self) -> Result<Option<Source>, PortError> {
        let Some(path) = &self.files.rx else {
            return Ok(None);
        };
        let reader = Reader::open(path).map_err(|e| self.refuse(path, e))?;
        Source::new(reader, self.files.passes)
            .map(Some)
            .map_err(|what| {
                let what = format!("{}: {what}", path.display());
                PortError::new(&self.name, PortErrorKind::Config, what)
                    .remedy("receive it once, without loop= and infinite=")
            })
    }

    fn refuse(&self, path: &Path, error: OpenError) -> PortError {
        let path = path.display();
        match error {
            OpenError::System(e) => {
                let kind = kind_of(&e);
                PortError::new(&self.name, kind, format!("cannot read {path}"))
                    .remedy(match kind {
                        PortErrorKind::NotFound => {
                            "a name alone is a file to read; to write one, use pcap:?tx=FILE"
                        }
                        _ => "check that the file can be read",
                    })
                    .cause(e)
            }
            OpenError::Broken(broken) => PortError::new(
                &self.name,
                PortErrorKind::Unsupported,
                format!("{path}: {broken}"),
            )
            .remedy("see what it is: file, or capinfos"),
        }
    }

    fn open_writer(&mut self) -> Result<Option<Arc<Mutex<Writer>>>, PortError> {
        let Some(path) = &self.files.tx else {
            return Ok(None);
        };
        if self.writer.is_none() {
            let writer = Writer::create(path, &self.name).map_err(|e| {
                PortError::new(
                    &self.name,
                    kind_of(&e),
                    format!("cannot write {}", path.display()),
                )
                .cause(e)
            })?;
            self.writer = Some(Arc::new(Mutex::new(writer)));
        }
        Ok(self.writer.clone())
    }
}

impl Port for PcapPort {
    fn info(&self) -> PortInfo {
        let mut notes = Vec::new();
        if let Some(tx) = &self.files.tx {
            let why = "ends with a whole record at all times, flushed ten times a second";
            notes.push(format!("tx={}: {why}", tx.display()));
        }
        notes.extend(lock(&self.broken).clone());
        PortInfo {
            name: self.name.clone(),
            driver: "pcap",
            mac: Some(mac_of(&self.name)),
            mtu: MAX_FRAME_LEN as u32 - 14,
            node: None,
            speed_mbps: None,
            speed_is_nominal: false,
            max_queues: 1,
            data_room: 64,
            offloads: Offloads::RX_TIMESTAMP | Offloads::RX_SCATTER | Offloads::TX_MULTI_SEGS,
            can_wait: false,
            notes,
            rungs: Vec::new(),
        }
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        check_stopped(&self.name, self.running)?;
        check_config(&self.name, config, 1)?;
        self.config = Some(config.clone());
        Ok(())
    }

    fn mbufs_per_queue(&self) -> usize {
        // Fresh mbufs of the receive queue.
        self.config.as_ref().map_or(0, |c| c.burst)
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        check_stopped(&self.name, self.running)?;
        let config = self
            .config
            .clone()
            .ok_or_else(|| not_configured(&self.name))?;
        check_pools(&self.name, &config, pools)?;
        if pools[0].config().data_room < 64 {
            let what = format!("a data room of {} bytes", pools[0].config().data_room);
            return Err(PortError::new(&self.name, PortErrorKind::Pool, what)
                .remedy("use a pool with a data room of 64 bytes or more"));
        }
        let source = match self.source.take() {
            Some(source) => Some(source),
            None => self.open_source()?,
        };
        let writer = self.open_writer()?;
        *lock(&self.broken) = None;
        let broken = self.broken.clone();
        let path = self.files.rx.clone().unwrap_or_default();
        let rx = PcapRx::new(source, pools[0].clone(), &config, path, broken);
        self.running = true;
        Ok(vec![QueuePair {
            rx: Box::new(rx),
            tx: Box::new(PcapTx::new(writer)),
        }])
    }

    fn stop(&mut self) -> Result<(), PortError> {
        self.running = false;
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        let mut writer = lock(writer);
        writer.finish().map_err(|e| {
            let what = format!("{} is not complete", writer.path().display());
            PortError::new(&self.name, kind_of(&e), what).cause(e)
        })
    }

    fn link(&self) -> LinkState {
        LinkState::Up
    }
}

impl std::fmt::Debug for PcapPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PcapPort({})", self.name)
    }
}

/// A panic elsewhere leaves whole records behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn kind_of(error: &io::Error) -> PortErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => PortErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => PortErrorKind::Permission,
        _ => PortErrorKind::System,
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    let id = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    id(a).is_some() && id(a) == id(b)
}

#[cfg(all(test, not(loom)))]
#[path = "port_tests.rs"]
mod tests;
