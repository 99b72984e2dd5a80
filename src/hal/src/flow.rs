//! Flow rules: which frames a device is to drop, mark, or give to which queue.
//!
//! A rule reads and prints as one line, the same for every port:
//!
//! ```
//! use linecard_hal::flow::{FlowAction, FlowRule};
//!
//! let rule: FlowRule = "dst=10.0.0.0/8 proto=udp dport=53 => queue 1".parse()?;
//! assert_eq!(rule.action, FlowAction::Queue(1));
//! assert_eq!(rule.to_string(), "dst=10.0.0.0/8 proto=udp dport=53 => queue 1");
//!
//! let error = "dport=53 => drop".parse::<FlowRule>().unwrap_err();
//! assert_eq!(error.to_string(), "dport needs proto=udp, proto=tcp or proto=sctp beside it");
//! # Ok::<(), linecard_hal::flow::FlowSyntaxError>(())
//! ```
//!
//! | field | frames that match |
//! | --- | --- |
//! | `ether=0x0800` | of this EtherType, behind any VLAN tags |
//! | `vlan=5` | with this VLAN id in their outer tag |
//! | `src=10.0.0.0/8`, `dst=2001:db8::1` | from or to this prefix; one address without a length |
//! | `proto=udp` | of this IP protocol: `tcp`, `udp`, `icmp`, `icmp6`, `sctp` or a number |
//! | `sport=53`, `dport=1000-2000` | from or to these ports, first and last |
//!
//! All that is named must match; nothing named matches every frame. What happens then: `drop`, `queue N`,
//! `rss N,N,…` (spread over these queues), `kernel` (past us to the system's own stack) or `mark N` (seen as
//! [`Mbuf::mark`](crate::Mbuf::mark), received as usual).

use core::fmt;
use core::str::FromStr;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::error::PortError;

/// A prefix of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// Its first address: the bits behind the length are zero.
    pub address: IpAddr,
    /// How many bits count.
    pub len_bits: u8,
}

/// Transport ports from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// What a frame must be. A field that is `None` does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowMatch {
    /// EtherType behind any VLAN tags.
    pub ether_type: Option<u16>,
    /// VLAN id of the outer tag.
    pub vlan: Option<u16>,
    /// Source address.
    pub src: Option<Prefix>,
    /// Destination address.
    pub dst: Option<Prefix>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Source port; only with a protocol that has ports.
    pub src_port: Option<PortRange>,
    /// Destination port; only with a protocol that has ports.
    pub dst_port: Option<PortRange>,
}

/// What happens to a frame that matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FlowAction {
    /// It is dropped by the device.
    Drop,
    /// It is received on this queue.
    Queue(u16),
    /// It is received on one of these queues, by its RSS hash.
    Rss(Vec<u16>),
    /// It is left to the kernel's own stack.
    Kernel,
    /// It is received as usual, with this mark.
    Mark(u32),
}

/// A rule: reads and prints as described [above](self).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FlowRule {
    /// What a frame must be.
    pub matches: FlowMatch,
    /// What happens to it then.
    pub action: FlowAction,
}

/// A rule that a port has, until it is destroyed or the port stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u64);

/// What a rule has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct FlowCount {
    /// Frames that matched.
    pub packets: u64,
    /// Their bytes; 0 where the device counts none.
    pub bytes: u64,
}

/// A port's flow rules: control plane. Of two rules that match a frame the one created first wins.
///
/// A refusal names the rule and gives the device's own reason; nothing has changed then. Rules exist while
/// the port runs: [`Port::stop`](crate::Port::stop) ends them.
pub trait FlowRules {
    /// Whether the port would take the rule, without creating it.
    fn validate(&mut self, rule: &FlowRule) -> Result<(), PortError>;

    /// Creates a rule, at once in force.
    fn create(&mut self, rule: &FlowRule) -> Result<FlowId, PortError>;

    /// Removes a rule.
    fn destroy(&mut self, id: FlowId) -> Result<(), PortError>;

    /// What a rule has counted; `None` where the device does not count for rules.
    fn query(&mut self, id: FlowId) -> Result<Option<FlowCount>, PortError>;

    /// Removes all rules.
    fn flush(&mut self) -> Result<(), PortError>;
}

/// Why a text is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FlowSyntaxError(String);

fn wrong<T>(what: impl Into<String>) -> Result<T, FlowSyntaxError> {
    Err(FlowSyntaxError(what.into()))
}

/// Protocols by name; the first three have ports.
const PROTOCOLS: [(&str, u8); 5] = [
    ("tcp", 6),
    ("udp", 17),
    ("sctp", 132),
    ("icmp", 1),
    ("icmp6", 58),
];

