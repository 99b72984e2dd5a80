//! Running ports: what `linecard fwd` and `linecard run` share.

mod protocols;
mod report;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use linecard::engine::protocol::Steering;
use linecard::engine::topology::Topology;
use linecard::modes::{self, Mode, ModeConfig};
use linecard::simnet::scenario::{Listed, Tellers};
use linecard::{Engine, EngineConfig, Offloads, PortInfo, Protocols};

use super::common::{note, on_signal};
use super::table::Paint;
use super::watched::ControlArgs;

/// Everything that a run needs to know.
#[derive(Debug, Clone)]
pub struct Session {
    /// The ports by name, in order.
    pub ports: Vec<String>,
    /// What is done with what arrives.
    pub job: Job,
    /// Workers, pools and the like.
    pub engine: EngineConfig,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// How often to show figures; never if `None`.
    pub stats_interval: Option<Duration>,
    /// The final report as one JSON object on standard output, and everything else on standard
    /// error.
    pub json: bool,
    /// Print the plan and stop.
    pub dry_run: bool,
    /// What it is called when it is watched.
    pub command: &'static str,
    /// Who may watch it.
    pub control: ControlArgs,
}

/// What is done with what arrives.
#[derive(Debug, Clone)]
pub enum Job {
    /// The same with every frame.
    Forward(Forward),
    /// Each packet is for the protocol that claims it.
    Protocols {
        /// The protocols.
        listed: Vec<Listed>,
        /// What they call the ports, in order.
        names: Vec<String>,
        /// Which of their claims are offered to the ports.
        steering: Steering,
    },
}

/// What is done with every frame.
#[derive(Debug, Clone)]
pub struct Forward {
    /// By port: where its frames leave; two by two if nothing is said.
    pub partners: Option<Vec<u16>>,
    /// By port: the MAC address at the other end of its link, for `mac` and `tx-only`.
    pub peers: Vec<linecard::wire::MacAddr>,
    /// What is done with the frames.
    pub mode: Mode,
    /// Bytes of the frames of `tx-only` and `tx_first`, with FCS.
    pub frame_size: u16,
    /// Bursts of our own to begin with.
    pub tx_first: u32,
}

/// The exit code when it ran, but something went wrong on the way: a worker failed, a protocol panicked, a frame
/// is unaccounted for or an mbuf leaked.
pub const EXIT_UNCLEAN: u8 = 3;

impl Session {
    /// Opens the ports, forwards until told to stop, reports.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.job.check()?;
        let ports = linecard::open_all(self.ports.iter().map(String::as_str))?;
        let topology = Topology::detect()?;
        let mut config = self.engine.clone();
        if ports.iter().any(|port| port.info().driver == "pcap") {
            // A capture file says when each frame came.
            config.offloads |= Offloads::RX_TIMESTAMP;
        }
        let engine = Engine::on(&topology, ports, config)?;
        let infos = engine.ports();
        self.say(&report::start(&engine, &self.job))?;
        let (work, tellers) = self.job.work(&engine)?;
        if self.dry_run {
            return self.preview(&engine, work);
        }
        let prepared = self.control.prepare()?;
        let running = match work {
            Work::Stage(mode, config) => engine.start(|_| modes::stage(mode, &config))?,
            Work::Protocols(protocols) => engine.start_protocols(protocols)?,
        };
        let stop = running.stop_handle();
        on_signal(move || stop.stop())?;
        let server = prepared.serve(self.command, Box::new(running.remote()))?;
        self.say(&report::stepped_down(&infos, running.ports()))?;
        self.say(&protocols::claims(
            &running.protocols(),
            Paint::for_stdout(),
        ))?;
        // Scripts wait for this line: from here on every frame is received or counted.
        self.say(self.job.begins())?;
        watch::until_done(&running, &self);
        drop(server);
        let report = running.finish();
        let told = protocols::Told::new(&report, &tellers);
        if self.json {
            super::print(&(serde_json::to_string(&told)? + "\n"))?;
        } else {
            super::print(&report::last(&told, Paint::for_stdout()))?;
        }
        Ok(if told.is_clean() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(EXIT_UNCLEAN)
        })
    }

    /// What would be done; nothing has started.
    fn preview(&self, engine: &Engine, work: Work) -> anyhow::Result<ExitCode> {
        let Work::Protocols(protocols) = work else {
            return Ok(ExitCode::SUCCESS);
        };
        let reports = engine.preview(protocols)?;
        self.say(&protocols::claims(&reports, Paint::for_stdout()))?;
        if self.json {
            let reports: Vec<_> = reports.iter().map(protocols::claims_of).collect();
            let json = serde_json::json!({ "protocols": reports });
            super::print(&format!("{json}\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints what is not the result.
    fn say(&self, text: &str) -> anyhow::Result<()> {
        if !self.json {
            return super::print(text);
        }
        note(text);
        Ok(())
    }
}

/// A job for the ports that were opened.
enum Work {
    Stage(Mode, ModeConfig),
    Protocols(Protocols),
}

impl Job {
    /// Refuses what contradicts itself.
    fn check(&self) -> anyhow::Result<()> {
        if let Self::Forward(forward) = self {
            anyhow::ensure!(
                forward.tx_first == 0 || forward.mode != Mode::TxOnly,
                "tx_first = {} with mode tx-only, which sends all the time: leave one of them out",
                forward.tx_first
            );
        }
        Ok(())
    }

    /// What is said when it has begun.
    fn begins(&self) -> &'static str {
        match self {
            Self::Forward(_) => "forwarding; Ctrl-C stops and reports\n",
            Self::Protocols { .. } => "running; Ctrl-C stops and reports\n",
        }
    }

    fn work(&self, engine: &Engine) -> anyhow::Result<(Work, Tellers)> {
        match self {
            Self::Forward(forward) => {
                let config = forward.config(&engine.ports());
                Ok((Work::Stage(forward.mode, config), Tellers::default()))
            }
            Self::Protocols {
                listed,
                names,
                steering,
            } => {
                let made = protocols::make(engine, listed, names)?;
                let protocols = made.protocols.steering(*steering);
                Ok((Work::Protocols(protocols), made.figures))
            }
        }
    }
}

impl Forward {
    fn config(&self, ports: &[PortInfo]) -> ModeConfig {
        let mut config = ModeConfig::new(ports);
        config.frame_len = usize::from(self.frame_size.saturating_sub(4));
        config.tx_first = self.tx_first;
        if let Some(partners) = &self.partners {
            config.partners.clone_from(partners);
        }
        for (peer, given) in config.peers.iter_mut().zip(&self.peers) {
            *peer = *given;
        }
        config
    }
}
