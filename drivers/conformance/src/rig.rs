//! Rigs: how a driver's port is made for the suite, and what is at its other end.

use linecard_hal::{Port, PortConfig, PortError};

/// Where the frames come from that the port receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The far end sends them while the port runs.
    FarEnd,
    /// They are all there before the port is opened: a file.
    Recorded,
    /// They are what the port itself has sent.
    Loop,
    /// They are the port's own, and never end.
    Endless,
}

/// Where the frames go that the port sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// The far end sees them while the port runs.
    FarEnd,
    /// They can be read when the port has stopped: a file.
    Recorded,
    /// The port itself receives them.
    Loop,
    /// They are gone.
    Nowhere,
}

/// What some cases need, and not every rig has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Frames that somebody chose are received.
    Inject,
    /// Frames that were sent can be looked at.
    Collect,
    /// A far end that takes nothing stops the port, as a pause frame would.
    HoldBack,
    /// Frames that are too long or too short are errors.
    Limits,
    /// The port spreads flows over its queues, both directions of one to the same queue.
    Spread,
    /// The link can be taken down and up again.
    Carrier,
    /// The device can be taken away under the port.
    Removal,
    /// Frames that are lost for want of an mbuf are counted.
    Misses,
    /// The outer tag of IEEE 802.1ad stays one.
    ServiceTags,
    /// The device's flow rules can be tried on any machine.
    FlowRules,
    /// Fragments of IPv4 packets are received as they come.
    Fragments,
    /// What is recorded has an end that the port notices.
    End,
    /// The longest frame can be changed between two starts.
    Mtu,
}

/// A driver's place in the suite.
///
/// Only [`open`](Self::open) has to be written for a port that talks to itself ([`Source::Loop`]); one with a
/// far end adds [`inject`](Self::inject) and [`collect`](Self::collect), which see frames as they are on a
/// wire: complete, with their tags. The rig is dropped at the end of each case and leaves nothing behind.
pub trait Rig {
    /// Opens the port under test: each time the same device.
    fn open(&mut self) -> Result<Box<dyn Port>, PortError>;

    /// Where received frames come from.
    fn source(&self) -> Source {
        Source::FarEnd
    }

    /// Where sent frames go.
    fn sink(&self) -> Sink {
        Sink::FarEnd
    }

    /// Why the rig does not have what a case needs: this is printed. `None` if it has it.
    fn lacks(&self, need: Need) -> Option<String> {
        let _ = need;
        None
    }

    /// The port was started: the far end can be made ready, where it needs the port for that.
    fn started(&mut self, config: &PortConfig) -> Result<(), String> {
        let _ = config;
        Ok(())
    }

    /// The port was stopped: what is recorded can be taken over, where the next start overwrites it.
    fn stopped(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Puts frames on the wire to the port; returns how many of them it has room for now.
    fn inject(&mut self, frames: &[Vec<u8>]) -> Result<usize, String> {
        Err(format!("{} frames and no far end", frames.len()))
    }

    /// The frames that came from the port since it was last asked, in order.
    fn collect(&mut self) -> Result<Vec<Vec<u8>>, String> {
        Err("no far end".into())
    }

    /// Takes the link down, or up again.
    fn carrier(&mut self, up: bool) -> Result<(), String> {
        Err(format!("no link to set to {up}"))
    }

    /// Sets the MTU of the device, whose port is stopped. `true` if a port that is open goes by it from its next
    /// start on; `false` if only one does that is opened from now on.
    fn set_mtu(&mut self, mtu: u32) -> Result<bool, String> {
        Err(format!("no MTU to set to {mtu}"))
    }

    /// Takes the device away under the port.
    fn remove(&mut self) -> Result<(), String> {
        Err("nothing to remove".into())
    }

    /// Brings the device back; `false` if such a device does not come back.
    fn restore(&mut self) -> Result<bool, String> {
        Ok(false)
    }
}
