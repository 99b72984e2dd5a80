//! What the kernel's own stack has at an interface. An AF_XDP port takes every frame away from it, so on an interface
//! with an address that would end the user's own ssh session without a word.

use std::fs;

use linecard_af_xdp::Obstacle;
use linecard_engine::topology::NetInterface;
use nix::ifaddrs::getifaddrs;

/// What the kernel's stack would lose with this interface; `None` if nothing that is known.
///
/// An address that it gave itself (IPv6's link-local) does not count.
pub fn stake(interface: &str, all: &[NetInterface]) -> Option<Obstacle> {
    Uses {
        addresses: addresses(interface),
        routes: routes(interface, &read("route"), &read("ipv6_route")),
        master: all
            .iter()
            .find(|other| other.name == interface)
            .and_then(|this| this.master.clone()),
        upper: all
            .iter()
            .find(|other| {
                // A veth's other end is not on top of it.
                other.lower.as_deref() == Some(interface) && other.kind != "veth"
            })
            .map(|upper| upper.name.clone()),
    }
    .obstacle(interface)
}

/// A table of this thread's network namespace, which need not be that of the process.
fn read(table: &str) -> String {
    fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default()
}

#[derive(Debug, Default)]
struct Uses {
    addresses: Vec<String>,
    /// `default`, or a route's destination as the kernel writes it.
    routes: Option<Route>,
    master: Option<String>,
    /// A VLAN or the like on top.
    upper: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Default,
    Other,
}

impl Uses {
    fn obstacle(self, interface: &str) -> Option<Obstacle> {
        let mut has: Vec<String> = self.addresses;
        match self.routes {
            Some(Route::Default) => has.push("the default route".into()),
            // With an address there is always one.
            Some(Route::Other) if has.is_empty() => has.push("a route".into()),
            _ => {}
        }
        let give_up = if !has.is_empty() {
            format!("ip address flush dev {interface}")
        } else if let Some(master) = self.master {
            has.push(format!("a place in {master}"));
            format!("ip link set {interface} nomaster")
        } else {
            let upper = self.upper?;
            has.push(format!("{upper} on top"));
            format!("ip link del {upper}")
        };
        Some(Obstacle {
            reason: format!(
                "the kernel's own stack has {} at {interface}, and AF_XDP would take every frame from it",
                has.join(", ")
            ),
            remedy: format!(
                "take another interface; or, if nobody needs it there, {give_up}, or open xdp:{interface} all the same"
            ),
        })
    }
}

fn addresses(interface: &str) -> Vec<String> {
    let Ok(all) = getifaddrs() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in all {
        // The C library names an IPv4 address by its label, "eth0:1".
        let name = entry.interface_name.split(':').next();
        let Some(address) = entry.address.filter(|_| name == Some(interface)) else {
            continue;
        };
        if let Some(v4) = address.as_sockaddr_in() {
            found.push(v4.ip().to_string());
        } else if let Some(v6) = address.as_sockaddr_in6()
            && !v6.ip().is_unicast_link_local()
        {
            found.push(v6.ip().to_string());
        }
    }
    found
}

/// The most important route of an interface, from `/proc/net/route` and `/proc/net/ipv6_route`.
fn routes(interface: &str, v4: &str, v6: &str) -> Option<Route> {
    let of_v4 = v4.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let destination = words
            .next()
            .filter(|name| *name == interface)
            .and(words.next());
        destination.map(|to| to.bytes().all(|b| b == b'0'))
    });
    let of_v6 = v6.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (to, length) = (*words.first()?, *words.get(1)?);
        let automatic = to.starts_with("fe80") || to.starts_with("ff");
        // RTF_REJECT: "unreachable", which every namespace has at lo.
        let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
        if flags & 0x200 != 0 {
            return None;
        }
        // Of a single address: those of the table "local" are its own.
        (words.last() == Some(&interface) && !automatic && length != "80").then_some(length == "00")
    });
    of_v4
        .chain(of_v6)
        .map(|default| {
            if default {
                Route::Default
            } else {
                Route::Other
            }
        })
        .min_by_key(|route| *route == Route::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
eth0 00000000 0102000A 0003 0 0 0 00000000 0 0 0
eth0 0002000A 00000000 0001 0 0 0 00FFFFFF 0 0 0
eth1 00C8A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0";
    const V6: &str = "\
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 0 00000100 1 0 00000001 eth2
ff000000000000000000000000000000 08 00000000000000000000000000000000 00 0 00000100 1 0 00000001 eth2
fd770000000000000000000000000001 80 00000000000000000000000000000000 00 0 00000000 2 0 80200001 eth2
00000000000000000000000000000000 00 00000000000000000000000000000000 00 0 ffffffff 1 0 00200200 lo
00000000000000000000000000000000 00 fe800000000000000000000000000001 00 0 00000400 1 0 00000003 eth3";

    #[test]
    fn routes_are_read_and_automatic_ones_passed_over() {
        assert_eq!(routes("eth0", V4, V6), Some(Route::Default));
        assert_eq!(routes("eth1", V4, V6), Some(Route::Other));
        assert_eq!(routes("eth2", V4, V6), None);
        assert_eq!(routes("eth3", V4, V6), Some(Route::Default));
        assert_eq!(routes("lo", V4, V6), None, "a refusal is no route");
        assert_eq!(routes("eth", V4, V6), None);
        assert_eq!(routes("eth0", "", "nonsense\n\n"), None);
    }

    #[test]
    fn each_use_is_named_with_what_ends_it() {
        let none = Uses::default();
        assert_eq!(none.obstacle("eth1"), None);
        let ssh = Uses {
            addresses: vec!["192.0.2.7".into()],
            routes: Some(Route::Default),
            ..Uses::default()
        };
        let ssh = ssh.obstacle("eth1").unwrap();
        assert!(
            ssh.reason
                .contains("has 192.0.2.7, the default route at eth1"),
            "{ssh:?}"
        );
        assert!(
            ssh.remedy
                .contains("ip address flush dev eth1, or open xdp:eth1"),
            "{ssh:?}"
        );
        let bridged = Uses {
            master: Some("br0".into()),
            ..Uses::default()
        };
        let bridged = bridged.obstacle("eth1").unwrap();
        assert!(
            bridged.remedy.contains("ip link set eth1 nomaster"),
            "{bridged:?}"
        );
        let below = Uses {
            upper: Some("eth1.5".into()),
            ..Uses::default()
        };
        let below = below.obstacle("eth1").unwrap();
        assert!(below.reason.contains("eth1.5 on top"), "{below:?}");
    }

    #[test]
    fn the_loopback_is_the_kernels_own() {
        let lo = stake("lo", &[]).expect("127.0.0.1");
        assert!(lo.reason.contains("127.0.0.1"), "{lo:?}");
    }
}
