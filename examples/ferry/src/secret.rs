//! The endpoint's secret, and what is drawn from it: connection ids, challenges, cookies.
//!
//! There is no source of randomness in here, as there is no clock: a key of 16 random bytes is given, and SipHash makes
//! of it as many numbers as are needed that nobody can guess who does not know the key.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher24;

use crate::packet::Cookie;

/// A cookie is good for so long.
pub const COOKIE_LIFE_MS: u64 = 10_000;

/// Whose connection id this is: see [`Secret::draw_id`].
pub fn instance_of(id: u64) -> u16 {
    (id >> 48) as u16
}

/// The key, and how often it was drawn from.
#[derive(Clone)]
pub struct Secret {
    key: [u8; 16],
    instance: u16,
    drawn: u64,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl Secret {
    /// The secret of one endpoint. Endpoints that share a key, as workers do, take different instance numbers: then
    /// each accepts the cookies of the others, and no two draw the same connection ids.
    pub fn new(key: [u8; 16], instance: u16) -> Self {
        Self {
            key,
            instance,
            drawn: 0,
        }
    }

    /// The hash is for one purpose only, named by a byte.
    fn hasher(&self, purpose: u8) -> SipHasher24 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u8(purpose);
        hasher
    }

    /// A number that cannot be guessed, another one each time, and never zero.
    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = self.hasher(b'd');
        hasher.write_u16(self.instance);
        hasher.write_u64(self.drawn);
        hasher.finish().max(1)
    }

    /// A connection id: 48 bits that cannot be guessed, behind the number of the instance, so that a packet finds the
    /// worker of its connection wherever it comes from.
    pub fn draw_id(&mut self) -> u64 {
        u64::from(self.instance) << 48 | (self.draw() >> 16).max(1)
    }

    /// A secret of its own, for a connection.
    pub fn fork(&mut self) -> Self {
        let key = (u128::from(self.draw()) << 64 | u128::from(self.draw())).to_be_bytes();
        Self::new(key, self.instance)
    }

    /// A cookie for the client with this address and connection id. Whoever returns it from there receives there: that
    /// is found out without keeping anything (RFC 9000, section 8.1; the idea is that of RFC 4987, section 3.6).
    pub fn cookie(&self, now_ns: u64, from: SocketAddr, client: u64) -> Cookie {
        let issued_ms = now_ns / 1_000_000;
        Cookie {
            issued_ms,
            mac: self.mac(issued_ms, from, client),
        }
    }

    /// Whether a cookie is ours, for this client, and not too old.
    pub fn accepts(&self, now_ns: u64, from: SocketAddr, client: u64, cookie: Cookie) -> bool {
        let age_ms = (now_ns / 1_000_000).checked_sub(cookie.issued_ms);
        age_ms.is_some_and(|age| age <= COOKIE_LIFE_MS)
            && cookie.mac == self.mac(cookie.issued_ms, from, client)
    }

    fn mac(&self, issued_ms: u64, from: SocketAddr, client: u64) -> u64 {
        let mut hasher = self.hasher(b'c');
        hasher.write_u64(issued_ms);
        hasher.write_u64(client);
        hasher.write_u16(from.port());
        match from.ip() {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_for_one_client_for_a_while() {
        let secret = Secret::new([7; 16], 0);
        let client: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        let cookie = secret.cookie(5_000_000_000, client, 42);
        let at = |ms: u64| secret.accepts(ms * 1_000_000, client, 42, cookie);
        assert!(at(5_000) && at(15_000) && !at(15_001) && !at(4_999));
        assert!(!secret.accepts(5_000_000_000, "192.0.2.1:1001".parse().unwrap(), 42, cookie));
        assert!(!secret.accepts(5_000_000_000, client, 43, cookie));
        assert!(!secret.accepts(
            5_000_000_000,
            client,
            42,
            Cookie {
                issued_ms: 5_001,
                ..cookie
            }
        ));
        let other_worker = Secret::new([7; 16], 1);
        assert!(other_worker.accepts(5_000_000_000, client, 42, cookie));
        assert!(!Secret::new([8; 16], 0).accepts(5_000_000_000, client, 42, cookie));
    }

    #[test]
    fn an_id_names_its_worker() {
        for instance in [0, 1, 300, u16::MAX] {
            let mut secret = Secret::new([7; 16], instance);
            assert!((0..100).all(|_| instance_of(secret.draw_id()) == instance));
            assert_ne!(secret.draw_id(), secret.draw_id());
        }
    }

    #[test]
    fn workers_draw_different_numbers() {
        let (mut one, mut two) = (Secret::new([7; 16], 0), Secret::new([7; 16], 1));
        let mut drawn: Vec<u64> = (0..100).flat_map(|_| [one.draw(), two.draw()]).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 200);
    }
}
