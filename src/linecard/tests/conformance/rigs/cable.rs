//! Ports on one end of a veth pair; the far end is a packet socket on the other.
//!
//! A driver of Linux interfaces needs no rig of its own: `make("uring:va")` in its row is all, or `short`.

use linecard::{Port, PortError};
use linecard_conformance::{Need, Rig};

use super::{Made, sh};
use crate::sys::PacketSocket;

/// The longest frame is then one of 9,000 bytes.
const MTU: u32 = 8986;

/// A port on `va`, one end of a cable whose other end is `vb`.
#[derive(Clone, Copy)]
pub struct Cable {
    /// The port's name.
    pub name: &'static str,
    /// Of both ends.
    pub mtu: u32,
    /// Whether the MTU has to be an option of the name as well.
    pub own_mtu: bool,
    /// What it lacks, beside what no cable has.
    pub lacks: fn(Need) -> Option<&'static str>,
    /// Whether a cable that was pulled out can be plugged in again under the port.
    pub comes_back: bool,
}

impl Default for Cable {
    fn default() -> Self {
        Self {
            name: "",
            mtu: MTU,
            own_mtu: false,
            lacks: |_| None,
            comes_back: true,
        }
    }
}

/// A port on `va`, in the usual way.
pub fn make(name: &'static str) -> Made {
    let cable = Cable {
        name,
        ..Cable::default()
    };
    cable.plugged()
}

/// A port on `va` that takes the usual frames only: the kernel refuses a veth with a longer MTU to a program
/// that is not ready for frames in pieces, and not every case wants those.
pub fn short(name: &'static str) -> Made {
    let cable = Cable {
        name,
        mtu: 1500,
        ..Cable::default()
    };
    cable.plugged()
}

impl Cable {
    /// A rig of it.
    pub fn plugged(self) -> Made {
        let mut rig = CableRig {
            cable: self,
            far: None,
        };
        rig.plug()?;
        Ok(Box::new(rig))
    }
}

struct CableRig {
    cable: Cable,
    /// On `vb`, while the cable is there.
    far: Option<PacketSocket>,
}

impl CableRig {
    /// Both ends' kernels say nothing by themselves, and the near one completes what a NIC would, so that
    /// the far end sees frames as they are on a wire.
    fn plug(&mut self) -> Result<(), String> {
        let mtu = self.cable.mtu;
        sh(&format!(
            "ip link add va type veth peer name vb
             for end in va vb; do ip link set dev $end addrgenmode none arp off mtu {mtu} up; done
             ethtool -K va tx off tso off gso off txvlan off"
        ))?;
        self.far = Some(PacketSocket::on("vb")?);
        Ok(())
    }
}

impl Rig for CableRig {
    fn open(&mut self) -> Result<Box<dyn Port>, PortError> {
        match self.cable.own_mtu {
            true => linecard::open(&format!("{}&mtu={}", self.cable.name, self.cable.mtu)),
            false => linecard::open(self.cable.name),
        }
    }

    fn lacks(&self, need: Need) -> Option<String> {
        let reason = match need {
            Need::HoldBack => Some(
                "the kernel drops what the far end of a veth does not take: it holds nobody back",
            ),
            _ => None,
        };
        reason.or((self.cable.lacks)(need)).map(str::to_owned)
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
            "ip link set dev vb {}",
            if up { "up" } else { "down" }
        ))
    }

    fn set_mtu(&mut self, mtu: u32) -> Result<bool, String> {
        sh(&format!(
            "for end in va vb; do ip link set dev $end mtu {mtu}; done"
        ))?;
        self.cable.mtu = mtu;
        Ok(!self.cable.own_mtu)
    }

    fn remove(&mut self) -> Result<(), String> {
        self.far = None;
        sh("ip link del va")
    }

    fn restore(&mut self) -> Result<bool, String> {
        if self.cable.comes_back {
            self.plug()?;
        }
        Ok(self.cable.comes_back)
    }
}

impl Drop for CableRig {
    fn drop(&mut self) {
        if self.far.is_some() {
            let _ = sh("ip link del va");
        }
    }
}
