//! What a benchmark runs on: two ports and an engine, or a simulated device.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use linecard::engine::Remote;
use linecard::engine::topology::Topology;
use linecard::wire::MacAddr;
use linecard::{Engine, Idle, PortInfo};
use linecard_traffic::dut::DeviceSpec;
use linecard_traffic::fields::Vary;
use linecard_traffic::responder::Addresses;
use linecard_traffic::results::Port;
use linecard_traffic::stream::StreamSpec;
use linecard_traffic::trial::{PortTester, PortTesterConfig, SimTester, Tester, TesterConfig};

use crate::cmd::common::EngineArgs;
use crate::cmd::fwd::parse_mac;
use crate::cmd::generate::parse_speed;

/// What is sent, and by which engine.
#[derive(Debug, Args)]
pub struct RigArgs {
    /// What a frame looks like: a packet expression. What it leaves out is filled in, addresses from the blocks for
    /// benchmarks (198.18.0.0/15).
    #[arg(long, value_name = "EXPR", default_value = "eth/ipv4/udp")]
    packet: String,
    /// How many flows: source ports, then source addresses.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    flows: u32,
    /// A field that changes from frame to frame; say it once for each that goes its own way.
    #[arg(long, value_name = "FIELD=VALUES")]
    vary: Vec<Vary>,
    /// The MAC address that frames are sent to: a router's own. The receiving port's, if left out.
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    peer: Option<MacAddr>,
    /// Addresses to answer for at the receiving port, as a router behind which they are wants to know: 198.19.0.1,
    /// 198.19.0.0/16, 2001:db8::/64; several with commas between.
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "198.19.0.0/16,2001:2:0:1::/64"
    )]
    answer: Addresses,
    /// The speed of the sending link, where the port does not know it or is wrong: 10G, 2.5G, 100M.
    #[arg(long, value_name = "SPEED", value_parser = parse_speed, conflicts_with = "simulate")]
    pub(super) link_speed: Option<f64>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What is measured, and with what.
pub struct Subject<'a> {
    /// A simulated device, or …
    pub simulated: Option<&'a DeviceSpec>,
    /// … the port that sends and the one that receives.
    pub ports: Option<[&'a str; 2]>,
    /// What resets the device.
    pub reset_command: Option<&'a str>,
    /// How long a trial waits for its frames.
    pub settle: Duration,
}

/// What a benchmark runs on, ready.
pub struct Rig {
    /// What runs the trials.
    pub tester: Box<dyn Tester>,
    /// Its ports as results have them.
    pub ports: Vec<Port>,
    /// What watches its engine, if that has threads of its own.
    pub remote: Option<Remote>,
    /// What to know before believing figures.
    pub cautions: Vec<String>,
}

