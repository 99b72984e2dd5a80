//! The sink: receives what was stamped, and answers for the addresses that it was sent to; a stage of its own, or part
//! of a [`Station`](crate::station::Station).

use linecard_engine::{Context, Stage};
use linecard_hal::{Burst, Mbuf};

use crate::receiver::{Receiver, stamp_of};
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
        let (port, stamped) = (cx.port(), self.stamped_pings);
        let mut here = self.responders.iter_mut().filter(|r| r.port() == port);
        let some = foreign > 0 || stamped;
        match here.next().filter(|_| some) {
            Some(responder) if burst.iter().any(|mbuf| asks(mbuf, stamped)) => {
                for mbuf in burst.drain() {
                    if asks(&mbuf, stamped) {
                        responder.settle(mbuf, cx);
                    } else {
                        cx.consume(mbuf);
                    }
                }
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

/// Whether a frame is for the responder.
#[inline(always)]
fn asks(mbuf: &Mbuf, stamped_pings: bool) -> bool {
    may_ask(mbuf.data()) && (stamped_pings || stamp_of(mbuf).is_none())
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

#[cfg(test)]
mod tests {
    use linecard_hal::{Mempool, MempoolConfig};
    use linecard_wire::MacAddr;

    use super::*;
    use crate::stream::StreamSpec;
    use crate::template::{Addresses, first_frames};

    #[test]
    fn a_generator_never_answers_what_it_sent_itself() {
        let pool = Mempool::new(MempoolConfig {
            cache: 0,
            ..MempoolConfig::new("sink", 1)
        })
        .unwrap();
        let addresses = Addresses {
            own: MacAddr([2; 6]),
            peer: MacAddr([4; 6]),
        };
        let cases = [
            ("arp", false, [true, true]),
            ("vlan/arp", false, [true, true]),
            ("ipv4/icmp/echo", false, [true, true]),
            ("ipv4/icmp/echo", true, [false, true]),
            ("vlan/vlan/ipv4/icmp/echo", true, [false, true]),
            ("ipv6/icmp6/echo", true, [false, true]),
            ("ipv4/udp", false, [false, false]),
            ("vlan/ipv4/udp", true, [false, false]),
        ];
        for (packet, stamp, asked) in cases {
            let spec = StreamSpec {
                packet: format!("eth/{packet}"),
                sizes: "128".parse().unwrap(),
                stamp,
                ..StreamSpec::default()
            };
            let frames = first_frames(&spec, addresses, 1, 1).unwrap();
            let mut mbuf = pool.alloc().unwrap();
            mbuf.append(frames[0].len())
                .unwrap()
                .copy_from_slice(&frames[0]);
            assert_eq!(
                [false, true].map(|host| asks(&mbuf, host)),
                asked,
                "{packet}"
            );
        }
    }
}
