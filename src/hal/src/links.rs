//! The links of this network namespace, asked of the kernel by rtnetlink, and whether a link's speed is only a name.
//!
//! `/sys/class/net` shows the namespace of whoever mounted `/sys`, not of whoever reads it: in a
//! plain `unshare -Urn` it lists the host's interfaces, none of which can be opened. Netlink
//! answers for the thread that asks, and also names the kind of a virtual link (veth, bridge,
//! tun), for which sysfs has no file.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::port::is_speed_nominal;

/// How deep the kernel lets links be stacked (`MAX_NEST_DEV` in linux/netdevice.h).
const DEPTH: u32 = 8;

/// One link as `RTM_NEWLINK` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `ARPHRD_*`: 1 is Ethernet, 772 is loopback.
    pub link_type: u16,
    /// `IFF_*`.
    pub flags: u32,
    /// Its link-layer address.
    pub address: Vec<u8>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether the link is up, if it says.
    pub carrier: Option<bool>,
    /// Receive queues.
    pub rx_queues: u32,
    /// Transmit queues.
    pub tx_queues: u32,
    /// The bridge, bond or other whose member it is.
    pub master: Option<u32>,
    /// The link that it lies on, or its other end; of this namespace.
    pub lower: Option<u32>,
    /// `veth`, `bridge`, `tun`, …; physical devices have none.
    pub kind: Option<String>,
}

/// Whether the speed that the kernel says of an interface is only a name: one of [its kind](is_speed_nominal), or of what it
/// passes on. For drivers of Linux interfaces.
///
/// A bridge says how fast its fastest member is that is up, a macvlan or a VLAN what the interface below it says. So those
/// below it decide whose speed it is, by `speed_mbps`, which is asked by name; or all of them, as with a bond, which says
/// their sum. A card among them is believed. What is below in another namespace cannot be seen from here, and may be a card.
pub fn has_nominal_speed(name: &str, index: u32, speed_mbps: &dyn Fn(&str) -> Option<u32>) -> bool {
    links().is_ok_and(|links| {
        let mut found = links.iter().filter(|link| link.index == index);
        // Another namespace's link may have the same number. (The name may be another one of the link's own.)
        let here = nix::net::if_::if_nametoindex(name).is_ok_and(|found| found == index);
        here && found.any(|link| decide(link, &links, speed_mbps, DEPTH))
    })
}

fn decide(link: &Link, all: &[Link], speed_mbps: &dyn Fn(&str) -> Option<u32>, depth: u32) -> bool {
    let Some(kind) = link.kind.as_deref() else {
        return false; // A card, whose speed is its own.
    };
    if is_speed_nominal(kind) {
        return true;
    }
    let is_below =
        |other: &&Link| other.master == Some(link.index) || link.lower == Some(other.index);
    let mut below: Vec<_> = all
        .iter()
        .filter(is_below)
        .filter_map(|other| Some((speed_mbps(&other.name)?, other)))
        .collect();
    let own = speed_mbps(&link.name);
    if below.iter().any(|(speed, _)| Some(*speed) == own) {
        below.retain(|(speed, _)| Some(*speed) == own);
    }
    let nominal = |(_, other): &(u32, &Link)| decide(other, all, speed_mbps, depth - 1);
    depth > 0 && !below.is_empty() && below.iter().all(nominal)
}

/// All links of the calling thread's network namespace.
pub fn links() -> io::Result<Vec<Link>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    send(socket.as_raw_fd(), &dump_request(), MsgFlags::empty())?;
    let mut links = Vec::new();
    // The kernel fills at most 32 KiB for each read of a dump (netlink_dump in af_netlink.c).
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if length == 0 || parse_messages(&buffer[..length], &mut links)? {
            return Ok(links);
        }
    }
}

/// `nlmsghdr` and `ifinfomsg` of a request to list every link.
fn dump_request() -> Vec<u8> {
    const LENGTH: u32 = 32;
    let mut request = Vec::with_capacity(LENGTH as usize);
    request.extend(LENGTH.to_ne_bytes());
    request.extend(libc::RTM_GETLINK.to_ne_bytes());
    request.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    request.extend(1u32.to_ne_bytes()); // sequence number
    request.extend([0; 20]); // port id, then an ifinfomsg for every family and interface
    request
}

/// Adds the links of one datagram; true at the end of the dump.
fn parse_messages(mut bytes: &[u8], links: &mut Vec<Link>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = length as usize;
        let Some(message) = bytes.get(16..length) else {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        };
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => {
                let errno = u32_at(message, 0).map_or(0, |code| (code as i32).wrapping_neg());
                return Err(io::Error::from_raw_os_error(errno));
            }
            _ if kind == libc::RTM_NEWLINK => links.extend(parse_link(message)),
            _ => {}
        }
        bytes = bytes.get(align(length)..).unwrap_or_default();
    }
    Ok(false)
}

