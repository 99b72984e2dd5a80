//! Ports by name: which link they are an end of.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use linecard_hal::{PortError, PortErrorKind, PortName};

use super::impair::{self, Impairments};
use super::link::{Link, LinkConfig, Shared};
use super::port::SimPort;
use crate::units::Switch;

/// Every link that was made by name and has not gone.
static LINKS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    link: Weak<Shared>,
    /// The name of the link, if it was given one.
    key: Option<String>,
    /// The names of the two ends; `None` for one that anybody may join.
    names: [Option<String>; 2],
}

/// Link options as far as a name gives them.
#[derive(Default)]
struct Wanted {
    seed: Option<u64>,
    queues: Option<u16>,
    depth: Option<usize>,
    mtu: Option<u32>,
    offload: Option<bool>,
}

const LINK_OPTIONS: [&str; 7] = ["peer", "link", "seed", "queues", "depth", "mtu", "offload"];

impl SimPort {
    /// The port that `name` describes.
    pub fn open(mut name: PortName) -> Result<Self, PortError> {
        let full = name.full().to_owned();
        let device = name.device().to_owned();
        let fail = |kind, what: &str| PortError::new(&full, kind, what);
        if device.is_empty() {
            return Err(fail(PortErrorKind::Name, "the port has no name").remedy("name it: sim:a"));
        }
        let peer = name.take::<String>("peer")?;
        let key = name.take::<String>("link")?;
        let wanted = Wanted::take(&mut name)?;
        let impairments = Impairments::take(&mut name)?;
        let known: Vec<&str> = LINK_OPTIONS.into_iter().chain(impair::OPTIONS).collect();
        name.finish(&known)?;
        if peer.is_some() && key.is_some() {
            return Err(fail(
                PortErrorKind::Name,
                "peer= and link= exclude each other",
            ));
        }
        if peer.as_ref() == Some(&device) {
            return Err(fail(PortErrorKind::Name, "a port cannot be its own peer")
                .remedy("open sim:NAME twice for the two ends of one link"));
        }
        let mut links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|entry| entry.link.strong_count() > 0);
        if let Some((link, end)) = join(&mut links, &device, peer.as_deref(), key.as_deref()) {
            wanted.check(&full, &link.0.config)?;
            return link.open(end, impairments);
        }
        let busy = links.iter().any(|entry| match &key {
            Some(_) => entry.key == key,
            None => entry.names.iter().flatten().any(|n| *n == device),
        });
        if busy {
            return Err(fail(PortErrorKind::Busy, "both ends of the link are open")
                .remedy("close one of them, or use another name"));
        }
        let names = [Some(device), peer];
        let link = Link::new(wanted.config(&names))?;
        let port = link.open(0, impairments)?;
        links.push(Entry {
            link: Arc::downgrade(&link.0),
            key,
            names,
        });
        Ok(port)
    }
}

impl Link {
    /// The link that has a port opened under this name: `a` for `sim:a`.
    pub fn named(device: &str) -> Option<Link> {
        let links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
        let found = links
            .iter()
            .find(|e| e.names.iter().flatten().any(|name| name == device));
        found.and_then(|entry| entry.link.upgrade()).map(Link)
    }
}

/// Finds a link with an end for this port, and makes that end its own.
fn join(
    links: &mut [Entry],
    device: &str,
    peer: Option<&str>,
    key: Option<&str>,
) -> Option<(Link, usize)> {
    // An end that bears the name comes before one that anybody may join.
    for by_name in [true, false] {
        for entry in links.iter_mut().filter(|entry| entry.key.as_deref() == key) {
            let Some(shared) = entry.link.upgrade() else {
                continue;
            };
            for end in 0..2 {
                if shared.ends[end].open.load(Ordering::Acquire) {
                    continue;
                }
                let (own, other) = (&entry.names[end], &entry.names[1 - end]);
                let fits = match key {
                    // Any two ports; one that comes back gets its old end if that is free.
                    Some(_) => !by_name || own.as_deref() == Some(device),
                    None if by_name => {
                        own.as_deref() == Some(device)
                            && peer.is_none_or(|peer| other.as_deref().is_none_or(|o| o == peer))
                    }
                    // The open end of `sim:peer`, or the second end of `sim:device`.
                    None => own.is_none() && other.as_deref() == Some(peer.unwrap_or(device)),
                };
                if fits {
                    entry.names[end] = Some(device.to_owned());
                    return Some((Link(shared), end));
                }
            }
        }
    }
    None
}

impl Wanted {
    fn take(name: &mut PortName) -> Result<Self, PortError> {
        Ok(Self {
            seed: name.take("seed")?,
            queues: name.take("queues")?,
            depth: name.take("depth")?,
            mtu: name.take("mtu")?,
            offload: name.take::<Switch>("offload")?.map(|s| s.0),
        })
    }

