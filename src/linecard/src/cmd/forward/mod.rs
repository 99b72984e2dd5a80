//! Running a forwarder: what `linecard fwd` and `linecard run` share.

mod report;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use linecard::engine::topology::Topology;
use linecard::modes::{self, Mode, ModeConfig};
use linecard::{Engine, EngineConfig, Offloads, Running};

use super::table::Paint;

/// Everything that a run needs to know.
#[derive(Debug, Clone)]
pub struct Session {
    /// The ports by name, in order.
    pub ports: Vec<String>,
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
}

/// The exit code when it ran, but something went wrong on the way: a worker failed, a frame is
/// unaccounted for or an mbuf leaked.
pub const EXIT_UNCLEAN: u8 = 3;

impl Session {
    /// Opens the ports, forwards until told to stop, reports.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(
            self.tx_first == 0 || self.mode != Mode::TxOnly,
            "tx_first = {} with mode tx-only, which sends all the time: leave one of them out",
            self.tx_first
        );
        let ports = linecard::open_all(self.ports.iter().map(String::as_str))?;
        let topology = Topology::detect()?;
        let mut config = self.engine.clone();
        if ports.iter().any(|port| port.info().driver == "pcap") {
            // A capture file says when each frame came.
            config.offloads |= Offloads::RX_TIMESTAMP;
        }
        let engine = Engine::on(&topology, ports, config)?;
        let infos = engine.ports();
        let mut config = ModeConfig::new(&infos);
        config.frame_len = usize::from(self.frame_size.saturating_sub(4));
        config.tx_first = self.tx_first;
        if let Some(partners) = &self.partners {
            config.partners.clone_from(partners);
        }
        for (peer, given) in config.peers.iter_mut().zip(&self.peers) {
            *peer = *given;
        }
        self.say(&report::start(&engine, self.mode))?;
        if self.dry_run {
            return Ok(ExitCode::SUCCESS);
        }
        let running = engine.start(|_| modes::stage(self.mode, &config))?;
        stop_on_signals(&running)?;
        self.say(&report::stepped_down(&infos, running.ports()))?;
        // Scripts wait for this line: from here on every frame is received or counted.
        self.say("forwarding; Ctrl-C stops and reports\n")?;
        watch::until_done(&running, &self);
        let report = running.finish();
        if self.json {
            super::print(&(serde_json::to_string(&report)? + "\n"))?;
        } else {
            super::print(&report::last(&report, Paint::for_stdout()))?;
        }
        Ok(if report.is_clean() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(EXIT_UNCLEAN)
        })
    }

    /// Prints what is not the result.
    fn say(&self, text: &str) -> anyhow::Result<()> {
        if !self.json {
            return super::print(text);
        }
        watch::note(text);
        Ok(())
    }
}

/// Ctrl-C and SIGTERM end the run in order; a second one ends it at once.
fn stop_on_signals(running: &Running) -> anyhow::Result<()> {
    let stop = running.stop_handle();
    let asked = std::sync::atomic::AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if asked.swap(true, std::sync::atomic::Ordering::Relaxed) {
            std::process::exit(130);
        }
        stop.stop();
    })
    .context("cannot catch Ctrl-C")
}
