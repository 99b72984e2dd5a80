//! A tap: everything that passes is also written to a file.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use linecard_hal::flow::FlowRules;
use linecard_hal::region::{Region, RegionRequest};
use linecard_hal::{
    Burst, LinkState, Mempool, Port, PortConfig, PortError, PortInfo, QueuePair, QueueState,
    RxQueue, RxStats, SimClock, TxQueue, TxStats, Way,
};

use crate::pcap::{kind_of, lock};
use linecard_capfile::write::{Writer, is_ng, now_ns};

/// Writes each frame that a port receives or transmits to a file: pcapng, which notes the direction, if
/// its name ends in `.pcapng`, else pcap. Times are the mbuf's receive time, or that of the burst.
///
/// Transmitted frames are written as they are handed over, before the port finishes checksums or cuts
/// super-frames; those that the port did not take are not written. All queues share the file, behind a
/// lock that is taken once per burst.
///
/// What is on the disk is a whole file at all times: records are given to the system in one write that
/// ends with a record, when 64 KiB have come together, when the worker is idle or maintains its queues
/// (about ten times a second), at stop and on drop. A process that is killed loses what came since.
pub struct Tap {
    inner: Box<dyn Port>,
    recorder: Recorder,
    /// The port's number in the file.
    interface: u32,
}

/// A file that several ports are recorded in, each as an interface with its name: pcapng. Clones write to the same
/// file.
///
/// With a [`SimClock`] times are those of the simulation: frames are stamped as they are sent, and as they arrive.
#[derive(Clone)]
pub struct Recorder {
    writer: Arc<Mutex<Writer>>,
    /// The machine's, if there is none.
    clock: Option<SimClock>,
}

impl Recorder {
    /// Creates or empties the file, whose name has to end in `.pcapng`.
    pub fn create(path: &Path, clock: Option<SimClock>) -> io::Result<Self> {
        // Before the file is emptied.
        if !is_ng(path) {
            let what = "several ports are recorded in pcapng files only: end its name in .pcapng";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let writer = Writer::without_interface(path)?;
        Ok(Self {
            writer: Arc::new(Mutex::new(writer)),
            clock,
        })
    }

    /// Puts a tap on `inner` that records here.
    pub fn tap(&self, inner: Box<dyn Port>) -> Tap {
        let interface = lock(&self.writer).add_interface(&inner.info().name);
        Tap {
            inner,
            recorder: self.clone(),
            interface,
        }
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        lock(&self.writer).path().to_owned()
    }

    /// Writes what has come together, and reports the first failure.
    pub fn finish(&self) -> io::Result<()> {
        lock(&self.writer).finish()
    }

    fn now_ns(&self) -> u64 {
        self.clock.as_ref().map_or_else(now_ns, SimClock::now_ns)
    }

    /// Stages the frames of `burst` from `start` on.
    fn stage(
        &self,
        writer: &mut Writer,
        burst: &Burst,
        start: usize,
        (interface, way): (u32, Way),
    ) {
        let mut now = None;
        for mbuf in &burst.as_slice()[start..] {
            // What is transmitted may carry the time at which it was received, which is not when it left.
            let received = if way == Way::In {
                mbuf.timestamp_ns()
            } else {
                None
            };
            let time = received.unwrap_or_else(|| *now.get_or_insert_with(|| self.now_ns()));
            writer.stage(mbuf, (interface, way), time);
        }
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recorder({})", lock(&self.writer).path().display())
    }
}

impl Tap {
    /// Puts a tap on `inner`. The file is created, or emptied.
    pub fn new(inner: Box<dyn Port>, path: &Path) -> Result<Self, PortError> {
        let name = inner.info().name;
        let writer = Writer::create(path, &name).map_err(|e| {
            PortError::new(
                &name,
                kind_of(&e),
                format!("cannot write {}", path.display()),
            )
            .cause(e)
        })?;
        Ok(Self {
            inner,
            recorder: Recorder {
                writer: Arc::new(Mutex::new(writer)),
                clock: None,
            },
            interface: 0,
        })
    }
}

impl Port for Tap {
    fn info(&self) -> PortInfo {
        let mut info = self.inner.info();
        info.notes.push(format!(
            "tap: recorded in {}",
            lock(&self.recorder.writer).path().display()
        ));
        info
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        self.inner.configure(config)
    }

