//! The other end of a host's port: where a script or a fuzzer sits, packet by packet.

use linecard_hal::{Burst, Mempool, MempoolConfig, Port, PortConfig, QueuePair};
use linecard_sim::SimPort;

use crate::error::SimError;

/// The other end of a port.
pub(crate) struct End {
    pair: QueuePair,
    pool: Mempool,
    burst: Burst,
    // Behind its queues.
    _port: SimPort,
}

impl End {
    /// Starts it, with a pool of so many mbufs.
    pub(crate) fn start(mut port: SimPort, mbufs: usize) -> Result<Self, SimError> {
        port.configure(&PortConfig {
            queues: 1,
            burst: 64,
            ..PortConfig::default()
        })?;
        let config = MempoolConfig {
            cache: 0,
            data_room: port.info().data_room.max(2048),
            ..MempoolConfig::new("other end", mbufs)
        };
        let pool = Mempool::new(config)
            .map_err(|error| SimError::scenario("the other end", error.to_string()))?;
        let mut pairs = port.start(std::slice::from_ref(&pool))?;
        let mut pair = pairs
            .pop()
            .ok_or_else(|| SimError::scenario("the other end", "no queue".into()))?;
        pair.rx.attach()?;
        pair.tx.attach()?;
        Ok(Self {
            pair,
            pool,
            burst: Burst::with_capacity(64),
            _port: port,
        })
    }

    /// Where what is sent comes from: what is out is with the host.
    pub(crate) fn pool(&self) -> &Mempool {
        &self.pool
    }

    pub(crate) fn send(&mut self, packet: &[u8]) -> Result<(), String> {
        let mut mbuf = self.pool.alloc().ok_or("the pool of this end is empty")?;
        let room = mbuf.append(packet.len());
        room.ok_or_else(|| format!("a packet of {} bytes does not fit an mbuf", packet.len()))?
            .copy_from_slice(packet);
        let _ = self.burst.push(mbuf);
        match self.pair.tx.transmit(&mut self.burst) {
            1 => Ok(()),
            _ => {
                self.burst.clear();
                Err("the link has no room".into())
            }
        }
    }

    pub(crate) fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        while self.pair.rx.receive(&mut self.burst) > 0 {
            let drained = self.burst.drain();
            packets.extend(drained.map(|mbuf| mbuf.segments().flatten().copied().collect()));
        }
        packets
    }
}
