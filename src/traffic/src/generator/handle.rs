//! The control plane's side of a generator.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use linecard_engine::publish::{Publisher, Reader, publish};
use linecard_engine::{Engine, PortIndex, WorkerIndex};
use linecard_hal::PortInfo;
use linecard_wire::MacAddr;

use super::compiled::{Compiled, Schedule, check_rate};
use super::{Armed, Generator, OVER, Part, SENDING, Sent, Setup, lock};
use crate::FCS_BYTES;
use crate::rate::Rate;
use crate::stream::{Job, JobError};
use crate::template::Addresses;

/// The control plane's side of a generator. Clones are the same one.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    setup: Setup,
    control: Mutex<Control>,
}

struct Control {
    publisher: Publisher<Arc<Armed>>,
    reader: Reader<Arc<Armed>>,
    /// By stream and worker: the next sequence number.
    sequences: Vec<u64>,
    /// Of the job that was started last.
    mean_bytes: f64,
    has_shared_rate: bool,
    /// Who is at the other end, found out since.
    peer: Option<MacAddr>,
    /// What was worked out to see whether it can be done: most likely it is done next.
    checked: Option<Checked>,
}

/// A job worked out, to be sent to this address.
struct Checked {
    job: Job,
    peer: MacAddr,
    compiled: Compiled,
}

/// What a generator is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing was asked for yet.
    Idle,
    /// It has a job, which no worker has begun.
    Waiting,
    /// It sends.
    Sending,
    /// The job is over, and the counts are final.
    Done,
}

impl Setup {
    /// Of a port of an engine: by all workers that serve it, from lane 0 on, at shares of the link's speed if
    /// the port knows one [to measure by](PortInfo::link_bits_per_second).
    pub fn of_port(engine: &Engine, port: PortIndex, addresses: Addresses) -> Self {
        let infos = engine.ports();
        let info = infos.get(usize::from(port));
        let workers = engine.plan().workers_of_port(port.into());
        let room = engine.pools().iter().map(|pool| pool.config().data_room);
        // The largest packet, the header of Ethernet, and the FCS that no mbuf has.
        let by_mtu = info.map_or(0, |info| info.mtu.saturating_add(14 + u32::from(FCS_BYTES)));
        let by_room = u32::from(room.min().unwrap_or(u16::MAX)) + u32::from(FCS_BYTES);
        Self {
            port,
            workers: workers.map(|worker| worker.id).collect(),
            first_lane: 0,
            addresses,
            link_bits_per_second: info.and_then(PortInfo::link_bits_per_second),
            max_frame: u16::try_from(by_mtu.min(by_room)).unwrap_or(u16::MAX),
        }
    }
}

impl Handle {
    /// A generator that has nothing to do yet.
    pub fn new(setup: Setup) -> Self {
        let (publisher, reader) = publish(Arc::new(Armed::none()));
        let control = Control {
            publisher,
            reader,
            sequences: Vec::new(),
            mean_bytes: 0.0,
            has_shared_rate: false,
            peer: None,
            checked: None,
        };
        let control = Mutex::new(control);
        Self {
            inner: Arc::new(Inner { setup, control }),
        }
    }

    /// Where it sends.
    pub fn setup(&self) -> &Setup {
        &self.inner.setup
    }

    /// The part of a worker: for its [`Station`](crate::station::Station). `None` for one that does not send. To be asked
    /// for once for each worker.
    pub fn generator(&self, worker: WorkerIndex) -> Option<Generator> {
        let setup = &self.inner.setup;
        let index = setup.workers.iter().position(|known| *known == worker)?;
        Some(Generator {
            port: setup.port,
            index,
            jobs: lock(&self.inner.control).reader.clone(),
            wanted: false,
            run: None,
        })
    }

    /// Sends to this link-layer address from the next job on, where a stream says nothing else.
    pub fn set_peer(&self, peer: MacAddr) {
        lock(&self.inner.control).peer = Some(peer);
    }

