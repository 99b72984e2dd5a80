//! The interface behind a port, and errors that say what to do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use linecard_hal::links::has_nominal_speed;
use linecard_hal::port::is_speed_nominal;
use linecard_hal::{LinkState, PortError, PortErrorKind};

use crate::sys::iface::Flags;
use crate::sys::socket::PacketSocket;

/// Drivers, as ethtool names them, that hand what is sent to a receiver on this machine.
const LOCAL_LINKS: [&str; 5] = ["veth", "tun", "bridge", "macvlan", "ipvlan"];

/// An interface by name. It may vanish and come back under another number.
#[derive(Debug)]
pub(crate) struct Device {
    /// The port's full name, for errors.
    pub(crate) port: String,
    /// The interface's name.
    pub(crate) name: String,
    /// A socket of the port's network namespace to ask with. It receives nothing.
    control: PacketSocket,
}

impl Device {
    /// Finds the interface.
    pub(crate) fn open(port: &str, name: &str) -> Result<Self, PortError> {
        let control = PacketSocket::control().map_err(|e| socket_error(port, e))?;
        let device = Self {
            port: port.into(),
            name: name.into(),
            control,
        };
        device.index().map_err(|e| device.not_found(e))?;
        let ethernet = device
            .control
            .if_is_ethernet(name)
            .map_err(|e| device.system("its kind", e))?;
        if !ethernet {
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
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => socket_error(&self.port, source),
            Some(libc::ENODEV | libc::ENXIO) => self.not_found(source),
            _ => {
                let what = format!("cannot set {doing} of {}", self.name);
                self.error(PortErrorKind::System, what)
                    .remedy("try: linecard doctor")
                    .cause(source)
            }
        }
    }

    fn not_found(&self, source: io::Error) -> PortError {
        let what = format!("no such interface as {:?}", self.name);
        self.error(PortErrorKind::NotFound, what)
            .remedy("try: linecard ports")
            .cause(source)
    }

    /// The number that it has now.
    pub(crate) fn index(&self) -> io::Result<i32> {
        self.control.if_index(&self.name)
    }

    pub(crate) fn flags(&self) -> io::Result<Flags> {
        self.control.if_flags(&self.name)
    }

    pub(crate) fn link(&self) -> LinkState {
        match self.flags() {
            Ok(flags) if flags.up && flags.running => LinkState::Up,
            Ok(_) => LinkState::Down,
            Err(_) => LinkState::Gone,
        }
    }

    pub(crate) fn mtu(&self) -> u32 {
        self.control.if_mtu(&self.name).unwrap_or(1500)
    }

    pub(crate) fn mac(&self) -> Option<[u8; 6]> {
        self.control.if_mac(&self.name)
    }

    pub(crate) fn speed(&self) -> Option<u32> {
        self.control.if_speed(&self.name)
    }

    /// The NUMA node of the card, if there is one. sysfs shows the namespace that mounted it, so the
    /// number has to agree.
    pub(crate) fn node(&self) -> Option<u32> {
        let read = |file: &str| -> Option<i32> {
            let path = format!("/sys/class/net/{}/{file}", self.name);
            std::fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        let same = read("ifindex")? == self.index().ok()?;
        if same {
            // A virtio device's node is that of the card one level up.
            ["device/numa_node", "device/../numa_node"]
                .into_iter()
                .find_map(|file| u32::try_from(read(file)?).ok())
        } else {
            None
        }
    }

    /// Whether what is sent here goes to a receiver on this machine: over a veth, say.
    pub(crate) fn is_local_link(&self) -> bool {
        self.flags().is_ok_and(|f| f.loopback) || LOCAL_LINKS.contains(&self.driver().as_str())
    }

    /// Whether its speed is one that the kernel made up.
    pub(crate) fn is_speed_nominal(&self) -> bool {
        let speed = |name: &str| self.control.if_speed(name);
        // Where netlink is forbidden, its driver's name is still known.
        is_speed_nominal(&self.driver())
            || self.index().is_ok_and(|index| {
                speed(&self.name).is_some() && has_nominal_speed(&self.name, index as u32, &speed)
            })
    }

    fn driver(&self) -> String {
        self.control.if_driver(&self.name).unwrap_or_default()
    }

    /// Switches it on.
    pub(crate) fn bring_up(&self) -> io::Result<()> {
        self.control.if_up(&self.name)
    }

    /// Never readable: to wait on while there is nothing to wait for.
    pub(crate) fn silent_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

/// Why there is no raw socket.
pub(crate) fn socket_error(port: &str, source: io::Error) -> PortError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => PortError::new(
            port,
            PortErrorKind::Permission,
            "raw sockets need the capability CAP_NET_RAW (and promiscuous mode CAP_NET_ADMIN)",
        )
        .remedy(
            "grant it: sudo setcap cap_net_raw,cap_net_admin+ep $(which linecard); \
             or try in a namespace of your own: unshare -Urn",
        )
        .cause(source),
        Some(libc::EAFNOSUPPORT) => PortError::new(
            port,
            PortErrorKind::Unsupported,
            "this kernel has no packet sockets (CONFIG_PACKET)",
        )
        .cause(source),
        _ => PortError::new(port, PortErrorKind::System, "cannot open a raw socket")
            .remedy("try: linecard doctor")
            .cause(source),
    }
}
