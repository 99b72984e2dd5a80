//! The ports of a configuration and who forwards to whom.

use std::collections::BTreeMap;

use linecard::modes::Mode;
use linecard::wire::MacAddr;
use linecard::{DRIVERS, PortIndex, PortName};

use super::problem::{Place, Problem, Refusal, nearest};
use crate::cmd::fwd::parse_mac;

/// A port without a MAC address is given one whose last byte is its number.
pub const MOST_PORTS: usize = 255;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// That a file has no port at all.
pub fn no_port() -> Problem {
    let remedy = "add [[port]], and below it name = \"a\" and open = \"uring:eth1\"";
    Refusal::new("there is no port", remedy).at(Place::File, "port")
}

/// A `[[port]]` as it was written.
#[derive(Clone, Debug)]
pub struct PortEntry {
    /// Where it begins.
    pub place: Place,
    /// What pairs call it.
    pub name: Option<At<String>>,
    /// What it opens.
    pub open: Option<At<String>>,
    /// The MAC address at the other end of its link.
    pub peer: Option<At<String>>,
    /// Whether some of it could not be read, so that nothing is to be called missing.
    pub faulty: bool,
}

/// A pair as it was written.
pub type PairEntry = At<[String; 2]>;

/// A port that can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSetting {
    /// What pairs call it.
    pub name: String,
    /// What it opens.
    pub open: String,
    /// The MAC address at the other end of its link, if one was given.
    pub peer: Option<MacAddr>,
    /// Where it stands.
    pub place: Place,
}

/// Checks the ports, each by itself and against one another.
pub fn check_ports(entries: &[PortEntry], problems: &mut Vec<Problem>) -> Vec<PortSetting> {
    if let Some(extra) = entries.get(MOST_PORTS) {
        let what = format!("there are {} ports", entries.len());
        let remedy = format!("{MOST_PORTS} are the most");
        problems.push(Refusal::new(what, remedy).at(extra.place.clone(), "port"));
    }
    let mut names = BTreeMap::new();
    let mut devices = BTreeMap::new();
    let mut ports = Vec::new();
    for entry in entries {
        let missing = |key: &str, remedy: &str| {
            Refusal::new(format!("the port has no {key}"), format!("add {remedy}"))
                .at(entry.place.clone(), format!("port.{key}"))
        };
        match &entry.name {
            Some(name) => problems.extend(check_name(name, &mut names)),
            None if entry.faulty => {}
            None => problems.push(missing("name", "name = \"a\", by which pairs call it")),
        }
        match &entry.open {
            Some(open) => problems.extend(check_open(open, &mut devices)),
            None if entry.faulty => {}
            None => problems.push(missing(
                "open",
                "open = \"uring:eth1\" (see `linecard ports`)",
            )),
        }
        let peer = entry
            .peer
            .as_ref()
            .and_then(|peer| match check_peer(&peer.value) {
                Ok(mac) => Some(mac),
                Err(refusal) => {
                    problems.push(refusal.at(peer.place.clone(), "port.peer"));
                    None
                }
            });
        if let (Some(name), Some(open)) = (&entry.name, &entry.open) {
            ports.push(PortSetting {
                name: name.value.clone(),
                open: open.value.clone(),
                peer,
                place: entry.place.clone(),
            });
        }
    }
    ports
}

fn check_name<'a>(
    name: &'a At<String>,
    seen: &mut BTreeMap<&'a str, &'a Place>,
) -> Option<Problem> {
    let refusal = if name.value.is_empty() {
        Refusal::new(
            "the name is empty",
            "write at least a letter, such as name = \"a\"",
        )
    } else {
        let first = seen.insert(&name.value, &name.place)?;
        Refusal::new(
            format!(
                "{:?} is the name of the port on {first} already",
                name.value
            ),
            "give each port a name of its own",
        )
    };
    Some(refusal.at(name.place.clone(), "port.name"))
}

