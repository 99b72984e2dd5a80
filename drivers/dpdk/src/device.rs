//! Devices by name, and what DPDK makes of the name.

use std::path::{Path, PathBuf};

use linecard_hal::{PortError, PortErrorKind, PortName};

use crate::sys::port::Device;
use crate::{eal, log, pci, stale, sys};

/// A device, as it was named.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The port's whole name, for errors.
    pub(crate) full: String,
    /// DPDK's name: `0000:3b:00.0`, `net_null0`.
    name: String,
    /// The driver of a virtual device: `net_null`.
    driver: Option<String>,
    /// The driver's own options, as `key=value,key=value`.
    arguments: String,
    /// Our own option: the largest layer-3 packet.
    pub(crate) mtu: Option<u16>,
}

impl Target {
    pub(crate) fn parse(mut name: PortName) -> Result<Self, PortError> {
        let full = name.full().to_owned();
        let wrong = |what: String| {
            PortError::new(&full, PortErrorKind::Name, what)
                .remedy("a DPDK port is a PCI address (dpdk:0000:3b:00.0) or a virtual device (dpdk:net_null0)")
        };
        let mtu = name
            .take::<u16>("mtu")
            .map_err(|error| error.remedy("a number of bytes, as in mtu=9000"))?;
        let device = name.device().to_owned();
        let (name_of, driver) = match pci::address(&device) {
            Some(address) => (address, None),
            None => {
                let driver = device.trim_end_matches(|c: char| c.is_ascii_digit());
                let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                if !(driver.starts_with("net_") || driver.starts_with("virtio_user"))
                    || !device.bytes().all(plain)
                {
                    return Err(wrong(format!("{device:?} is no device of DPDK's")));
                }
                (device.clone(), Some(driver.to_owned()))
            }
        };
        let mut pairs = Vec::new();
        for (key, value) in name.take_rest() {
            if key.contains(',') || !is_one_value(&value) {
                return Err(wrong(format!(
                    "option {key}={value} has a comma outside of [ ], with which DPDK separates options, or a bracket too \
                     few"
                )));
            }
            pairs.push(format!("{key}={value}"));
        }
        Ok(Self {
            full,
            name: name_of,
            driver,
            arguments: pairs.join(","),
            mtu,
        })
    }

    /// Whether DPDK makes the device, and no bus has it.
    pub(crate) fn is_virtual(&self) -> bool {
        self.driver.is_some()
    }

    /// Whether the kernel's vfio has it.
    pub(crate) fn is_with_vfio(&self) -> bool {
        !self.is_virtual() && pci::driver(Path::new("/"), &self.name).as_deref() == Some("vfio-pci")
    }

    /// Starts EAL if need be, and opens the device.
    pub(crate) fn open(&self) -> Result<Device, PortError> {
        match &self.driver {
            None => pci::check(&self.full, &self.name, Path::new("/"))?,
            Some(driver) => {
                if let Some(plugin) = self.plugin(driver)? {
                    self.check_options(driver, &plugin)?;
                }
            }
        }
        eal::start(&self.full, self.driver.is_none())?;
        if let Some(driver) = &self.driver {
            stale::clear(driver, &self.arguments);
        }
        log::forget();
        Device::open(&self.name, &self.arguments).map_err(|error| self.explain(error))
    }

    /// Whether its peer, in another process, maps the memory that frames lie in.
    pub(crate) fn shares_memory(&self) -> bool {
        let driver = self.driver.as_deref().unwrap_or_default();
        driver.trim_start_matches("net_") == "virtio_user"
    }

