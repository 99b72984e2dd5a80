//! Everything about packets under way: what became of them, when to ask again, whether one more may leave.
//!
//! Three timers, of which one runs at a time: RACK's reordering timer, the tail loss probe (RFC 8985, section 7), and
//! the retransmission timeout (RFC 6298, section 5). In short: a loss with something behind it is found by RACK within a
//! round trip and a bit; for a loss at the end, with nothing behind it, a probe makes something come behind it, after
//! two round trips; and if that is lost as well, there is the timeout.

use std::ops::Range;

use crate::config::Counters;
use crate::congestion::{Controller, MakeController};
use crate::outgoing::Outgoing;
use crate::pacer::Pacer;
use crate::packet::Ack;
use crate::rack::Rack;
use crate::rtt::Rtt;
use crate::sent::{Fate, Sent, SentPacket};

/// No timeout is longer than this part of the time after which the connection is given up. RFC 6298 has no limit below
/// 60 s (section 2.5), but its connections live on: where a packet in five is lost, doubling alone would soon wait
/// until nothing is left to wait for. A packet every two seconds harms no network.
const TRIES: u64 = 16;
/// The time to a probe before there is a measurement (RFC 8985, section 7.2).
const FIRST_PROBE_NS: u64 = 1_000_000_000;
/// Time for the peer and for timers: on a short path two round trips are less than it takes a process to be woken (Linux
/// adds two ticks).
const PROBE_MARGIN_NS: u64 = 2_000_000;
/// In a window of so many datagrams, waiting for a second packet to acknowledge is waiting for nothing.
const SMALL_WINDOW: u64 = 4;
/// Gain of the pacer, in per cent.
const PACING: u64 = 125;
const PACING_IN_SLOW_START: u64 = 200;

/// An acknowledgement names packets that were never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeverSent;

