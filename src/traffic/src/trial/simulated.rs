//! A tester whose device is simulated, in virtual time.

use std::time::Duration;

use linecard_engine::topology::Topology;
use linecard_engine::{Engine, EngineConfig, EngineError, Stepped};
use linecard_hal::SimClock;
use linecard_wire::MacAddr;

use super::station::{Rig, StationTester, Tally, TesterConfig, failed};
use super::{TesterError, real};
use crate::dut::{DeviceSpec, Wire, ports};
use crate::sink::Sink;
use crate::station::Station;

/// A simulated device, its ports, and an engine that takes turns when it is told to.
#[derive(Debug)]
pub struct Simulated {
    stepped: Stepped,
    clock: SimClock,
    wire: Wire,
}

/// A tester of a simulated device.
pub type SimTester = StationTester<Simulated>;

/// Turns at one time, after which time goes on whatever is left to do.
const MOST_TURNS: u32 = 1024;

impl SimTester {
    /// Makes the device, the engine and the tester.
    pub fn new(spec: &DeviceSpec, config: TesterConfig) -> Result<Self, TesterError> {
        let clock = SimClock::new();
        let (wire, ports) = ports(spec, &clock);
        let engine = engine(ports.into()).map_err(failed)?;
        let link = spec.link_bits_per_second;
        let (parts, mut receivers) = real::parts(&engine, None, Some(link));
        let stage = |worker| -> Box<dyn linecard_engine::Stage> {
            let mut station = Station::new()
                .send(parts.sender.generator(worker))
                .send(parts.teacher.generator(worker));
            if let Some(receiver) = receivers.pop() {
                station = station.receive(real::RECEIVE, Sink::new(receiver, Vec::new()));
            }
            Box::new(station)
        };
        let stepped = engine.step(stage, clock.clone()).map_err(failed)?;
        let rig = Simulated {
            stepped,
            clock,
            wire,
        };
        Self::assemble(rig, parts, config, Some(link))
    }
}

fn engine(ports: Vec<Box<dyn linecard_hal::Port>>) -> Result<Engine, EngineError> {
    let config = EngineConfig {
        workers: Some(1),
        pin: false,
        ..EngineConfig::default()
    };
    Engine::on(&Topology::synthetic("core:1 pu:1")?, ports, config)
}

impl Rig for Simulated {
    fn pass(&mut self, time: Duration) -> Result<(), TesterError> {
        let until = self.clock.now_ns() + time.as_nanos() as u64;
        let mut turns = 0;
        loop {
            let frames = self.stepped.turn();
            let now = self.clock.now_ns();
            let due = self.stepped.deadline_ns().unwrap_or(u64::MAX);
            let next = due.min(self.wire.next_ns().unwrap_or(u64::MAX));
            turns += 1;
            if next <= now && (frames > 0 || turns < 2) && turns < MOST_TURNS {
                continue;
            }
            if now >= until {
                return Ok(());
            }
            // Who is due and does nothing waits for the link, or for its end.
            let next = if next <= now { now + 100 } else { next };
            self.clock.advance_to_ns(next.min(until));
            turns = 0;
        }
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn tally(&mut self) -> Tally {
        real::tally(&self.stepped.snapshot())
    }

    fn link_down(&mut self) -> Option<String> {
        None
    }

    fn reset(&mut self) -> Result<(), TesterError> {
        self.wire.reset();
        Ok(())
    }

    fn spaces_bursts(&self) -> bool {
        true
    }

    fn delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// The addresses of the ports.
pub(super) fn mac_of(info: &linecard_hal::PortInfo, otherwise: u8) -> MacAddr {
    MacAddr(info.mac.unwrap_or([2, 0, 0, 0, 0, otherwise]))
}

/// Frames that are still on their way go before the pool that they are of.
impl Drop for Simulated {
    fn drop(&mut self) {
        self.wire.clear();
    }
}

#[cfg(test)]
mod tests;
