//! Where the peer is, and what to do when it seems to have moved.
//!
//! A connection is known by its ids, so a packet may come from anywhere: the peer went to another network, or a
//! translator gave it another port. But an address in a packet proves nothing. So we go on sending to the old address,
//! and send only a challenge to the new one, until it comes back (RFC 9000, section 8.2). Until then the new address gets
//! no more than three times the bytes that came from it (section 8.1): otherwise, whoever forges an address could have
//! us flood its owner.

use std::net::SocketAddr;

use crate::secret::Secret;

/// How often a challenge is sent before the new address is forgotten.
const TRIES: u32 = 6;
/// Bytes that may go to an address that is not proven, for each that came from there.
const AMPLIFICATION: u64 = 3;

/// The address of the peer, and perhaps its next one.
#[derive(Debug)]
pub struct Path {
    address: SocketAddr,
    next: Option<Candidate>,
    /// A challenge to be returned to where it came from.
    response: Option<(SocketAddr, u64)>,
}

#[derive(Debug)]
struct Candidate {
    address: SocketAddr,
    challenge: u64,
    received: u64,
    sent: u64,
    tries: u32,
    due_ns: u64,
}

/// A packet of its own for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Where it goes.
    pub to: SocketAddr,
    /// What to ask.
    pub challenge: Option<u64>,
    /// What to answer.
    pub response: Option<u64>,
}

impl Path {
    /// The peer has proven this address.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            next: None,
            response: None,
        }
    }

    /// Where the peer is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A packet of `len` bytes came. Only the newest can mean that the peer has moved: an older one was overtaken.
    pub fn heard(
        &mut self,
        now_ns: u64,
        from: SocketAddr,
        len: usize,
        newest: bool,
        secret: &mut Secret,
    ) {
        if from == self.address {
            if newest {
                self.next = None;
            }
            return;
        }
        match &mut self.next {
            Some(next) if next.address == from => next.received += len as u64,
            _ if newest => {
                let (challenge, received) = (secret.draw(), len as u64);
                self.next = Some(Candidate {
                    address: from,
                    challenge,
                    received,
                    sent: 0,
                    tries: 0,
                    due_ns: now_ns,
                });
            }
            _ => {}
        }
    }

    /// The peer asks.
    pub fn challenged(&mut self, from: SocketAddr, challenge: u64) {
        self.response = Some((from, challenge));
    }

    /// The peer answers. True if that means it has moved.
    pub fn answered(&mut self, response: u64) -> bool {
        let next = self
            .next
            .take_if(|next| next.challenge == response && next.tries > 0);
        if let Some(next) = &next {
            self.address = next.address;
        }
        next.is_some()
    }

    /// A packet of `len` bytes to send at this time.
    pub fn probe(&mut self, now_ns: u64, len: usize, again_ns: u64) -> Option<Probe> {
        if let Some((to, response)) = self.response.take() {
            // It is no longer than the packet that asked, so whoever sent that gains nothing by forging.
            return Some(Probe {
                to,
                challenge: None,
                response: Some(response),
            });
        }
        let next = self.next.as_mut().filter(|next| next.due_ns <= now_ns)?;
        if next.tries == TRIES {
            self.next = None;
            return None;
        }
        next.due_ns = now_ns + again_ns;
        next.tries += 1;
        if next.sent + len as u64 > AMPLIFICATION * next.received {
            return None;
        }
        next.sent += len as u64;
        Some(Probe {
            to: next.address,
            challenge: Some(next.challenge),
            response: None,
        })
    }

    /// When there is something to send.
    pub fn due_ns(&self) -> Option<u64> {
        if self.response.is_some() {
            return Some(0);
        }
        self.next.as_ref().map(|next| next.due_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> (Path, Secret, SocketAddr, SocketAddr) {
        let [old, new] = ["192.0.2.1:1", "192.0.2.2:1"].map(|a| a.parse().unwrap());
        (Path::new(old), Secret::new([1; 16], 0), old, new)
    }

    #[test]
    fn moves_when_the_challenge_comes_back() {
        let (mut path, mut secret, old, new) = scene();
        path.heard(0, new, 100, true, &mut secret);
        assert_eq!(path.address(), old);
        let probe = path.probe(0, 40, 10).unwrap();
        assert_eq!((probe.to, probe.response), (new, None));
        assert!(!path.answered(probe.challenge.unwrap() ^ 1));
        assert!(path.answered(probe.challenge.unwrap()));
        assert_eq!((path.address(), path.due_ns()), (new, None));
    }

    #[test]
    fn an_unproven_address_gets_three_times_what_came_from_it_and_six_tries() {
        let (mut path, mut secret, old, new) = scene();
        path.heard(0, new, 40, true, &mut secret);
        let sent: u64 = (0..20)
            .filter_map(|now_ns| path.probe(now_ns, 40, 1))
            .map(|_| 40)
            .sum();
        assert_eq!(sent, 120);
        assert_eq!((path.address(), path.due_ns()), (old, None), "given up");
    }

    #[test]
    fn an_old_packet_moves_nothing_and_a_new_one_from_the_old_address_ends_it() {
        let (mut path, mut secret, old, new) = scene();
        path.heard(0, new, 100, false, &mut secret);
        assert_eq!(path.due_ns(), None);
        path.heard(0, new, 100, true, &mut secret);
        path.heard(0, old, 100, true, &mut secret);
        assert_eq!(path.due_ns(), None);
    }

    #[test]
    fn answers_go_where_the_question_came_from() {
        let (mut path, _, _, new) = scene();
        path.challenged(new, 7);
        assert_eq!(
            path.probe(0, 40, 10),
            Some(Probe {
                to: new,
                challenge: None,
                response: Some(7)
            })
        );
        assert_eq!(path.probe(0, 40, 10), None);
    }
}
