//! The ladder of modes: zero-copy, copy, skb; and for each that is not taken what the system said, and what is
//! likely behind it.

use std::fmt;
use std::io;

use linecard_hal::region::PageKind;
use linecard_hal::{Mempool, PortError, PortErrorKind};

use crate::device::{Device, Features, Interface};
use crate::kernel;
use crate::options::Mode;
use crate::sys::socket::Xsk;

/// What a user types to have the capabilities.
pub(crate) const GRANT: &str = "run it as root, or: sudo setcap \
     cap_net_raw,cap_net_admin,cap_bpf,cap_perfmon,cap_ipc_lock+ep $(command -v linecard)";

/// Longest MTU of drivers whose XDP takes a frame in one page of 4 KiB.
const ONE_PAGE_MTU: u32 = 3498;

/// What a mode can do here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// Pieces of a frame that is sent; 1 if a frame has to be in one.
    pub(crate) pieces: u32,
    /// Whether checksums are finished on the way out.
    pub(crate) checksum: bool,
}

/// Pieces of a frame that the kernel copies into one socket buffer (MAX_SKB_FRAGS).
const COPIED_PIECES: u32 = 17;

impl Abilities {
    pub(crate) fn of(mode: Mode, features: Option<Features>) -> Self {
        let (pieces, checksum) = match (mode, features) {
            (Mode::ZeroCopy, Some(f)) => (f.zero_copy_pieces, f.zero_copy_checksum),
            (Mode::ZeroCopy, None) => (1, false),
            (Mode::Copy | Mode::Skb, _) => (COPIED_PIECES, true),
        };
        Self {
            pieces: if kernel::has_pieces() {
                pieces.clamp(1, 64)
            } else {
                1
            },
            checksum: checksum && Xsk::knows_metadata(),
        }
    }

    /// What any of two modes can do.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            pieces: self.pieces.min(other.pieces),
            checksum: self.checksum && other.checksum,
        }
    }
}

/// Why a mode was not taken.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) mode: Mode,
    /// What was tried, and what is likely behind the answer.
    pub(crate) why: String,
    pub(crate) remedy: String,
    kind: PortErrorKind,
    cause: Option<io::Error>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not mode={}: {}", self.mode, self.why)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl Refusal {
    pub(crate) fn new(mode: Mode, kind: PortErrorKind, why: impl Into<String>) -> Self {
        Self {
            mode,
            why: why.into(),
            remedy: String::new(),
            kind,
            cause: None,
        }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    fn cause(mut self, cause: io::Error) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Whether the next mode would fail of the same.
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self.kind,
            PortErrorKind::Permission
                | PortErrorKind::Busy
                | PortErrorKind::Config
                | PortErrorKind::NotFound
        )
    }

    /// As the error of the whole port, with the rungs before it.
    pub(crate) fn into_error(self, device: &Device, before: &[Self]) -> PortError {
        let mut what = format!("mode={}: {}", self.mode, self.why);
        for refusal in before {
            what = format!("{refusal}; {what}");
        }
        let mut error = device.error(self.kind, what).remedy(self.remedy);
        error.cause = self.cause;
        error
    }
}

/// Whether a mode is known to be of no use before anything is tried.
pub(crate) fn beforehand(
    mode: Mode,
    interface: &Interface,
    features: Option<Features>,
) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::new(mode, PortErrorKind::Unsupported, why));
    let kind = interface.kind.as_deref().unwrap_or("its driver");
    match (mode, features) {
        (Mode::ZeroCopy, Some(f)) if !f.zero_copy() => {
            refuse(format!("{kind} has no zero-copy AF_XDP"))
        }
        (Mode::ZeroCopy | Mode::Copy, Some(f)) if !f.native() => {
            refuse(format!("{kind} runs no XDP programs itself"))
        }
        _ => Ok(()),
    }
}

