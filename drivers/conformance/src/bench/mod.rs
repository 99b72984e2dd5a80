//! A port that runs, its pool, and the books that have to balance when it stops.
//!
//! A case opens it, lets it send (`send.rs`), receive (`receive.rs`) or both at once (`forward.rs`), and stops it: then the queues'
//! statistics must be what the case did (`books.rs`), and every mbuf must be home.

mod books;
mod forward;
mod receive;
mod send;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use linecard_hal::{
    Burst, LinkState, Mbuf, Mempool, MempoolConfig, Offloads, Port, PortConfig, PortInfo, QueuePair,
};

pub use books::Slack;

use books::Books;

use crate::rig::{Sink, Source};
use crate::{Stand, Step, Stop, ensure, fail, frame};

/// Longer than anything takes that works, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The number that received mbufs carry.
pub const INDEX: u16 = 9;

/// Frames that are on their way at once, unless a case is about that: every rig has room for so many.
pub const WINDOW: usize = 256;

/// How ports run unless a case is about that: everything switched on that they have.
pub fn usual() -> PortConfig {
    PortConfig {
        index: INDEX,
        burst: 64,
        offloads: Offloads::all(),
        ..PortConfig::default()
    }
}

/// A port under test. See the [module](self).
pub struct Bench<'s> {
    /// The rig.
    pub stand: &'s mut Stand,
    /// The queues, while it runs.
    pub pairs: Vec<QueuePair>,
    /// How exactly the books are kept until it stops.
    pub slack: Slack,
    port: Option<Box<dyn Port>>,
    pool: Option<Mempool>,
    config: PortConfig,
    books: Books,
    arrived: VecDeque<Vec<u8>>,
    pending: VecDeque<(usize, Mbuf)>,
    /// What a file must have in the end.
    recorded: Vec<Vec<u8>>,
    burst: Burst,
}

impl<'s> Bench<'s> {
    /// Opens the port; nothing is there to be received.
    pub fn open(stand: &'s mut Stand) -> Step<Self> {
        Self::open_with(stand, &[])
    }

    /// Opens the port. These frames are there from the start if the rig's are recorded.
    pub fn open_with(stand: &'s mut Stand, recorded: &[Vec<u8>]) -> Step<Self> {
        if stand.rig.source() == Source::Recorded {
            stand.rig.inject(recorded).map_err(Stop::Failed)?;
        }
        let port = stand.rig.open()?;
        Ok(Self {
            stand,
            pairs: Vec::new(),
            slack: Slack::default(),
            port: Some(port),
            pool: None,
            config: usual(),
            books: Books::default(),
            arrived: VecDeque::new(),
            pending: VecDeque::new(),
            recorded: Vec::new(),
            burst: Burst::with_capacity(64),
        })
    }

    /// Opens and starts it in the usual way.
    pub fn usual(stand: &'s mut Stand) -> Step<Self> {
        let mut bench = Self::open(stand)?;
        bench.start(usual())?;
        Ok(bench)
    }

    /// As [`usual`](Self::usual), with recorded frames.
    pub fn usual_with(stand: &'s mut Stand, recorded: &[Vec<u8>]) -> Step<Self> {
        let mut bench = Self::open_with(stand, recorded)?;
        bench.start(usual())?;
        Ok(bench)
    }

    /// The port.
    pub fn port(&mut self) -> Step<&mut (dyn Port + 'static)> {
        let gone = || Stop::Failed("the port was closed".into());
        self.port.as_deref_mut().ok_or_else(gone)
    }

    /// What the port says that it is.
    pub fn info(&mut self) -> Step<PortInfo> {
        Ok(self.port()?.info())
    }

    /// The pool, while it runs.
    pub fn pool(&self) -> Step<Mempool> {
        let none = || Stop::Failed("the port was not started".into());
        self.pool.clone().ok_or_else(none)
    }

    /// The longest frame of the suite that it carries.
    pub fn longest(&mut self) -> Step<usize> {
        Ok((self.info()?.mtu as usize + 14).min(9000))
    }

    /// Where frames come from.
    pub fn source(&self) -> Source {
        self.stand.rig.source()
    }

    /// Where frames go.
    pub fn sink(&self) -> Sink {
        self.stand.rig.sink()
    }

    /// A pool for one configuration: enough for all holders, and for what the case holds.
    fn make_pool(&mut self, name: &str) -> Step<Mempool> {
        let port = self.port()?;
        let (info, each) = (port.info(), port.mbufs_per_queue());
        let size = usize::from(self.config.queues) * each + 2 * self.config.burst + 6 * WINDOW;
        Ok(Mempool::new(MempoolConfig {
            data_room: info.data_room.max(2048),
            ..MempoolConfig::new(name, size)
        })?)
    }

