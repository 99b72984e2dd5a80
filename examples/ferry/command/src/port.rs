//! A way past the kernel: a host of our own on a port of Linecard's, with the endpoint on top.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use linecard::stack::{InterfaceConfig, IpHost, Route, Secret as StackSecret, Stack, StackConfig};
use linecard::wire::MacAddr;
use linecard::{Engine, EngineConfig, PortInfo, Protocols, Report};
use linecard_ferry::transport::{Application, Ferry, fit};
use linecard_ferry::{Config, Counters, Endpoint, Secret};

use super::progress::Progress;
use super::socket::random_key;
use super::watch::Watch;

/// Enough for any driver's queues, and what a window of packets holds.
const MBUFS: u32 = 16_384;

/// Where and as whom.
#[derive(Debug, clap::Args)]
pub(super) struct PortArgs {
    /// A port of Linecard's to go by, past the kernel's stack: uring:eth1, xdp:eth1, dpdk:0000:3b:00.0.
    /// Without it, a UDP socket of the kernel's is used
    #[arg(long, value_name = "PORT", requires = "address")]
    pub(super) port: Option<String>,
    /// Our address there, with its prefix: 10.0.0.1/24. The kernel must not have it, too
    #[arg(long, value_name = "ADDRESS/LEN", requires = "port")]
    address: Vec<String>,
    /// The router for what is not on the link
    #[arg(long, value_name = "ADDRESS", requires = "port")]
    gateway: Option<IpAddr>,
    /// Our Ethernet address, if not the port's own
    #[arg(long, value_name = "MAC", requires = "port")]
    mac: Option<String>,
    /// What the worker does without traffic: spin, adaptive, sleep
    #[arg(long, default_value_t, requires = "port")]
    idle: linecard::Idle,
    /// Run on exactly this cpu
    #[arg(long, value_name = "CPU", requires = "port")]
    lcore: Option<u32>,
}

/// How it went.
pub(super) struct Outcome {
    pub(super) counters: Counters,
    pub(super) datagram_len: u16,
    /// What took which way, in words.
    pub(super) driver: String,
    /// Of a port: whether every frame and mbuf is accounted for.
    pub(super) report: Option<Report>,
}

/// Runs an application on the port until all is done, or somebody wants it to end.
pub(super) fn run(
    args: &PortArgs,
    name: &str,
    config: Config,
    (udp_port, listens): (u16, bool),
    application: impl Application + 'static,
    progress: &Arc<Progress>,
    watch: &mut Watch,
) -> Result<Outcome> {
    let engine = Engine::new(
        vec![linecard::open(name)?],
        EngineConfig {
            idle: args.idle,
            pin: args.lcore.is_some(),
            lcores: args.lcore.map(|cpu| vec![cpu]),
            pool_size: Some(MBUFS),
            ..EngineConfig::default()
        },
    )?;
    let info = engine.ports().remove(0);
    let stack = args.stack(&info)?;
    let config = fit(config, &stack);
    let endpoint = Endpoint::new(config, Secret::new(random_key(), 0), listens);
    let ferry = Ferry::new(endpoint, application).at_port(udp_port);
    let last_words = ferry.last_words();
    let mut host = Some(IpHost::new(stack).with(ferry));
    let running = engine.start_protocols(
        Protocols::new().with(move |_| host.take().expect("there is one worker")),
    )?;
    let mut lingers = None;
    loop {
        std::thread::sleep(Duration::from_millis(20));
        watch.show(progress);
        // The other side may not know yet that it is over: should it ask, it is told.
        let since = lingers.get_or_insert_with(Instant::now);
        if !progress.is_over() {
            lingers = None;
        } else if since.elapsed() > super::LINGER {
            break;
        }
        if watch.stopped() || running.is_finished() {
            break;
        }
    }
    let report = running.finish();
    Ok(Outcome {
        counters: last_words.get().copied().unwrap_or_default(),
        datagram_len: config.datagram_len,
        driver: info.name,
        report: Some(report),
    })
}

impl PortArgs {
    fn stack(&self, info: &PortInfo) -> Result<Stack> {
        let mac = match &self.mac {
            Some(mac) => mac
                .parse()
                .map_err(|_| anyhow::anyhow!("{mac:?} is no Ethernet address"))?,
            None => MacAddr(info.mac.with_context(|| {
                format!(
                    "{} has no Ethernet address; give it one: --mac 02:00:00:00:00:01",
                    info.name
                )
            })?),
        };
        let mut interface = InterfaceConfig {
            detect: false,
            mtu: u16::try_from(info.mtu).unwrap_or(u16::MAX),
            ..InterfaceConfig::new(0, mac)
        };
        for address in &self.address {
            let parsed = address.parse().with_context(|| {
                format!("{address:?} is no address with a prefix, such as 10.0.0.1/24")
            })?;
            interface = interface.address(parsed);
        }
        let mut config = StackConfig {
            interfaces: vec![interface],
            ..StackConfig::default()
        };
        if let Some(gateway) = self.gateway {
            let all = if gateway.is_ipv4() {
                "0.0.0.0/0"
            } else {
                "::/0"
            };
            config.routes.push(Route {
                prefix: all.parse().expect("a prefix"),
                interface: 0,
                gateway: Some(gateway),
                metric: 0,
            });
        }
        Ok(Stack::new(config, StackSecret::random(), 0)?)
    }
}
