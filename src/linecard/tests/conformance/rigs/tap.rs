//! TAP devices: the far end is a packet socket on the kernel's side.

use linecard::{Port, PortConfig, PortError, PortErrorKind};
use linecard_conformance::{Need, Rig};

use super::{Made, sh};
use crate::sys::PacketSocket;

const MTU: u32 = 8986;

struct TapRig {
    name: &'static str,
    /// The port's driver sets the MTU itself, and makes the device anew at each start.
    own_mtu: bool,
    mtu: u32,
    far: Option<PacketSocket>,
}

/// A port that makes the device `t0`.
pub fn make(name: &'static str, own_mtu: bool) -> Made {
    // Whatever the kernel would say by itself when the device comes up.
    sh("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")?;
    Ok(Box::new(TapRig {
        name,
        own_mtu,
        mtu: if own_mtu { 1500 } else { MTU },
        far: None,
    }))
}

impl TapRig {
    /// The device is there: its kernel's side is silent, and takes every frame.
    fn plug(&mut self) -> Result<(), String> {
        if !self.own_mtu {
            sh(&format!("ip link set dev t0 mtu {}", self.mtu))?;
        }
        sh("ip link set dev t0 arp off up")?;
        self.far = Some(PacketSocket::on("t0")?);
        Ok(())
    }
}

impl Rig for TapRig {
    fn open(&mut self) -> Result<Box<dyn Port>, PortError> {
        self.far = None;
        let name = match self.own_mtu {
            true => format!("{}&mtu={}", self.name, self.mtu),
            false => self.name.to_owned(),
        };
        let port = linecard::open(&name)?;
        self.plug()
            .map_err(|e| PortError::new(name, PortErrorKind::System, e))?;
        Ok(port)
    }

    fn started(&mut self, _config: &PortConfig) -> Result<(), String> {
        if self.own_mtu { self.plug() } else { Ok(()) }
    }

    fn lacks(&self, need: Need) -> Option<String> {
        let reason = match need {
            Need::HoldBack => "the kernel takes every frame that is written to a TAP device",
            Need::Misses if self.own_mtu => {
                "the driver of DPDK 22.11 loses frames while its pool is empty, and does not count them all"
            }
            Need::FlowRules if self.own_mtu => {
                "the rules are those of the kernel's flower classifier; without it the driver of DPDK finds a \
                 rule valid that it then refuses"
            }
            Need::Spread if self.own_mtu => {
                "the kernel answers a flow by the queue that sent it; none of these was sent"
            }
            _ => return None,
        };
        Some(reason.into())
    }

    fn inject(&mut self, frames: &[Vec<u8>]) -> Result<usize, String> {
        self.far
            .as_ref()
            .map_or(Ok(frames.len()), |far| far.send(frames))
    }

    fn collect(&mut self) -> Result<Vec<Vec<u8>>, String> {
        self.far
            .as_ref()
            .map_or(Ok(Vec::new()), PacketSocket::receive)
    }

    fn carrier(&mut self, up: bool) -> Result<(), String> {
        sh(&format!(
            "ip link set dev t0 {}",
            if up { "up" } else { "down" }
        ))
    }

    fn set_mtu(&mut self, mtu: u32) -> Result<bool, String> {
        self.mtu = mtu;
        if !self.own_mtu {
            sh(&format!("ip link set dev t0 mtu {mtu}"))?;
        }
        Ok(!self.own_mtu)
    }

    fn remove(&mut self) -> Result<(), String> {
        self.far = None;
        sh("ip link del t0")
    }
}
