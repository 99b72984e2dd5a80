//! A far end that is a port itself: the other end of a link in memory, or of shared memory.

use linecard_hal::{Burst, Mbuf, Mempool, MempoolConfig, Port, PortConfig, PortError, QueuePair};

use crate::wire;

/// A port at the other end, with a pool of its own.
pub struct Far {
    port: Box<dyn Port>,
    pairs: Vec<QueuePair>,
    pool: Mempool,
    burst: Burst,
}

impl Far {
    /// Starts the port. It sends by its first queue, and receives by all.
    pub fn start(mut port: Box<dyn Port>, queues: u16) -> Result<Self, PortError> {
        let config = PortConfig {
            index: 77,
            queues,
            burst: 64,
            offloads: linecard_hal::Offloads::all(),
            ..PortConfig::default()
        };
        port.configure(&config)?;
        let pool = Mempool::new(MempoolConfig {
            data_room: port.info().data_room.max(2048),
            cache: 0,
            ..MempoolConfig::new("far", 8192)
        });
        let pool = pool
            .map_err(|e| PortError::new("far", linecard_hal::PortErrorKind::Pool, e.to_string()))?;
        let mut pairs = port.start(&vec![pool.clone(); usize::from(queues)])?;
        for pair in &mut pairs {
            pair.rx.attach()?;
            pair.tx.attach()?;
        }
        Ok(Self {
            port,
            pairs,
            pool,
            burst: Burst::with_capacity(64),
        })
    }

    /// Sends frames; returns how many the link has room for.
    pub fn inject(&mut self, frames: &[Vec<u8>]) -> Result<usize, String> {
        let Some(pair) = self.pairs.first_mut() else {
            return Ok(0);
        };
        pair.tx.reclaim();
        for frame in frames.iter().take(self.burst.capacity()) {
            let mbuf = filled(&self.pool, frame).ok_or("the far end has no mbuf left")?;
            let _ = self.burst.push(mbuf);
        }
        let n = pair.tx.transmit(&mut self.burst);
        self.burst.clear();
        Ok(n)
    }

    /// What arrived, as it would be on a wire.
    pub fn collect(&mut self) -> Result<Vec<Vec<u8>>, String> {
        let mut all = Vec::new();
        for pair in &mut self.pairs {
            while pair.rx.receive(&mut self.burst) > 0 {
                for mbuf in self.burst.drain() {
                    all.extend(wire::frames(&mbuf)?);
                }
            }
        }
        Ok(all)
    }

    /// Lets it look after its queues, as a worker does now and then.
    pub fn maintain(&mut self) {
        for pair in &mut self.pairs {
            pair.rx.maintain();
            pair.tx.maintain();
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.pairs.clear();
        let _ = self.port.stop();
    }
}

/// The frame in as many mbufs of the pool as it takes; `None` if there are not so many.
pub fn filled(pool: &Mempool, frame: &[u8]) -> Option<Mbuf> {
    let room = usize::from(pool.config().data_room);
    let mut parts = frame.chunks(room);
    let mut head = segment(pool, parts.next().unwrap_or_default())?;
    for part in parts {
        head.chain(segment(pool, part)?).ok()?;
    }
    Some(head)
}

/// One mbuf with these bytes.
pub fn segment(pool: &Mempool, bytes: &[u8]) -> Option<Mbuf> {
    let mut mbuf = pool.alloc()?;
    mbuf.append(bytes.len())?.copy_from_slice(bytes);
    Some(mbuf)
}