    /// The plug-in that a driver is in. None where drivers were built into DPDK; an error if there are others.
    fn plugin(&self, driver: &str) -> Result<Option<PathBuf>, PortError> {
        let plugin = match driver.trim_start_matches("net_") {
            "virtio_user" => "virtio",
            "bonding" => "bond",
            plugin => plugin,
        };
        let dir = sys::eal::plugin_dir();
        // A DPDK that was built with its drivers inside has no such directory.
        let Ok(entries) = std::fs::read_dir(&dir) else {
            return Ok(None);
        };
        let mut known: Vec<String> = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .filter_map(|n| {
                Some(
                    n.strip_prefix("librte_net_")?
                        .strip_suffix(".so")?
                        .to_owned(),
                )
            })
            .collect();
        known.sort();
        let file = format!("librte_net_{plugin}.so");
        if known.iter().any(|k| k == plugin) {
            return Ok(Some(dir.join(file)));
        }
        let what = format!(
            "there is no driver {driver:?}: {} has no {file}",
            dir.display()
        );
        Err(PortError::new(&self.full, PortErrorKind::NotFound, what)
            .remedy(format!("there are: {}", known.join(", "))))
    }

    /// Refuses an option that the driver does not have, where the driver itself would say nothing and go on without any
    /// of its options. It looks them up by name, so a name that is no string of its plug-in is none of them. (Not each
    /// string of a plug-in is an option: some mistakes are not found.)
    fn check_options(&self, driver: &str, plugin: &Path) -> Result<(), PortError> {
        if !FORGIVING.contains(&driver) {
            return Ok(());
        }
        let Ok(code) = std::fs::read(plugin) else {
            return Ok(());
        };
        let has = |key: &str| {
            // The end of a longer string may serve as a shorter one.
            let string = [key.as_bytes(), &[0]].concat();
            code.windows(string.len()).any(|found| found == string)
        };
        let mut keys = self.arguments.split(',').filter(|pair| !pair.is_empty());
        let unknown = keys.find_map(|pair| {
            let key = pair.split('=').next()?;
            (key.is_empty() || !has(key)).then_some(key)
        });
        let Some(key) = unknown else {
            return Ok(());
        };
        let what = format!("{driver} has no option {key:?}");
        let remedy = match wants(driver).1 {
            "" => format!("open dpdk:{} without it", self.name),
            example => format!("leave it out; as in dpdk:{driver}0?{example}"),
        };
        Err(PortError::new(&self.full, PortErrorKind::Config, what).remedy(remedy))
    }

    fn explain(&self, error: std::io::Error) -> PortError {
        let said = log::since();
        let (kind, remedy) = match error.raw_os_error() {
            Some(libc::EEXIST) => (
                PortErrorKind::Busy,
                format!(
                    "{} is open already in this process: use another number",
                    self.name
                ),
            ),
            Some(libc::EACCES) => (
                PortErrorKind::Permission,
                "linecard doctor names what is missing".to_owned(),
            ),
            _ if said.to_ascii_lowercase().contains("permi") => (
                PortErrorKind::Permission,
                "linecard doctor names what is missing".to_owned(),
            ),
            _ if self.driver.is_none() && said.to_ascii_lowercase().contains("busy") => (
                PortErrorKind::Busy,
                "another program has it open; linecard ports says which".to_owned(),
            ),
            _ if said.contains("IOVA") => (
                PortErrorKind::Unsupported,
                "switch the IOMMU on and bind the device to vfio-pci: linecard doctor".to_owned(),
            ),
            Some(libc::ENODEV | libc::ENXIO) if self.driver.is_none() => (
                PortErrorKind::NotFound,
                "linecard ports lists devices".to_owned(),
            ),
            _ => match self.options_remedy(effective_capabilities()) {
                Some(answer) => answer,
                None => (
                    PortErrorKind::System,
                    "LINECARD_LOG=dpdk=trace shows all that DPDK says".to_owned(),
                ),
            },
        };
        let why = if said.is_empty() {
            String::new()
        } else {
            format!(": {said}")
        };
        let what = format!("DPDK does not open {}{why}", self.name);
        self.because(PortError::new(&self.full, kind, what).remedy(remedy), error)
    }