/// Why no packet may leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until something arrives, or a timer goes off.
    ForArrival,
    /// Until this time.
    Until(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Reordering,
    Probe,
    Timeout,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Recovery {
    rtt: Rtt,
    rack: Rack,
    sent: Sent,
    controller: Box<dyn Controller>,
    pacer: Pacer,
    make: MakeController,
    shortest_timeout_ns: u64,
    longest_timeout_ns: u64,
    datagram_len: u64,
    peer_delay_ns: u64,
    /// `recover` of RFC 6582: losses of packets with lower numbers belong to a round that was answered already.
    recover: u64,
    recovering: bool,
    /// Packets given up in that round, and how many of them arrived.
    lost: u64,
    mistaken: u64,
    backoff: u32,
    timer: Option<(Timer, u64)>,
    /// The timeout counts from here: something arrived, or was sent with nothing else under way.
    progress_ns: u64,
    latest_sent_ns: u64,
    /// A probe was sent, and nothing has arrived since.
    probing: bool,
    /// So many packets may leave whatever the window.
    allowance: u32,
    /// Something that is no part of the row was lost with a packet: credit, a ping.
    tell_again: bool,
}

impl Recovery {
    /// Nothing is under way. The connection is given up after `idle_ns` of silence.
    pub fn new(
        make: MakeController,
        datagram_len: u64,
        (shortest_timeout_ns, idle_ns): (u64, u64),
        peer_delay_ns: u64,
    ) -> Self {
        Self {
            rtt: Rtt::new(shortest_timeout_ns, peer_delay_ns),
            longest_timeout_ns: (idle_ns / TRIES).max(shortest_timeout_ns),
            rack: Rack::default(),
            sent: Sent::default(),
            controller: make(datagram_len),
            pacer: Pacer::new(datagram_len),
            make,
            shortest_timeout_ns,
            datagram_len,
            peer_delay_ns,
            recover: 0,
            recovering: false,
            lost: 0,
            mistaken: 0,
            backoff: 0,
            timer: None,
            progress_ns: 0,
            latest_sent_ns: 0,
            probing: false,
            allowance: 0,
            tell_again: false,
        }
    }

    /// A packet that wants an acknowledgement leaves.
    pub fn sent(&mut self, now_ns: u64, number: u64, len: usize, range: Range<u64>, told: bool) {
        if self.sent.in_flight() == 0 {
            self.progress_ns = now_ns;
        }
        let len = len as u64;
        self.latest_sent_ns = now_ns;
        self.allowance = self.allowance.saturating_sub(1);
        self.pacer.spend(len);
        self.sent.push(SentPacket {
            number,
            sent_ns: now_ns,
            len,
            range,
            told,
            fate: Fate::InFlight,
        });
        self.set_timer();
    }

    /// Packets have arrived. `next_number` is that of the next packet to be sent.
    ///
    /// # Errors
    /// [`NeverSent`], and nothing has changed.
    pub fn arrived(
        &mut self,
        now_ns: u64,
        ack: &Ack<'_>,
        next_number: u64,
        out: &mut Outgoing,
        counters: &mut Counters,
    ) -> Result<(), NeverSent> {
        if ack.largest >= next_number {
            return Err(NeverSent);
        }
        let full = self.window_is_used();
        let (mut bytes, mut mistaken, mut newest) = (0, 0, None);
        for (first, last) in ack.ranges() {
            self.sent.arrived(first, last, |packet| {
                self.rack.arrived(now_ns, packet.number, packet.sent_ns);
                newest = newest.max(Some((packet.number, packet.sent_ns)));
                mistaken += u64::from(packet.fate != Fate::InFlight);
                // Growth is for what was sent after the window was reduced.
                bytes += if packet.number >= self.recover {
                    packet.len
                } else {
                    0
                };
                out.arrived(packet.range.clone());
            });
        }
        let Some((number, sent_ns)) = newest else {
            return Ok(());
        };
        if number == ack.largest {
            self.rtt.sample(
                now_ns,
                now_ns - sent_ns,
                ack.delay_ns.min(self.peer_delay_ns),
            );
        }
        self.backoff = 0;
        self.progress_ns = now_ns;
        self.probing = false;
        if self.recovering && number >= self.recover {
            self.recovering = false;
            self.rack.recovered();
        }
        if mistaken > 0 {
            counters.mistaken += mistaken;
            self.was_mistaken(mistaken, next_number);
        }
        self.controller.arrived(now_ns, bytes, full, &self.rtt);
        self.detect(now_ns, next_number, out, counters);
        // A mistake shows within a round trip, if at all.
        self.sent
            .forget(now_ns.saturating_sub(self.rtt.smoothed_ns().unwrap_or_default()));
        Ok(())
    }

    fn was_mistaken(&mut self, mistaken: u64, next_number: u64) {
        self.rack.was_mistaken(next_number);
        self.mistaken += mistaken;
        if self.mistaken >= self.lost {
            self.controller.nothing_was_lost();
            self.recovering = false;
        }
    }

    /// A window that is not used must not grow. In slow start half of it is enough, for it doubles before the next
    /// acknowledgement says so (Linux's `tcp_is_cwnd_limited` has the same rule).
    fn window_is_used(&self) -> bool {
        let (in_flight, window) = (self.sent.in_flight(), self.controller.window());
        if window < self.controller.threshold() {
            2 * in_flight >= window
        } else {
            in_flight + 3 * self.datagram_len >= window
        }
    }

    fn detect(
        &mut self,
        now_ns: u64,
        next_number: u64,
        out: &mut Outgoing,
        counters: &mut Counters,
    ) {
        let in_flight = self.sent.in_flight();
        let (mut count, mut highest) = (0, 0);
        let tell_again = &mut self.tell_again;
        let again = self.rack.detect(
            now_ns,
            &self.rtt,
            self.recovering,
            &mut self.sent,
            |packet| {
                out.lost(packet.range.clone());
                *tell_again |= packet.told;
                (count, highest) = (count + 1, packet.number);
            },
        );
        if count > 0 {
            counters.lost += count;
            self.lost = self.lost.saturating_add(count);
            if highest >= self.recover {
                self.controller.lost(now_ns, in_flight);
                (self.recover, self.recovering) = (next_number, true);
                (self.lost, self.mistaken) = (count, 0);
            }
        }
        self.timer = again.map(|at_ns| (Timer::Reordering, at_ns));
        self.set_timer();
    }

    /// Which timer runs, unless it is that for reordering.
    fn set_timer(&mut self) {
        if self.sent.in_flight() == 0 {
            self.timer = None;
        } else if !matches!(self.timer, Some((Timer::Reordering, _))) {
            let after_ns = self.rtt.timeout_ns(self.backoff);
            let timeout_ns = self.progress_ns + after_ns.min(self.longest_timeout_ns);
            let probe_ns = self.latest_sent_ns + self.probe_after_ns();
            // RFC 8985, section 7.2, has no probe while recovering; but a retransmission at the end is lost as easily as
            // anything else, and there is no ambiguity here that would speak against it.
            let probe = !self.probing && self.backoff == 0 && probe_ns < timeout_ns;
            self.timer = Some(if probe {
                (Timer::Probe, probe_ns)
            } else {
                (Timer::Timeout, timeout_ns)
            });
        }
    }

    /// RFC 8985, section 7.2: two round trips, and if there is one packet only, time for its delayed acknowledgement.
    fn probe_after_ns(&self) -> u64 {
        let Some(smoothed) = self.rtt.smoothed_ns() else {
            return FIRST_PROBE_NS;
        };
        let alone = self.sent.flying().nth(1).is_none();
        2 * smoothed + PROBE_MARGIN_NS + if alone { self.peer_delay_ns } else { 0 }
    }

    /// When to call [`Recovery::expire`].
    pub fn deadline(&self) -> Option<u64> {
        self.timer.map(|(_, at_ns)| at_ns)
    }

    /// Does what the timer was for, if its time has come.
    pub fn expire(
        &mut self,
        now_ns: u64,
        next_number: u64,
        out: &mut Outgoing,
        counters: &mut Counters,
    ) {
        let Some((timer, _)) = self.timer.filter(|(_, at_ns)| *at_ns <= now_ns) else {
            return;
        };
        match timer {
            Timer::Reordering => self.detect(now_ns, next_number, out, counters),
            Timer::Probe => {
                counters.probes += 1;
                self.allowance = 1;
                self.probing = true;
                self.progress_ns = now_ns;
                self.set_timer();
            }
            Timer::Timeout => self.time_out(now_ns, next_number, out, counters),
        }
    }

    fn time_out(
        &mut self,
        now_ns: u64,
        next_number: u64,
        out: &mut Outgoing,
        counters: &mut Counters,
    ) {
        counters.timeouts += 1;
        self.controller
            .timed_out(now_ns, self.sent.in_flight(), self.backoff > 0);
        self.give_up(out, counters, |rack, rtt, sent, each| {
            rack.give_up_at_timeout(now_ns, rtt, sent, each)
        });
        // RFC 6298, sections 5.5 and 5.6.
        self.backoff += 1;
        self.progress_ns = now_ns;
        (self.recover, self.recovering) = (next_number, true);
        self.set_timer();
    }

    /// Packets are given up for another reason than RACK's, so one may leave whatever the window.
    fn give_up(
        &mut self,
        out: &mut Outgoing,
        counters: &mut Counters,
        which: impl FnOnce(&Rack, &Rtt, &mut Sent, &mut dyn FnMut(&SentPacket)),
    ) {
        which(&self.rack, &self.rtt, &mut self.sent, &mut |packet| {
            counters.lost += 1;
            out.lost(packet.range.clone());
        });
        self.allowance = 1;
        self.tell_again = true;
        // That this was a mistake cannot be said of single packets any more.
        (self.lost, self.mistaken) = (u64::MAX, 0);
    }

    /// The peer is somewhere else: nothing of what was learnt about the way holds (RFC 9000, section 9.4), and what was
    /// under way went to the old place.
    pub fn start_again(
        &mut self,
        now_ns: u64,
        next_number: u64,
        out: &mut Outgoing,
        counters: &mut Counters,
    ) {
        self.give_up(out, counters, |_, _, sent, each| {
            sent.give_up(now_ns, u64::MAX, |_| true, each)
        });
        self.rtt = Rtt::new(self.shortest_timeout_ns, self.peer_delay_ns);
        self.rack = Rack::default();
        self.controller = (self.make)(self.datagram_len);
        self.pacer = Pacer::new(self.datagram_len);
        (self.recover, self.recovering, self.backoff) = (next_number, false, 0);
        self.set_timer();
    }

    /// Whether a packet with a chunk may leave.
    ///
    /// # Errors
    /// What to [`Wait`] for.
    pub fn may_send(&mut self, now_ns: u64) -> Result<(), Wait> {
        if self.sent.is_full() {
            return Err(Wait::ForArrival);
        }
        if self.allowance > 0 {
            return Ok(());
        }
        let window = self.controller.window();
        if self.sent.in_flight() + self.datagram_len > window {
            return Err(Wait::ForArrival);
        }
        let Some(rtt_ns) = self.rtt.smoothed_ns() else {
            return Ok(());
        };
        let gain = if window < self.controller.threshold() {
            PACING_IN_SLOW_START
        } else {
            PACING
        };
        self.pacer.fill(now_ns, window, rtt_ns, gain);
        self.pacer.ready(window, rtt_ns, gain).map_err(Wait::Until)
    }

    /// Whether a packet without a chunk may leave: it is small, so neither window nor pace hold it back.
    pub fn has_room(&self) -> bool {
        !self.sent.is_full()
    }

    /// Whether the peer should not delay its word on the next packet: it is a probe, or the last that a small window
    /// lets go, so that nothing leaves until that word is here.
    pub fn wants_answer_at_once(&self) -> bool {
        let window = self.controller.window();
        let left = window.saturating_sub(self.sent.in_flight());
        self.allowance > 0
            || window <= SMALL_WINDOW * self.datagram_len && left < 2 * self.datagram_len
    }

    /// Whether something has to leave, to make the peer answer.
    pub fn must_send(&self) -> bool {
        self.allowance > 0
    }

    /// The row's part in the packet that was sent last and may be lost: a probe repeats it, if there is nothing fresh.
    pub fn latest_flying(&self) -> Option<Range<u64>> {
        self.sent
            .flying()
            .rev()
            .map(|p| p.range.clone())
            .find(|r| !r.is_empty())
    }

    /// Whether credit or a ping was lost, since this was asked last.
    pub fn take_tell_again(&mut self) -> bool {
        std::mem::take(&mut self.tell_again)
    }

    /// A first measurement of the round trip, from the handshake.
    pub fn seed_rtt(&mut self, now_ns: u64, measured_ns: u64) {
        self.rtt.sample(now_ns, measured_ns, 0);
    }

    /// The lowest packet number that word is wanted on.
    pub fn floor(&self) -> Option<u64> {
        self.sent.floor()
    }

    /// Bytes under way.
    pub fn in_flight(&self) -> u64 {
        self.sent.in_flight()
    }

    /// The congestion window.
    pub fn window(&self) -> u64 {
        self.controller.window()
    }

    /// The round trip.
    pub fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// Forgets what is under way, and gives the memory back.
    pub fn clear(&mut self) {
        self.sent.clear();
        self.timer = None;
        self.allowance = 0;
    }
}