fn parse_link(message: &[u8]) -> Option<Link> {
    let mut link = Link {
        link_type: u16_at(message, 2)?,
        index: u32_at(message, 4)?,
        flags: u32_at(message, 8)?,
        ..Link::default()
    };
    let mut elsewhere = false;
    for (kind, value) in attributes(message.get(16..)?) {
        let number = || u32_at(value, 0);
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_ADDRESS => link.address = value.to_vec(),
            libc::IFLA_MTU => link.mtu = number()?,
            libc::IFLA_MASTER => link.master = number(),
            libc::IFLA_LINK => link.lower = number().filter(|index| *index != 0),
            libc::IFLA_LINK_NETNSID => elsewhere = true,
            libc::IFLA_CARRIER => link.carrier = value.first().map(|byte| *byte != 0),
            libc::IFLA_NUM_RX_QUEUES => link.rx_queues = number()?,
            libc::IFLA_NUM_TX_QUEUES => link.tx_queues = number()?,
            libc::IFLA_LINKINFO => {
                link.kind = attributes(value)
                    .find(|(kind, _)| *kind == libc::IFLA_INFO_KIND)
                    .map(|(_, value)| text(value));
            }
            _ => {}
        }
    }
    if elsewhere {
        link.lower = None; // Its number means another link here.
    }
    (!link.name.is_empty()).then_some(link)
}

/// The attributes in a run of `rtattr`; stops at the first that does not fit.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        // The two topmost bits say "nested" and "network byte order".
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn text(value: &[u8]) -> String {
    let end = value
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// Netlink rounds every length up to four bytes.
fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no netlink")]
    fn the_loopback_is_always_there() {
        let links = links().expect("rtnetlink answers without privileges");
        let lo = links
            .iter()
            .find(|link| link.name == "lo")
            .expect("lo exists");
        assert_eq!(lo.link_type, libc::ARPHRD_LOOPBACK);
        assert!(lo.index > 0);
    }

    #[test]
    fn a_refusal_carries_its_errno() {
        let mut message = Vec::new();
        message.extend(20u32.to_ne_bytes());
        message.extend((libc::NLMSG_ERROR as u16).to_ne_bytes());
        message.extend([0; 10]);
        message.extend((-libc::EPERM).to_ne_bytes());
        let error = parse_messages(&message, &mut Vec::new()).expect_err("an error message");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    /// Links with their numbers, kinds, masters, what they lie on, and speeds.
    type Row = (
        &'static str,
        u32,
        &'static str,
        Option<u32>,
        Option<u32>,
        Option<u32>,
    );

    fn nominal(name: &str, rows: &[Row]) -> bool {
        let link = |row: &Row| Link {
            name: row.0.to_owned(),
            index: row.1,
            kind: (!row.2.is_empty()).then(|| row.2.to_owned()),
            master: row.3,
            lower: row.4,
            ..Link::default()
        };
        let links: Vec<Link> = rows.iter().map(link).collect();
        let speed = |name: &str| rows.iter().find(|row| row.0 == name)?.5;
        let link = links.iter().find(|link| link.name == name).unwrap();
        decide(link, &links, &speed, DEPTH)
    }

    #[test]
    fn what_is_on_top_of_a_name_is_a_name() {
        let ten = Some(10_000);
        let mut rows = [
            ("br", 2, "bridge", None, None, ten),
            ("va", 3, "veth", Some(2), Some(4), ten),
            ("vb", 4, "veth", None, Some(3), ten),
            ("tap", 5, "tun", Some(2), None, Some(10)),
            ("mv", 6, "macvlan", None, Some(4), ten),
            ("vlan", 7, "vlan", None, Some(2), ten),
            ("nothing", 8, "dummy", Some(2), None, None),
            ("empty", 9, "bridge", None, None, None),
            ("away", 10, "macvlan", None, None, ten),
            ("card", 11, "", None, None, ten),
            ("over", 12, "macvlan", None, Some(11), ten),
        ];
        for name in ["br", "va", "tap", "mv", "vlan"] {
            assert!(nominal(name, &rows), "{name}");
        }
        for name in ["nothing", "empty", "away", "card", "over"] {
            assert!(!nominal(name, &rows), "{name}");
        }
        // With a card as its member, a bridge's speed may be that one's; what is on the bridge says the same. At 1 Gbit/s
        // the veth is down, and a bond would say 11.
        rows[9].3 = Some(2);
        for (card, bridge, is_name) in [
            (1_000, 10_000, true),
            (1_000, 1_000, false),
            (1_000, 11_000, false),
            (10_000, 10_000, false),
            (25_000, 25_000, false),
        ] {
            rows[9].5 = Some(card);
            rows[0].5 = Some(bridge);
            rows[5].5 = Some(bridge);
            assert_eq!(nominal("br", &rows), is_name, "{card} {bridge}");
            assert_eq!(nominal("vlan", &rows), is_name, "{card} {bridge}");
        }
    }

    #[test]
    fn links_that_lie_on_one_another_end() {
        let rows = [
            ("a", 1, "macvlan", None, Some(2), Some(1)),
            ("b", 2, "macvlan", None, Some(1), Some(1)),
            ("c", 3, "macvlan", None, Some(3), Some(1)),
        ];
        assert!(rows.iter().all(|row| !nominal(row.0, &rows)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse_messages(&bytes, &mut Vec::new());
            let _ = parse_link(&bytes);
        }

        /// A header that claims its own length must not stall the walk either.
        #[test]
        fn short_lengths_end_the_walk(length in 0u32..20) {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend([16, 0, 0, 0]);
            bytes.resize(64, 0);
            let _ = parse_messages(&bytes, &mut Vec::new());
        }
    }
}