const FIELDS: &str = "ether, vlan, src, dst, proto, sport, dport";
const ACTIONS: &str = "drop, queue N, rss N,N, kernel, mark N";

impl FlowMatch {
    /// Whether the protocol is one with ports.
    pub fn has_ports(&self) -> bool {
        PROTOCOLS[..3]
            .iter()
            .any(|(_, number)| Some(*number) == self.protocol)
    }

    /// The EtherType that the fields imply: that of the addresses, or the one that is named.
    pub fn implied_ether_type(&self) -> Option<u16> {
        let version = self.src.or(self.dst).map(|prefix| prefix.ether_type());
        self.ether_type.or(version)
    }

    /// Refuses what no frame can be.
    pub fn check(&self) -> Result<(), FlowSyntaxError> {
        for (name, ports) in [("sport", self.src_port), ("dport", self.dst_port)] {
            if ports.is_some() && !self.has_ports() {
                return wrong(format!(
                    "{name} needs proto=udp, proto=tcp or proto=sctp beside it"
                ));
            }
            if let Some(ports) = ports.filter(|p| p.first > p.last) {
                return wrong(format!("{name}={ports} is empty"));
            }
        }
        if let (Some(src), Some(dst)) = (self.src, self.dst)
            && src.ether_type() != dst.ether_type()
        {
            return wrong(format!(
                "src={src} and dst={dst} are not of one version of IP"
            ));
        }
        let implied = self.src.or(self.dst).map(|prefix| prefix.ether_type());
        if let (Some(ether), Some(implied)) = (self.ether_type, implied)
            && ether != implied
        {
            return wrong(format!("ether={ether:#06x} has no such addresses"));
        }
        if let Some(vlan) = self.vlan.filter(|vlan| *vlan > 4095) {
            return wrong(format!("vlan={vlan} is more than 4095"));
        }
        Ok(())
    }

    fn set(&mut self, field: &str, value: &str) -> Result<(), FlowSyntaxError> {
        let given = match field {
            "ether" => replace(&mut self.ether_type, ether_type(value)?),
            "vlan" => replace(&mut self.vlan, number(field, value)?),
            "src" => replace(&mut self.src, value.parse()?),
            "dst" => replace(&mut self.dst, value.parse()?),
            "proto" => replace(&mut self.protocol, protocol(value)?),
            "sport" => replace(&mut self.src_port, value.parse()?),
            "dport" => replace(&mut self.dst_port, value.parse()?),
            _ => {
                return wrong(format!(
                    "there is no field {field:?}; the fields are {FIELDS}"
                ));
            }
        };
        if given {
            return wrong(format!("{field} is given twice"));
        }
        Ok(())
    }
}

/// Sets a field; `true` if it was set already.
fn replace<T>(field: &mut Option<T>, value: T) -> bool {
    field.replace(value).is_some()
}

fn number<T: FromStr>(field: &str, value: &str) -> Result<T, FlowSyntaxError> {
    match value.parse() {
        Ok(number) => Ok(number),
        Err(_) => wrong(format!("{field} {value:?} is not a number in its range")),
    }
}

fn ether_type(value: &str) -> Result<u16, FlowSyntaxError> {
    let hex = value.strip_prefix("0x").or(value.strip_prefix("0X"));
    match hex.map_or_else(|| value.parse().ok(), |h| u16::from_str_radix(h, 16).ok()) {
        Some(kind) if kind >= 0x600 => Ok(kind),
        _ => wrong(format!(
            "ether={value} is not an EtherType, for example 0x0800"
        )),
    }
}

fn protocol(value: &str) -> Result<u8, FlowSyntaxError> {
    if let Some((_, number)) = PROTOCOLS.iter().find(|(name, _)| *name == value) {
        return Ok(*number);
    }
    let names: Vec<_> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
    match value.parse() {
        Ok(number) => Ok(number),
        Err(_) => wrong(format!(
            "proto={value} is neither a number up to 255 nor one of {}",
            names.join(", ")
        )),
    }
}

impl Prefix {
    /// All addresses that begin with the first `len_bits` bits of this one; `None` if there are not so
    /// many.
    pub fn new(address: IpAddr, len_bits: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(a) if len_bits <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(len_bits)).unwrap_or(0);
                IpAddr::V4((a.to_bits() & mask).into())
            }
            IpAddr::V6(a) if len_bits <= 128 => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(len_bits))
                    .unwrap_or(0);
                IpAddr::V6((a.to_bits() & mask).into())
            }
            _ => return None,
        };
        Some(Self { address, len_bits })
    }

    /// The bits that count, as an address.
    pub fn mask(&self) -> IpAddr {
        let all = match self.address {
            IpAddr::V4(_) => IpAddr::V4([255; 4].into()),
            IpAddr::V6(_) => IpAddr::V6([255; 16].into()),
        };
        Self::new(all, self.len_bits).map_or(all, |mask| mask.address)
    }

    fn ether_type(&self) -> u16 {
        if self.address.is_ipv4() {
            0x0800
        } else {
            0x86dd
        }
    }

    fn whole_len(&self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }
}

