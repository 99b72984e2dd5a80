//! `linecard topo`: the machine, and where Linecard would put what on it.

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;
use linecard::pci::{self, DeviceName, Machine, PciAddress};
use linecard_engine::placement::{PlacementRequest, Plan, PortDemand};
use linecard_engine::topology::{Topology, parse_cpu_list};
use serde::Serialize;

/// Shows the machine, and with `--plan` the placement.
#[derive(Args, Debug, Default)]
#[command(
    about = "Show nodes, cores, caches, memory and cards; with --plan, what would run where",
    long_about = "Show nodes, cores, caches, memory and cards; with --plan, what would run where.\n\n\
        A packet that a card on one NUMA node receives and a cpu on another processes crosses the \
        interconnect between the sockets, which costs more than most packets' processing. The plan \
        puts every queue, worker and pool on the node of its port, a worker on a core of its own \
        before SMT siblings share one, on isolated cpus first and on cpu 0 last, and warns where \
        that cannot be had. Nothing is opened and nothing is bound.",
    after_help = "Examples:\n  \
        linecard topo                                            this machine\n  \
        linecard topo --plan --port uring:eth1 --port uring:eth2 --workers 2\n  \
        linecard topo --plan --port uring:eth1 --lcores 4-7      on cpus of your choice\n  \
        linecard topo --synthetic \"pack:2 [numa] core:8 pu:2\" --nic eth1=1 \\\n                \
        --plan --port uring:eth1 --workers 4     on a machine you do not have"
)]
pub struct TopoArgs {
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Show where ports, workers and pools would go
    #[arg(long, requires = "ports")]
    pub plan: bool,
    /// A port to place, such as uring:eth1; repeat for more
    #[arg(long = "port", value_name = "PORT", id = "ports", requires = "plan")]
    pub ports: Vec<String>,
    /// How many workers to place [default: 1, or one for each of --lcores]
    #[arg(long, value_name = "N", requires = "plan")]
    pub workers: Option<u16>,
    /// Exactly these cpus, such as 2,4-7: worker 0 on the first
    #[arg(long, value_name = "LIST", requires = "plan")]
    pub lcores: Option<Lcores>,
    /// Allow more workers than cpus (for tests: they wait for one another)
    #[arg(long, requires = "plan")]
    pub oversubscribe: bool,
    /// Describe a machine in hwloc's language instead of looking at this one
    #[arg(long, value_name = "DESCRIPTION")]
    pub synthetic: Option<String>,
    /// Put an interface on a node of the described machine: NAME=NODE or NAME=NODE,QUEUES
    #[arg(long = "nic", value_name = "NAME=NODE", requires = "synthetic")]
    pub nics: Vec<Nic>,
}

/// The cpus of `--lcores`, in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lcores(pub Vec<u32>);

impl FromStr for Lcores {
    type Err = linecard_engine::topology::CpuListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_cpu_list(text).map(Self)
    }
}

/// An interface of a described machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    name: String,
    node: u32,
    queues: u16,
}

impl FromStr for Nic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (name, place) = text.split_once('=')?;
            let (node, queues) = place.split_once(',').unwrap_or((place, "8"));
            Some(Self {
                name: (!name.is_empty()).then(|| name.to_owned())?,
                node: node.parse().ok()?,
                queues: queues.parse().ok().filter(|queues| *queues > 0)?,
            })
        };
        parse().ok_or_else(|| {
            "write NAME=NODE or NAME=NODE,QUEUES, such as eth1=0 or eth1=1,16".to_owned()
        })
    }
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    topology: &'a Topology,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a Plan>,
}

/// Runs the command. `resolve` tells what a port of this name needs, and where it is plugged in.
pub fn run(
    args: &TopoArgs,
    resolve: &dyn Fn(&str, &Topology) -> anyhow::Result<PortDemand>,
) -> anyhow::Result<ExitCode> {
    super::print(&report(args, resolve)?)?;
    Ok(ExitCode::SUCCESS)
}