    fn config(&self, names: &[Option<String>; 2]) -> LinkConfig {
        let default = LinkConfig::default();
        let name = |n: &Option<String>| n.as_ref().map_or("sim:?".into(), |n| format!("sim:{n}"));
        LinkConfig {
            names: [name(&names[0]), name(&names[1])],
            seed: self.seed.unwrap_or(default.seed),
            max_queues: self.queues.unwrap_or(default.max_queues),
            depth: self.depth.unwrap_or(default.depth),
            mtu: self.mtu.unwrap_or(default.mtu),
            offload: self.offload.unwrap_or(default.offload),
            ..default
        }
    }

    /// Refuses what differs from the link as it is.
    fn check(&self, port: &str, link: &LinkConfig) -> Result<(), PortError> {
        let mut differs = Vec::new();
        let mut compare = |key: &str, wanted: Option<u64>, is: u64| {
            if wanted.is_some_and(|wanted| wanted != is) {
                differs.push(format!("{key}={is}"));
            }
        };
        compare("seed", self.seed, link.seed);
        compare("queues", self.queues.map(u64::from), link.max_queues.into());
        compare("depth", self.depth.map(|d| d as u64), link.depth as u64);
        compare("mtu", self.mtu.map(u64::from), link.mtu.into());
        compare("offload", self.offload.map(u64::from), link.offload.into());
        if differs.is_empty() {
            return Ok(());
        }
        let what = format!("the link was made with {}", differs.join(", "));
        Err(PortError::new(port, PortErrorKind::Config, what)
            .remedy("give these options to the first port only"))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use linecard_hal::{LinkState, Port};

    fn open(name: &str) -> Result<SimPort, PortError> {
        SimPort::open(name.parse()?)
    }

    fn kind(name: &str) -> PortErrorKind {
        open(name).unwrap_err().kind
    }

    #[test]
    fn peers_find_each_other_in_any_order() {
        for (first, second) in [
            ("sim:r1?peer=r2", "sim:r2"),
            ("sim:r3?peer=r4", "sim:r4?peer=r3"),
            ("sim:r5", "sim:r6?peer=r5"),
            ("sim:r7?link=l7", "sim:r8?link=l7"),
            ("sim:r9", "sim:r9"),
        ] {
            let a = open(first).unwrap();
            assert_eq!(a.link(), LinkState::Down, "{first} alone");
            let b = open(second).unwrap();
            assert_eq!(
                (a.link(), b.link()),
                (LinkState::Up, LinkState::Up),
                "{first} {second}"
            );
            assert!(Arc::ptr_eq(&a.handle().0, &b.handle().0));
            assert_eq!(kind(first), PortErrorKind::Busy, "{first} again");
            let device = first[4..].split('?').next().unwrap();
            assert!(Arc::ptr_eq(&Link::named(device).unwrap().0, &a.handle().0));
        }
    }

    #[test]
    fn an_end_can_come_back() {
        let a = open("sim:c1?peer=c2").unwrap();
        let b = open("sim:c2").unwrap();
        drop(a);
        assert_eq!(b.link(), LinkState::Down);
        let a = open("sim:c1?peer=c2").unwrap();
        assert_eq!(b.link(), LinkState::Up);
        drop((a, b));
        let alone = open("sim:c2").unwrap();
        assert_eq!(alone.link(), LinkState::Down);
    }

    #[test]
    fn options_that_cannot_be() {
        for (name, says) in [
            ("sim:", "no name"),
            ("sim:o1?peer=o1", "own peer"),
            ("sim:o1?peer=o2&link=o3", "exclude"),
            ("sim:o1?queues=0", "0 queues"),
            ("sim:o1?depth=0", "depth of 0"),
            ("sim:o1?mtu=60", "MTU of 60"),
            ("sim:o1?offload=yes", "offload=yes"),
            ("sim:o1?seed=-1", "seed=-1"),
            ("sim:o1?loss=7", "loss=7"),
            ("sim:o1?colour=red", "unknown option"),
        ] {
            let error = open(name).unwrap_err().to_string();
            assert!(error.contains(says), "{name}: {error}");
        }
        // None of these was left behind.
        assert!(Link::named("o1").is_none());
        let _a = open("sim:o4?peer=o5&depth=64").unwrap();
        let error = open("sim:o5?depth=128").unwrap_err();
        assert!(error.to_string().contains("depth=64"), "{error}");
        assert!(open("sim:o5?depth=64&loss=0.5").is_ok());
        assert!(
            open("sim:o5?loss=0.5").is_ok(),
            "with the same impairments again"
        );
        assert_eq!(kind("sim:o5?loss=0.1"), PortErrorKind::Config);
    }
}