/// One address.
impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        let len_bits = if address.is_ipv4() { 32 } else { 128 };
        Self { address, len_bits }
    }
}

impl FromStr for Prefix {
    type Err = FlowSyntaxError;

    fn from_str(s: &str) -> Result<Self, FlowSyntaxError> {
        let (address, len) = s.split_once('/').map_or((s, None), |(a, l)| (a, Some(l)));
        let parsed = address.parse().ok().and_then(|address: IpAddr| {
            let whole = if address.is_ipv4() { 32 } else { 128 };
            let len = len.map_or(Some(whole), |len| len.parse().ok())?;
            Self::new(address, len)
        });
        match parsed {
            Some(prefix) => Ok(prefix),
            None => wrong(format!(
                "{s:?} is not an address or prefix, for example 10.0.0.0/8 or 2001:db8::1"
            )),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.len_bits != self.whole_len() {
            write!(f, "/{}", self.len_bits)?;
        }
        Ok(())
    }
}

impl FromStr for PortRange {
    type Err = FlowSyntaxError;

    fn from_str(s: &str) -> Result<Self, FlowSyntaxError> {
        let (first, last) = s.split_once('-').unwrap_or((s, s));
        Ok(Self {
            first: number("port", first)?,
            last: number("port", last)?,
        })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        Ok(())
    }
}

impl FromStr for FlowAction {
    type Err = FlowSyntaxError;

    fn from_str(s: &str) -> Result<Self, FlowSyntaxError> {
        let words: Vec<_> = s.split_whitespace().collect();
        match words[..] {
            ["drop"] => Ok(Self::Drop),
            ["kernel"] => Ok(Self::Kernel),
            ["queue", n] => Ok(Self::Queue(number("queue", n)?)),
            ["mark", n] => Ok(Self::Mark(number("mark", n)?)),
            ["rss", list] => {
                let queues: Result<Vec<u16>, _> =
                    list.split(',').map(|n| number("queue", n)).collect();
                Ok(Self::Rss(queues?))
            }
            _ => wrong(format!("{s:?} is no action; the actions are {ACTIONS}")),
        }
    }
}

impl fmt::Display for FlowAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.write_str("drop"),
            Self::Queue(n) => write!(f, "queue {n}"),
            Self::Rss(queues) => {
                let list: Vec<_> = queues.iter().map(u16::to_string).collect();
                write!(f, "rss {}", list.join(","))
            }
            Self::Kernel => f.write_str("kernel"),
            Self::Mark(n) => write!(f, "mark {n}"),
        }
    }
}

impl FromStr for FlowRule {
    type Err = FlowSyntaxError;

    fn from_str(s: &str) -> Result<Self, FlowSyntaxError> {
        let Some((fields, action)) = s.split_once("=>") else {
            return wrong(format!(
                "{s:?} has no action; a rule is FIELD=VALUE … => ACTION, for example proto=udp dport=53 => drop"
            ));
        };
        let mut matches = FlowMatch::default();
        for field in fields.split_whitespace() {
            match field.split_once('=') {
                Some((name, value)) => matches.set(name, value)?,
                None => return wrong(format!("{field:?} has no value; write {field}=VALUE")),
            }
        }
        matches.check()?;
        Ok(Self {
            matches,
            action: action.parse()?,
        })
    }
}

impl fmt::Display for FlowMatch {
    /// The fields, one space between them; nothing for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if let Some(kind) = self.ether_type {
            words.push(format!("ether={kind:#06x}"));
        }
        if let Some(vlan) = self.vlan {
            words.push(format!("vlan={vlan}"));
        }
        for (name, prefix) in [("src", self.src), ("dst", self.dst)] {
            words.extend(prefix.map(|prefix| format!("{name}={prefix}")));
        }
        if let Some(number) = self.protocol {
            words.push(match PROTOCOLS.iter().find(|(_, known)| *known == number) {
                Some((name, _)) => format!("proto={name}"),
                None => format!("proto={number}"),
            });
        }
        for (name, ports) in [("sport", self.src_port), ("dport", self.dst_port)] {
            words.extend(ports.map(|ports| format!("{name}={ports}")));
        }
        f.write_str(&words.join(" "))
    }
}