fn report(
    args: &TopoArgs,
    resolve: &dyn Fn(&str, &Topology) -> anyhow::Result<PortDemand>,
) -> anyhow::Result<String> {
    let topology = topology(args)?;
    let plan = if args.plan {
        Some(plan(args, &topology, resolve)?)
    } else {
        None
    };
    if args.json {
        let report = Report {
            topology: &topology,
            plan: plan.as_ref(),
        };
        return Ok(serde_json::to_string_pretty(&report)? + "\n");
    }
    Ok(match plan {
        Some(plan) => format!("{topology}\n{plan}"),
        None => topology.to_string(),
    })
}

fn topology(args: &TopoArgs) -> anyhow::Result<Topology> {
    let Some(description) = &args.synthetic else {
        return Ok(Topology::detect()?);
    };
    let mut topology = Topology::synthetic(description)?;
    for nic in &args.nics {
        if topology.node(nic.node).is_none() {
            let known: Vec<String> = topology.nodes.iter().map(|n| n.id.to_string()).collect();
            anyhow::bail!(
                "--nic {0}={1}: the described machine has no node {1}, it has {2}",
                nic.name,
                nic.node,
                known.join(", ")
            );
        }
        topology = topology.with_interface(&nic.name, Some(nic.node), nic.queues);
    }
    Ok(topology)
}

fn plan(
    args: &TopoArgs,
    topology: &Topology,
    resolve: &dyn Fn(&str, &Topology) -> anyhow::Result<PortDemand>,
) -> anyhow::Result<Plan> {
    let ports = args
        .ports
        .iter()
        .map(|port| resolve(port, topology))
        .collect::<anyhow::Result<Vec<PortDemand>>>()?;
    let request = PlacementRequest {
        ports,
        workers: args.workers,
        lcores: args.lcores.as_ref().map(|lcores| lcores.0.clone()),
        oversubscribe: args.oversubscribe,
        ..PlacementRequest::default()
    };
    Ok(Plan::compute(topology, &request)?)
}

/// What a port asks of the placement, from its name alone: nothing is opened.
///
/// The interface that follows the driver's name says where the port is and how many queues it has.
/// `queues=N` in the name decides; else software ports can have as many as there are workers.
pub fn port_demand(name: &str, topology: &Topology) -> anyhow::Result<PortDemand> {
    /// More than any machine has workers; the plan opens no more queues than it has.
    const AS_MANY_AS_WORKERS: u16 = 1024;
    let Some((driver, rest)) = name
        .split_once(':')
        .filter(|(driver, _)| !driver.is_empty())
    else {
        anyhow::bail!(
            "'{name}' does not name a port: write the driver first, such as uring:{name} (see \
             `linecard ports`)"
        );
    };
    let (target, options) = rest.split_once('?').unwrap_or((rest, ""));
    let queues = options
        .split('&')
        .find_map(|option| option.strip_prefix("queues="))
        .map(|value| match value.parse::<u16>() {
            Ok(queues) if queues > 0 => Ok(queues),
            _ => anyhow::bail!("port {name}: queues={value} is not a number from 1 to 65535"),
        })
        .transpose()?;
    let (node, offered) = match driver {
        "sim" | "null" => (None, AS_MANY_AS_WORKERS),
        "pcap" => (None, 1),
        "dpdk" => (dpdk_node(name, target, topology)?, AS_MANY_AS_WORKERS),
        _ => {
            let Some(interface) = topology.interface(target) else {
                let known: Vec<&str> = topology
                    .interfaces
                    .iter()
                    .map(|i| i.name.as_str())
                    .collect();
                anyhow::bail!(
                    "port {name}: there is no interface {target}; there are: {}{}",
                    if known.is_empty() {
                        "none".to_owned()
                    } else {
                        known.join(", ")
                    },
                    if topology.synthetic {
                        " (add it with --nic NAME=NODE)"
                    } else {
                        ""
                    }
                );
            };
            // PACKET_FANOUT splits any interface over any number of sockets.
            let offered = match driver {
                "uring" => AS_MANY_AS_WORKERS,
                _ => interface.combined_queues().max(1),
            };
            (interface.node, offered)
        }
    };
    Ok(PortDemand::new(name, node, queues.unwrap_or(offered)))
}

