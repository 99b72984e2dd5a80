//! What this kernel lets the driver do, for `linecard doctor` and the ports' notes.

use std::io;

use linecard_hal::{Mempool, MempoolConfig};
use serde::Serialize;

use crate::sys::batch::BatchRing;
use crate::sys::block::{BlockRing, RingSize};
use crate::sys::multishot::{Multishot, build_ring};
use crate::sys::socket::PacketSocket;
use std::os::fd::AsRawFd;

/// What works here, and why the rest does not. See [`probe`].
#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    /// Packet sockets: `Err` names what is missing.
    pub packet_socket: Result<(), String>,
    /// io_uring at all: `Err` says why it is off.
    pub io_uring: Result<(), String>,
    /// Rings of provided buffers (Linux 5.19), which multishot receive needs.
    pub buf_rings: bool,
    /// Multishot receive (Linux 6.0).
    pub multishot: bool,
    /// Completions deferred to the worker (Linux 6.1).
    pub defer_taskrun: bool,
    /// Waits that gather completions (Linux 6.12).
    pub min_wait: bool,
    /// The mapped receive ring.
    pub tpacket_v3: bool,
    /// Unfinished checksums and super-frames beside the frame.
    pub vnet_hdr: bool,
    /// UDP super-frames (Linux 6.2).
    pub udp_segmentation: bool,
    /// Sending past the queueing discipline.
    pub qdisc_bypass: bool,
    /// TAP devices: `Err` says why not.
    pub tap: Result<(), String>,
}

/// Tries everything that a port may use. Touches no interface and leaves nothing behind.
pub fn probe() -> Probe {
    let socket = PacketSocket::new();
    let packet_socket = match &socket {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => "no CAP_NET_RAW".to_owned(),
            _ => error.to_string(),
        }),
    };
    let io_uring = io_uring();
    let mut probe = Probe {
        packet_socket,
        io_uring,
        buf_rings: false,
        multishot: false,
        defer_taskrun: false,
        min_wait: false,
        tpacket_v3: false,
        vnet_hdr: false,
        udp_segmentation: kernel_at_least(6, 2),
        qdisc_bypass: false,
        tap: tap(),
    };
    if probe.io_uring.is_ok() {
        if let Ok((_, features)) = build_ring(8) {
            (probe.defer_taskrun, probe.min_wait) = (features.defer_taskrun, features.min_wait);
        }
        if let Ok(socket) = &socket {
            probe.buf_rings = buffer_ring(socket).is_ok();
        }
        probe.multishot = probe.buf_rings && kernel_at_least(6, 0);
    }
    if let Ok(socket) = &socket {
        probe.vnet_hdr = socket.set_packet(libc::PACKET_VNET_HDR, 1).is_ok();
        probe.qdisc_bypass = socket.set_packet(libc::PACKET_QDISC_BYPASS, 1).is_ok();
        let size = RingSize {
            block_size: 1 << 17,
            blocks: 2,
            retire_ms: 1,
        };
        probe.tpacket_v3 = BlockRing::new(socket, size, probe.vnet_hdr).is_ok();
    }
    probe
}

fn buffer_ring(socket: &PacketSocket) -> io::Result<()> {
    let pool = Mempool::new(MempoolConfig {
        cache: 0,
        ..MempoolConfig::new("probe", 8)
    })
    .map_err(io::Error::other)?;
    Multishot::new(socket.as_raw_fd(), true, &pool, 8).map(drop)
}

/// Why there is no io_uring.
pub(crate) fn io_uring() -> Result<(), String> {
    BatchRing::new(8)
        .map(drop)
        .map_err(|error| uring_reason(&error))
}

pub(crate) fn uring_reason(error: &io::Error) -> String {
    let disabled = || {
        std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
            .ok()
            .and_then(|s| s.trim().parse::<u8>().ok())
            .unwrap_or(0)
    };
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match disabled() {
            0 => "EPERM (a seccomp filter forbids it, as container runtimes do)".into(),
            n => format!(
                "EPERM (kernel.io_uring_disabled={n}; sudo sysctl kernel.io_uring_disabled=0)"
            ),
        },
        Some(libc::ENOSYS) => "ENOSYS (the kernel has none, or a seccomp filter hides it)".into(),
        Some(libc::ENOMEM) => "ENOMEM (raise the memlock limit: ulimit -l)".into(),
        _ => error.to_string(),
    }
}

fn tap() -> Result<(), String> {
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    opened
        .map(drop)
        .map_err(|error| format!("/dev/net/tun: {error}"))
}

/// Whether the running kernel is of this release or a later one.
pub(crate) fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}
