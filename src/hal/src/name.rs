//! Port names: `driver:device?option=value&option=value`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::error::{PortError, PortErrorKind};

/// A parsed port name, such as `uring:eth1?rx=ring` or `sim:a`.
///
/// The device may contain colons (`dpdk:0000:3b:00.0`); it ends at the first `?`. Drivers take the
/// options they know with [`take`](Self::take) and then call [`finish`](Self::finish), which refuses
/// what is left.
///
/// ```
/// use linecard_hal::PortName;
///
/// let mut name: PortName = "uring:eth1?rx=ring&queues=2".parse()?;
/// assert_eq!((name.driver(), name.device()), ("uring", "eth1"));
/// assert_eq!(name.take::<u16>("queues")?, Some(2));
/// assert!(name.finish(&["rx", "queues"]).is_err()); // `rx` was not taken
/// # Ok::<(), linecard_hal::PortError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortName {
    full: String,
    driver: String,
    device: String,
    options: BTreeMap<String, String>,
}

impl FromStr for PortName {
    type Err = PortError;

    fn from_str(full: &str) -> Result<Self, PortError> {
        let wrong = |what: String| {
            PortError::new(full, PortErrorKind::Name, what)
                .remedy("a port is named driver:device, for example uring:eth1 or sim:a")
        };
        let (driver, rest) = full
            .split_once(':')
            .ok_or_else(|| wrong("the name has no driver".into()))?;
        let (device, query) = match rest.split_once('?') {
            Some((device, query)) => (device, Some(query)),
            None => (rest, None),
        };
        if driver.is_empty()
            || !driver
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return Err(wrong(format!("{driver:?} is not a driver's name")));
        }
        let mut options = BTreeMap::new();
        for pair in query
            .into_iter()
            .flat_map(|q| q.split('&'))
            .filter(|p| !p.is_empty())
        {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| wrong(format!("option {pair:?} has no value")))?;
            if options.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(wrong(format!("option {key:?} is given twice")));
            }
        }
        Ok(Self {
            full: full.into(),
            driver: driver.into(),
            device: device.into(),
            options,
        })
    }
}

impl PortName {
    /// The whole name as it was given.
    pub fn full(&self) -> &str {
        &self.full
    }

    /// The part before the first colon.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The part between the driver and the options. May be empty (`null:`).
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Takes the option `key`, parsed.
    pub fn take<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, PortError>
    where
        T::Err: fmt::Display,
    {
        let Some(value) = self.options.remove(key) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|e| {
            PortError::new(
                &self.full,
                PortErrorKind::Name,
                format!("option {key}={value}: {e}"),
            )
        })
    }

    /// Takes all options that nobody took, for a driver that hands them on.
    pub fn take_rest(&mut self) -> impl Iterator<Item = (String, String)> + use<> {
        core::mem::take(&mut self.options).into_iter()
    }

    /// Refuses the options that nobody took. `known` are all that the driver has, for the remedy.
    pub fn finish(&self, known: &[&str]) -> Result<(), PortError> {
        let Some(key) = self.options.keys().next() else {
            return Ok(());
        };
        let remedy = if known.is_empty() {
            format!("the {} driver has no options", self.driver)
        } else {
            format!("the {} driver has: {}", self.driver, known.join(", "))
        };
        Err(PortError::new(
            &self.full,
            PortErrorKind::Name,
            format!("unknown option {key:?}"),
        )
        .remedy(remedy))
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_kind() {
        for (full, driver, device) in [
            ("sim:a", "sim", "a"),
            ("null:", "null", ""),
            ("pcap:/tmp/a?b.pcap", "pcap", "/tmp/a"),
            ("dpdk:0000:3b:00.0", "dpdk", "0000:3b:00.0"),
        ] {
            match full.parse::<PortName>() {
                Ok(name) => assert_eq!((name.driver(), name.device()), (driver, device)),
                Err(e) => assert!(full.contains('?'), "{e}"),
            }
        }
    }

    #[test]
    fn what_is_left_can_be_handed_on() {
        let mut name: PortName = "dpdk:net_tap0?iface=t&mtu=9000".parse().unwrap();
        assert_eq!(name.take::<u16>("mtu").unwrap(), Some(9000));
        let rest: Vec<_> = name.take_rest().collect();
        assert_eq!(rest, [("iface".to_owned(), "t".to_owned())]);
        name.finish(&[]).unwrap();
    }

    #[test]
    fn bad_names_say_what_is_wrong() {
        for (name, says) in [
            ("eth1", "no driver"),
            (":eth1", "not a driver"),
            ("uring:eth1?rx", "no value"),
            ("uring:eth1?rx=a&rx=b", "twice"),
        ] {
            let error = name.parse::<PortName>().unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(name), "{error}");
        }
        let mut name: PortName = "uring:eth1?queues=x".parse().unwrap();
        assert!(
            name.take::<u16>("queues")
                .unwrap_err()
                .to_string()
                .contains("queues=x")
        );
    }
}
