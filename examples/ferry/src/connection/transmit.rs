//! The way out: what the next packet carries.

use std::net::SocketAddr;
use std::ops::Range;

use super::{Connection, Phase};
use crate::packet::{HEADER_LEN, LEAST_DATAGRAM, Writer};
use crate::recovery::Wait;

/// The length of a packet with a challenge or a response.
const PROBE_LEN: usize = HEADER_LEN + 8;

impl Connection {
    /// Writes the next packet to `buffer`, and says where it goes and how long it is: up to the agreed datagram length, if
    /// there is so much room. With less than [`LEAST_DATAGRAM`] nothing is written. Nothing: there is nothing to send until the [deadline](Connection::deadline), or something happens.
    pub fn transmit(&mut self, now_ns: u64, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        if buffer.len() < LEAST_DATAGRAM {
            return None;
        }
        let room = buffer.len().min(self.datagram_len);
        let sent = match self.phase {
            Phase::Greeting(_) => self
                .transmit_hello(now_ns, buffer)
                .map(|len| (self.path.address(), len)),
            Phase::Welcoming { .. } => self
                .transmit_welcome(buffer)
                .map(|len| (self.path.address(), len)),
            Phase::Open => self.transmit_open(now_ns, &mut buffer[..room]),
            Phase::Closed(_) => self.transmit_close(now_ns, buffer),
        };
        if sent.is_some() {
            self.latest_sent_ns = now_ns;
        }
        sent
    }

    /// In this order: challenges and answers to them, by themselves, for they go to another address; bytes of the row,
    /// with an acknowledgement if one is waiting; a ping; an acknowledgement alone, if its time has come.
    fn transmit_open(&mut self, now_ns: u64, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        if let Some(sent) = self.transmit_path_probe(now_ns, buffer) {
            return Some(sent);
        }
        self.tell |= self.recovery.take_tell_again();
        self.paced_until_ns = None;
        let mut chunk = false;
        if self.out.is_waiting() || self.recovery.must_send() {
            match self.recovery.may_send(now_ns) {
                Ok(()) => chunk = true,
                Err(Wait::Until(at_ns)) => self.paced_until_ns = Some(at_ns),
                Err(Wait::ForArrival) => {}
            }
        }
        let credit = self.incoming.credit_is_worth_telling();
        let ping = (self.ping_due || credit || self.tell) && self.recovery.has_room();
        let ack = self.received.due_ns().is_some_and(|at_ns| at_ns <= now_ns);
        if !chunk && !ping && !ack {
            return None;
        }
        let len = self.write_data(now_ns, buffer, chunk, ping);
        Some((self.path.address(), len))
    }

    fn write_data(
        &mut self,
        now_ns: u64,
        buffer: &mut [u8],
        with_chunk: bool,
        ping: bool,
    ) -> usize {
        let number = self.take_number();
        let floor = self.recovery.floor().unwrap_or(number);
        let mut writer = Writer::data(buffer, self.remote, number, floor);
        let wants_ack = with_chunk || ping;
        let in_a_hurry = with_chunk && self.recovery.wants_answer_at_once();
        let told = ping || self.received.is_waiting();
        if told {
            let credit = self.incoming.credit();
            // An acknowledgement alone may be lost without anybody hearing of it, so it does not count as telling.
            if wants_ack {
                self.incoming.credit_is_told();
            }
            let (delay_ns, ranges) = self.received.tell(now_ns);
            writer.ack(credit, delay_ns, ranges);
            self.tell = false;
        }
        let range = if with_chunk {
            self.next_range(writer.room())
        } else {
            None
        };
        if let Some(range) = &range {
            let (offset, len, end) = self.out.chunk(range);
            self.out.copy(offset, writer.chunk(offset, len, end));
        }
        if wants_ack && (in_a_hurry || range.is_none()) {
            writer.ping();
        }
        let len = writer.finish();
        if wants_ack {
            self.ping_due = false;
            self.recovery
                .sent(now_ns, number, len, range.unwrap_or(0..0), told);
        }
        len
    }

    /// The bytes for the next packet. A probe for which there are none repeats the last (RFC 8985, section 7.3).
    fn next_range(&mut self, room: usize) -> Option<Range<u64>> {
        self.out.take(room).or_else(|| {
            let range = self
                .recovery
                .latest_flying()
                .and_then(|range| self.out.still_wanted(&range))?;
            Some(range.start..range.end.min(range.start + room as u64))
        })
    }

    fn transmit_path_probe(
        &mut self,
        now_ns: u64,
        buffer: &mut [u8],
    ) -> Option<(SocketAddr, usize)> {
        let again_ns = self.recovery.rtt().timeout_ns(0);
        let probe = self.path.probe(now_ns, PROBE_LEN, again_ns)?;
        let number = self.take_number();
        let floor = self.recovery.floor().unwrap_or(number);
        let mut writer = Writer::data(buffer, self.remote, number, floor);
        writer.extras(probe.challenge, probe.response, None);
        Some((probe.to, writer.finish()))
    }

    /// Says that it is over: once, and again to each packet that comes as if it were not.
    fn transmit_close(&mut self, now_ns: u64, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        let code = self
            .closing
            .filter(|_| std::mem::take(&mut self.close_due))?;
        let number = self.take_number();
        let mut writer = Writer::data(buffer, self.remote, number, number);
        let credit = self.incoming.credit();
        let (delay_ns, ranges) = self.received.tell(now_ns);
        writer.ack(credit, delay_ns, ranges);
        writer.extras(None, None, Some(code));
        Some((self.path.address(), writer.finish()))
    }

    fn take_number(&mut self) -> u64 {
        self.counters.sent += 1;
        self.next_number += 1;
        self.next_number - 1
    }

    /// Whether the peer was not told yet that it is over.
    pub fn has_to_say_close(&self) -> bool {
        self.close_due
    }

    /// What is left of a connection that is over, if the peer may not know yet: its id, the next number, the code.
    pub fn epitaph(&self) -> Option<(u64, u64, u32)> {
        match self.phase {
            Phase::Closed(_) => self
                .closing
                .map(|code| (self.remote, self.next_number, code)),
            _ => None,
        }
    }
}
