//! The stage of a traffic command: who sends by which port, and who has what arrives there.
//!
//! ```text
//!   port 0 ◄── generator          port 1 ──► receiver, responder, …: an [`Arrivals`]
//! ```
//!
//! One for each worker. A worker may serve both sides, and a port may be both.

use linecard_engine::protocol::Wake;
use linecard_engine::{Context, DropReason, PortIndex, Stage};
use linecard_hal::Burst;

use crate::generator::Generator;

/// Who has the frames that a port received.
pub trait Arrivals: Send {
    /// Settles every mbuf of the burst. What is left in it counts as dropped,
    /// [`DropReason::Unclaimed`].
    fn take(&mut self, burst: &mut Burst, cx: &mut Context);

    /// Called in every turn, whether or not anything arrived: for what is due now and then.
    fn turn(&mut self, cx: &mut Context) {
        let _ = cx;
    }

    /// When [`turn`](Self::turn) has something to do, by [`Context::now_ns`]; `u64::MAX` for not before something
    /// arrives.
    fn next_ns(&self) -> u64 {
        u64::MAX
    }
}

/// Discards what arrives, [`DropReason::Mode`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl Arrivals for Discard {
    fn take(&mut self, burst: &mut Burst, cx: &mut Context) {
        cx.drop_burst(DropReason::Mode, burst);
    }
}

/// A worker's generators, and by port who has what arrives.
#[derive(Default)]
pub struct Station {
    generators: Vec<Generator>,
    /// By port; nobody is as [`Discard`].
    arrivals: Vec<Option<Box<dyn Arrivals>>>,
}

impl Station {
    /// One that discards everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends what this generator makes. `None`, as a worker has who does not send by a port, is nothing.
    #[must_use]
    pub fn send(mut self, generator: Option<Generator>) -> Self {
        self.generators.extend(generator);
        self
    }

    /// Gives what arrives at `port` to `arrivals`.
    #[must_use]
    pub fn receive(mut self, port: PortIndex, arrivals: impl Arrivals + 'static) -> Self {
        let index = port as usize;
        if self.arrivals.len() <= index {
            self.arrivals.resize_with(index + 1, || None);
        }
        self.arrivals[index] = Some(Box::new(arrivals));
        self
    }
}

impl Stage for Station {
    fn attach(&mut self, wake: &Wake) {
        for generator in &mut self.generators {
            generator.attach(wake);
        }
    }

    #[inline]
    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        match self.arrivals.get_mut(cx.port() as usize) {
            Some(Some(arrivals)) => arrivals.take(burst, cx),
            _ => Discard.take(burst, cx),
        }
    }

    /// Always: as long as it is there, it may be given a job.
    fn is_source(&self) -> bool {
        true
    }

    #[inline]
    fn generate(&mut self, cx: &mut Context) {
        for generator in &mut self.generators {
            generator.generate(cx);
        }
        for arrivals in self.arrivals.iter_mut().flatten() {
            arrivals.turn(cx);
        }
    }

    fn next_ns(&self) -> Option<u64> {
        let generators = self.generators.iter().map(Generator::next_ns);
        let arrivals = self.arrivals.iter().flatten().map(|a| a.next_ns());
        generators.chain(arrivals).min().or(Some(u64::MAX))
    }
}

impl core::fmt::Debug for Station {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Station")
            .field("generators", &self.generators)
            .finish_non_exhaustive()
    }
}
