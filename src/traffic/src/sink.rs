//! The sink: receives what was stamped, and answers for the addresses that it was sent to; a stage of its own, or part
//! of a [`Station`](crate::station::Station).

use linecard_engine::{Context, Stage};
use linecard_hal::Burst;

use crate::receiver::Receiver;
use crate::responder::{Responder, may_ask};
use crate::station::Arrivals;

/// A worker's receiver, if it has one, and a responder for each port that has addresses.
#[derive(Debug)]
pub struct Sink {
    receiver: Option<Receiver>,
    responders: Vec<Responder>,
    /// Whether an echo request is answered though it has a stamp.
    stamped_pings: bool,
}

impl Sink {
    /// A sink. What is stamped was sent to be counted, and is not answered.
    pub fn new(receiver: Receiver, responders: Vec<Responder>) -> Self {
        Self {
            receiver: Some(receiver),
            responders,
            stamped_pings: false,
        }
    }

    /// One that is a host to others: it counts stamped echo requests, and answers them as well. One that receives what
    /// it sent itself must not: the answers would come back as duplicates.
    pub fn of_host(receiver: Receiver, responders: Vec<Responder>) -> Self {
        Self {
            stamped_pings: true,
            ..Self::new(receiver, responders)
        }
    }

    /// One that only answers: for the port that sends, when another one receives.
    pub fn answering(responders: Vec<Responder>) -> Self {
        Self {
            receiver: None,
            responders,
            stamped_pings: false,
        }
    }

    /// Counts a burst, answers what of it is to be answered, and consumes the rest.
    #[inline]
    pub fn take(&mut self, burst: &mut Burst, cx: &mut Context) {
        let foreign = match &mut self.receiver {
            Some(receiver) => receiver.receive(burst, cx),
            None => burst.len(),
        };
        let port = cx.port();
        let mut here = self.responders.iter_mut().filter(|r| r.port() == port);
        match here.next() {
            Some(responder) if foreign > 0 || self.stamped_pings && asks(burst) => {
                responder.process(burst, cx);
            }
            _ => cx.consume_burst(burst),
        }
    }

    /// What is due now and then.
    pub fn turn(&mut self, cx: &mut Context) {
        if let Some(receiver) = &mut self.receiver {
            receiver.poll();
        }
        for responder in &mut self.responders {
            responder.generate(cx);
        }
    }

    /// When [`turn`](Self::turn) has something to do, by [`Context::now_ns`]; `u64::MAX` for not before something arrives.
    pub fn next_ns(&self) -> u64 {
        let due = self.responders.iter().filter_map(Responder::next_ns);
        due.min().unwrap_or(u64::MAX)
    }
}

fn asks(burst: &Burst) -> bool {
    burst.iter().any(|mbuf| may_ask(mbuf.data()))
}

impl Arrivals for Sink {
    #[inline]
    fn take(&mut self, burst: &mut Burst, cx: &mut Context) {
        Self::take(self, burst, cx);
    }

    fn turn(&mut self, cx: &mut Context) {
        Self::turn(self, cx);
    }

    fn next_ns(&self) -> u64 {
        Self::next_ns(self)
    }
}

impl Stage for Sink {
    #[inline]
    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        self.take(burst, cx);
    }

    /// As long as it has to ask for an address.
    fn is_source(&self) -> bool {
        self.responders.iter().any(Responder::is_asking)
    }

    fn generate(&mut self, cx: &mut Context) {
        self.turn(cx);
    }

    fn next_ns(&self) -> Option<u64> {
        Some(self.next_ns())
    }
}
