use std::sync::Arc;

use linecard_hal::ring::{Consumer, Producer, Single, spsc};
use linecard_hal::{
    Burst, LinkState, Mbuf, MbufFlags, Mempool, Offloads, Port, PortConfig, PortError,
    PortErrorKind, PortInfo, QueuePair, RxQueue, RxStats, TxQueue, TxStats,
};

const MAX_QUEUES: u16 = 8;
const MTU: u32 = 9000;

/// A port that receives what it sends, queue by queue.
#[derive(Default)]
pub struct Loopback {
    config: Option<PortConfig>,
    /// Each queue has a clone, so the port knows whether any is still out.
    queues_out: Arc<()>,
}

fn refuse<T>(kind: PortErrorKind, what: String, remedy: &str) -> Result<T, PortError> {
    Err(PortError::new("loopback:", kind, what).remedy(remedy))
}

impl Loopback {
    fn must_be_stopped(&self) -> Result<(), PortError> {
        if Arc::strong_count(&self.queues_out) == 1 {
            return Ok(());
        }
        refuse(
            PortErrorKind::Busy,
            "it is running".into(),
            "drop its queues and stop it",
        )
    }
}

impl Port for Loopback {
    fn info(&self) -> PortInfo {
        PortInfo {
            name: "loopback:".into(),
            driver: "loopback",
            mac: None,
            mtu: MTU,
            node: None,
            speed_mbps: None,
            speed_is_nominal: false,
            max_queues: MAX_QUEUES,
            data_room: 64, // Nothing is written into its pools' mbufs.
            offloads: Offloads::TX_MULTI_SEGS | Offloads::RX_SCATTER, // Chains pass as they are.
            can_wait: false,
            notes: Vec::new(),
            rungs: Vec::new(),
        }
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        self.must_be_stopped()?;
        if !(1..=MAX_QUEUES).contains(&config.queues) || config.burst == 0 {
            let what = format!("{} queues and a burst of {}", config.queues, config.burst);
            return refuse(
                PortErrorKind::Config,
                what,
                "use 1 to 8 queues and a burst of 32",
            );
        }
        self.config = Some(config.clone());
        Ok(())
    }

    fn mbufs_per_queue(&self) -> usize {
        let config = self.config.as_ref();
        config.map_or(0, |c| (c.tx_descriptors as usize).next_power_of_two())
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        self.must_be_stopped()?;
        let Some(config) = &self.config else {
            return refuse(
                PortErrorKind::Config,
                "not configured".into(),
                "configure it first",
            );
        };
        if pools.len() != usize::from(config.queues) {
            let what = format!("{} pools for {} queues", pools.len(), config.queues);
            return refuse(PortErrorKind::Pool, what, "pass one pool for each queue");
        }
        let mut pairs = Vec::new();
        for _ in pools {
            let (to, from) = spsc(self.mbufs_per_queue());
            let (port, out) = (config.index, &self.queues_out);
            let rx = Rx {
                from,
                port,
                stats: RxStats::default(),
                _out: out.clone(),
            };
            let tx = Tx {
                to,
                stats: TxStats::default(),
                _out: out.clone(),
            };
            pairs.push(QueuePair {
                rx: Box::new(rx),
                tx: Box::new(tx),
            });
        }
        Ok(pairs)
    }

    fn stop(&mut self) -> Result<(), PortError> {
        self.must_be_stopped()
    }

    fn link(&self) -> LinkState {
        LinkState::Up
    }
}

struct Rx {
    from: Consumer<Mbuf, Single, Single>,
    port: u16,
    stats: RxStats,
    _out: Arc<()>,
}

impl RxQueue for Rx {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let n = self.from.pop_burst(burst);
        let first = burst.len() - n;
        for mbuf in &mut burst.as_mut_slice()[first..] {
            mbuf.set_port(self.port);
            self.stats.bytes += mbuf.frame_len() as u64;
        }
        self.stats.packets += n as u64;
        n
    }

    fn stats(&mut self) -> RxStats {
        self.stats
    }
}

struct Tx {
    to: Producer<Mbuf, Single, Single>,
    stats: TxStats,
    _out: Arc<()>,
}

/// No shorter than its header, no longer than the MTU with two tags, and asks for nothing we do not offer.
fn sendable(mbuf: &Mbuf) -> bool {
    let lengths = 14..=MTU as usize + 14 + 8;
    lengths.contains(&mbuf.frame_len()) && !mbuf.flags().intersects(MbufFlags::TX_REQUESTS)
}

fn bytes(burst: &Burst) -> u64 {
    burst.iter().map(|mbuf| mbuf.frame_len() as u64).sum()
}

impl TxQueue for Tx {
    fn transmit(&mut self, burst: &mut Burst) -> usize {
        let before = burst.len();
        // The good ones to the front, in order; the others are freed and counted.
        let mut good = 0;
        for at in 0..before {
            if sendable(&burst.as_slice()[at]) {
                burst.as_mut_slice().swap(good, at);
                good += 1;
            }
        }
        while burst.len() > good {
            self.stats.errors += 1;
            burst.pop();
        }
        self.stats.bytes += bytes(burst);
        self.stats.packets += self.to.push_burst(burst) as u64;
        self.stats.bytes -= bytes(burst); // What a full ring left in the burst.
        before - burst.len()
    }

    fn stats(&mut self) -> TxStats {
        self.stats
    }
}
