//! Forwarding modes: the stages that `linecard fwd` offers, named as in DPDK's testpmd.

mod reflect;
mod reply;
mod rewrite;
mod source;

use std::fmt;
use std::str::FromStr;

use linecard_engine::{Context, DropReason, PortIndex, Stage, Verdict};
use linecard_hal::{Burst, Mbuf, PortInfo};
use linecard_wire::MacAddr;
use serde::{Deserialize, Serialize};

pub use reflect::{Reflect, Swap};
use reply::IcmpEcho;
use rewrite::{FiveTupleSwap, MacRewrite, MacSwap};
use source::{TxFirst, TxOnly};

/// What is done with every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mode {
    /// Send it out of the partner port, untouched.
    #[default]
    #[serde(rename = "io")]
    Io,
    /// As `io`, with the source MAC address set to the leaving port's and the destination to the
    /// peer's.
    #[serde(rename = "mac")]
    Mac,
    /// As `io`, with the MAC addresses exchanged.
    #[serde(rename = "macswap")]
    MacSwap,
    /// Discard it.
    #[serde(rename = "rx-drop")]
    RxDrop,
    /// Discard what arrives and send frames of our own, as fast as possible.
    #[serde(rename = "tx-only")]
    TxOnly,
    /// Answer ARP requests and ICMP and ICMPv6 echo requests; discard the rest.
    #[serde(rename = "icmp-echo")]
    IcmpEcho,
    /// As `io`, with MAC addresses, IP addresses and ports exchanged.
    #[serde(rename = "5tswap")]
    FiveTupleSwap,
}

impl Mode {
    /// All modes, in the order of the help.
    pub const ALL: [Self; 7] = [
        Self::Io,
        Self::Mac,
        Self::MacSwap,
        Self::RxDrop,
        Self::TxOnly,
        Self::IcmpEcho,
        Self::FiveTupleSwap,
    ];

    /// The name on the command line and in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Mac => "mac",
            Self::MacSwap => "macswap",
            Self::RxDrop => "rx-drop",
            Self::TxOnly => "tx-only",
            Self::IcmpEcho => "icmp-echo",
            Self::FiveTupleSwap => "5tswap",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|m| m.name() == s)
            .ok_or_else(|| {
                let all: Vec<_> = Self::ALL.iter().map(|m| m.name()).collect();
                format!("{s:?} is not one of {}", all.join(", "))
            })
    }
}

/// What a mode needs to know beyond the frame.
#[derive(Debug, Clone)]
pub struct ModeConfig {
    /// By port: where its frames leave.
    pub partners: Vec<PortIndex>,
    /// By port: our own MAC address.
    pub macs: Vec<MacAddr>,
    /// By port: the MAC address of who is at the other end of the link (`mac`, `tx-only`).
    pub peers: Vec<MacAddr>,
    /// Bytes of our own frames (`tx-only`, `tx_first`), without FCS.
    pub frame_len: usize,
    /// Bursts of our own that each worker sends to each port before it forwards; not for `tx-only`.
    pub tx_first: u32,
}

impl ModeConfig {
    /// Partners two by two (0 and 1, 2 and 3, …), the last of an odd number with itself, and peers
    /// `02:00:00:00:00:N`, all as testpmd has it; frames of 64 bytes with FCS.
    pub fn new(ports: &[PortInfo]) -> Self {
        let count = ports.len() as u16;
        Self {
            partners: (0..count)
                .map(|p| if p ^ 1 < count { p ^ 1 } else { p })
                .collect(),
            macs: (0..)
                .zip(ports)
                .map(|(i, p)| p.mac.map_or(local_mac(i), MacAddr))
                .collect(),
            peers: (0..count as u8)
                .map(|i| MacAddr([2, 0, 0, 0, 0, i]))
                .collect(),
            frame_len: 60,
            tx_first: 0,
        }
    }
}

/// An address for a port that has none: locally administered.
fn local_mac(index: u8) -> MacAddr {
    MacAddr([0x02, 0, 0, 0, 1, index])
}

/// The stage of a mode, for one worker.
pub fn stage(mode: Mode, config: &ModeConfig) -> Box<dyn Stage> {
    let partners = config.partners.clone();
    match mode {
        Mode::Io => boxed(Io { partners }, config),
        Mode::Mac => boxed(MacRewrite::new(config.clone()), config),
        Mode::MacSwap => boxed(MacSwap { partners }, config),
        Mode::RxDrop => boxed(RxDrop, config),
        Mode::TxOnly => Box::new(TxOnly::new(config)),
        Mode::IcmpEcho => {
            let macs = config.macs.clone();
            boxed(IcmpEcho { macs }, config)
        }
        Mode::FiveTupleSwap => boxed(FiveTupleSwap { partners }, config),
    }
}

fn boxed(stage: impl Stage + 'static, config: &ModeConfig) -> Box<dyn Stage> {
    match config.tx_first {
        0 => Box::new(stage),
        _ => Box::new(TxFirst::new(stage, config)),
    }
}

/// The partner of a port.
#[inline(always)]
fn partner(partners: &[PortIndex], port: PortIndex) -> PortIndex {
    partners.get(port as usize).copied().unwrap_or(port)
}

struct Io {
    partners: Vec<PortIndex>,
}

impl Stage for Io {
    fn frame(&mut self, mbuf: &mut Mbuf) -> Verdict {
        Verdict::Forward(partner(&self.partners, mbuf.port()))
    }

    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        cx.forward_burst(partner(&self.partners, cx.port()), burst);
    }

    fn route(&self, port: PortIndex) -> Option<PortIndex> {
        Some(partner(&self.partners, port))
    }
}

struct RxDrop;

impl Stage for RxDrop {
    fn frame(&mut self, _: &mut Mbuf) -> Verdict {
        Verdict::Drop(DropReason::Mode)
    }

    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        cx.drop_burst(DropReason::Mode, burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
            let json = serde_json::to_string(&mode).unwrap();
            assert_eq!(json, format!("\"{mode}\""));
        }
        assert!("l3".parse::<Mode>().unwrap_err().contains("macswap"));
    }

    #[test]
    fn an_odd_port_is_its_own_partner() {
        let infos: Vec<_> = ["null:0", "null:1", "null:2"]
            .map(|n| crate::open(n).unwrap().info())
            .into();
        assert_eq!(ModeConfig::new(&infos).partners, [1, 0, 2]);
    }
}