    /// With the cause, if it is one: drivers of virtual devices refuse their options with -1, which is no errno,
    /// and EPERM would mislead.
    pub(crate) fn because(&self, refusal: PortError, error: std::io::Error) -> PortError {
        if self.is_virtual() && error.raw_os_error() == Some(libc::EPERM) {
            return refusal;
        }
        refusal.cause(error)
    }

    /// What is usually wrong with a virtual device that its driver does not take: a capability, or its
    /// options. `capabilities` are the effective ones, as bits.
    pub(crate) fn options_remedy(&self, capabilities: u64) -> Option<(PortErrorKind, String)> {
        let driver = self.driver.as_deref()?;
        let (needs, example) = wants(driver);
        if let Some((bit, name)) = needs
            && capabilities & (1 << bit) == 0
        {
            let remedy = format!(
                "it needs {name}: run it as root, or: setcap {}+ep PROGRAM",
                name.to_ascii_lowercase()
            );
            return Some((PortErrorKind::Permission, remedy));
        }
        let remedy = match (self.arguments.is_empty(), example) {
            (false, "") => format!("check its options: {}", self.arguments),
            (false, _) => format!(
                "check its options: {}; as in dpdk:{driver}0?{example}",
                self.arguments
            ),
            (true, "") => {
                format!("it may need options, behind a question mark: dpdk:{driver}0?key=value")
            }
            (true, _) => {
                format!("it needs options, behind a question mark: dpdk:{driver}0?{example}")
            }
        };
        Some((PortErrorKind::Config, remedy))
    }
}

/// Whether DPDK takes all of this for one value: it keeps together what stands in brackets.
fn is_one_value(value: &str) -> bool {
    let mut open = 0_i32;
    for c in value.chars() {
        match c {
            '[' => open += 1,
            ']' => open -= 1,
            ',' if open == 0 => return false,
            _ => {}
        }
        if open < 0 {
            return false;
        }
    }
    open == 0
}

