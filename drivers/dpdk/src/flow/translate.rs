//! From a rule to what `rte_flow` calls items and actions.
//!
//! One rule can be said in several ways, and drivers differ in which they understand: the protocol as a
//! field of the IP header, as a header of its own, or both; a block of ports by mask or by range. All
//! ways given here mean the same; the first that a driver takes is used.

use std::net::IpAddr;

use linecard_dpdk_sys as dpdk;
use linecard_hal::flow::{FlowAction, FlowMatch, FlowRule, PortRange, Prefix};
use linecard_wire::rss::SYMMETRIC_KEY;

use crate::sys::flow::{Flat, Form, Ports};

/// What has to be known of a device to speak to it.
#[derive(Debug, Clone)]
pub(super) struct Dialect {
    /// The port's queues.
    pub(super) queues: u16,
    /// Length of its RSS key.
    pub(super) key_len: usize,
    /// What it can hash.
    pub(super) rss_types: u64,
}

/// The ways to say a rule for one version of IP, the fullest first.
pub(super) type Ways = Vec<Form>;

const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// For each version of IP that the rule is about, the ways to say it. Without priority or count.
pub(super) fn ways(rule: &FlowRule, dialect: &Dialect) -> Result<Vec<Ways>, String> {
    let actions = actions(&rule.action, dialect)?;
    let mut all = Vec::new();
    for ip in versions(&rule.matches)? {
        let patterns = patterns(&rule.matches, ip);
        let ways = patterns.iter().flat_map(|pattern| {
            actions.iter().map(|action| Form {
                flat: Flat {
                    action: action.flat.action,
                    value: action.flat.value,
                    rss_types: action.flat.rss_types,
                    ..*pattern
                },
                ..action.clone()
            })
        });
        all.push(ways.collect());
    }
    Ok(all)
}

/// The versions of IP that a rule is about; 0 for frames of any kind.
fn versions(m: &FlowMatch) -> Result<Vec<u8>, String> {
    Ok(match (m.implied_ether_type(), m.protocol) {
        (Some(0x0800), _) => vec![4],
        (Some(0x86dd), _) => vec![6],
        (Some(kind), Some(_)) => {
            return Err(format!("frames of ether={kind:#06x} have no IP protocol"));
        }
        (None, Some(ICMP)) => vec![4],
        (None, Some(ICMP6)) => vec![6],
        (None, Some(_)) => vec![4, 6],
        (_, None) => vec![0],
    })
}

fn patterns(m: &FlowMatch, ip: u8) -> Vec<Flat> {
    let mut plain = Flat {
        has_vlan: m.vlan.is_some(),
        vlan: m.vlan.unwrap_or(0),
        has_addresses: m.src.is_some() || m.dst.is_some(),
        ip,
        has_protocol: m.protocol.is_some(),
        protocol: m.protocol.unwrap_or(0),
        l4: m.protocol.filter(|_| m.has_ports()).unwrap_or(0),
        ..Flat::default()
    };
    (plain.src, plain.src_mask) = m.src.as_ref().map_or_else(Default::default, bytes);
    (plain.dst, plain.dst_mask) = m.dst.as_ref().map_or_else(Default::default, bytes);
    let named = |flat: &Flat| Flat {
        has_ether_type: true,
        ether_type: m.ether_type.unwrap_or(0),
        ..*flat
    };
    if ip == 0 && m.ether_type.is_some() {
        plain = named(&plain);
    }
    let mut all = vec![plain];
    if plain.l4 != 0 {
        // The header itself says which protocol it is.
        all.push(Flat {
            has_protocol: false,
            ..plain
        });
    } else if m.ether_type.is_some() && !plain.has_addresses && !plain.has_protocol && ip != 0 {
        // An IP header without anything to compare, or the type alone.
        all.push(Flat {
            ip: 0,
            ..named(&plain)
        });
    }
    let spellings = |ports: Option<PortRange>| {
        let range = spell(ports, false);
        let mask = spell(ports, true);
        [mask, range]
    };
    let (src, dst) = (spellings(m.src_port), spellings(m.dst_port));
    let same = src[0].mask == src[1].mask && dst[0].mask == dst[1].mask;
    (0..if same { 1 } else { 2 })
        .flat_map(|i| {
            all.iter().map(move |flat| Flat {
                src_port: src[i],
                dst_port: dst[i],
                ..*flat
            })
        })
        .collect()
}

