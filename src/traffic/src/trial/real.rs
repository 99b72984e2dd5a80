//! A tester on real ports: one engine, opened once, with the port that sends and the port that receives.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use linecard_engine::placement::Plan;
use linecard_engine::{DropReason, Engine, PortIndex, Remote, Report, Running, WorkerIndex};
use linecard_hal::{LinkState, PortInfo};
use linecard_wire::MacAddr;

use super::TesterError;
use super::simulated::mac_of;
use super::station::{Parts, Rig, StationTester, Tally, TesterConfig, failed};
use crate::generator::{Handle, Setup};
use crate::rate::line_rate;
use crate::receiver::{Config, Receiver, receivers};
use crate::responder::{self, Addresses, Responder};
use crate::sink::Sink;
use crate::station::Station;
use crate::template;

/// The port that sends.
pub(super) const TRANSMIT: PortIndex = 0;

/// The port that receives.
pub(super) const RECEIVE: PortIndex = 1;

/// Lanes of streams; those of the learning frames follow.
const LANES: u16 = 512;

/// Frames that the receiver remembers of a lane, at least and at most: 512 KiB of bits, and only of lanes in use.
const WINDOW: [usize; 2] = [1 << 16, 1 << 22];

/// The fastest rate of a link that does not say its speed: 10 Gbit/s of the smallest frames.
const FASTEST_FPS: f64 = 14.9e6;

/// How real ports are used.
#[derive(Debug, Clone, Default)]
pub struct PortTesterConfig {
    /// How it sends.
    pub tester: TesterConfig,
    /// Where frames are sent to on the link; the receiving port's own address if nothing is said.
    pub to_mac: Option<MacAddr>,
    /// Addresses that are answered for at the receiving port: a router forwards nothing to who does not answer.
    pub answer: Addresses,
    /// What resets the device: a command for `sh`.
    pub reset_command: Option<String>,
    /// Bits a second of the sending link, if the port does not know.
    pub link_bits_per_second: Option<f64>,
}

/// Two ports of a running engine.
#[derive(Debug)]
pub struct RealPorts {
    running: Running,
    began: Instant,
    reset_command: Option<String>,
    /// The command, while it runs.
    resetting: Option<Resetting>,
}

/// A command that still runs is not ours to wait for, but ours to end.
#[derive(Debug)]
struct Resetting(Child);

impl Drop for Resetting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A tester on real ports.
pub type PortTester = StationTester<RealPorts>;

impl PortTester {
    /// Starts an engine of two ports: the first sends, the second receives.
    pub fn new(engine: Engine, config: PortTesterConfig) -> Result<Self, TesterError> {
        let ports = engine.ports();
        let link = config
            .link_bits_per_second
            .or_else(|| ports[0].link_bits_per_second());
        let settle = config.tester.settle;
        let (parts, mut receivers) = parts(&engine, config.to_mac, link, settle);
        let receiving = workers_of(engine.plan(), RECEIVE);
        let responder = Responder::new(responder::Config {
            port: RECEIVE,
            mac: mac_of(&ports[usize::from(RECEIVE)], 2),
            addresses: config.answer,
            pings: true,
            find: None,
        });
        let running = engine
            .start(|worker| {
                let mut station = Station::new()
                    .send(parts.sender.generator(worker))
                    .send(parts.teacher.generator(worker));
                if receiving.contains(&worker)
                    && let Some(receiver) = receivers.pop()
                {
                    station =
                        station.receive(RECEIVE, Sink::new(receiver, vec![responder.clone()]));
                }
                Box::new(station)
            })
            .map_err(failed)?;
        let rig = RealPorts {
            running,
            began: Instant::now(),
            reset_command: config.reset_command,
            resetting: None,
        };
        Self::assemble(rig, parts, config.tester, link)
    }

    /// What watches and controls its engine.
    pub fn remote(&self) -> Remote {
        self.rig().running.remote()
    }

    /// The ports as they were started.
    pub fn ports(&self) -> &[PortInfo] {
        self.rig().running.ports()
    }
}

fn workers_of(plan: &Plan, port: PortIndex) -> Vec<WorkerIndex> {
    plan.workers_of_port(port.into())
        .map(|worker| worker.id)
        .collect()
}

