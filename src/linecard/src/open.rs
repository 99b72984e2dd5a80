//! Ports by name.

use linecard_hal::{Port, PortError, PortErrorKind, PortName};

/// A driver that this build has.
#[derive(Debug, Clone, Copy)]
pub struct DriverInfo {
    /// The part of a port's name before the colon.
    pub scheme: &'static str,
    /// What it drives.
    pub about: &'static str,
    /// An example of a name.
    pub example: &'static str,
    open: fn(PortName) -> Result<Box<dyn Port>, PortError>,
}

/// The drivers that this build has.
pub const DRIVERS: &[DriverInfo] = &[
    DriverInfo {
        scheme: "auto",
        about: "the best driver that can take the device, and why not a better one",
        example: "auto:eth1",
        open: crate::auto::open_auto,
    },
    DriverInfo {
        scheme: "uring",
        about: "any Linux interface, through a packet socket and io_uring",
        example: "uring:eth1",
        open: linecard_io_uring::open,
    },
    DriverInfo {
        scheme: "xdp",
        about: "any Linux interface, past the kernel's stack, by AF_XDP sockets on the pool's own memory",
        example: "xdp:eth1",
        open: linecard_af_xdp::open,
    },
    DriverInfo {
        scheme: "tap",
        about: "a TAP device, made when opened and gone when closed",
        example: "tap:lc0",
        open: linecard_io_uring::open_tap,
    },
    DriverInfo {
        scheme: "sim",
        about: "one end of an in-memory link, with loss, delay and reordering if asked for",
        example: "sim:a?peer=b",
        open: linecard_sim::open,
    },
    DriverInfo {
        scheme: "pcap",
        about: "frames from a capture file, frames to a capture file",
        example: "pcap:in.pcap?tx=out.pcapng",
        open: linecard_sim::open,
    },
    DriverInfo {
        scheme: "null",
        about: "endless receive of one frame, transmit discarded",
        example: "null:",
        open: linecard_sim::open,
    },
    #[cfg(feature = "dpdk")]
    DriverInfo {
        scheme: "dpdk",
        about: "a PCI device or a virtual device of DPDK's, by its poll-mode driver",
        example: "dpdk:0000:3b:00.0",
        open: linecard_dpdk::open,
    },
];

/// Opens a port by its name, `driver:device?option=value`.
///
/// ```
/// let port = linecard::open("null:0?size=128")?;
/// assert_eq!(port.info().driver, "null");
///
/// let error = linecard::open("eth1").err().unwrap();
/// assert_eq!(
///     error.to_string(),
///     "eth1: the name has no driver; a port is named driver:device, for example uring:eth1 or sim:a"
/// );
/// # Ok::<(), linecard::PortError>(())
/// ```
pub fn open(name: &str) -> Result<Box<dyn Port>, PortError> {
    let parsed: PortName = name.parse()?;
    match DRIVERS.iter().find(|d| d.scheme == parsed.driver()) {
        Some(driver) => (driver.open)(parsed),
        None => {
            let known: Vec<_> = DRIVERS.iter().map(|d| d.scheme).collect();
            let what = format!("there is no driver {:?} in this build", parsed.driver());
            let remedy = if parsed.driver() == "dpdk" {
                "build it with: scripts/setup --dpdk && cargo build --release --features dpdk"
                    .to_owned()
            } else {
                format!("it has: {}", known.join(", "))
            };
            Err(PortError::new(name, PortErrorKind::Name, what).remedy(remedy))
        }
    }
}

/// Opens several ports, in order.
pub fn open_all<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Box<dyn Port>>, PortError> {
    names.into_iter().map(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_driver_opens_its_own_scheme() {
        for driver in DRIVERS {
            assert!(driver.example.starts_with(driver.scheme));
            assert!(driver.example.parse::<PortName>().is_ok());
        }
    }

    #[test]
    fn an_unknown_driver_is_refused_with_the_list() {
        let error = open("warp:eth1").err().unwrap();
        assert_eq!(error.kind, PortErrorKind::Name);
        assert!(
            error.to_string().contains("auto, uring, xdp, tap, sim"),
            "{error}"
        );
    }

    #[cfg(not(feature = "dpdk"))]
    #[test]
    fn a_build_without_dpdk_says_how_to_get_one() {
        let error = open("dpdk:net_null0").err().unwrap().to_string();
        assert!(error.contains("--features dpdk"), "{error}");
    }
}
