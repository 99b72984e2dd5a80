//! What a protocol is given: packets with their headers found.

use std::ops::{Deref, DerefMut};

use linecard_hal::burst::{Slot, Slots};
use linecard_hal::{Burst, Mbuf};
use linecard_wire::{FlowKey, Layers, swap_flow};

use super::answer::{Answer, unanimous};
use super::demux::{ip_end, udp_end};
use crate::stage::{DropReason, PortIndex, Verdict};

/// One received packet: an mbuf, used as such, and where its headers are.
///
/// The headers are whole and agree with one another, or the packet would not be here. In a tunnel the mbuf
/// begins with the inner packet.
#[derive(Debug)]
pub struct Packet<'a> {
    slot: Slot<'a>,
    pub(super) layers: &'a Layers,
}

impl Packet<'_> {
    /// Where the headers are.
    #[inline(always)]
    pub fn layers(&self) -> &Layers {
        self.layers
    }

    /// What follows the innermost header, without Ethernet padding. Of a chain only what is in the first
    /// segment.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let (start, end) = self.payload_range();
        self.data().get(start..end).unwrap_or_default()
    }

    /// Where it lies, as far as that is in the first segment. UDP has a length of its own, which may be less than IP's.
    #[inline]
    fn payload_range(&self) -> (usize, usize) {
        let end = ip_end(self.data(), self.layers);
        match udp_end(self.data(), self.layers) {
            Some(udp_end) => (self.layers.payload_offset(), udp_end.min(end)),
            None => (self.layers.payload_offset(), end),
        }
    }

    /// The same, for writing in place. `None` while a clone shares the bytes.
    #[inline]
    pub fn payload_mut(&mut self) -> Option<&mut [u8]> {
        let (start, end) = self.payload_range();
        self.slot.data_mut()?.get_mut(start..end)
    }

    /// The flow it belongs to, if it is IP.
    #[inline]
    pub fn flow(&self) -> Option<FlowKey> {
        FlowKey::from_layers(self.data(), self.layers)
    }

    /// Exchanges source and destination of every header and answers [`Verdict::Reply`]: the packet goes back
    /// to who sent it. Checksums stay right, unless the payload changed: see [`reply`](Self::reply).
    #[inline]
    pub fn turn_round(&mut self) -> Verdict {
        let layers = self.layers;
        match self.slot.data_mut().map(|data| swap_flow(data, layers)) {
            Some(Ok(_)) => Verdict::Reply,
            // Bytes that a clone shares, or not Ethernet.
            _ => Verdict::Drop(DropReason::Malformed),
        }
    }

    /// Takes the mbuf, to keep it or to pass it to the application. Answer [`Verdict::Consume`] or
    /// [`Verdict::Deliver`] then.
    #[inline(always)]
    pub fn take(self) -> Mbuf {
        self.slot.take()
    }
}

impl Deref for Packet<'_> {
    type Target = Mbuf;

    #[inline(always)]
    fn deref(&self) -> &Mbuf {
        &self.slot
    }
}

impl DerefMut for Packet<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Mbuf {
        &mut self.slot
    }
}

/// A burst of packets, each waiting for its verdict. What is not answered is dropped as
/// [unclaimed](DropReason::Unclaimed).
#[derive(Debug)]
pub struct Packets<'a> {
    slots: Slots<'a>,
    layers: &'a [Layers],
    answers: &'a mut [Answer],
    written: Written,
    /// The one that was looked at last: who is at it when something goes wrong.
    current: usize,
}

/// Which of the places for answers have been written for this burst. They are not emptied before each: as a rule
/// they are filled one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Nothing,
    /// Those before the current one.
    Before,
    Everything,
}

impl<'a> Packets<'a> {
    /// A burst, with the headers of each packet and room for its answer.
    #[inline(always)]
    pub(super) fn new(
        burst: &'a mut Burst,
        layers: &'a [Layers],
        answers: &'a mut [Answer],
    ) -> Self {
        let n = burst.len().min(layers.len()).min(answers.len());
        Self {
            slots: burst.slots(),
            layers: &layers[..n],
            answers: &mut answers[..n],
            written: Written::Nothing,
            current: 0,
        }
    }

    /// How many there are.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether there are none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Where the headers of each packet are: for a look at all of them before any is answered, such as a bulk
    /// look-up of flows.
    #[inline(always)]
    pub fn layers(&self) -> &[Layers] {
        self.layers
    }

    /// The `index`-th packet, unless it was taken.
    #[inline(always)]
    pub fn get(&mut self, index: usize) -> Option<Packet<'_>> {
        let layers = self.layers.get(index)?;
        self.write_everything();
        // Behind the end there is nobody to be at.
        self.current = index;
        let slot = self.slots.get(index)?;
        Some(Packet { slot, layers })
    }

    /// Answers the `index`-th packet.
    #[inline(always)]
    pub fn answer(&mut self, index: usize, verdict: Verdict) {
        self.write_everything();
        if let Some(place) = self.answers.get_mut(index) {
            *place = Answer::new(verdict);
        }
    }

    /// From here on packets are answered in any order.
    #[inline(always)]
    fn write_everything(&mut self) {
        let from = match self.written {
            Written::Everything => return,
            Written::Before => self.current,
            Written::Nothing => 0,
        };
        self.answers[from..].fill(Answer::NONE);
        self.written = Written::Everything;
    }

    /// Answers every packet in turn.
    #[inline(always)]
    pub fn answer_each(&mut self, mut verdict: impl FnMut(Packet<'_>) -> Verdict) {
        match self.written {
            Written::Nothing => self.written = Written::Before,
            _ => self.write_everything(),
        }
        let slots = self.slots.iter_mut();
        let each = slots.zip(self.layers).zip(self.answers.iter_mut());
        for (index, ((slot, layers), place)) in each.enumerate() {
            self.current = index;
            // Where one was taken, everything is written.
            if let Some(slot) = slot {
                *place = Answer::new(verdict(Packet { slot, layers }));
            }
        }
        self.written = Written::Everything;
    }

    /// The port by which all leave, if all do by the same one. `back` is the port that they came by.
    #[inline(always)]
    pub(super) fn one_way_out(&self, back: PortIndex) -> Option<PortIndex> {
        if self.written != Written::Everything || self.slots.any_taken() {
            return None;
        }
        unanimous(self.answers)?.way_out(back)
    }

    /// The verdict of the `index`-th packet, if it has one.
    pub(super) fn verdict(&mut self, index: usize) -> Option<Verdict> {
        self.write_everything();
        self.answers.get(index)?.verdict()
    }

    /// After a panic: the packet that was looked at last, if it was not answered.
    pub(super) fn culprit(&mut self) -> Option<usize> {
        let answered = self.verdict(self.current).is_some();
        (!answered).then_some(self.current)
    }

    /// The flow of the packet that was looked at last, if it is there and its headers still are.
    pub(super) fn current_flow(&mut self) -> Option<FlowKey> {
        self.get(self.current)?.flow()
    }

    /// Gives each packet with its verdict to `each`; no packet where it was taken.
    #[inline(always)]
    pub(super) fn settle(mut self, mut each: impl FnMut(usize, Option<Verdict>, Option<Mbuf>)) {
        self.write_everything();
        let answers = &*self.answers;
        self.slots.take_all(|index, mbuf| {
            let answer = answers.get(index);
            each(index, answer.and_then(|answer| answer.verdict()), mbuf);
        });
    }
}
