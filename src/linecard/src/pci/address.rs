//! Addresses of PCI devices, as the kernel writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a device sits: `0000:3b:00.0`, which is domain, bus, device and function.
///
/// ```
/// use linecard::pci::PciAddress;
///
/// let address: PciAddress = "3b:00.0".parse().unwrap();
/// assert_eq!(address.to_string(), "0000:3b:00.0");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PciAddress {
    // 16 bits by the specification; the kernel's VMD and Hyper-V drivers make up longer ones.
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// A name that is neither an address nor an interface, with what is wrong about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{name}' names no device: {reason}; write an address such as 0000:3b:00.0 or 3b:00.0, or an \
     interface such as eth1 (see `linecard ports`)"
)]
pub struct PciNameError {
    name: String,
    reason: &'static str,
}

impl FromStr for PciAddress {
    type Err = PciNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| PciNameError {
            name: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<PciAddress, &'static str> {
    let (rest, function) = text.split_once('.').ok_or("the function is missing")?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (domain, bus, device) = match parts[..] {
        [domain, bus, device] => (domain, bus, device),
        [bus, device] => ("0000", bus, device),
        _ => return Err("it needs a bus, a device and a function"),
    };
    Ok(PciAddress {
        domain: hex(domain, 8, u32::MAX).ok_or("the domain is no hexadecimal number")?,
        bus: hex(bus, 2, 0xff).ok_or("the bus is not a number from 00 to ff")? as u8,
        // Five bits of device and three of function (PCI Local Bus Specification 3.0, 3.2.2.3.2).
        device: hex(device, 2, 0x1f).ok_or("the device is not a number from 00 to 1f")? as u8,
        function: hex(function, 1, 7).ok_or("the function is not a number from 0 to 7")? as u8,
    })
}

/// Digits and nothing else: the standard library would also take a sign.
fn hex(text: &str, digits: usize, largest: u32) -> Option<u32> {
    let plain = (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    u32::from_str_radix(text, 16)
        .ok()
        .filter(|number| plain && *number <= largest)
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        // The kernel's own format, so that it is also the name of the folder in sysfs.
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for PciAddress {
    type Error = PciNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// What a person calls a device: its address, or the interface that it has while the kernel drives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// `0000:3b:00.0`, `3b:00.0`, or as a port: `dpdk:0000:3b:00.0`.
    Address(PciAddress),
    /// `eth1`.
    Interface(String),
}

impl FromStr for DeviceName {
    type Err = PciNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        /// The kernel's IFNAMSIZ without the zero at the end.
        const LONGEST: usize = 15;
        let name = text.strip_prefix("dpdk:").unwrap_or(text);
        if name.contains(':') {
            return name.parse().map(Self::Address);
        }
        let reason = match name {
            "" => "it is empty",
            "." | ".." => "it is a folder",
            _ if name.len() > LONGEST => "it is longer than an interface's name can be",
            _ if name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) => {
                "it has a character that no interface's name has"
            }
            _ => return Ok(Self::Interface(name.to_owned())),
        };
        Err(PciNameError {
            name: text.to_owned(),
            reason,
        })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Interface(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_and_long_forms_are_the_same_device() {
        for text in ["0000:3b:00.0", "3b:00.0", "3B:0.0", "0:3b:00.0"] {
            let address: PciAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), "0000:3b:00.0");
        }
        let vmd: PciAddress = "10000:e1:1f.7".parse().expect("a long domain");
        assert_eq!(vmd.to_string(), "10000:e1:1f.7");
    }

    #[test]
    fn mistakes_are_told_apart() {
        for (text, reason) in [
            ("3b:00", "function is missing"),
            ("00.0", "needs a bus"),
            ("3b:20.0", "device is not"),
            ("3b:00.8", "function is not"),
            ("3b:00.0.1", "function is not"),
            ("100:00.0", "bus is not"),
            ("+0:3b:00.0", "domain is no"),
            ("123456789:3b:00.0", "domain is no"),
            ("0000:+b:00.0", "bus is not"),
            ("", "function is missing"),
            ("0:0:0:0.0", "needs a bus"),
        ] {
            let error = text.parse::<PciAddress>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(error.contains("0000:3b:00.0"), "{error}");
        }
    }

    #[test]
    fn a_name_is_an_address_a_port_or_an_interface() {
        let name = |text: &str| text.parse::<DeviceName>();
        let address = DeviceName::Address("3b:00.0".parse().expect("an address"));
        assert_eq!(name("3b:00.0"), Ok(address.clone()));
        assert_eq!(name("dpdk:0000:3b:00.0"), Ok(address));
        assert_eq!(name("eth1"), Ok(DeviceName::Interface("eth1".into())));
        assert_eq!(name("eth1.5"), Ok(DeviceName::Interface("eth1.5".into())));
        for text in [
            "",
            "..",
            "a/b",
            "a b",
            "sixteencharacter",
            "eth1:0",
            "dpdk:",
        ] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_address_survives_being_written(
            domain: u32, bus: u8, device in 0u8..32, function in 0u8..8
        ) {
            let address = PciAddress { domain, bus, device, function };
            prop_assert_eq!(address.to_string().parse(), Ok(address));
            let json = serde_json::to_string(&address).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<PciAddress>(&json).expect("read"), address);
        }

        #[test]
        fn no_text_panics_and_what_is_taken_is_no_path(text in "\\PC{0,24}") {
            if let Ok(address) = text.parse::<PciAddress>() {
                let text = address.to_string();
                prop_assert!(text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.'));
            }
            if let Ok(DeviceName::Interface(name)) = text.parse() {
                prop_assert!(!name.contains('/') && name != "..");
            }
        }

        #[test]
        fn nearly_right_text_is_taken_or_refused_without_a_panic(text in "[0-9a-fA-F:.+]{0,16}") {
            if let Ok(address) = text.parse::<PciAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
