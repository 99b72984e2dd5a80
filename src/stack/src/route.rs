//! Routes: the longest prefix that a destination is in.

use std::net::IpAddr;

use ipnet::IpNet;

/// How many routes there may be. A host has a handful; a table for a router's hundreds of thousands is
/// another thing than this one.
pub const MOST_ROUTES: usize = 256;

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Which destinations. Host bits do not count.
    pub prefix: IpNet,
    /// By which interface.
    pub interface: u16,
    /// The router to send to; `None` for destinations that are on the link.
    pub gateway: Option<IpAddr>,
    /// Of two routes for the same prefix, the smaller counts.
    pub metric: u32,
}

/// A small table, searched from the longest prefix to the shortest: the first that fits is the best.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    routes: Vec<Route>,
}

impl Routes {
    /// Adds a route. `false` if there is no room for it, or if its gateway is of another family.
    pub(crate) fn insert(&mut self, mut route: Route) -> bool {
        let other = |gateway: IpAddr| gateway.is_ipv4() != route.prefix.addr().is_ipv4();
        if self.routes.len() >= MOST_ROUTES || route.gateway.is_some_and(other) {
            return false;
        }
        route.prefix = route.prefix.trunc();
        let rank = |r: &Route| (core::cmp::Reverse(r.prefix.prefix_len()), r.metric);
        let at = self.routes.partition_point(|r| rank(r) <= rank(&route));
        self.routes.insert(at, route);
        true
    }

    /// The route for a destination, by this interface if one is named.
    #[inline]
    pub(crate) fn find(&self, dst: IpAddr, interface: Option<u16>) -> Option<&Route> {
        let by = |route: &Route| interface.is_none_or(|number| number == route.interface);
        let mut routes = self.routes.iter();
        routes.find(|route| route.prefix.contains(&dst) && by(route))
    }

    /// All routes, those with the longest prefixes first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// Forgets all routes.
    pub(crate) fn clear(&mut self) {
        self.routes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn route(prefix: &str, interface: u16, gateway: Option<&str>) -> Route {
        Route {
            prefix: prefix.parse().unwrap(),
            interface,
            gateway: gateway.map(|g| g.parse().unwrap()),
            metric: 0,
        }
    }

    #[test]
    fn the_default_route_is_the_last_resort() {
        let mut routes = Routes::default();
        assert!(routes.insert(route("0.0.0.0/0", 0, Some("192.0.2.254"))));
        assert!(routes.insert(route("192.0.2.1/24", 1, None)));
        assert!(!routes.insert(route("::/0", 0, Some("192.0.2.254"))));
        let find = |a: &str| routes.find(a.parse().unwrap(), None).map(|r| r.interface);
        assert_eq!(
            (find("192.0.2.9"), find("192.0.3.9"), find("::1")),
            (Some(1), Some(0), None)
        );
    }

    proptest! {
        #[test]
        fn equals_a_search_of_all(
            list in proptest::collection::vec((any::<bool>(), 0u128..64, 0u8..=8, 0u32..3), 0..40),
            probes in proptest::collection::vec(
                (any::<bool>(), 0u128..64, proptest::option::of(0u16..4)), 1..20,
            ),
        ) {
            // Few enough prefixes that they contain one another.
            let address = |v4: bool, bits: u128| -> IpAddr {
                if v4 {
                    Ipv4Addr::from_bits((bits as u32) << 26).into()
                } else {
                    Ipv6Addr::from_bits(bits << 122).into()
                }
            };
            let mut routes = Routes::default();
            let mut all = Vec::new();
            for (i, (v4, bits, len, metric)) in list.into_iter().enumerate() {
                let prefix = IpNet::new(address(v4, bits), len).unwrap();
                let route = Route { prefix, interface: i as u16 % 4, gateway: None, metric };
                prop_assert!(routes.insert(route));
                all.push(route);
            }
            for (v4, bits, by) in probes {
                let dst = address(v4, bits);
                let mine = |r: &&Route| by.is_none_or(|by| by == r.interface);
                let fits = all.iter().filter(|r| r.prefix.contains(&dst)).filter(mine);
                // The first of equals.
                let best = fits.min_by_key(|r| (-i16::from(r.prefix.prefix_len()), r.metric));
                prop_assert_eq!(routes.find(dst, by).map(|r| r.interface), best.map(|r| r.interface));
            }
        }
    }
}
