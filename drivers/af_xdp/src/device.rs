//! The interface behind a port: what the kernel says of it, and errors that say what to do.

use std::io;
use std::sync::{Mutex, PoisonError};

use linecard_hal::links::has_nominal_speed;
use linecard_hal::port::is_speed_nominal;
use linecard_hal::{LinkState, PortError, PortErrorKind};

use crate::sys::netlink::{Attributes, Message, Netlink};

// linux/if_link.h.
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const IFLA_PARENT_DEV_BUS_NAME: u16 = 57;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;

/// A number that sysfs has of an interface.
fn sysfs(name: &str, file: &str) -> Option<i64> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/{file}"));
    text.ok()?.trim().parse().ok()
}

/// What sysfs says of an interface's speed, in Mbit/s.
fn speed_of(name: &str) -> Option<u32> {
    u32::try_from(sysfs(name, "speed")?)
        .ok()
        .filter(|speed| *speed > 0)
}

/// An interface by name. It may vanish and come back under another number.
#[derive(Debug)]
pub(crate) struct Device {
    /// The port's full name, for errors.
    pub(crate) port: String,
    /// The interface's name.
    pub(crate) name: String,
    route: Netlink,
    generic: Option<Netlink>,
    /// What the interface of this number said last of its queues.
    said: Mutex<Option<(u32, Channels)>>,
}

/// The interface at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) up: bool,
    pub(crate) running: bool,
    pub(crate) ethernet: bool,
    pub(crate) mtu: u32,
    pub(crate) mac: Option<[u8; 6]>,
    /// `veth`, `tun`, …; nothing for a card.
    pub(crate) kind: Option<String>,
    /// `pci`, `virtio`, …; nothing for what is no device.
    pub(crate) bus: Option<String>,
    pub(crate) xdp: Attached,
}

/// The programs at an interface, by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) driver: Option<u32>,
    pub(crate) generic: Option<u32>,
    pub(crate) hardware: Option<u32>,
}

impl Attached {
    fn of(xdp: Option<Attributes<'_>>) -> Self {
        let Some(xdp) = xdp else {
            return Self::default();
        };
        let id = |kind| xdp.u32(kind).filter(|id| *id != 0);
        let mut all = Self {
            driver: id(IFLA_XDP_DRV_PROG_ID),
            generic: id(IFLA_XDP_SKB_PROG_ID),
            hardware: id(IFLA_XDP_HW_PROG_ID),
        };
        // With one program the kernel may name it without its mode, which is beside it.
        let alone = id(IFLA_XDP_PROG_ID);
        match xdp.get(IFLA_XDP_ATTACHED).and_then(|mode| mode.first()) {
            Some(1) => all.driver = all.driver.or(alone),
            Some(2) => all.generic = all.generic.or(alone),
            Some(3) => all.hardware = all.hardware.or(alone),
            _ => {}
        }
        all
    }

    /// Each program with its mode, as `ip link` names it.
    pub(crate) fn each(self) -> impl Iterator<Item = (u32, &'static str)> {
        let all = [
            (self.driver, "xdpdrv"),
            (self.generic, "xdpgeneric"),
            (self.hardware, "xdpoffload"),
        ];
        all.into_iter().filter_map(|(id, mode)| Some((id?, mode)))
    }
}

impl Interface {
    /// Whether its frames come from a wire. What comes from a host on this machine may have a checksum
    /// that is not finished.
    pub(crate) fn is_physical(&self) -> bool {
        self.kind.is_none() && self.bus.as_deref().is_some_and(|bus| bus != "virtio")
    }

    pub(crate) fn link(&self) -> LinkState {
        if self.up && self.running {
            LinkState::Up
        } else {
            LinkState::Down
        }
    }
}

/// What the driver says that it can (netdev family, Linux 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Features {
    bits: u64,
    /// Pieces of a frame that its zero-copy mode takes.
    pub(crate) zero_copy_pieces: u32,
    /// Whether it finishes checksums for sockets in zero-copy mode (Linux 6.8).
    pub(crate) zero_copy_checksum: bool,
}

impl Features {
    const BASIC: u64 = 1;
    const ZERO_COPY: u64 = 1 << 3;

    /// Whether it runs XDP programs itself.
    pub(crate) fn native(self) -> bool {
        self.bits & Self::BASIC != 0
    }

    pub(crate) fn zero_copy(self) -> bool {
        self.bits & Self::ZERO_COPY != 0
    }
}

/// How many queues an interface has, and could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channels {
    /// Queues that receive.
    pub(crate) rx: u32,
    /// Queues that send.
    pub(crate) tx: u32,
    /// Whether receive and transmit queues go together, for the command that changes them.
    pub(crate) combined: bool,
}

