//! The sockets and the program of a port: opened together, in queue order, and once more when the interface was
//! removed and is back, or has another number of queues.
//!
//! An interface's queue without a socket would lose its frames, so each has one. A port of fewer queues than
//! that spreads them: the interface's queue 5 belongs to queue 1 of a port of two.
//!
//! The first queue that finds its sockets' interface changed opens all of them anew; the others take theirs. What is opened is counted as one thing: all sockets, then the program, whose frames thus find a
//! socket from the first one on.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linecard_hal::{Mempool, PortError, PortErrorKind};

use crate::MAX_QUEUES;
use crate::device::{Device, Features, Interface};
use crate::ladder::{self, Abilities, Refusal};
use crate::options::{Mode, Options};
use crate::socket::{Receiver, Sender, Socket, Wanted};
use crate::steering::{self, Steering};
use crate::sys::packet::Promiscuous;
use crate::sys::socket::{Sizes, Statistics, Xsk};
use crate::umem::Umem;

/// Frames that one call of ours may have the device work on, with busy polling.
const BUSY_BATCH: libc::c_int = 64;

/// What the queues of a port have in common.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) device: Arc<Device>,
    pub(crate) options: Options,
    pub(crate) features: Option<Features>,
    /// Of every mode that may be taken.
    pub(crate) abilities: Abilities,
    pub(crate) sizes: Sizes,
    pub(crate) promiscuous: bool,
    /// One for each queue.
    pub(crate) pools: Vec<Mempool>,
}

/// What is counted for the whole port.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Checksums that came unfinished.
    pub(crate) unfinished: AtomicU64,
    /// Sockets that were opened again.
    pub(crate) reopened: AtomicU64,
    /// Of sockets that are closed.
    closed: Mutex<Statistics>,
}

impl Totals {
    pub(crate) fn add(&self, socket: Statistics) {
        let mut closed = lock(&self.closed);
        *closed = closed.plus(socket);
    }

