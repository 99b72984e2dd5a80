//! A protocol that writes down which packets it was given.

use std::sync::{Arc, Mutex, PoisonError};

use linecard::engine::protocol::Home;
use linecard::{Claim, Outbox, Packet, Protocol, Verdict, WorkerIndex};

use super::packets::ETHERIP;
use super::sets::{Manner, Party};

/// Who got which packet: worker, protocol, number.
pub type Log = Arc<Mutex<Vec<(WorkerIndex, usize, u32)>>>;

/// Frames that are still to be sent, for ports that receive what they send.
pub type Queue = Arc<Mutex<Vec<Vec<u8>>>>;

/// Frames that are sent at once.
const AT_ONCE: usize = 16;

/// One worker's instance of a party.
pub struct Recorder {
    name: String,
    claims: Vec<Claim>,
    manner: Manner,
    home: Home,
    place: usize,
    worker: WorkerIndex,
    log: Log,
    /// Of one instance of all.
    to_send: Option<Queue>,
}

impl Recorder {
    pub fn new(
        party: &Party,
        place: usize,
        worker: WorkerIndex,
        log: &Log,
        to_send: Option<&Queue>,
    ) -> Self {
        Self {
            name: party.name.clone(),
            claims: party.claims.iter().map(|claim| claim.claim()).collect(),
            manner: party.manner,
            home: party.home,
            place,
            worker,
            log: log.clone(),
            to_send: to_send.cloned(),
        }
    }
}

/// What a case and the workers share is never broken half-way.
pub fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Protocol for Recorder {
    fn name(&self) -> &str {
        &self.name
    }

    fn claims(&self) -> Vec<Claim> {
        self.claims.clone()
    }

    fn home(&self) -> Home {
        self.home
    }

    fn packet(&mut self, _: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        let layers = packet.layers();
        let Some(number) = packet.data().last_chunk().map(|n| u32::from_be_bytes(*n)) else {
            return out.drop("no_number");
        };
        match self.manner {
            Manner::Unwrap if layers.protocol.0 == ETHERIP => {
                return Verdict::InnerFrame(layers.l4_offset() as u16 + 2);
            }
            Manner::Unwrap => return Verdict::InnerPacket(layers.l4_offset() as u16),
            Manner::Pass if number % 2 == 1 => return Verdict::Pass,
            _ => {}
        }
        lock(&self.log).push((self.worker, self.place, number));
        Verdict::Consume
    }

    fn deadline(&self) -> Option<u64> {
        let queue = self.to_send.as_ref()?;
        (!lock(queue).is_empty()).then_some(0)
    }

    fn expire(&mut self, _: u64, out: &mut Outbox) {
        let Some(queue) = &self.to_send else { return };
        let mut queue = lock(queue);
        let n = AT_ONCE.min(queue.len());
        for frame in queue.drain(..n) {
            let Some(mut mbuf) = out.alloc() else { return };
            if let Some(room) = mbuf.append(frame.len()) {
                room.copy_from_slice(&frame);
                out.send(0, mbuf);
            }
        }
    }
}
