//! Questions to the kernel about an interface, by netlink: one request, one answer.
//!
//! A socket asks in the network namespace in which it was opened, and needs no privilege.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use super::{check, socket};

/// Bytes of `nlmsghdr`, of `ifinfomsg` and of `genlmsghdr`.
const HEADER: usize = 16;
const IFINFO: usize = 16;
const GENL: usize = 4;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;

/// Of an attribute's type, the bits that are not its number: nested, network byte order.
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// A netlink socket.
#[derive(Debug)]
pub(crate) struct Netlink {
    fd: OwnedFd,
    /// A question and its answer belong together, whoever else asks.
    turn: Mutex<()>,
}

/// What a request says, after the netlink header.
#[derive(Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// `struct ifinfomsg` for an interface by number, or 0.
    pub(crate) fn interface(index: u32) -> Self {
        let mut bytes = vec![0; IFINFO];
        bytes[4..8].copy_from_slice(&index.to_ne_bytes());
        Self(bytes)
    }

    /// `struct genlmsghdr`.
    pub(crate) fn generic(command: u8) -> Self {
        Self(vec![command, 1, 0, 0])
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let len = (4 + value.len()) as u16;
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds attributes within one.
    pub(crate) fn with_nested(self, kind: u16, inner: Self) -> Self {
        self.with(kind | NESTED, &inner.0)
    }
}

/// What the kernel answered: the attributes, and the fixed part before them.
#[derive(Debug)]
pub(crate) struct Answer {
    bytes: Vec<u8>,
    fixed: usize,
}

impl Answer {
    pub(crate) fn fixed(&self) -> &[u8] {
        &self.bytes[..self.fixed]
    }

    pub(crate) fn attributes(&self) -> Attributes<'_> {
        Attributes(&self.bytes[self.fixed..])
    }
}

/// Attributes one behind the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes that lie in these bytes.
    #[cfg(test)]
    fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The first of this kind.
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        let mut rest = self.0;
        loop {
            let len = usize::from(u16::from_ne_bytes(*rest.first_chunk::<2>()?));
            let found = u16::from_ne_bytes(*rest.get(2..)?.first_chunk::<2>()?);
            let value = rest.get(4..len)?;
            if found & TYPE_MASK == kind {
                return Some(value);
            }
            rest = rest.get(len.next_multiple_of(4)..)?;
        }
    }

    pub(crate) fn nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.get(kind).map(Attributes)
    }

    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        let value = self.get(kind)?;
        Some(u32::from_ne_bytes(*value.first_chunk::<4>()?))
    }

    pub(crate) fn u64(self, kind: u16) -> Option<u64> {
        let value = self.get(kind)?;
        Some(u64::from_ne_bytes(*value.first_chunk::<8>()?))
    }

    pub(crate) fn text(self, kind: u16) -> Option<String> {
        let value = self.get(kind)?;
        let len = value.iter().position(|b| *b == 0).unwrap_or(value.len());
        Some(String::from_utf8_lossy(&value[..len]).into_owned())
    }
}

impl Netlink {
    /// About interfaces.
    pub(crate) fn route() -> io::Result<Self> {
        Ok(Self {
            fd: socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?,
            turn: Mutex::new(()),
        })
    }