impl Channels {
    fn known(said: &mut Option<(u32, Self)>, index: u32, asked: Option<Self>) -> Self {
        if let Some(now) = asked {
            *said = Some((index, now));
        }
        said.filter(|(of, _)| *of == index)
            .map_or(Self::ONE, |(_, channels)| channels)
    }

    const ONE: Self = Self {
        rx: 1,
        tx: 1,
        combined: true,
    };

    /// The command that makes it `n`.
    pub(crate) fn command(self, name: &str, n: u32) -> String {
        if self.combined {
            format!("ethtool -L {name} combined {n}")
        } else {
            format!("ethtool -L {name} rx {n} tx {n}")
        }
    }
}

impl Device {
    /// Finds the interface.
    pub(crate) fn open(port: &str, name: &str) -> Result<Self, PortError> {
        let route = Netlink::route().map_err(|e| {
            PortError::new(port, PortErrorKind::System, "cannot ask about interfaces").cause(e)
        })?;
        let device = Self {
            port: port.into(),
            name: name.into(),
            route,
            generic: Netlink::generic().ok(),
            said: Mutex::default(),
        };
        let interface = device.interface().map_err(|e| device.not_found(e))?;
        if !interface.ethernet {
            let what = format!("{name} has no Ethernet header");
            return Err(device
                .error(PortErrorKind::Unsupported, what)
                .remedy("try: linecard ports"));
        }
        Ok(device)
    }

    pub(crate) fn error(&self, kind: PortErrorKind, what: impl Into<String>) -> PortError {
        PortError::new(&self.port, kind, what)
    }

    /// An error of a system call that no special advice exists for.
    pub(crate) fn system(&self, doing: &str, source: io::Error) -> PortError {
        self.error(PortErrorKind::System, doing).cause(source)
    }

    pub(crate) fn not_found(&self, source: io::Error) -> PortError {
        let what = format!("no such interface as {:?}", self.name);
        self.error(PortErrorKind::NotFound, what)
            .remedy("try: linecard ports")
            .cause(source)
    }

    /// What it is now. Fails when it is gone.
    pub(crate) fn interface(&self) -> io::Result<Interface> {
        let fits = !self.name.is_empty() && self.name.len() < libc::IFNAMSIZ;
        if !fits || self.name.contains('\0') {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        let answer = self.route.interface(&self.name)?;
        // struct ifinfomsg: family, type at 2, index at 4, flags at 8.
        let [_, _, t0, t1, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *answer.fixed() else {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        };
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]) as libc::c_int;
        let kind = libc::c_int::from(u16::from_ne_bytes([t0, t1]));
        let all = answer.attributes();
        let mac = all
            .get(libc::IFLA_ADDRESS)
            .and_then(|mac| mac.try_into().ok());
        Ok(Interface {
            index: u32::from_ne_bytes([i0, i1, i2, i3]),
            up: flags & libc::IFF_UP != 0,
            running: flags & libc::IFF_RUNNING != 0,
            ethernet: kind == libc::c_int::from(libc::ARPHRD_ETHER)
                || kind == libc::c_int::from(libc::ARPHRD_LOOPBACK),
            mtu: all.u32(libc::IFLA_MTU).unwrap_or(1500),
            mac: mac.filter(|mac| *mac != [0; 6]),
            kind: all
                .nested(IFLA_LINKINFO)
                .and_then(|info| info.text(IFLA_INFO_KIND)),
            bus: all.text(IFLA_PARENT_DEV_BUS_NAME),
            xdp: Attached::of(all.nested(IFLA_XDP)),
        })
    }

    pub(crate) fn link(&self) -> LinkState {
        self.interface().map_or(LinkState::Gone, |i| i.link())
    }

    /// What its driver can do with XDP, if the kernel says.
    pub(crate) fn features(&self, index: u32) -> Option<Features> {
        const DEV_GET: u8 = 1;
        const IFINDEX: u16 = 1;
        const XDP_FEATURES: u16 = 3;
        const XDP_ZC_MAX_SEGS: u16 = 4;
        const XSK_FEATURES: u16 = 6;
        const XSK_TX_CHECKSUM: u64 = 2;
        let netlink = self.generic.as_ref()?;
        let family = netlink.family("netdev").ok()?;
        let question = Message::generic(DEV_GET).with(IFINDEX, &index.to_ne_bytes());
        let answer = netlink.call(family, question).ok()?;
        Some(Features {
            bits: answer.attributes().u64(XDP_FEATURES)?,
            zero_copy_pieces: answer.attributes().u32(XDP_ZC_MAX_SEGS).unwrap_or(1),
            zero_copy_checksum: answer
                .attributes()
                .u64(XSK_FEATURES)
                .is_some_and(|bits| bits & XSK_TX_CHECKSUM != 0),
        })
    }