impl fmt::Display for FlowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.matches != FlowMatch::default() {
            write!(f, "{} ", self.matches)?;
        }
        write!(f, "=> {}", self.action)
    }
}

impl TryFrom<String> for FlowRule {
    type Error = FlowSyntaxError;

    fn try_from(text: String) -> Result<Self, FlowSyntaxError> {
        text.parse()
    }
}

impl From<FlowRule> for String {
    fn from(rule: FlowRule) -> Self {
        rule.to_string()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule() -> impl Strategy<Value = FlowRule> {
        let ports = || {
            (any::<u16>(), any::<u16>()).prop_map(|(a, b)| PortRange {
                first: a.min(b),
                last: a.max(b),
            })
        };
        let prefix = |v6: bool| {
            (any::<u128>(), 0u8..=128).prop_map(move |(bits, len)| {
                if v6 {
                    Prefix::new(IpAddr::V6(bits.into()), len).unwrap()
                } else {
                    Prefix::new(IpAddr::V4((bits as u32).into()), len % 33).unwrap()
                }
            })
        };
        let addresses = any::<bool>().prop_flat_map(move |v6| {
            (
                prop::option::of(prefix(v6)),
                prop::option::of(prefix(v6)),
                Just(if v6 { 0x86ddu16 } else { 0x0800 }),
            )
        });
        let action = prop_oneof![
            Just(FlowAction::Drop),
            Just(FlowAction::Kernel),
            any::<u16>().prop_map(FlowAction::Queue),
            any::<u32>().prop_map(FlowAction::Mark),
            prop::collection::vec(any::<u16>(), 1..5).prop_map(FlowAction::Rss),
        ];
        let l4 = (
            prop::option::of(any::<u8>()),
            prop::option::of(ports()),
            prop::option::of(ports()),
        );
        (
            addresses,
            any::<bool>(),
            prop::option::of(0u16..4096),
            l4,
            action,
        )
            .prop_map(
                |((src, dst, kind), named, vlan, (protocol, src_port, dst_port), action)| {
                    let mut matches = FlowMatch {
                        ether_type: named.then_some(kind),
                        vlan,
                        src,
                        dst,
                        protocol,
                        ..FlowMatch::default()
                    };
                    if matches.has_ports() {
                        (matches.src_port, matches.dst_port) = (src_port, dst_port);
                    }
                    FlowRule { matches, action }
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(rule in rule()) {
            let text = rule.to_string();
            prop_assert_eq!(text.parse::<FlowRule>(), Ok(rule), "{}", text);
        }

        #[test]
        fn any_text_is_answered(text in ".{0,60}", field in "[a-z]{1,6}=[0-9a-fx./:-]{0,20} => [a-z0-9 ,]{0,12}") {
            let _ = text.parse::<FlowRule>();
            let _ = field.parse::<FlowRule>();
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("", "has no action"),
            ("proto=udp", "has no action"),
            ("proto=udp => fly", "the actions are drop, queue N"),
            ("proto=udp => queue", "the actions are"),
            ("proto=udp => queue 70000", "not a number in its range"),
            ("colour=red => drop", "the fields are ether, vlan"),
            ("proto => drop", "write proto=VALUE"),
            ("proto=gre8 => drop", "one of tcp, udp"),
            ("proto=udp proto=udp => drop", "given twice"),
            ("dport=53 => drop", "dport needs proto=udp"),
            ("proto=icmp sport=1 => drop", "sport needs proto=udp"),
            ("proto=udp dport=9-3 => drop", "dport=9-3 is empty"),
            ("dst=10.0.0.0/33 => drop", "for example 10.0.0.0/8"),
            ("src=10.0.0.1 dst=::1 => drop", "not of one version"),
            ("ether=0x86dd dst=10.0.0.1 => drop", "no such addresses"),
            ("ether=5 => drop", "not an EtherType"),
            ("vlan=4096 => drop", "more than 4095"),
        ] {
            let error = text.parse::<FlowRule>().unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_prefix_keeps_the_bits_that_count() {
        let prefix: Prefix = "10.1.2.3/12".parse().unwrap();
        assert_eq!(prefix.to_string(), "10.0.0.0/12");
        assert_eq!(prefix.mask().to_string(), "255.240.0.0");
        let all: Prefix = "::/0".parse().unwrap();
        assert_eq!(
            (all.to_string(), all.mask().to_string()),
            ("::/0".into(), "::".into())
        );
        assert_eq!("::1".parse::<Prefix>().unwrap().to_string(), "::1");
    }
}
