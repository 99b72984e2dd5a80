//! The example of `linecard-hal`'s chapter on writing a driver: it is in the suite like any other.

use linecard::{Port, PortError};
use linecard_conformance::{Need, Rig, Sink, Source};

use super::Made;

/// The very file that the documentation shows.
#[path = "../../../../hal/src/writing/loopback.rs"]
mod example;

struct LoopbackRig;

pub fn make() -> Made {
    Ok(Box::new(LoopbackRig))
}

impl Rig for LoopbackRig {
    fn open(&mut self) -> Result<Box<dyn Port>, PortError> {
        Ok(Box::new(example::Loopback::default()))
    }

    fn source(&self) -> Source {
        Source::Loop
    }

    fn sink(&self) -> Sink {
        Sink::Loop
    }

    fn lacks(&self, need: Need) -> Option<String> {
        let reason = match need {
            Need::Spread => "what a queue sends it receives itself: nothing is spread",
            Need::Carrier => "has no link to lose",
            Need::Mtu => "has one MTU",
            Need::Removal => "has no device to remove",
            _ => return None,
        };
        Some(reason.into())
    }
}
