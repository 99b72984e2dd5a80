//! The queues of a pcap port.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use linecard_hal::{
    Burst, Mbuf, Mempool, PortConfig, QueueState, RxQueue, RxStats, TxQueue, TxStats, Way,
};

use super::lock;
use super::source::Source;
use linecard_capfile::read::{Record, Step};
use linecard_capfile::write::{Writer, now_ns};

/// Receives the frames of a file.
pub(crate) struct PcapRx {
    /// `None`: finished.
    source: Option<Source>,
    pool: Mempool,
    /// Fresh mbufs.
    fresh: Burst,
    /// A frame that was read when the pool could not hold all of it.
    pending: Option<Pending>,
    port: u16,
    path: PathBuf,
    /// Frames that the capture cut short.
    cut: u64,
    broken: Arc<Mutex<Option<String>>>,
    stats: RxStats,
}

struct Pending {
    data: Vec<u8>,
    timestamp_ns: Option<u64>,
}

impl PcapRx {
    pub(crate) fn new(
        source: Option<Source>,
        pool: Mempool,
        config: &PortConfig,
        path: PathBuf,
        broken: Arc<Mutex<Option<String>>>,
    ) -> Self {
        Self {
            source,
            pool,
            fresh: Burst::with_capacity(config.burst),
            pending: None,
            port: config.index,
            path,
            cut: 0,
            broken,
            stats: RxStats::default(),
        }
    }

    fn finish(&mut self) {
        self.source = None;
        self.fresh.clear();
        if self.cut > 0 {
            let path = self.path.display();
            tracing::info!(file = %path, frames = self.cut, "the capture had cut frames short");
        }
    }

    /// Keeps a frame until the pool has enough mbufs, unless it never will.
    #[cold]
    fn wait_with(&mut self, pending: Pending) {
        self.fresh.clear();
        let config = self.pool.config();
        let buffer = usize::from(config.headroom) + usize::from(config.data_room);
        if pending.data.len() > config.size * buffer - usize::from(config.headroom) {
            self.stats.errors += 1;
        } else {
            self.pending = Some(pending);
        }
    }

    fn count(&mut self, mbuf: &mut Mbuf) {
        mbuf.set_port(self.port);
        self.stats.packets += 1;
        self.stats.bytes += mbuf.frame_len() as u64;
    }
}

/// A frame of the file in `mbuf` and as many more as it takes; `None` if there are not enough.
fn fill(mbuf: Mbuf, pool: &Mempool, data: &[u8], timestamp_ns: Option<u64>) -> Option<Mbuf> {
    let mut mbuf = mbuf.copy_in(data, pool)?;
    if let Some(ns) = timestamp_ns {
        mbuf.set_timestamp_ns(ns);
    }
    Some(mbuf)
}

impl RxQueue for PcapRx {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let mut n = 0;
        while burst.room() > 0 {
            if self.source.is_none() && self.pending.is_none() {
                break;
            }
            if let Some(pending) = self.pending.take() {
                // One by one, so that none lies idle while the rest of a chain is sought.
                let Some(mbuf) = self.pool.alloc() else {
                    self.pending = Some(pending);
                    break;
                };
                match fill(mbuf, &self.pool, &pending.data, pending.timestamp_ns) {
                    Some(mut mbuf) => {
                        self.count(&mut mbuf);
                        n += 1;
                        let _ = burst.push(mbuf);
                        continue;
                    }
                    None => {
                        self.wait_with(pending);
                        break;
                    }
                }
            }
            if self.fresh.is_empty() {
                let want = self.fresh.capacity().min(burst.room());
                self.pool.alloc_burst(&mut self.fresh, want);
            }
            let Some(mbuf) = self.fresh.pop() else { break };
            let Some(source) = &mut self.source else {
                break;
            };
            let (pool, cut) = (&self.pool, &mut self.cut);
            let step = source.next(|record: Record<'_>| {
                *cut += u64::from(record.cut);
                fill(mbuf, pool, record.data, record.timestamp_ns).ok_or_else(|| Pending {
                    data: record.data.to_vec(),
                    timestamp_ns: record.timestamp_ns,
                })
            });
            match step {
                Step::Frame(Ok(mut mbuf)) => {
                    self.count(&mut mbuf);
                    n += 1;
                    let _ = burst.push(mbuf);
                }
                Step::Frame(Err(pending)) => {
                    self.wait_with(pending);
                    break;
                }
                Step::Skipped => self.stats.errors += 1,
                Step::End => self.finish(),
                Step::Broken(broken) => {
                    let path = self.path.display();
                    tracing::warn!(file = %path, "broken {broken}; the frames before were received");
                    *lock(&self.broken) = Some(format!("{path} is broken {broken}"));
                    self.stats.errors += 1;
                    self.finish();
                }
            }
        }
        n
    }

    fn maintain(&mut self) -> QueueState {
        if self.finished() {
            QueueState::Finished
        } else {
            QueueState::Up
        }
    }

    fn finished(&self) -> bool {
        self.source.is_none() && self.pending.is_none()
    }

    fn stats(&mut self) -> RxStats {
        self.stats
    }
}

/// Writes frames to a file.
pub(crate) struct PcapTx {
    writer: Option<Arc<Mutex<Writer>>>,
    stats: TxStats,
}

impl PcapTx {
    pub(crate) fn new(writer: Option<Arc<Mutex<Writer>>>) -> Self {
        Self {
            writer,
            stats: TxStats::default(),
        }
    }

    fn flush(&self) {
        if let Some(writer) = &self.writer {
            lock(writer).flush();
        }
    }
}

impl TxQueue for PcapTx {
    fn transmit(&mut self, burst: &mut Burst) -> usize {
        let n = burst.len();
        if n == 0 {
            return 0;
        }
        let written = self.writer.as_ref().is_some_and(|writer| {
            let mut writer = lock(writer);
            let mut now = None;
            for mbuf in burst.iter() {
                // One look at the clock for a burst, and none if every frame has its time.
                let time = mbuf
                    .timestamp_ns()
                    .unwrap_or_else(|| *now.get_or_insert_with(now_ns));
                writer.stage(mbuf, (0, Way::Unknown), time);
            }
            writer.commit(n)
        });
        if written {
            self.stats.packets += n as u64;
            self.stats.bytes += crate::common::bytes_of(burst);
        } else {
            self.stats.errors += n as u64;
        }
        burst.clear();
        n
    }

    fn reclaim(&mut self) -> usize {
        self.flush();
        0
    }

    fn maintain(&mut self) -> QueueState {
        self.flush();
        QueueState::Up
    }

    fn stats(&mut self) -> TxStats {
        self.stats
    }
}

impl Drop for PcapTx {
    fn drop(&mut self) {
        self.flush();
    }
}
