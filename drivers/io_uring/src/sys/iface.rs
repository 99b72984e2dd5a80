//! What the kernel says of an interface, asked by name through a socket.

use std::io;

use super::socket::PacketSocket;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GSET: u32 = 1;
const ETHTOOL_GDRVINFO: u32 = 3;

/// The kernel's `ifreq`: a name and 24 bytes whose meaning depends on the request.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct IfReq {
    name: [u8; libc::IFNAMSIZ],
    value: [u8; 24],
}

impl IfReq {
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let mut request = Self {
            name: [0; libc::IFNAMSIZ],
            value: [0; 24],
        };
        let fits = name.len() < libc::IFNAMSIZ && !name.is_empty() && !name.contains('\0');
        if !fits {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(request)
    }

    pub(super) fn number(&self) -> i32 {
        i32::from_ne_bytes([self.value[0], self.value[1], self.value[2], self.value[3]])
    }

    pub(super) fn flags(&self) -> u16 {
        u16::from_ne_bytes([self.value[0], self.value[1]])
    }

    pub(super) fn set_flags(&mut self, flags: u16) {
        self.value[..2].copy_from_slice(&flags.to_ne_bytes());
    }

    /// The name, which the kernel fills in for a TAP device that was asked for with a pattern.
    pub(super) fn name(&self) -> String {
        let len = self
            .name
            .iter()
            .position(|b| *b == 0)
            .unwrap_or(self.name.len());
        String::from_utf8_lossy(&self.name[..len]).into_owned()
    }
}

/// The interface's administrative and operational state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags {
    /// Switched on.
    pub(crate) up: bool,
    /// Has a carrier.
    pub(crate) running: bool,
    /// Loopback.
    pub(crate) loopback: bool,
}

impl PacketSocket {
    fn ask(&self, request: libc::Ioctl, name: &str) -> io::Result<IfReq> {
        let mut buffer = IfReq::new(name)?;
        self.interface_ioctl(request, &mut buffer)?;
        Ok(buffer)
    }

    /// The number that the interface of this name has now.
    pub(crate) fn if_index(&self, name: &str) -> io::Result<i32> {
        self.ask(libc::SIOCGIFINDEX, name).map(|r| r.number())
    }

    /// Whether it is on and has a carrier.
    pub(crate) fn if_flags(&self, name: &str) -> io::Result<Flags> {
        let flags = i32::from(self.ask(libc::SIOCGIFFLAGS, name)?.flags());
        Ok(Flags {
            up: flags & libc::IFF_UP != 0,
            running: flags & libc::IFF_RUNNING != 0,
            loopback: flags & libc::IFF_LOOPBACK != 0,
        })
    }

    /// Switches it on.
    pub(crate) fn if_up(&self, name: &str) -> io::Result<()> {
        let mut buffer = self.ask(libc::SIOCGIFFLAGS, name)?;
        buffer.set_flags(buffer.flags() | libc::IFF_UP as u16);
        self.interface_ioctl(libc::SIOCSIFFLAGS, &mut buffer)
    }

    /// Its MTU in bytes.
    pub(crate) fn if_mtu(&self, name: &str) -> io::Result<u32> {
        self.ask(libc::SIOCGIFMTU, name)
            .map(|r| r.number().max(0) as u32)
    }

    /// Its MAC address, if it is of a kind that has one.
    pub(crate) fn if_mac(&self, name: &str) -> Option<[u8; 6]> {
        let answer = self.ask(libc::SIOCGIFHWADDR, name).ok()?;
        let kind = answer.flags();
        let mac = answer.value[2..8].try_into().ok()?;
        (kind == libc::ARPHRD_ETHER && mac != [0; 6]).then_some(mac)
    }

    /// Whether its frames have an Ethernet header.
    pub(crate) fn if_is_ethernet(&self, name: &str) -> io::Result<bool> {
        let kind = self.ask(libc::SIOCGIFHWADDR, name)?.flags();
        Ok(kind == libc::ARPHRD_ETHER || kind == libc::ARPHRD_LOOPBACK)
    }

    /// Its speed in Mbit/s, if it knows.
    pub(crate) fn if_speed(&self, name: &str) -> Option<u32> {
        // struct ethtool_cmd: 44 bytes; speed at 12, its high half at 28.
        let command: [u32; 11] = self.ethtool(name, ETHTOOL_GSET)?;
        let byte = |at: usize| u32::from(command[at / 4].to_ne_bytes()[at % 4]);
        let half = |at: usize| u32::from(u16::from_ne_bytes([byte(at) as u8, byte(at + 1) as u8]));
        let speed = half(12) | half(28) << 16;
        (speed != 0 && speed != u32::MAX && speed != u32::from(u16::MAX)).then_some(speed)
    }

    /// The name of its driver, if that tells.
    pub(crate) fn if_driver(&self, name: &str) -> Option<String> {
        // struct ethtool_drvinfo: 196 bytes; the driver's name in 32 bytes at 4.
        let info: [u32; 49] = self.ethtool(name, ETHTOOL_GDRVINFO)?;
        let bytes: Vec<u8> = info[1..9].iter().flat_map(|w| w.to_ne_bytes()).collect();
        let len = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
    }

    /// Asks the driver; `N` words are what it answers with.
    fn ethtool<const N: usize>(&self, name: &str, what: u32) -> Option<[u32; N]> {
        let mut command = [0u32; N];
        command[0] = what;
        let mut request = IfReq::new(name).ok()?;
        request.value[..8].copy_from_slice(&(command.as_mut_ptr() as usize as u64).to_ne_bytes());
        self.interface_ioctl(SIOCETHTOOL, &mut request).ok()?;
        Some(command)
    }
}