/// Whether a card can reach the mbufs of a pool where they are.
pub(crate) fn pages(mode: Mode, pool: &Mempool) -> Result<(), Refusal> {
    let region = pool.region();
    let whole = match region.page() {
        PageKind::Base4K => false,
        PageKind::Transparent => region.is_merged(),
        PageKind::Huge2M | PageKind::Huge1G => true,
    };
    if mode != Mode::ZeroCopy || whole {
        return Ok(());
    }
    let why = format!(
        "mempool {} lies in pages of 4 KiB{}, and a buffer may not cross from one to another",
        pool.config().name,
        match region.page() {
            PageKind::Transparent => " that the kernel did not merge, or not all",
            _ => "",
        }
    );
    Err(Refusal::new(mode, PortErrorKind::Unsupported, why)
        .remedy("reserve huge pages: scripts/hugepages"))
}

/// Why a program was not attached.
pub(crate) fn attaching(
    mode: Mode,
    device: &Device,
    interface: &Interface,
    error: io::Error,
) -> Refusal {
    let name = &device.name;
    let refusal = |kind, why: String| Refusal::new(mode, kind, why);
    let unsupported = PortErrorKind::Unsupported;
    let long = interface.mtu > ONE_PAGE_MTU;
    let refusal = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            refusal(PortErrorKind::Permission, "attaching the program needs CAP_NET_ADMIN".into())
                .remedy(GRANT)
        }
        Some(libc::EBUSY | libc::EEXIST) => refusal(
            PortErrorKind::Busy,
            format!("{name} has an XDP program of somebody else"),
        )
        .remedy(format!("try: ip -details link show dev {name}")),
        Some(libc::ENODEV) => refusal(PortErrorKind::NotFound, format!("{name} is gone"))
            .remedy("try: linecard ports"),
        Some(libc::ERANGE | libc::EINVAL | libc::EOPNOTSUPP | libc::EMSGSIZE) if long => {
            refusal(unsupported, format!("its driver takes no program at an MTU of {}", interface.mtu))
                .remedy(format!("try: ip link set dev {name} mtu 1500"))
        }
        Some(libc::ERANGE) => refusal(
            unsupported,
            "its driver takes no program at the MTU of the link's other end".into(),
        )
        .remedy("lower the MTU there"),
        Some(libc::ENOSPC | libc::ENOMEM) => refusal(
            unsupported,
            "its driver has no queues left for sending from programs".into(),
        )
        .remedy(format!("fewer queues may do: ethtool -L {name} combined 1")),
        Some(libc::EOPNOTSUPP) => refusal(unsupported, "its driver runs no XDP programs itself".into()),
        Some(libc::EINVAL) => refusal(
            unsupported,
            "its driver refuses the program as it is set up now (LRO, say), or the kernel is older than 5.9".into(),
        )
        .remedy(format!("try: ethtool -K {name} lro off")),
        _ => refusal(PortErrorKind::System, "attaching the program".into()),
    };
    refusal.cause(error)
}

/// Why a socket was not bound.
pub(crate) fn binding(
    mode: Mode,
    device: &Device,
    queue: u32,
    pool: &Mempool,
    error: io::Error,
) -> Refusal {
    let name = &device.name;
    let unsupported = PortErrorKind::Unsupported;
    let refusal = |kind, why: String| Refusal::new(mode, kind, why);
    let refusal = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => refusal(
            PortErrorKind::Permission,
            "an AF_XDP socket needs CAP_NET_RAW, and busy_poll CAP_NET_ADMIN".into(),
        )
        .remedy(GRANT),
        Some(libc::EBUSY) => refusal(
            PortErrorKind::Busy,
            format!("queue {queue} of {name} belongs to another AF_XDP socket"),
        )
        .remedy("ss --xdp --processes names its process"),
        Some(libc::ENOBUFS) => {
            let kib = pool.region().len_bytes().div_ceil(1024);
            refusal(
                PortErrorKind::Config,
                format!(
                    "mempool {} of {kib} KiB is above the memlock limit",
                    pool.config().name
                ),
            )
            .remedy(format!("ulimit -l {kib}, or grant CAP_IPC_LOCK"))
        }
        Some(libc::ENODEV | libc::ENXIO) => {
            refusal(PortErrorKind::NotFound, format!("{name} is gone"))
                .remedy("try: linecard ports")
        }
        Some(libc::EOPNOTSUPP) if mode == Mode::ZeroCopy => refusal(
            unsupported,
            format!("queue {queue}: its driver has no zero-copy AF_XDP"),
        ),
        Some(libc::EINVAL) => refusal(
            unsupported,
            format!("queue {queue}: the driver has no such queue, or cannot take these buffers"),
        )
        .remedy(format!("try: ethtool --show-channels {name}")),
        Some(libc::ENETDOWN) => refusal(PortErrorKind::System, format!("{name} is down"))
            .remedy(format!("ip link set {name} up")),
        _ => refusal(PortErrorKind::System, format!("binding to queue {queue}")),
    };
    refusal.cause(error)
}

