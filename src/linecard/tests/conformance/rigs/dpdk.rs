//! DPDK's virtual devices, one process, no hugepages.

use linecard::dpdk::{EalConfig, Pages, configure};
use linecard::{Port, PortConfig, PortError};
use linecard_conformance::far::Far;
use linecard_conformance::{Need, Rig, Sink, Source};
use tempfile::TempDir;

use super::cable::Cable;
use super::{Made, files, tap as kernel_tap};

/// DPDK starts with the first port; this is how.
fn environment() {
    configure(EalConfig {
        pages: Pages::Normal,
        memory_mib: 128,
        ..EalConfig::default()
    });
}

pub fn null() -> Made {
    environment();
    files::null("dpdk:net_null0?size=64")
}

pub fn pcap() -> Made {
    environment();
    files::FilesRig::make(
        "pcap",
        |rx, tx| format!("dpdk:net_pcap0?rx_pcap={rx}&tx_pcap={tx}"),
        false,
    )
}

pub fn af_packet() -> Made {
    environment();
    let cable = Cable {
        name: "dpdk:net_af_packet0?iface=va",
        mtu: 1500, // The most of that driver of 22.11's.
        own_mtu: true,
        lacks: |need| match need {
            Need::Carrier => Some("the driver of DPDK says that its link is up, whatever happens"),
            Need::Removal => Some("the driver of DPDK does not notice that its interface is gone"),
            Need::Fragments => {
                Some("the driver of DPDK has the kernel put fragments of IPv4 together: not tried")
            }
            Need::ServiceTags => {
                Some("the driver of DPDK turns tags of 802.1ad into those of 802.1Q: not tried")
            }
            _ => None,
        },
        comes_back: false,
    };
    cable.plugged()
}

pub fn tap() -> Made {
    environment();
    kernel_tap::make("dpdk:net_tap0?iface=t0", true)
}

/// A ring of DPDK's whose other end is itself.
struct Ring;

pub fn ring() -> Made {
    environment();
    Ok(Box::new(Ring))
}

impl Rig for Ring {
    fn open(&mut self) -> Result<Box<dyn Port>, PortError> {
        linecard::open("dpdk:net_ring0")
    }

    fn source(&self) -> Source {
        Source::Loop
    }

    fn sink(&self) -> Sink {
        Sink::Loop
    }

    fn lacks(&self, need: Need) -> Option<String> {
        let reason = match need {
            Need::Limits | Need::Mtu => "a ring passes mbufs on by their addresses, of any length",
            Need::Spread => "what a queue sends it receives itself: nothing is spread",
            Need::Carrier => "has no link to lose",
            Need::Removal => "has no device to remove",
            _ => return None,
        };
        Some(reason.into())
    }
}

/// Shared memory between two devices of this process.
struct Memif {
    dir: TempDir,
    far: Option<Far>,
}

pub fn memif() -> Made {
    environment();
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    // The driver does not connect a socket to itself; by another name it does not see that it is the same.
    let other = dir.path().join("other");
    std::os::unix::fs::symlink(dir.path().join("socket"), other).map_err(|e| e.to_string())?;
    Ok(Box::new(Memif { dir, far: None }))
}

impl Memif {
    fn device(&self, number: u32, role: &str, socket: &str) -> String {
        let socket = self.dir.path().join(socket);
        let socket = socket.to_string_lossy();
        format!("dpdk:net_memif{number}?role={role}&socket={socket}&socket-abstract=no")
    }
}

impl Rig for Memif {
    fn open(&mut self) -> Result<Box<dyn Port>, PortError> {
        self.far = None;
        linecard::open(&self.device(0, "server", "socket"))
    }

    /// With as many queues as the port: the driver of 22.11 takes a queue without a peer for the first one.
    fn started(&mut self, config: &PortConfig) -> Result<(), String> {
        let far = linecard::open(&self.device(1, "client", "other"));
        let far = far.and_then(|port| Far::start(port, config.queues));
        self.far = Some(far.map_err(|e| e.to_string())?);
        Ok(())
    }

    fn stopped(&mut self) -> Result<(), String> {
        self.far = None;
        Ok(())
    }

    fn lacks(&self, need: Need) -> Option<String> {
        let reason = match need {
            Need::Removal => "has no device to remove",
            Need::Spread => "each queue receives what the peer sends by its own of that number",
            Need::Limits | Need::Mtu => "shared memory takes frames of any length",
            Need::Carrier => {
                "the driver of DPDK 22.11 crashes when its peer leaves while it is polled"
            }
            _ => return None,
        };
        Some(reason.into())
    }

    fn inject(&mut self, frames: &[Vec<u8>]) -> Result<usize, String> {
        self.far.as_mut().map_or(Ok(0), |far| far.inject(frames))
    }

    fn collect(&mut self) -> Result<Vec<Vec<u8>>, String> {
        self.far.as_mut().map_or(Ok(Vec::new()), Far::collect)
    }
}
