//! Identifications of fragments that an outsider cannot guess (RFC 7739 section 5.3).
//!
//! Whoever can guess them can spoil datagrams with fragments of his own, count what a host sends, and scan
//! others in its name. Here an identification is a keyed hash of the addresses plus a counter that is one of a few
//! hundred, chosen by another keyed hash: for one pair of addresses it counts up, so that it does not soon come
//! again; what one peer sees tells nothing about another's.

use std::net::IpAddr;

use crate::secret::Secret;

const COUNTERS: usize = 256;
/// Keep the two uses of the secret apart.
const OFFSET: u64 = 0x6964_6f66;
const CHOICE: u64 = 0x6964_6368;

#[derive(Debug)]
pub(crate) struct Idents {
    secret: Secret,
    counters: Box<[u32; COUNTERS]>,
}

impl Idents {
    pub(crate) fn new(secret: Secret) -> Self {
        let mut counters = Box::new([0; COUNTERS]);
        for (i, counter) in counters.iter_mut().enumerate() {
            *counter = secret.hash(CHOICE, &i) as u32;
        }
        Self { secret, counters }
    }

    /// The next identification for a datagram; IPv4 takes the low half.
    pub(crate) fn next(&mut self, src: IpAddr, dst: IpAddr, protocol: u8) -> u32 {
        let flow = (src, dst, protocol);
        let choice = self.secret.hash(CHOICE, &flow) as usize % COUNTERS;
        let counter = &mut self.counters[choice];
        *counter = counter.wrapping_add(1);
        counter.wrapping_add(self.secret.hash(OFFSET, &flow) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn counts_up_for_one_peer_and_tells_nothing_about_another() {
        let mut idents = Idents::new(Secret::from_seed(1));
        let us = Ipv4Addr::LOCALHOST.into();
        let peer = |n: u32| IpAddr::from(Ipv4Addr::from_bits(n));
        let first = idents.next(us, peer(1), 17);
        let other = idents.next(us, peer(2), 17);
        assert_eq!(idents.next(us, peer(1), 17), first.wrapping_add(1));
        assert_ne!(other.wrapping_sub(first), 1);
        // Not the same as with another secret, nor for another protocol.
        assert_ne!(
            Idents::new(Secret::from_seed(2)).next(us, peer(1), 17),
            first
        );
        assert_ne!(idents.next(us, peer(1), 1).wrapping_sub(first), 2);
    }

    #[test]
    fn does_not_come_again_for_all_that_sixteen_bits_can_say() {
        let mut idents = Idents::new(Secret::from_seed(1));
        let (us, peer) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::BROADCAST.into());
        let mut seen = vec![false; 1 << 16];
        for _ in 0..1 << 16 {
            let ident = idents.next(us, peer, 17) as u16 as usize;
            assert!(!std::mem::replace(&mut seen[ident], true));
        }
    }
}