/// A capability: its bit (linux/capability.h) and its name.
type Capability = (u32, &'static str);
const NET_ADMIN: Option<Capability> = Some((12, "CAP_NET_ADMIN"));
const NET_RAW: Option<Capability> = Some((13, "CAP_NET_RAW"));

/// By driver of a virtual device: the capability that it cannot do without, and options that make sense.
const WANTS: [(&str, Option<Capability>, &str); 8] = [
    ("net_af_packet", NET_RAW, "iface=eth1"),
    ("net_af_xdp", NET_ADMIN, "iface=eth1"),
    ("net_tap", NET_ADMIN, "iface=lc0"),
    (
        "net_memif",
        None,
        "role=client&socket=/run/memif.sock&socket-abstract=no",
    ),
    ("net_vhost", None, "iface=/run/vhost.sock"),
    ("net_virtio_user", None, "path=/run/vhost.sock"),
    ("net_pcap", None, "rx_pcap=in.pcap"),
    ("net_null", None, "size=64"),
];

/// What that says of a driver.
fn wants(driver: &str) -> (Option<Capability>, &'static str) {
    WANTS
        .iter()
        .find(|(name, ..)| name.trim_start_matches("net_") == driver.trim_start_matches("net_"))
        .map_or((None, ""), |(_, needs, example)| (*needs, *example))
}

/// Drivers that go on without their options if one of these is unknown (DPDK 22.11: `rte_kvargs_parse` fails, and that is
/// logged at best).
const FORGIVING: [&str; 3] = ["net_ring", "net_tap", "net_memif"];

/// The capabilities that this process has; all if that cannot be told.
pub(crate) fn effective_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<Target, PortError> {
        Target::parse(name.parse()?)
    }

    #[test]
    fn names_become_devargs() {
        let target = parse("dpdk:net_af_packet0?iface=eth1&qpairs=2&mtu=9000").unwrap();
        assert_eq!(target.name, "net_af_packet0");
        assert_eq!(target.driver.as_deref(), Some("net_af_packet"));
        assert_eq!(target.arguments, "iface=eth1,qpairs=2");
        assert_eq!(target.mtu, Some(9000));
        let target = parse("dpdk:3b:00.0?representor=[0,2-4]").unwrap();
        assert_eq!(target.arguments, "representor=[0,2-4]");
        let target = parse("dpdk:3b:00.0").unwrap();
        assert_eq!(
            (target.name.as_str(), target.driver),
            ("0000:3b:00.0", None)
        );
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for name in [
            "dpdk:",
            "dpdk:eth1",
            "dpdk:net_null0,size=3",
            "dpdk:net_null0?a=1,b=2",
            "dpdk:net_null0?a=[0,1],b=2",
            "dpdk:net_null0?a=[0,1",
            "dpdk:0000:3b:00",
        ] {
            let error = parse(name).unwrap_err();
            assert_eq!(error.kind, PortErrorKind::Name, "{error}");
            assert!(error.to_string().contains("dpdk:0000:3b:00.0"), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_a_capability_or_an_option() {
        let remedy = |name: &str, capabilities| {
            let (kind, text) = parse(name).unwrap().options_remedy(capabilities).unwrap();
            (kind, text)
        };
        let (kind, text) = remedy("dpdk:net_tap0?iface=x", 1 << 13);
        assert_eq!(kind, PortErrorKind::Permission);
        assert!(text.contains("setcap cap_net_admin+ep"), "{text}");
        let (kind, text) = remedy("dpdk:net_tap0?iface=x", u64::MAX);
        assert_eq!(kind, PortErrorKind::Config);
        assert!(text.contains("check its options: iface=x"), "{text}");
        let (_, text) = remedy("dpdk:net_vhost0", 0);
        assert!(text.contains("dpdk:net_vhost0?iface=/run"), "{text}");
        let (_, text) = remedy("dpdk:net_bonding0", 0);
        assert!(text.contains("may need options"), "{text}");
    }

    #[test]
    fn an_option_that_the_driver_would_pass_over_in_silence_is_refused() {
        let refusal = |name: &str| {
            let target = parse(name).unwrap();
            let driver = target.driver.clone().unwrap();
            // None in a DPDK that has its drivers inside.
            let plugin = target.plugin(&driver).unwrap()?;
            let checked = target.check_options(&driver, &plugin);
            Some(checked.map_err(|error| error.to_string()))
        };
        if refusal("dpdk:net_ring0").is_none() {
            return;
        }
        for (name, key) in [
            ("dpdk:net_ring0?nonsense=1", "nonsense"),
            ("dpdk:net_tap0?iface=lc0&ifcae=1", "ifcae"),
            ("dpdk:net_memif0?role=server&sockte=/run/x", "sockte"),
        ] {
            let error = refusal(name).unwrap().unwrap_err();
            assert!(error.contains(&format!("no option {key:?}")), "{error}");
            // Before DPDK is started.
            let error = parse(name).unwrap().open().unwrap_err();
            assert_eq!(error.kind, PortErrorKind::Config, "{error}");
        }
        for name in [
            "dpdk:net_ring0",
            "dpdk:net_ring0?nodeaction=R0:0:CREATE",
            "dpdk:net_tap0?iface=lc0&mac=fixed&remote=lo",
            "dpdk:net_memif0?id=1&role=client&bsize=2048&rsize=10&socket=/run/x&socket-abstract=no&mac=02:00:00:00:00:01&zero-copy=yes&secret=x",
        ] {
            assert_eq!(refusal(name), Some(Ok(())), "{name}");
        }
    }

    #[test]
    fn an_unknown_driver_is_named_with_its_plug_in() {
        let error = parse("dpdk:net_warp0").unwrap().open().unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("librte_net_warp.so") && text.contains("null"),
            "{text}"
        );
    }
}