/// What goes into the workers, and its handles.
pub(super) fn parts(
    engine: &Engine,
    to_mac: Option<MacAddr>,
    link_bits_per_second: Option<f64>,
    settle: Duration,
) -> (Parts, Vec<Receiver>) {
    let ports = engine.ports();
    let macs = [mac_of(&ports[0], 1), mac_of(&ports[1], 2)];
    let setup = |port: PortIndex, first_lane, peer| {
        let own = macs[usize::from(port)];
        Setup {
            first_lane,
            link_bits_per_second,
            ..Setup::of_port(engine, port, template::Addresses { own, peer })
        }
    };
    let (receiver, receivers) = receivers(
        Config {
            lanes: u32::from(LANES),
            window: window(link_bits_per_second, settle),
            ..Config::default()
        },
        workers_of(engine.plan(), RECEIVE).len(),
    );
    let parts = Parts {
        sender: Handle::new(setup(TRANSMIT, 0, to_mac.unwrap_or(macs[1]))),
        teacher: Handle::new(setup(RECEIVE, LANES, macs[0])),
        receiver,
        lanes: workers_of(engine.plan(), TRANSMIT).len(),
    };
    (parts, receivers)
}

/// As many frames as may be sent while one that is waited for is on its way: it is then late at most, never astray.
fn window(link_bits_per_second: Option<f64>, settle: Duration) -> usize {
    let fastest = link_bits_per_second.map_or(FASTEST_FPS, |bits| line_rate(bits, 64.0));
    let frames = fastest * settle.as_secs_f64();
    (frames as usize).clamp(WINDOW[0], WINDOW[1])
}

/// What ports have counted that is nobody else's fault.
pub(super) fn tally(report: &Report) -> Tally {
    let of = |port: PortIndex, reason: DropReason| -> u64 {
        let port = report.ports.get(usize::from(port));
        port.and_then(|port| port.drops.get(reason.name()))
            .copied()
            .unwrap_or(0)
    };
    let receive = report.ports.get(usize::from(RECEIVE));
    Tally {
        misses: receive.map_or(0, |port| port.rx_misses),
        refused: [
            DropReason::TxFull,
            DropReason::TxError,
            DropReason::PortDown,
        ]
        .map(|reason| of(TRANSMIT, reason))
        .iter()
        .sum(),
    }
}

impl RealPorts {
    /// Notices that the command which resets the device has failed, or that a worker has.
    fn check(&mut self) -> Result<(), TesterError> {
        if let Some(child) = &mut self.resetting
            && let Ok(Some(status)) = child.0.try_wait()
        {
            self.resetting = None;
            if !status.success() {
                return Err(TesterError::ResetFailed(status.to_string()));
            }
        }
        if self.running.is_finished() {
            let report = self.running.snapshot();
            let failures: Vec<_> = report
                .workers
                .iter()
                .filter_map(|w| w.failure.clone())
                .collect();
            return Err(failed(if failures.is_empty() {
                "the ports have come to their end".to_owned()
            } else {
                failures.join("; ")
            }));
        }
        Ok(())
    }
}

impl Rig for RealPorts {
    fn pass(&mut self, time: Duration) -> Result<(), TesterError> {
        std::thread::sleep(time);
        self.check()
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn tally(&mut self) -> Tally {
        tally(&self.running.snapshot())
    }

    fn link_down(&mut self) -> Option<String> {
        let report = self.running.snapshot();
        let down = |link: &LinkState| *link != LinkState::Up;
        let port = report
            .ports
            .iter()
            .find(|port| port.link.as_ref().is_some_and(down));
        port.map(|port| port.name.clone())
    }

    fn reset(&mut self) -> Result<(), TesterError> {
        let command = self
            .reset_command
            .as_ref()
            .ok_or(TesterError::CannotReset)?;
        let child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = child.map_err(|error| TesterError::ResetFailed(error.to_string()))?;
        self.resetting = Some(Resetting(child));
        Ok(())
    }

    fn spaces_bursts(&self) -> bool {
        false
    }

    /// Workers publish what their ports counted ten times a second.
    fn delay(&self) -> Duration {
        Duration::from_millis(120)
    }
}