    /// Configures and starts it, and waits until its link is up.
    pub fn start(&mut self, config: PortConfig) -> Step {
        self.port()?.configure(&config)?;
        self.burst = Burst::with_capacity(config.burst);
        self.config = config;
        let pool = self.make_pool("conformance")?;
        let pools = vec![pool.clone(); usize::from(self.config.queues)];
        self.pool = Some(pool);
        self.books = Books::default();
        self.slack = Slack::default();
        self.pairs = self.port()?.start(&pools)?;
        ensure!(
            self.pairs.len() == pools.len(),
            "{} queues were asked for and {} given",
            pools.len(),
            self.pairs.len()
        );
        for pair in &mut self.pairs {
            pair.rx.attach()?;
            pair.tx.attach()?;
        }
        self.stand.rig.started(&self.config).map_err(Stop::Failed)?;
        self.until("the link to come up", |bench| {
            bench.maintain();
            Ok(bench.port()?.link() == LinkState::Up)
        })
    }

    /// Looks after all queues, as a worker does now and then.
    pub fn maintain(&mut self) {
        for pair in &mut self.pairs {
            pair.rx.maintain();
            pair.tx.maintain();
        }
    }

    /// Waits until something holds.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> Step<bool>) -> Step {
        let end = Instant::now() + PATIENCE;
        while !holds(self)? {
            ensure!(Instant::now() < end, "waited in vain for {what}");
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Waits until the device has no mbuf of ours any more.
    pub fn settle(&mut self) -> Step {
        self.until("the device to give the mbufs back", |bench| {
            bench.pump()?;
            let left: usize = bench.pairs.iter_mut().map(|p| p.tx.reclaim()).sum();
            Ok(left == 0)
        })
    }

    /// Everything has arrived; the statistics add up; the queues go, the port stops, and every mbuf is home.
    pub fn stop(&mut self) -> Step {
        self.settle()?;
        if !self.slack.lossy && self.source() != Source::Endless {
            let more = self.receive_rest()?.len();
            self.pump()?;
            let arrived = self.arrived.len();
            ensure!(
                more == 0 && arrived == 0,
                "{more} more frames were received and {arrived} more came than were sent"
            );
        }
        self.balance()?;
        self.end()
    }

    /// As [`stop`](Self::stop), whatever is on its way: only the pool has to be whole.
    pub fn end(&mut self) -> Step {
        self.stop_port()?;
        self.whole()
    }

    /// The queues go and the port stops.
    pub fn stop_port(&mut self) -> Step {
        self.pairs.clear();
        self.port()?.stop()?;
        self.port()?.stop()?; // Idempotent.
        self.stand.rig.stopped().map_err(Stop::Failed)
    }

    /// The case holds nothing; nobody else may.
    pub fn whole(&mut self) -> Step {
        self.pending.clear();
        self.burst.clear();
        let Some(pool) = self.pool.take() else {
            return Ok(());
        };
        // What the far end still has of ours (a link in memory passes mbufs on) it gives back.
        if self.sink() == Sink::FarEnd {
            self.pump()?;
            self.arrived.clear();
        }
        is_whole(&pool)
    }

    /// Stops, closes the port, and compares what was recorded.
    pub fn finish(mut self) -> Step {
        self.stop()?;
        self.close()
    }

    /// Closes the port, which was stopped, and compares what was recorded.
    pub fn close(mut self) -> Step {
        self.port = None;
        if self.sink() == Sink::Recorded {
            let came = self.stand.rig.collect().map_err(Stop::Failed)?;
            frame::compare(&self.recorded, &came).or_else(|e| fail(format!("recorded: {e}")))?;
        }
        Ok(())
    }

    /// Closes the port, which was stopped, and opens it anew.
    pub fn reopen(&mut self) -> Step {
        self.port = None;
        self.port = Some(self.stand.rig.open()?);
        Ok(())
    }

    /// Drops the port whatever its queues do, for cases about the order of that.
    pub fn drop_port(&mut self) {
        self.port = None;
    }
}

/// Every mbuf is home, by both books.
pub fn is_whole(pool: &Mempool) -> Step {
    pool.flush_cache();
    let (ledger, leaks) = (pool.ledger(), pool.leaks());
    ensure!(
        ledger.in_use == 0 && leaks.is_empty(),
        "{} mbufs of {} did not come home: {:?}",
        ledger.in_use,
        ledger.size,
        leaks.iter().take(4).collect::<Vec<_>>()
    );
    ensure!(
        ledger.allocated == ledger.freed,
        "{} mbufs were allocated and {} freed",
        ledger.allocated,
        ledger.freed
    );
    Ok(())
}