fn check_open<'a>(open: &'a At<String>, seen: &mut BTreeMap<String, &'a Place>) -> Option<Problem> {
    let refusal = match open.value.parse::<PortName>() {
        Err(error) => {
            let text = error.to_string();
            let (what, remedy) = text.rsplit_once("; ").unwrap_or((
                text.as_str(),
                "a port is named driver:device, for example uring:eth1",
            ));
            Refusal::new(what, remedy)
        }
        Ok(name) if !DRIVERS.iter().any(|d| d.scheme == name.driver()) => {
            let known: Vec<&str> = DRIVERS.iter().map(|d| d.scheme).collect();
            let what = format!(
                "{}: there is no driver {:?} in this build",
                name,
                name.driver()
            );
            match nearest(name.driver(), known.iter().copied()) {
                Some(meant) => {
                    Refusal::new(what, format!("did you mean {meant}:{}?", name.device()))
                }
                None => Refusal::new(what, format!("it has: {}", known.join(", "))),
            }
        }
        Ok(name) => {
            // One file or one template may feed several ports; an interface belongs to one.
            let shared = matches!(name.driver(), "pcap" | "null");
            let device = format!("{}:{}", name.driver(), name.device());
            let identity = if shared { open.value.clone() } else { device };
            let first = seen.insert(identity.clone(), &open.place)?;
            Refusal::new(
                format!("{identity} is opened on {first} already"),
                "a port is opened once and serves both directions; remove one, or name another \
                 device",
            )
        }
    };
    Some(refusal.at(open.place.clone(), "port.open"))
}

fn check_peer(text: &str) -> Result<MacAddr, Refusal> {
    let remedy = "write the MAC address of whoever is at the other end of the link";
    let mac = parse_mac(text).map_err(|what| Refusal::new(what, remedy))?;
    if mac == MacAddr::default() {
        return Err(Refusal::new(format!("{mac} is nobody's address"), remedy));
    }
    Ok(mac)
}

/// Whether frames leave by another port than they came by, so that every port needs a partner.
pub fn forwards(mode: Mode) -> bool {
    match mode {
        Mode::Io | Mode::Mac | Mode::MacSwap | Mode::FiveTupleSwap => true,
        Mode::RxDrop | Mode::TxOnly | Mode::IcmpEcho => false,
    }
}

/// By port: where its frames leave. A port without a pair is its own partner.
pub fn check_pairs(
    mode: Mode,
    ports: &[PortSetting],
    pairs: &[PairEntry],
    problems: &mut Vec<Problem>,
) -> Vec<PortIndex> {
    const KEY: &str = "forward.pairs";
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let mut partners: Vec<Option<(PortIndex, &Place)>> = vec![None; ports.len()];
    for pair in pairs {
        let mut ends = Vec::new();
        for name in &pair.value {
            match names.iter().position(|known| known == name) {
                Some(port) => ends.push(port),
                None => {
                    let refusal = unknown_port(name, &names);
                    problems.push(refusal.at(pair.place.clone(), KEY));
                }
            }
        }
        let &[from, to] = ends.as_slice() else {
            continue;
        };
        let both = [(from, to), (to, from)];
        for &(port, partner) in &both[..if from == to { 1 } else { 2 }] {
            match partners[port] {
                None => partners[port] = Some((partner as PortIndex, &pair.place)),
                Some((_, first)) => {
                    let what = format!("{:?} is in the pair on {first} already", names[port]);
                    let remedy = "a pair is both directions, and a port's frames leave by one \
                                  port; remove one of the pairs";
                    problems.push(Refusal::new(what, remedy).at(pair.place.clone(), KEY));
                }
            }
        }
    }
    if forwards(mode) && ports.len() > 1 {
        for (port, partner) in ports.iter().zip(&partners) {
            if partner.is_none() {
                problems.push(alone(port, mode, &names).at(port.place.clone(), KEY));
            }
        }
    }
    (0..)
        .zip(partners)
        .map(|(port, partner)| partner.map_or(port, |(partner, _)| partner))
        .collect()
}

fn unknown_port(name: &str, names: &[&str]) -> Refusal {
    let what = format!("there is no port named {name:?}");
    match nearest(name, names.iter().copied()) {
        Some(meant) => Refusal::new(what, format!("did you mean {meant:?}?")),
        None if names.is_empty() => Refusal::new(what, "add a [[port]] with this name"),
        None => Refusal::new(what, format!("there are: {}", names.join(", "))),
    }
}

fn alone(port: &PortSetting, mode: Mode, names: &[&str]) -> Refusal {
    let other = names
        .iter()
        .find(|name| **name != port.name)
        .unwrap_or(&"b");
    Refusal::new(
        format!(
            "port {:?} is in no pair, and mode {mode} sends every frame to a partner",
            port.name
        ),
        format!(
            "add [{:?}, {other:?}] to pairs in [forward], or [{:?}, {:?}] to send its frames back",
            port.name, port.name, port.name
        ),
    )
}
