//! The links of this network namespace, asked of the kernel by rtnetlink.
//!
//! `/sys/class/net` shows the namespace of whoever mounted `/sys`, not of whoever reads it: in a
//! plain `unshare -Urn` it lists the host's interfaces, none of which can be opened. Netlink
//! answers for the thread that asks, and also names the kind of a virtual link (veth, bridge,
//! tun), for which sysfs has no file.

use std::io;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// One link as `RTM_NEWLINK` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// `ARPHRD_*`: 1 is Ethernet, 772 is loopback.
    pub(super) link_type: u16,
    pub(super) flags: u32,
    pub(super) address: Vec<u8>,
    pub(super) mtu: u32,
    pub(super) carrier: Option<bool>,
    pub(super) rx_queues: u32,
    pub(super) tx_queues: u32,
    pub(super) master: Option<u32>,
    /// The link that it lies on, or its other end; of this namespace.
    pub(super) lower: Option<u32>,
    /// `veth`, `bridge`, `tun`, …; physical devices have none.
    pub(super) kind: Option<String>,
}

/// All links of the calling thread's network namespace.
pub(super) fn links() -> io::Result<Vec<Link>> {
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

    proptest! {
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