    /// Says whether a job could be done, without doing it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn check(&self, job: &Job) -> Result<(), JobError> {
        let mut control = lock(&self.inner.control);
        let setup = control.setup(&self.inner.setup);
        control.checked = Some(Checked {
            compiled: Compiled::new(&setup, job)?,
            peer: setup.addresses.peer,
            job: job.clone(),
        });
        Ok(())
    }

    /// Begins a job as soon as the workers see it.
    ///
    /// # Errors
    /// What is wrong with the job, or that the one before is not over.
    pub fn start(&self, job: &Job) -> Result<(), JobError> {
        let mut control = lock(&self.inner.control);
        let setup = &control.setup(&self.inner.setup);
        let compiled = match control.checked.take() {
            Some(known) if known.job == *job && known.peer == setup.addresses.peer => {
                known.compiled
            }
            _ => Compiled::new(setup, job)?,
        };
        if !control.publisher.is_over() {
            return Err(JobError::Busy);
        }
        control.remember();
        let lanes = job.streams.len() * setup.workers.len();
        if control.sequences.len() < lanes {
            control.sequences.resize(lanes, 0);
        }
        let parts: Box<[Part]> = (0..setup.workers.len())
            .map(|worker| compiled.part(setup, job, worker, &control.sequences))
            .collect();
        control.mean_bytes = compiled.mean_bytes;
        control.has_shared_rate = compiled.has_shared_rate;
        control.publisher.publish(Arc::new(Armed {
            parts,
            asked_fps: compiled.asked_fps,
            trains: compiled.trains.iter().map(Schedule::asked).collect(),
            rate: AtomicU64::new(compiled.shared_fps.unwrap_or(0.0).to_bits()),
            ..Armed::none()
        }));
        Ok(())
    }

    /// Sends at another rate from now on: the job's own, not that of streams which have one.
    ///
    /// # Errors
    /// The rate cannot be had.
    pub fn set_rate(&self, rate: Rate) -> Result<(), JobError> {
        let control = lock(&self.inner.control);
        if !control.has_shared_rate {
            return Err(JobError::Job("every stream has a rate of its own".into()));
        }
        let link = self.inner.setup.link_bits_per_second;
        let fps = rate.frames_per_second(control.mean_bytes, link)?;
        check_rate(rate, fps)?;
        let armed = &**control.publisher;
        armed
            .rate
            .store(fps.unwrap_or(0.0).to_bits(), Ordering::Relaxed);
        armed.rate_version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Ends the job: nothing is due from now on. It is over when its [state](Self::state) says so.
    pub fn stop(&self) {
        let control = lock(&self.inner.control);
        control.publisher.stop.store(true, Ordering::Relaxed);
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        let control = lock(&self.inner.control);
        let armed = &**control.publisher;
        let states = || {
            armed
                .parts
                .iter()
                .map(|p| p.progress.state.load(Ordering::Acquire))
        };
        if armed.parts.is_empty() {
            State::Idle
        } else if states().all(|state| state == OVER) {
            State::Done
        } else if states().any(|state| state >= SENDING) {
            State::Sending
        } else {
            State::Waiting
        }
    }

    /// What became of the job that was started last.
    pub fn sent(&self) -> Sent {
        let control = lock(&self.inner.control);
        control.publisher.sent(&self.inner.setup)
    }
}

impl Control {
    /// Where it sends, by what is known now.
    fn setup(&self, setup: &Setup) -> Setup {
        let mut setup = setup.clone();
        setup.addresses.peer = self.peer.unwrap_or(setup.addresses.peer);
        setup
    }

    /// Keeps the sequence numbers at which the last job ended.
    fn remember(&mut self) {
        let workers = self.publisher.parts.len();
        for (worker, part) in self.publisher.parts.iter().enumerate() {
            for (stream, [_, next, _]) in part.progress.lanes.iter().enumerate() {
                let next = next.load(Ordering::Relaxed);
                if let Some(known) = self.sequences.get_mut(stream * workers + worker) {
                    *known = (*known).max(next);
                }
            }
        }
    }
}

impl core::fmt::Debug for Handle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Handle")
            .field("setup", &self.inner.setup)
            .finish_non_exhaustive()
    }
}
