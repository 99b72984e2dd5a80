//! Sets of addresses: single ones, ranges and prefixes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Addresses, of both kinds. As text `10.0.0.2`, `10.0.0.0/24`, `10.0.0.2-10.0.0.99`, `2001:db8::/64`, or several with
/// commas between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// First and last, ascending and apart from one another.
    ranges: Vec<(IpAddr, IpAddr)>,
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is none of: an address, a range such as 10.0.0.2-10.0.0.99, a prefix such as 10.0.0.0/24"
)]
pub struct AddressesError(String);

impl Addresses {
    /// Adds all from one to another of the same kind; nothing, if the first is behind the last.
    pub fn insert(&mut self, first: IpAddr, last: IpAddr) {
        if first > last || first.is_ipv4() != last.is_ipv4() {
            return;
        }
        self.ranges.push((first, last));
        self.ranges.sort_unstable();
        self.ranges.dedup_by(|next, before| {
            let touches = next.0 <= before.1;
            if touches {
                before.1 = before.1.max(next.1);
            }
            touches
        });
    }

    /// Adds those of another set.
    pub fn extend(&mut self, other: &Self) {
        for &(first, last) in &other.ranges {
            self.insert(first, last);
        }
    }

    /// Whether this one is there.
    pub fn contains(&self, address: IpAddr) -> bool {
        let behind = self.ranges.partition_point(|&(first, _)| first <= address);
        behind
            .checked_sub(1)
            .is_some_and(|at| address <= self.ranges[at].1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The least address of the same kind as this one: to ask from.
    pub fn first_like(&self, other: IpAddr) -> Option<IpAddr> {
        let mut firsts = self.ranges.iter().map(|&(first, _)| first);
        firsts.find(|first| first.is_ipv4() == other.is_ipv4())
    }
}

impl From<IpAddr> for Addresses {
    fn from(address: IpAddr) -> Self {
        Self {
            ranges: vec![(address, address)],
        }
    }
}

/// The addresses of a prefix.
fn prefix(address: IpAddr, len: u32) -> Option<(IpAddr, IpAddr)> {
    let bits: u32 = if address.is_ipv4() { 32 } else { 128 };
    let host = bits.checked_sub(len)?;
    // The lower bits, which are the host's.
    let mask = 1_u128.checked_shl(host).map_or(u128::MAX, |bit| bit - 1);
    Some(match address {
        IpAddr::V4(v4) => {
            let (v4, mask) = (v4.to_bits(), mask as u32);
            let (first, last) = (v4 & !mask, v4 | mask);
            (IpAddr::V4(first.into()), IpAddr::V4(last.into()))
        }
        IpAddr::V6(v6) => {
            let v6 = v6.to_bits();
            let (first, last) = (v6 & !mask, v6 | mask);
            (
                Ipv6Addr::from_bits(first).into(),
                Ipv6Addr::from_bits(last).into(),
            )
        }
    })
}

impl FromStr for Addresses {
    type Err = AddressesError;

    fn from_str(text: &str) -> Result<Self, AddressesError> {
        let mut addresses = Self::default();
        for part in text.split(',').map(str::trim) {
            let wrong = || AddressesError(part.to_owned());
            let parse = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| wrong());
            let (first, last) = if let Some((address, len)) = part.split_once('/') {
                let len = len.parse().map_err(|_| wrong())?;
                prefix(parse(address)?, len).ok_or_else(wrong)?
            } else if let Some((first, last)) = part.split_once('-') {
                (parse(first)?, parse(last)?)
            } else {
                (parse(part)?, parse(part)?)
            };
            if first > last || first.is_ipv4() != last.is_ipv4() {
                return Err(wrong());
            }
            addresses.insert(first, last);
        }
        Ok(addresses)
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_membership() {
        let set: Addresses = "10.0.0.5, 10.0.1.0/30,10.0.0.4-10.0.0.9,2001:db8::/126"
            .parse()
            .expect("addresses");
        assert_eq!(
            set.to_string(),
            "10.0.0.4-10.0.0.9,10.0.1.0-10.0.1.3,2001:db8::-2001:db8::3"
        );
        let has = |text: &str| set.contains(text.parse().expect("an address"));
        for inside in ["10.0.0.4", "10.0.0.9", "10.0.1.2", "2001:db8::3"] {
            assert!(has(inside), "{inside}");
        }
        for outside in ["10.0.0.3", "10.0.0.10", "10.0.1.4", "2001:db8::4", "::"] {
            assert!(!has(outside), "{outside}");
        }
        let all: Addresses = "0.0.0.0/0,::/0".parse().expect("all");
        assert!(all.contains("255.255.255.255".parse().expect("an address")));
        assert!(all.contains("::1".parse().expect("an address")));
        assert_eq!(
            all.first_like("::1".parse().expect("one")),
            Some("::".parse().expect("none"))
        );
        for wrong in [
            "",
            "10.0.0.256",
            "10.0.0.9-10.0.0.1",
            "10.0.0.1-::1",
            "10.0.0.0/33",
            "a,",
        ] {
            let error = wrong.parse::<Addresses>().expect_err(wrong).to_string();
            assert!(error.contains("10.0.0.0/24"), "{error}");
        }
    }
}