impl RigArgs {
    /// All of it that matters for figures, by name.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let vary: Vec<_> = self.vary.iter().map(ToString::to_string).collect();
        let mut settings = BTreeMap::from([
            ("packet".to_owned(), self.packet.clone()),
            ("flows".to_owned(), self.flows.to_string()),
        ]);
        if !vary.is_empty() {
            settings.insert("vary".to_owned(), vary.join("; "));
        }
        if let Some(speed) = self.link_speed {
            settings.insert("link_speed".to_owned(), speed.to_string());
        }
        if let Some(peer) = self.peer {
            settings.insert("peer".to_owned(), peer.to_string());
        }
        settings.insert("answer".to_owned(), self.answer.to_string());
        let engine = self.engine.config(Idle::Spin);
        let mut insert = |name: &str, value: String| settings.insert(name.to_owned(), value);
        if let Some(workers) = engine.workers {
            insert("workers", workers.to_string());
        }
        if let Some(lcores) = engine.lcores {
            insert("lcores", format!("{lcores:?}"));
        }
        if let Some(mbufs) = engine.pool_size {
            insert("pool_size", mbufs.to_string());
        }
        insert("oversubscribe", engine.oversubscribe.to_string());
        insert("promiscuous", engine.promiscuous.to_string());
        insert("engine_burst", engine.burst.to_string());
        insert("idle", format!("{:?}", engine.idle).to_lowercase());
        settings
    }

    /// Opens the ports and starts the engine.
    pub fn tester(&self, subject: &Subject<'_>, stop: Arc<AtomicBool>) -> anyhow::Result<Rig> {
        let stream = StreamSpec {
            packet: self.packet.clone(),
            flows: self.flows,
            vary: self.vary.clone(),
            ..StreamSpec::default()
        };
        let tester = TesterConfig {
            stream,
            settle: subject.settle,
            stop,
        };
        if let Some(spec) = subject.simulated {
            let tester = SimTester::new(spec, tester)?;
            let port = Port {
                name: "simulated device".to_owned(),
                role: "both".to_owned(),
                driver: "simulated".to_owned(),
                link_bits_per_second: Some(spec.link_bits_per_second),
                ..Port::default()
            };
            return Ok(Rig {
                tester: Box::new(tester),
                ports: vec![port],
                remote: None,
                cautions: Vec::new(),
            });
        }
        let names = subject.ports.ok_or_else(|| {
            anyhow::anyhow!("two ports are needed; say them with --port and --receive")
        })?;
        anyhow::ensure!(
            names[0] != names[1],
            "--port and --receive are both {}; frames have to go through the device",
            names[0]
        );
        let ports = linecard::open_all(names)?;
        // Who keeps a rate and measures time has no time to wake up.
        let config = self.engine.config(Idle::Spin);
        let engine = Engine::on(&Topology::detect()?, ports, config)?;
        let config = PortTesterConfig {
            tester,
            to_mac: self.peer,
            answer: self.answer.clone(),
            reset_command: subject.reset_command.map(str::to_owned),
            link_bits_per_second: self.link_speed,
        };
        let tester = PortTester::new(engine, config)?;
        let roles = ["transmit", "receive"];
        let infos = tester.ports();
        let nominal = infos.first().filter(|_| self.link_speed.is_none());
        let ports = infos.iter().zip(roles);
        Ok(Rig {
            ports: ports.map(|(info, role)| described(info, role)).collect(),
            remote: Some(tester.remote()),
            cautions: nominal.and_then(nominal_speed).into_iter().collect(),
            tester: Box::new(tester),
        })
    }
}

/// That a link's speed is not one to measure by.
fn nominal_speed(info: &PortInfo) -> Option<String> {
    let speed = info.speed_mbps.filter(|_| info.speed_is_nominal)?;
    Some(format!(
        "{} ends in this machine: the {speed} Mbit/s of its link are a name, so no rate is a share of them, and the highest is what the generator can send (--link-speed and --max-rate say otherwise)",
        info.name
    ))
}

fn described(info: &PortInfo, role: &str) -> Port {
    Port {
        name: info.name.clone(),
        role: role.to_owned(),
        driver: info.driver.to_owned(),
        link_bits_per_second: info.speed_mbps.map(|speed| f64::from(speed) * 1e6),
        link_is_nominal: info.speed_is_nominal && info.speed_mbps.is_some(),
        notes: info.notes.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_speed_that_is_only_a_name_one_is_told() {
        let told = |speed_mbps, speed_is_nominal| {
            let info = PortInfo {
                speed_mbps,
                speed_is_nominal,
                ..linecard::open("null:0").unwrap().info()
            };
            let port = described(&info, "both");
            (port.link_is_nominal, nominal_speed(&info))
        };
        let (is_nominal, text) = told(Some(10_000), true);
        let text = text.unwrap();
        assert!(is_nominal);
        assert!(
            text.starts_with(
                "null:0 ends in this machine: the 10000 Mbit/s of its link are a name"
            ),
            "{text}"
        );
        assert!(text.contains("--link-speed and --max-rate"), "{text}");
        assert_eq!(told(Some(10_000), false), (false, None));
        // That of no speed is nothing to speak of.
        assert_eq!(told(None, true), (false, None));
    }
}