    /// To a family that is found by its name.
    pub(crate) fn generic() -> io::Result<Self> {
        Ok(Self {
            fd: socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_GENERIC)?,
            turn: Mutex::new(()),
        })
    }

    /// The attributes of an interface, with `struct ifinfomsg` before them.
    pub(crate) fn interface(&self, name: &str) -> io::Result<Answer> {
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        let message = Message::interface(0).with(libc::IFLA_IFNAME, &text);
        let answer = self.ask(libc::RTM_GETLINK, 0, message, IFINFO)?;
        answer.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// Tells the kernel something about an interface.
    pub(crate) fn set_interface(&self, message: Message) -> io::Result<()> {
        self.ask(libc::RTM_SETLINK, NLM_F_ACK, message, IFINFO)
            .map(drop)
    }

    /// The number of a generic family.
    pub(crate) fn family(&self, name: &str) -> io::Result<u16> {
        const CTRL: u16 = 0x10;
        const GETFAMILY: u8 = 3;
        const FAMILY_ID: u16 = 1;
        const FAMILY_NAME: u16 = 2;
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        let message = Message::generic(GETFAMILY).with(FAMILY_NAME, &text);
        let answer = self.ask(CTRL, 0, message, GENL)?;
        let id = answer.as_ref().and_then(|a| {
            let value = a.attributes().get(FAMILY_ID)?;
            Some(u16::from_ne_bytes(*value.first_chunk::<2>()?))
        });
        id.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// Asks a generic family.
    pub(crate) fn call(&self, family: u16, message: Message) -> io::Result<Answer> {
        let answer = self.ask(family, 0, message, GENL)?;
        answer.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// `None` for a bare acknowledgement.
    fn ask(
        &self,
        kind: u16,
        flags: u16,
        message: Message,
        fixed: usize,
    ) -> io::Result<Option<Answer>> {
        let mut request = Vec::with_capacity(HEADER + message.0.len());
        request.extend_from_slice(&((HEADER + message.0.len()) as u32).to_ne_bytes());
        request.extend_from_slice(&kind.to_ne_bytes());
        request.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        request.extend_from_slice(&[0; 8]); // Sequence, port: there is one question at a time.
        request.extend_from_slice(&message.0);
        let mut buffer = vec![0u8; 32 << 10];
        let fd = self.fd.as_raw_fd();
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: both buffers live through their call, which stays within the length it is given. The
        // kernel answers within `send`, so nothing is left to be waited for.
        let len = unsafe {
            let sent = libc::send(fd, request.as_ptr().cast(), request.len(), 0);
            check(sent as libc::c_int)?;
            let got = libc::recv(
                fd,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
            );
            check(got as libc::c_int)? as usize
        };
        drop(turn);
        buffer.truncate(len);
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        let said = buffer.get(4..6).and_then(|b| b.first_chunk::<2>());
        if u16::from_ne_bytes(*said.ok_or_else(wrong)?) == NLMSG_ERROR {
            let code = buffer.get(HEADER..).and_then(|b| b.first_chunk::<4>());
            return match i32::from_ne_bytes(*code.ok_or_else(wrong)?) {
                0 => Ok(None),
                code => Err(io::Error::from_raw_os_error(-code)),
            };
        }
        // An acknowledgement may follow the answer, if it was asked for; it is not here.
        let total = buffer
            .first_chunk::<4>()
            .map(|b| u32::from_ne_bytes(*b) as usize);
        let end = total
            .filter(|t| (HEADER + fixed..=len).contains(t))
            .ok_or_else(wrong)?;
        buffer.truncate(end);
        buffer.drain(..HEADER);
        Ok(Some(Answer {
            bytes: buffer,
            fixed,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_known() {
        let netlink = Netlink::route().unwrap();
        let lo = netlink.interface("lo").unwrap();
        assert_eq!(lo.fixed()[4..8], 1u32.to_ne_bytes());
        assert_eq!(lo.attributes().text(libc::IFLA_IFNAME).unwrap(), "lo");
        assert!(lo.attributes().u32(libc::IFLA_MTU).unwrap() >= 1280);
        let error = netlink.interface("no-such-one").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn families_are_found_by_name() {
        let netlink = Netlink::generic().unwrap();
        assert_eq!(netlink.family("nlctrl").unwrap(), 0x10);
        assert!(netlink.family("no-such-one").is_err());
    }

    #[test]
    fn attributes_that_lie_about_their_length_end_the_search() {
        let good = Message::default()
            .with(1, b"abc")
            .with(2, &7u32.to_ne_bytes());
        let all = Attributes::of(&good.0);
        assert_eq!((all.get(1), all.u32(2)), (Some(&b"abc"[..]), Some(7)));
        assert_eq!(all.get(3), None);
        for len in [0u16, 3, 200] {
            let mut bad = good.0.clone();
            bad[..2].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(Attributes::of(&bad).get(2), None, "{len}");
        }
    }
}