    pub(crate) fn closed(&self) -> Statistics {
        *lock(&self.closed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sockets of a port.
pub(crate) struct Group {
    pub(crate) plan: Plan,
    pub(crate) steering: Steering,
    pub(crate) totals: Totals,
    opened: Mutex<Opened>,
}

/// What sockets are opened for: the interface's number, and its queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    index: u32,
    queues: u32,
}

/// What was opened, and for which interface.
struct Opened {
    /// None while there is nothing.
    place: Option<Place>,
    mode: Option<Mode>,
    /// Halves that their queues have not taken yet.
    rx: Vec<Option<Receiver>>,
    tx: Vec<Option<Sender>>,
    refusals: Vec<Refusal>,
    _promiscuous: Option<Promiscuous>,
    /// What was said last about why nothing can be opened.
    said: String,
}

impl Opened {
    fn nothing() -> Self {
        Self {
            place: None,
            mode: None,
            rx: Vec::new(),
            tx: Vec::new(),
            refusals: Vec::new(),
            _promiscuous: None,
            said: String::new(),
        }
    }
}

impl Group {
    /// Opens everything.
    pub(crate) fn open(plan: Plan) -> Result<Self, PortError> {
        let device = plan.device.clone();
        let queues = plan.pools.len() as u16;
        let steering = Steering::new(plan.options.share, queues)
            .map_err(|e| device.system("the program's maps", e))?;
        let group = Self {
            plan,
            steering,
            totals: Totals::default(),
            opened: Mutex::new(Opened::nothing()),
        };
        let (interface, place) = group.look().map_err(|e| device.not_found(e))?;
        let opened = group.open_all(&interface, place, true)?;
        *lock(&group.opened) = opened;
        Ok(group)
    }

    pub(crate) fn mode(&self) -> Option<Mode> {
        lock(&self.opened).mode
    }

    /// Why the modes above were not taken.
    pub(crate) fn refusals(&self) -> Vec<String> {
        lock(&self.opened)
            .refusals
            .iter()
            .map(Refusal::to_string)
            .collect()
    }

    /// Closes what no queue has taken, and takes the program off.
    pub(crate) fn close(&self) {
        *lock(&self.opened) = Opened::nothing();
        self.steering.detach();
    }

    /// The interface as it is now.
    pub(crate) fn look(&self) -> io::Result<(Interface, Place)> {
        let interface = self.plan.device.interface()?;
        let place = Place {
            index: interface.index,
            queues: self.plan.device.channels(interface.index).rx,
        };
        Ok((interface, place))
    }

    /// The receiving halves of a queue, for the interface as it is now.
    pub(crate) fn receivers(&self, id: usize, now: (&Interface, Place)) -> Vec<Receiver> {
        let queues = self.plan.pools.len();
        self.fresh(now, |opened| {
            let mine = opened.rx.iter_mut().skip(id).step_by(queues);
            mine.filter_map(Option::take).collect()
        })
        .unwrap_or_default()
    }

    /// The sending half.
    pub(crate) fn sender(&self, id: usize, now: (&Interface, Place)) -> Option<Sender> {
        self.fresh(now, |opened| opened.tx.get_mut(id)?.take())?
    }

    /// What was opened for the interface as it is now; nothing while that fails.
    fn fresh<T>(
        &self,
        (interface, place): (&Interface, Place),
        take: impl FnOnce(&mut Opened) -> T,
    ) -> Option<T> {
        let mut opened = lock(&self.opened);
        if opened.place != Some(place) {
            let said = std::mem::take(&mut opened.said);
            // Those that nobody took are closed first.
            *opened = Opened::nothing();
            self.steering.detach();
            match self.open_all(interface, place, false) {
                Ok(new) => {
                    tracing::warn!(
                        port = %self.plan.device.port, queues = place.queues,
                        "the interface is back, or has other queues: its sockets were opened again"
                    );
                    self.totals.reopened.fetch_add(1, Ordering::Relaxed);
                    *opened = new;
                }
                Err(error) => {
                    let text = error.to_string();
                    if said != text {
                        tracing::warn!("{text}");
                    }
                    opened.said = text;
                    return None;
                }
            }
        }
        Some(take(&mut opened))
    }

    fn open_all(
        &self,
        interface: &Interface,
        place: Place,
        patient: bool,
    ) -> Result<Opened, PortError> {
        let (plan, device) = (&self.plan, &self.plan.device);
        check_channels(device, interface.index, plan.pools.len() as u32)?;
        if !plan.options.force {
            steering::check_place(device, interface)?;
        }
        let promiscuous = if plan.promiscuous {
            let joined = Promiscuous::new(interface.index);
            Some(joined.map_err(|e| device.system("promiscuous mode", e))?)
        } else {
            None
        };
        let mut refusals: Vec<Refusal> = Vec::new();
        for mode in plan.options.modes() {
            match self.try_mode(mode, interface, place, patient) {
                Ok((rx, tx)) => {
                    return Ok(Opened {
                        place: Some(place),
                        mode: Some(mode),
                        rx: rx.into_iter().map(Some).collect(),
                        tx: tx.into_iter().map(Some).collect(),
                        refusals,
                        _promiscuous: promiscuous,
                        said: String::new(),
                    });
                }
                Err(refusal) if refusal.is_final() => {
                    return Err(refusal.into_error(device, &refusals));
                }
                Err(refusal) => refusals.push(refusal),
            }
        }
        let last = refusals.pop();
        Err(last.map_or_else(
            || device.error(PortErrorKind::Config, "no mode to try"),
            |last| last.into_error(device, &refusals),
        ))
    }

    fn try_mode(
        &self,
        mode: Mode,
        interface: &Interface,
        place: Place,
        patient: bool,
    ) -> Result<(Vec<Receiver>, Vec<Sender>), Refusal> {
        let (plan, device) = (&self.plan, &self.plan.device);
        ladder::beforehand(mode, interface, plan.features)?;
        let wanted = plan.wanted(mode);
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for (queue, pool) in (0..place.queues).zip(plan.pools.iter().cycle()) {
            ladder::pages(mode, pool)?;
            let umem = Umem::of(pool);
            let (receiver, sender) = Socket::open(&umem, interface.index, queue, wanted, patient)
                .map_err(|e| ladder::binding(mode, device, queue, pool, e))?;
            self.install(queue, &receiver)
                .map_err(|e| ladder::binding(mode, device, queue, pool, e))?;
            let zero_copy = receiver.socket.xsk().is_some_and(Xsk::zero_copy);
            if zero_copy != (mode == Mode::ZeroCopy) {
                let why = format!("queue {queue}: the kernel gave another mode than was asked for");
                return Err(Refusal::new(mode, PortErrorKind::Unsupported, why));
            }
            rx.push(receiver);
            tx.push(sender);
        }
        if plan.options.force {
            // Only now that everything else is there.
            steering::clear_place(mode, device, interface)?;
        }
        // Of a queue that its port's queue serves beside another one only the receiving half is used.
        tx.truncate(plan.pools.len());
        self.steering
            .attach(device, interface, mode, wanted.pieces)?;
        Ok((rx, tx))
    }

    fn install(&self, queue: u32, receiver: &Receiver) -> io::Result<()> {
        let socket = receiver.socket.fd();
        let socket = socket.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        self.steering.maps.sockets.set(queue, &socket)
    }
}

impl Plan {
    fn wanted(&self, mode: Mode) -> Wanted {
        Wanted {
            mode,
            pieces: self.abilities.pieces > 1,
            metadata: self.abilities.checksum,
            sizes: self.sizes,
            busy_poll: self.options.busy_poll.then_some(BUSY_BATCH),
        }
    }
}

/// Refuses an interface that has fewer queues than the port, or more than there is room for.
pub(crate) fn check_channels(device: &Device, index: u32, queues: u32) -> Result<(), PortError> {
    let channels = device.channels(index);
    let name = &device.name;
    let most = u32::from(MAX_QUEUES);
    let (what, better) = if channels.rx < queues {
        (
            format!("{queues} queues, but {name} receives on {}", channels.rx),
            queues,
        )
    } else if channels.tx < queues {
        (
            format!("{queues} queues, but {name} transmits on {}", channels.tx),
            queues,
        )
    } else if channels.rx > most {
        (
            format!(
                "{name} has {} receive queues, and a port {most} at most",
                channels.rx
            ),
            most,
        )
    } else {
        return Ok(());
    };
    Err(device
        .error(PortErrorKind::Config, what)
        .remedy(format!("try: {}", channels.command(name, better))))
}