    fn mbufs_per_queue(&self) -> usize {
        self.inner.mbufs_per_queue()
    }

    fn memory(&self, request: &RegionRequest) -> Option<Result<Region, PortError>> {
        self.inner.memory(request)
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        let pairs = self.inner.start(pools)?;
        let tap = |pair: QueuePair| QueuePair {
            rx: Box::new(TapRx {
                inner: pair.rx,
                recorder: self.recorder.clone(),
                interface: self.interface,
            }),
            tx: Box::new(TapTx {
                inner: pair.tx,
                recorder: self.recorder.clone(),
                interface: self.interface,
            }),
        };
        Ok(pairs.into_iter().map(tap).collect())
    }

    fn stop(&mut self) -> Result<(), PortError> {
        self.inner.stop()?;
        let mut writer = lock(&self.recorder.writer);
        writer.finish().map_err(|e| {
            let what = format!("{} is not complete", writer.path().display());
            PortError::new(self.inner.info().name, kind_of(&e), what).cause(e)
        })
    }

    fn link(&self) -> LinkState {
        self.inner.link()
    }

    fn ifindex(&self) -> Option<u32> {
        self.inner.ifindex()
    }

    fn extended_stats(&self) -> Vec<(String, u64)> {
        self.inner.extended_stats()
    }

    fn flow_rules(&mut self) -> Option<&mut dyn FlowRules> {
        self.inner.flow_rules()
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tap({})", self.inner.info().name)
    }
}

struct TapRx {
    inner: Box<dyn RxQueue>,
    recorder: Recorder,
    interface: u32,
}

impl RxQueue for TapRx {
    fn attach(&mut self) -> Result<(), PortError> {
        self.inner.attach()
    }

    fn receive(&mut self, burst: &mut Burst) -> usize {
        let start = burst.len();
        let n = self.inner.receive(burst);
        if n > 0 {
            let mut writer = lock(&self.recorder.writer);
            let origin = (self.interface, Way::In);
            self.recorder.stage(&mut writer, burst, start, origin);
            writer.commit(n);
        }
        n
    }

    fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        // About to sleep: the moment to write.
        lock(&self.recorder.writer).flush();
        self.inner.wait_fd()
    }

    fn maintain(&mut self) -> QueueState {
        lock(&self.recorder.writer).flush();
        self.inner.maintain()
    }

    fn finished(&self) -> bool {
        self.inner.finished()
    }

    fn stats(&mut self) -> RxStats {
        self.inner.stats()
    }
}

struct TapTx {
    inner: Box<dyn TxQueue>,
    recorder: Recorder,
    interface: u32,
}

impl TxQueue for TapTx {
    fn attach(&mut self) -> Result<(), PortError> {
        self.inner.attach()
    }

    fn transmit(&mut self, burst: &mut Burst) -> usize {
        if burst.is_empty() {
            return self.inner.transmit(burst);
        }
        // Frames are gone once they are taken, so they are written down before, and those that were not
        // taken are struck out after. The lock is held in between, for the order of the file.
        let mut writer = lock(&self.recorder.writer);
        let origin = (self.interface, Way::Out);
        self.recorder.stage(&mut writer, burst, 0, origin);
        let n = self.inner.transmit(burst);
        writer.commit(n);
        n
    }

    fn reclaim(&mut self) -> usize {
        lock(&self.recorder.writer).flush();
        self.inner.reclaim()
    }

    fn maintain(&mut self) -> QueueState {
        self.inner.maintain()
    }

    fn stats(&mut self) -> TxStats {
        self.inner.stats()
    }
}
