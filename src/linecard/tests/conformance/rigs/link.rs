//! Links in memory: the far end is the other port of the link.

use std::sync::atomic::{AtomicU32, Ordering};

use linecard::sim::Link;
use linecard::{Port, PortError};
use linecard_conformance::far::Far;
use linecard_conformance::{Need, Rig};

use super::Made;

struct SimRig {
    /// Names its link: there is none other of this number.
    number: u32,
    options: &'static str,
    mtu: u32,
    far: Option<Far>,
}

fn next_number() -> u32 {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// A `sim:` link with these options.
pub fn sim(options: &'static str) -> Made {
    Ok(Box::new(SimRig {
        number: next_number(),
        options,
        mtu: 9000,
        far: None,
    }))
}

impl SimRig {
    fn end(&self, end: &str) -> Result<Box<dyn Port>, PortError> {
        let Self {
            number,
            mtu,
            options,
            ..
        } = self;
        linecard::open(&format!(
            "sim:{end}{number}?link=rig{number}&mtu={mtu}{options}"
        ))
    }
}

impl Rig for SimRig {
    fn open(&mut self) -> Result<Box<dyn Port>, PortError> {
        let port = self.end("near")?;
        if self.far.is_none() {
            self.far = Some(Far::start(self.end("far")?, 1)?);
        }
        Ok(port)
    }

    fn lacks(&self, need: Need) -> Option<String> {
        let reason = match need {
            Need::Removal => "has no device to remove",
            Need::HoldBack if self.options.contains("delay") => {
                "a wire with impairments drops what its queue has no room for, and counts it on the link"
            }
            _ => return None,
        };
        Some(reason.into())
    }

    fn inject(&mut self, frames: &[Vec<u8>]) -> Result<usize, String> {
        self.far.as_mut().map_or(Ok(0), |far| far.inject(frames))
    }

    fn collect(&mut self) -> Result<Vec<Vec<u8>>, String> {
        self.far.as_mut().map_or(Ok(Vec::new()), Far::collect)
    }

    fn carrier(&mut self, up: bool) -> Result<(), String> {
        let link = Link::named(&format!("near{}", self.number)).ok_or("no such link")?;
        link.set_up(up);
        Ok(())
    }

    /// A link keeps its MTU: another one needs another link.
    fn set_mtu(&mut self, mtu: u32) -> Result<bool, String> {
        self.far = None;
        self.number = next_number();
        self.mtu = mtu;
        Ok(false)
    }
}