/// Address and mask in network order, in the first bytes.
fn bytes(prefix: &Prefix) -> ([u8; 16], [u8; 16]) {
    let wide = |address| match address {
        IpAddr::V4(a) => {
            let mut wide = [0; 16];
            wide[..4].copy_from_slice(&a.octets());
            wide
        }
        IpAddr::V6(a) => a.octets(),
    };
    (wide(prefix.address), wide(prefix.mask()))
}

/// Ports as `rte_flow` has them. A block of 2ⁿ ports can be said by a mask.
fn spell(ports: Option<PortRange>, by_mask: bool) -> Ports {
    let Some(PortRange { first, last }) = ports else {
        return Ports::default();
    };
    let block = first ^ last;
    if block == u16::MAX && first == 0 {
        return Ports::default();
    }
    if by_mask && block & block.wrapping_add(1) == 0 && first & block == 0 {
        return Ports {
            first,
            last: first,
            mask: !block,
        };
    }
    Ports {
        first,
        last,
        mask: u16::MAX,
    }
}

fn actions(action: &FlowAction, dialect: &Dialect) -> Result<Vec<Form>, String> {
    let form = |action: u32, value: u32, queues: Vec<u16>| Form {
        flat: Flat {
            action: action as u8,
            value,
            rss_types: if queues.is_empty() {
                0
            } else {
                dialect.rss_types
            },
            ..Flat::default()
        },
        key: if queues.is_empty() {
            Vec::new()
        } else {
            SYMMETRIC_KEY
                .into_iter()
                .cycle()
                .take(dialect.key_len)
                .collect()
        },
        queues,
    };
    let exists = |queue: u16| {
        (queue < dialect.queues)
            .then_some(queue)
            .ok_or_else(|| format!("queue {queue}, but the port runs with {}", dialect.queues))
    };
    Ok(match action {
        FlowAction::Drop => vec![form(dpdk::LC_FLOW_DROP, 0, Vec::new())],
        FlowAction::Queue(n) => vec![form(
            dpdk::LC_FLOW_QUEUE,
            u32::from(exists(*n)?),
            Vec::new(),
        )],
        FlowAction::Rss(queues) => {
            let queues: Result<Vec<u16>, String> = queues.iter().map(|n| exists(*n)).collect();
            vec![form(dpdk::LC_FLOW_RSS, 0, queues?)]
        }
        FlowAction::Mark(mark) => vec![
            form(dpdk::LC_FLOW_MARK_PASS, *mark, Vec::new()),
            form(dpdk::LC_FLOW_MARK_RSS, *mark, (0..dialect.queues).collect()),
        ],
        FlowAction::Kernel => {
            return Err(
                "a DPDK device has no kernel behind it that could receive these frames".into(),
            );
        }
    })
}

/// Whether a frame can match both.
pub(super) fn overlap(a: &FlowMatch, b: &FlowMatch) -> bool {
    fn apart<T: Copy>(a: Option<T>, b: Option<T>, apart: impl FnOnce(T, T) -> bool) -> bool {
        matches!((a, b), (Some(a), Some(b)) if apart(a, b))
    }
    let prefixes = |a: Prefix, b: Prefix| {
        let len = a.len_bits.min(b.len_bits);
        Prefix::new(a.address, len) != Prefix::new(b.address, len)
    };
    let ports = |a: PortRange, b: PortRange| a.last < b.first || b.last < a.first;
    !(apart(a.implied_ether_type(), b.implied_ether_type(), |a, b| {
        a != b
    }) || apart(a.vlan, b.vlan, |a, b| a != b)
        || apart(a.protocol, b.protocol, |a, b| a != b)
        || apart(a.src, b.src, prefixes)
        || apart(a.dst, b.dst, prefixes)
        || apart(a.src_port, b.src_port, ports)
        || apart(a.dst_port, b.dst_port, ports))
}