#[cfg(test)]
mod tests {
    use linecard_hal::MempoolConfig;

    use super::*;

    fn lo() -> (Device, Interface) {
        let device = Device::open("xdp:lo", "lo").unwrap();
        let interface = device.interface().unwrap();
        (device, interface)
    }

    #[test]
    fn a_refusal_names_the_mode_the_cause_and_the_command() {
        let (device, mut interface) = lo();
        interface.mtu = 9000;
        let error = |number| io::Error::from_raw_os_error(number);
        let pool = Mempool::new(MempoolConfig::new("one", 64)).unwrap();
        let copy = |number| attaching(Mode::Copy, &device, &interface, error(number)).to_string();
        let bind = |number| binding(Mode::ZeroCopy, &device, 3, &pool, error(number)).to_string();
        for (text, words) in [
            (
                copy(libc::ERANGE),
                [
                    "not mode=copy: ",
                    "an MTU of 9000",
                    "ip link set dev lo mtu 1500",
                ],
            ),
            (
                copy(libc::EBUSY),
                [
                    "somebody else",
                    "os error 16",
                    "ip -details link show dev lo",
                ],
            ),
            (copy(libc::EPERM), ["CAP_NET_ADMIN", "os error 1", "setcap"]),
            (
                copy(libc::ENOSPC),
                ["no queues left", "os error 28", "ethtool -L lo"],
            ),
            (
                bind(libc::ENOBUFS),
                ["mempool one of", "memlock limit", "ulimit -l"],
            ),
            (
                bind(libc::EBUSY),
                ["queue 3 of lo", "another AF_XDP socket", "ss --xdp"],
            ),
            (
                bind(libc::EOPNOTSUPP),
                ["mode=zerocopy", "queue 3", "no zero-copy"],
            ),
            (
                bind(libc::EINVAL),
                ["queue 3", "no such queue", "ethtool --show-channels lo"],
            ),
        ] {
            for word in words {
                assert!(text.contains(word), "no {word:?} in {text:?}");
            }
        }
    }

    #[test]
    fn the_port_s_error_has_every_rung() {
        let (device, interface) = lo();
        let first = Refusal::new(Mode::ZeroCopy, PortErrorKind::Unsupported, "no zero-copy");
        let last = attaching(
            Mode::Skb,
            &device,
            &interface,
            io::Error::from_raw_os_error(libc::EEXIST),
        );
        assert!(last.is_final() && !first.is_final());
        let error = last.into_error(&device, &[first]);
        assert_eq!(error.kind, PortErrorKind::Busy);
        let text = error.to_string();
        assert!(
            text.starts_with("xdp:lo: not mode=zerocopy: no zero-copy; mode=skb: lo has"),
            "{text}"
        );
    }

    #[test]
    fn abilities_are_those_of_every_mode_that_may_come() {
        let all = Abilities {
            pieces: 17,
            checksum: true,
        };
        let one = Abilities {
            pieces: 1,
            checksum: true,
        };
        assert_eq!(all.and(one), one);
        assert_eq!(Abilities::of(Mode::ZeroCopy, None).pieces, 1);
    }
}