/// Where a device of DPDK's is plugged in; a virtual one is nowhere.
fn dpdk_node(name: &str, target: &str, topology: &Topology) -> anyhow::Result<Option<u32>> {
    let Ok(address) = target.parse::<PciAddress>() else {
        return Ok(None);
    };
    if topology.synthetic {
        anyhow::bail!(
            "port {name}: a described machine has no PCI device; use --nic and uring:NAME"
        );
    }
    let device = pci::find(&Machine::live(), &DeviceName::Address(address))
        .with_context(|| format!("port {name}"))?;
    Ok(device.node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TopoArgs,
    }

    fn output(line: &[&str]) -> anyhow::Result<String> {
        let line = Line::try_parse_from([&["topo"], line].concat())?;
        report(&line.args, &port_demand)
    }

    const TWO: [&str; 4] = [
        "--synthetic",
        "pack:2 [numa] core:4 pu:2",
        "--nic",
        "eth1=1",
    ];

    #[test]
    fn shows_this_machine() {
        let text = output(&[]).expect("a topology");
        assert!(
            text.starts_with("this machine: ") && text.contains("lo"),
            "{text}"
        );
        let json: serde_json::Value =
            serde_json::from_str(&output(&["--json"]).expect("JSON")).expect("valid");
        assert!(json["topology"]["nodes"][0]["memory_bytes"].as_u64() > Some(0));
        assert!(json.get("plan").is_none());
    }

    #[test]
    fn plans_on_a_machine_that_is_only_described() {
        let plan = ["--plan", "--port", "uring:eth1", "--workers", "2"];
        let text = output(&[&TWO[..], &plan[..]].concat()).expect("a plan");
        assert!(text.contains("described machine"), "{text}");
        assert!(text.contains("worker 0  lcore 8, core 4, node 1"), "{text}");
        let json = output(&[&TWO[..], &plan[..], &["--json"]].concat()).expect("JSON");
        let json: serde_json::Value = serde_json::from_str(&json).expect("valid");
        assert_eq!(json["plan"]["workers"][1]["lcore"], 10);
        assert_eq!(json["plan"]["pools"][0]["node"], 1);
    }

    #[test]
    fn mistakes_are_named_with_the_remedy() {
        for (line, text) in [
            (&["--plan"][..], "--port"),
            (&["--workers", "2"][..], "--plan"),
            (&["--plan", "--port", "eth1"][..], "uring:eth1"),
            (&["--plan", "--port", "sim:a", "--lcores", "7-4"][..], "4-7"),
            (
                &["--plan", "--port", "sim:a", "--workers", "65000"][..],
                "--workers",
            ),
            (&["--synthetic", "nonsense"][..], "pack:2"),
            (
                &["--synthetic", "core:2 pu:1", "--nic", "eth1=5"][..],
                "no node 5",
            ),
            (
                &["--synthetic", "core:2 pu:1", "--nic", "eth1"][..],
                "NAME=NODE",
            ),
            (&["--nic", "eth1=1"][..], "--synthetic"),
        ] {
            let error = output(line).expect_err(&line.join(" ")).to_string();
            assert!(error.contains(text), "{line:?}: {error}");
        }
    }

    #[test]
    fn demands_follow_from_names() {
        let machine = Topology::synthetic("pack:2 [numa] core:2 pu:1")
            .expect("a machine")
            .with_interface("eth1", Some(1), 4);
        let demand = |name: &str| port_demand(name, &machine);
        assert_eq!(
            demand("xdp:eth1").expect("known"),
            PortDemand::new("xdp:eth1", Some(1), 4)
        );
        let uring = demand("uring:eth1?rx=ring&queues=3").expect("known");
        assert_eq!((uring.node, uring.rx_queues), (Some(1), 3));
        assert_eq!(demand("pcap:in.pcap").expect("a file").rx_queues, 1);
        assert_eq!(demand("sim:a").expect("a wire").node, None);
        assert_eq!(demand("dpdk:net_ring0").expect("a ring").node, None);
        for (name, text) in [
            ("eth1", "uring:eth1"),
            (":eth1", "driver first"),
            ("uring:eth9", "there are: eth1"),
            ("uring:eth1?queues=0", "queues=0"),
            ("dpdk:3b:00.0", "no PCI device"),
        ] {
            let error = demand(name).expect_err(name).to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