    /// Its queues; those that it said last if it does not say now (a driver that is being reset does not), and one
    /// if it never did.
    pub(crate) fn channels(&self, index: u32) -> Channels {
        let asked = self.asked_channels(index);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        Channels::known(&mut said, index, asked)
    }

    fn asked_channels(&self, index: u32) -> Option<Channels> {
        // linux/ethtool_netlink.h.
        const CHANNELS_GET: u8 = 17;
        const HEADER: u16 = 1;
        const HEADER_DEV_INDEX: u16 = 1;
        const COMBINED_MAX: u16 = 5;
        const RX: u16 = 6;
        const TX: u16 = 7;
        const COMBINED: u16 = 9;
        let netlink = self.generic.as_ref()?;
        let family = netlink.family("ethtool").ok()?;
        let header = Message::default().with(HEADER_DEV_INDEX, &index.to_ne_bytes());
        let question = Message::generic(CHANNELS_GET).with_nested(HEADER, header);
        let answer = netlink.call(family, question).ok()?;
        let number = |kind| answer.attributes().u32(kind).unwrap_or(0);
        Some(Channels {
            rx: (number(RX) + number(COMBINED)).max(1),
            tx: (number(TX) + number(COMBINED)).max(1),
            combined: number(COMBINED_MAX) > 0,
        })
    }

    /// What sysfs says, if it shows this interface: it shows the namespace that mounted it.
    fn sysfs(&self, index: u32, file: &str) -> Option<i64> {
        (sysfs(&self.name, "ifindex")? == i64::from(index)).then(|| sysfs(&self.name, file))?
    }

    /// The NUMA node of the card, if there is one. A virtio device's is one level up.
    pub(crate) fn node(&self, index: u32) -> Option<u32> {
        ["device/numa_node", "device/../numa_node"]
            .into_iter()
            .find_map(|file| u32::try_from(self.sysfs(index, file)?).ok())
    }

    pub(crate) fn speed(&self, index: u32) -> Option<u32> {
        self.sysfs(index, "ifindex")?;
        speed_of(&self.name)
    }

    /// Whether that is one that the kernel made up.
    pub(crate) fn is_speed_nominal(&self, interface: &Interface) -> bool {
        interface.kind.as_deref().is_some_and(is_speed_nominal)
            || self.speed(interface.index).is_some()
                && has_nominal_speed(&self.name, interface.index, &speed_of)
    }

    /// Takes a program off that was attached by netlink, as `ip link set … xdp off` does.
    pub(crate) fn take_off(&self, index: u32, flags: u32) -> io::Result<()> {
        let xdp = Message::default()
            .with(IFLA_XDP_FD, &(-1i32).to_ne_bytes())
            .with(IFLA_XDP_FLAGS, &flags.to_ne_bytes());
        let message = Message::interface(index).with_nested(IFLA_XDP, xdp);
        self.route.set_interface(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface() {
        let device = Device::open("xdp:lo", "lo").unwrap();
        let lo = device.interface().unwrap();
        assert_eq!((lo.index, lo.ethernet, lo.is_physical()), (1, true, false));
        assert_eq!(
            (device.channels(lo.index).rx, device.channels(lo.index).tx),
            (1, 1)
        );
        assert_eq!(lo.xdp, Attached::default());
    }

    #[test]
    fn what_does_not_exist_is_named() {
        for name in ["nope", "", "a-name-that-is-far-too-long", "nul\0"] {
            let error = Device::open(&format!("xdp:{name}"), name).unwrap_err();
            assert_eq!(error.kind, PortErrorKind::NotFound);
            assert!(error.to_string().contains("linecard ports"), "{error}");
        }
    }

    #[test]
    fn an_interface_that_does_not_answer_has_not_lost_its_queues() {
        let (mut said, four) = (
            None,
            Channels {
                rx: 4,
                ..Channels::ONE
            },
        );
        assert_eq!(Channels::known(&mut said, 7, None), Channels::ONE);
        assert_eq!(Channels::known(&mut said, 7, Some(four)), four);
        assert_eq!(Channels::known(&mut said, 7, None), four);
        // Another one by the same name.
        assert_eq!(Channels::known(&mut said, 8, None), Channels::ONE);
    }

    #[test]
    fn the_command_for_queues_is_that_of_the_driver() {
        let mut channels = Channels {
            rx: 4,
            tx: 4,
            combined: true,
        };
        assert_eq!(channels.command("eth1", 2), "ethtool -L eth1 combined 2");
        channels.combined = false;
        assert_eq!(channels.command("v0", 1), "ethtool -L v0 rx 1 tx 1");
    }
}
