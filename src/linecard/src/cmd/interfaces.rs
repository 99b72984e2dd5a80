//! `linecard ports`: what can be opened here, by which driver, and why the rest cannot.

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Args;
use linecard::Rung;
use linecard::af_xdp::{Obstacle, Probe};
use linecard::auto::{self, Facts};
use linecard_engine::topology::{NetInterface, interfaces};
use nix::errno::Errno;
use serde::Serialize;

use super::cards::{CardReport, cards};
use super::doctor::{IoUringAnswer, System};
use super::table::{Cell, Paint, Table, Tone};

/// Lists what can be opened as a port.
#[derive(Args, Debug, Default)]
#[command(
    about = "List network interfaces, PCI devices and the drivers that can take them",
    long_about = "List network interfaces, PCI devices and the drivers that can take them.\n\n\
        Linecard opens a port by one name: the driver, a colon, and what the driver is to take, \
        such as uring:eth1. Options follow a question mark: uring:eth1?rx=ring. Interfaces that no \
        driver can take are listed with the reason and the command that changes it. PCI devices \
        are listed too, whoever has them, with their IOMMU group and whether dpdk: could open \
        them.",
    after_help = "Examples:\n  \
        linecard ports                                     what can be opened here\n  \
        linecard ports --json | jq -r '.interfaces[].name' the names alone\n  \
        linecard ports --json | jq '.pci_devices[] | select(.dpdk.usable)'\n  \
        unshare -Urn linecard ports                        what a namespace of your own has"
)]
pub struct PortsArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Everything that can be opened, or why not.
#[derive(Debug, Serialize)]
pub struct Inventory {
    /// The interfaces of this network namespace.
    pub interfaces: Vec<InterfaceReport>,
    /// The PCI network devices of this machine.
    pub pci_devices: Vec<CardReport>,
    /// Ports that need no interface.
    pub pseudo_ports: Vec<PseudoPort>,
}

/// An interface and who can take it.
#[derive(Debug, Serialize)]
pub struct InterfaceReport {
    /// The interface itself.
    #[serde(flatten)]
    pub interface: NetInterface,
    /// `up`, `no link`, `down`.
    pub state: &'static str,
    /// One for each driver and receive engine or mode.
    pub drivers: Vec<DriverFit>,
    /// What XDP has and could have there; `None` if that cannot be asked.
    pub xdp: Option<Probe>,
    /// What `auto:` would take, as far as that is known before it is tried.
    pub auto: Vec<Rung>,
    /// What is worth knowing before it is opened.
    pub notes: Vec<Remark>,
}

/// Whether a driver can take an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriverFit {
    /// The name to open it by.
    pub port: String,
    /// True if it would work.
    pub usable: bool,
    /// If not: why, and what would change that.
    pub obstacle: Option<Remark>,
}

/// Something to know and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// What it is.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

/// A port that needs no interface.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PseudoPort {
    /// How its name is written.
    pub port: &'static str,
    /// What it is.
    pub about: &'static str,
}

/// Ports that are there on every machine; all but `tap:` without privileges.
pub const PSEUDO_PORTS: [PseudoPort; 4] = [
    PseudoPort {
        port: "tap:NAME",
        about: "a TAP device, made when opened and gone when closed; needs CAP_NET_ADMIN",
    },
    PseudoPort {
        port: "sim:NAME",
        about: "one end of an in-memory wire, with loss, delay and reordering at will",
    },
    PseudoPort {
        port: "pcap:FILE",
        about: "receives what a capture file holds, or writes one",
    },
    PseudoPort {
        port: "null:NAME",
        about: "receives one frame without end and discards what it is given: for benchmarks",
    },
];

