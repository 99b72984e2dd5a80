//! The sockets and the program of a port: opened together, in queue order, and once more when the interface was
//! removed and is back.
//!
//! The first queue that finds its socket's interface gone opens all sockets for the new one; the others take
//! theirs. What is opened is counted as one thing: all sockets, then the program, whose frames thus find a
//! socket from the first one on.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linecard_hal::{Mempool, PortError};

use crate::device::{Device, Features, Interface};
use crate::ladder::{self, Abilities, Refusal};
use crate::options::{Mode, Options};
use crate::socket::{Receiver, Sender, Socket, Wanted};
use crate::steering::{self, Steering};
use crate::sys::packet::Promiscuous;
use crate::sys::socket::{Sizes, Statistics};
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

/// What was opened, and for which interface.
struct Opened {
    /// 0 while there is nothing.
    index: u32,
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
            index: 0,
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
        let interface = device.interface().map_err(|e| device.not_found(e))?;
        let opened = group.open_all(&interface, true)?;
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

    /// The receiving half of a queue, for the interface as it is now.
    pub(crate) fn receiver(&self, id: usize, interface: &Interface) -> Option<Receiver> {
        self.fresh(interface, |opened| opened.rx.get_mut(id)?.take())
    }

    /// The sending half.
    pub(crate) fn sender(&self, id: usize, interface: &Interface) -> Option<Sender> {
        self.fresh(interface, |opened| opened.tx.get_mut(id)?.take())
    }

    fn fresh<T>(
        &self,
        interface: &Interface,
        take: impl FnOnce(&mut Opened) -> Option<T>,
    ) -> Option<T> {
        let mut opened = lock(&self.opened);
        if opened.index != interface.index {
            let said = std::mem::take(&mut opened.said);
            // Those that nobody took are closed first.
            *opened = Opened::nothing();
            opened.said = said;
            match self.open_all(interface, false) {
                Ok(new) => {
                    tracing::warn!(port = %self.plan.device.port, "the interface is back");
                    self.totals.reopened.fetch_add(1, Ordering::Relaxed);
                    *opened = new;
                }
                Err(error) => {
                    let text = error.to_string();
                    if opened.said != text {
                        tracing::warn!("{text}");
                        opened.said = text;
                    }
                    return None;
                }
            }
        }
        take(&mut opened)
    }

    fn open_all(&self, interface: &Interface, patient: bool) -> Result<Opened, PortError> {
        let (plan, device) = (&self.plan, &self.plan.device);
        check_channels(device, interface.index, plan.pools.len() as u32)?;
        if plan.options.force {
            steering::clear_place(device, interface)?;
        } else {
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
            match self.try_mode(mode, interface, patient) {
                Ok((rx, tx)) => {
                    return Ok(Opened {
                        index: interface.index,
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
            || device.error(linecard_hal::PortErrorKind::Config, "no mode to try"),
            |last| last.into_error(device, &refusals),
        ))
    }

    fn try_mode(
        &self,
        mode: Mode,
        interface: &Interface,
        patient: bool,
    ) -> Result<(Vec<Receiver>, Vec<Sender>), Refusal> {
        let (plan, device) = (&self.plan, &self.plan.device);
        ladder::beforehand(mode, interface, plan.features)?;
        let wanted = plan.wanted(mode);
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for (queue, pool) in (0..).zip(&plan.pools) {
            ladder::pages(mode, pool)?;
            let umem = Umem::of(pool);
            let (receiver, sender) = Socket::open(&umem, interface.index, queue, wanted, patient)
                .map_err(|e| ladder::binding(mode, device, queue, pool, e))?;
            self.install(mode, queue, &receiver)?;
            rx.push(receiver);
            tx.push(sender);
        }
        self.steering
            .attach(device, interface, mode, wanted.pieces)?;
        Ok((rx, tx))
    }

    fn install(&self, mode: Mode, queue: u32, receiver: &Receiver) -> Result<(), Refusal> {
        let socket = receiver
            .socket
            .fd()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        socket
            .and_then(|socket| self.steering.maps.sockets.set(queue, &socket))
            .map_err(|e| {
                ladder::binding(
                    mode,
                    &self.plan.device,
                    queue,
                    &self.plan.pools[queue as usize],
                    e,
                )
            })
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

/// Refuses an interface whose queues are more or fewer than the port's: frames of a queue without a socket would
/// be lost, and a socket without a queue would send nothing.
pub(crate) fn check_channels(device: &Device, index: u32, queues: u32) -> Result<(), PortError> {
    let channels = device.channels(index);
    let name = &device.name;
    let what = if channels.rx != queues {
        format!(
            "{name} has {} receive queue(s) and the port {queues}",
            channels.rx
        )
    } else if channels.tx < queues {
        format!(
            "{name} has {} transmit queue(s) and the port {queues}",
            channels.tx
        )
    } else {
        return Ok(());
    };
    let remedy = format!(
        "{}, or as many workers on this port as there are queues",
        channels.command(name, queues)
    );
    Err(device
        .error(linecard_hal::PortErrorKind::Config, what)
        .remedy(remedy))
}
