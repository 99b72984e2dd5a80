//! The way in of a packet of an open connection.

use std::net::SocketAddr;

use super::{Connection, Ending, FINISHED, PROTOCOL_ERROR, Phase};
use crate::config::Refused;
use crate::packet::Data;

impl Connection {
    /// A packet has come, in a datagram of `len` bytes. What is wrong with it is counted, and then it has not come.
    ///
    /// # Errors
    /// What was wrong with it.
    pub fn receive(
        &mut self,
        now_ns: u64,
        from: SocketAddr,
        len: usize,
        data: &Data<'_>,
    ) -> Result<(), Refused> {
        match self.phase {
            Phase::Greeting(_) => return Err(self.counters.refuse(Refused::Unexpected)),
            // Whoever knows our connection id has read the welcome.
            Phase::Welcoming { .. } => self.phase = Phase::Open,
            Phase::Open => {}
            // It has not heard that this is over.
            Phase::Closed(_) => {
                self.close_due = self.closing.is_some() && data.close.is_none();
                return Ok(());
            }
        }
        let newest = self.received.is_newest(data.number);
        self.check(data)
            .map_err(|refused| self.counters.refuse(refused))?;
        self.heard_ns = now_ns;
        self.path.heard(now_ns, from, len, newest, &mut self.secret);
        // A ping asks for an answer, and at the end of the row nothing follows that could bring it.
        let at_once = data.ping || data.chunk.is_some_and(|chunk| chunk.end);
        let delay_ns = if at_once { 0 } else { self.config.ack_delay_ns };
        self.received
            .accept(now_ns, data.number, data.floor, data.wants_ack(), delay_ns);
        self.receive_parts(now_ns, from, data);
        self.look_for_the_end(data.close);
        Ok(())
    }

    /// The checks that need to know the connection. The last of them takes the chunk.
    fn check(&mut self, data: &Data<'_>) -> Result<(), Refused> {
        self.received.check(data.number)?;
        if data.ack.is_some_and(|ack| ack.largest >= self.next_number) {
            return Err(Refused::NeverSent);
        }
        match &data.chunk {
            Some(chunk) => self.incoming.accept(chunk),
            None => Ok(()),
        }
    }

    fn receive_parts(&mut self, now_ns: u64, from: SocketAddr, data: &Data<'_>) {
        if let Some(ack) = &data.ack {
            self.out.extend_credit(ack.credit);
            // That it names nothing that was never sent has been checked.
            let _ = self.recovery.arrived(
                now_ns,
                ack,
                self.next_number,
                &mut self.out,
                &mut self.counters,
            );
        }
        if let Some(challenge) = data.challenge {
            self.path.challenged(from, challenge);
        }
        if data
            .response
            .is_some_and(|response| self.path.answered(response))
        {
            self.counters.moves += 1;
            self.recovery
                .start_again(now_ns, self.next_number, &mut self.out, &mut self.counters);
            self.tell = true;
        }
    }

    /// Whether this packet was the last one needed.
    fn look_for_the_end(&mut self, close: Option<u32>) {
        if let Some(code) = close {
            // A peer that has finished has had everything from us, and we have had everything from it.
            let ending = match code {
                FINISHED if self.incoming.is_whole() && self.out.is_closed() => Ending::Finished,
                code => Ending::AbortedByPeer(code),
            };
            self.end(ending, None);
        } else if self.incoming.next_len().is_err() {
            self.end(Ending::Aborted(PROTOCOL_ERROR), Some(PROTOCOL_ERROR));
        } else if self.out.is_settled() && self.incoming.is_whole() {
            self.end(Ending::Finished, Some(FINISHED));
        }
    }
}