/// Runs the command on this machine.
pub fn run(args: &PortsArgs) -> anyhow::Result<ExitCode> {
    let inventory = inventory(&System::live());
    let text = if args.json {
        serde_json::to_string_pretty(&inventory)? + "\n"
    } else {
        render(&inventory, Paint::for_stdout())
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What can be opened on any machine.
pub fn inventory(system: &System) -> Inventory {
    let socket = system.probes.packet_socket();
    let ring = system.probes.io_uring();
    let all = interfaces(&system.root);
    Inventory {
        interfaces: all
            .iter()
            .map(|interface| report(system, interface, &all, socket, &ring))
            .collect(),
        pci_devices: cards(system, cfg!(feature = "dpdk")),
        pseudo_ports: PSEUDO_PORTS.to_vec(),
    }
}

fn report(
    system: &System,
    interface: &NetInterface,
    all: &[NetInterface],
    socket: Result<(), Errno>,
    ring: &IoUringAnswer,
) -> InterfaceReport {
    let state = match (interface.up, interface.carrier) {
        (false, _) => "down",
        (true, Some(false)) => "no link",
        (true, _) => "up",
    };
    let common = obstacle(interface, socket);
    let fit = |port: String, own: Option<Remark>| {
        let obstacle = common.clone().or(own);
        DriverFit {
            port,
            usable: obstacle.is_none(),
            obstacle,
        }
    };
    let name = &interface.name;
    let multishot = no_multishot(ring);
    let mut drivers = vec![
        fit(format!("uring:{name}?rx=ring"), None),
        fit(format!("uring:{name}?rx=multishot"), multishot.clone()),
    ];
    let xdp = system.probes.xdp(name);
    match &xdp {
        Ok(probe) => drivers.extend(probe.modes.iter().map(|mode| {
            let why = mode.obstacle.clone().or_else(|| probe.obstacle.clone());
            fit(mode.port.clone(), why.map(Remark::from))
        })),
        Err(why) => drivers.push(fit(format!("xdp:{name}"), Some(why.clone().into()))),
    }
    let mut notes = notes(interface, state);
    let stake = system.probes.stake(name, all);
    if drivers
        .iter()
        .any(|fit| fit.usable && fit.port.starts_with("xdp:"))
    {
        notes.extend(stake.clone().map(Remark::from));
    }
    let auto = auto::predict(&Facts {
        interface: name.clone(),
        dpdk: auto::no_dpdk(name, &system.root),
        stake,
        xdp: xdp.clone(),
        socket: common.map(Obstacle::from),
        ring: None,
        multishot: multishot.map(Obstacle::from),
    });
    InterfaceReport {
        state,
        drivers,
        xdp: xdp.ok(),
        auto,
        notes,
        interface: interface.clone(),
    }
}

impl From<Obstacle> for Remark {
    fn from(Obstacle { reason, remedy }: Obstacle) -> Self {
        Self { reason, remedy }
    }
}

impl From<Remark> for Obstacle {
    fn from(Remark { reason, remedy }: Remark) -> Self {
        Self { reason, remedy }
    }
}

/// Why no driver can take an interface.
fn obstacle(interface: &NetInterface, socket: Result<(), Errno>) -> Option<Remark> {
    if !interface.ethernet && interface.kind != "loopback" {
        return Some(Remark {
            reason: "it carries no Ethernet frames".to_owned(),
            remedy: "choose an Ethernet interface: a card, a veth, a tap or a bridge".to_owned(),
        });
    }
    match socket {
        Ok(()) => None,
        Err(Errno::EPERM | Errno::EACCES) => Some(Remark {
            reason: "CAP_NET_RAW is missing".to_owned(),
            remedy: super::doctor::SETCAP.to_owned(),
        }),
        Err(errno) => Some(Remark {
            reason: format!("packet sockets do not work here ({errno})"),
            remedy: "linecard doctor".to_owned(),
        }),
    }
}

fn no_multishot(ring: &IoUringAnswer) -> Option<Remark> {
    let reason = match ring.setup {
        Err(errno) => format!("io_uring does not work here ({errno})"),
        Ok(()) if !(ring.buffer_rings && ring.multishot_receive) => {
            "this kernel has no multishot receive (Linux 6.0)".to_owned()
        }
        Ok(()) => return None,
    };
    Some(Remark {
        reason,
        remedy: "linecard doctor says who refuses and what to do".to_owned(),
    })
}

fn notes(interface: &NetInterface, state: &str) -> Vec<Remark> {
    let mut notes = Vec::new();
    let mut note = |reason: String, remedy: String| notes.push(Remark { reason, remedy });
    let name = &interface.name;
    if state == "down" {
        note(
            "it is down and will carry nothing".to_owned(),
            format!("ip link set {name} up"),
        );
    }
    if let Some(master) = &interface.master {
        note(
            format!("{master} owns it, and forwards the same packets once more"),
            format!("open {master} instead, or ip link set {name} nomaster"),
        );
    }
    if interface.kind == "loopback" {
        note(
            "it is the loopback: for trying things out, not for measuring".to_owned(),
            "ip link add va type veth peer name vb".to_owned(),
        );
    }
    notes
}

fn render(inventory: &Inventory, paint: Paint) -> String {
    let mut table = Table::new(&[
        "interface",
        "state",
        "mac",
        ">mtu",
        "driver",
        ">node",
        ">queues",
        "auto: takes",
        "open as",
    ]);
    for entry in &inventory.interfaces {
        let interface = &entry.interface;
        let state = match entry.state {
            "up" => Cell::toned("up", Tone::Good),
            other => Cell::toned(other, Tone::Caution),
        };
        let driver = interface.driver.as_deref().unwrap_or(&interface.kind);
        table.row([
            interface.name.as_str().into(),
            state,
            interface.mac.as_deref().unwrap_or("-").into(),
            interface.mtu.to_string().into(),
            driver.into(),
            interface
                .node
                .map_or("-".to_owned(), |node| node.to_string())
                .into(),
            interface.combined_queues().to_string().into(),
            taken(entry).into(),
            open_as(entry),
        ]);
    }
    let mut text = table.render(paint);
    text.push('\n');
    if !inventory.pci_devices.is_empty() {
        text.push_str(&super::cards::render(&inventory.pci_devices, paint));
        text.push('\n');
    }
    let mut pseudo = Table::new(&["always there", ""]);
    for port in &inventory.pseudo_ports {
        pseudo.row([port.port.into(), port.about.into()]);
    }
    text.push_str(&pseudo.render(paint));
    let remarks = remarks(inventory);
    if !remarks.is_empty() {
        text.push('\n');
        for (names, remark) in remarks {
            text.push_str(&format!("{}: {}\n", names.join(", "), remark.reason));
            if !remark.remedy.is_empty() {
                text.push_str(&format!("    try: {}\n", remark.remedy));
            }
        }
    }
    text
}

/// The rung that `auto:` would take.
fn taken(entry: &InterfaceReport) -> &str {
    let rung = entry.auto.iter().find(|rung| rung.taken);
    rung.map_or("-", |rung| rung.rung.as_str())
}

fn open_as(entry: &InterfaceReport) -> Cell {
    let name = &entry.interface.name;
    let usable = |driver: &str| {
        let fits = entry.drivers.iter().filter(|fit| fit.usable);
        let options: Vec<&str> = fits
            .filter_map(|fit| fit.port.split_once('?'))
            .filter(|(port, _)| port.starts_with(driver))
            .map(|(_, option)| option)
            .collect();
        (!options.is_empty()).then(|| format!("{driver}{name} ({})", options.join(", ")))
    };
    let ways: Vec<String> = ["xdp:", "uring:"].into_iter().filter_map(usable).collect();
    if ways.is_empty() {
        Cell::toned("no driver (see below)", Tone::Bad)
    } else {
        Cell::toned(ways.join(", "), Tone::Plain)
    }
}

/// Every obstacle and note once, with the ports that it concerns.
fn remarks(inventory: &Inventory) -> Vec<(Vec<String>, Remark)> {
    let mut found: Vec<(Vec<String>, Remark)> = Vec::new();
    let mut add =
        |name: String, remark: &Remark| match found.iter_mut().find(|(_, known)| known == remark) {
            Some((names, _)) if !names.contains(&name) => names.push(name),
            Some(_) => {}
            None => found.push((vec![name], remark.clone())),
        };
    for entry in &inventory.interfaces {
        let name = &entry.interface.name;
        let hopeless = entry.drivers.iter().all(|fit| !fit.usable);
        let now = entry.xdp.as_ref().and_then(|xdp| xdp.obstacle.clone());
        let now = now.map(Remark::from);
        for fit in &entry.drivers {
            let label = if hopeless {
                name.clone()
            } else if fit.obstacle.is_some() && fit.obstacle == now {
                format!("xdp:{name}") // In every mode.
            } else {
                fit.port.clone()
            };
            if let Some(obstacle) = &fit.obstacle {
                add(label, obstacle);
            }
        }
        for note in &entry.notes {
            add(name.clone(), note);
        }
    }
    for card in &inventory.pci_devices {
        if let Some(obstacle) = &card.dpdk.obstacle {
            add(card.dpdk.port.clone(), obstacle);
        }
    }
    found
}
