//! `linecard bind` and `linecard unbind`: devices that change hands between the kernel and programs.

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Args;
use linecard::pci::{
    self, BindOptions, DeviceName, Machine, Obstacle, PciAddress, PciDevice, Step, UnbindOptions,
};
use serde::Serialize;

use super::table::{Paint, Tone};

/// Gives devices to programs.
#[derive(Args, Debug)]
#[command(
    about = "Take PCI network devices from the kernel, so that dpdk: ports can open them",
    long_about = "Take PCI network devices from the kernel, so that dpdk: ports can open them.\n\n\
        DPDK drives a card by itself, and so the kernel's network driver must let go of it first: \
        its interface, such as eth1, vanishes until linecard unbind. Who had the device before is \
        kept in /run/linecard/bind/ADDRESS, and if the change fails half way, it is put back at \
        once. All of it is gone after a reboot. While one linecard bind or unbind is at work, another is \
        refused. Cards that DPDK shares with the kernel (mlx5, \
        mlx4, mana) need none of this.\n\n\
        A device is not taken while its interface is up, has an address, carries the default route \
        or has others built on it; nor without an IOMMU; nor if others of its IOMMU group stay with \
        the kernel. Nothing is changed unless every device that was named can be bound.",
    after_help = "Exit codes: 0 bound, or it was already; 1 refused or failed; 2 wrong usage.\n\n\
        Examples:\n  \
        linecard ports                         which devices there are, and who has them\n  \
        linecard bind 3b:00.0 --dry-run        what would be written, and what is in the way\n  \
        sudo linecard bind 3b:00.0 3b:00.1     both ports of a card\n  \
        sudo linecard bind eth1                by the interface that it has now\n  \
        sudo linecard unbind 3b:00.0 3b:00.1   back to the driver that had them"
)]
pub struct BindArgs {
    /// Addresses such as 0000:3b:00.0 or 3b:00.0, or interfaces such as eth1
    #[arg(value_name = "ADDR", required = true)]
    pub devices: Vec<DeviceName>,
    /// The driver that is to have them
    #[arg(long, value_name = "DRIVER", default_value = "vfio-pci")]
    pub driver: String,
    /// Take them even if the kernel uses them: what that loses is said
    #[arg(long)]
    pub force: bool,
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Gives devices back.
#[derive(Args, Debug)]
#[command(
    about = "Give PCI network devices back to the driver that had them before linecard bind",
    long_about = "Give PCI network devices back to the driver that had them before linecard bind.\n\n\
        What was there before is put back exactly: the driver, or none, and what driver_override \
        said. Addresses, routes and the state up or down were the interface's and are not kept: the \
        system's network service sets them again, or you do. A device that a program has open is \
        left alone.",
    after_help = "Exit codes: 0 given back, or there was nothing to give back; 1 refused or failed; \
        2 wrong usage.\n\n\
        Examples:\n  \
        sudo linecard unbind 3b:00.0              back to the driver that had it\n  \
        sudo linecard unbind --default 3b:00.0    somebody else bound it: let the kernel choose"
)]
pub struct UnbindArgs {
    /// Addresses such as 0000:3b:00.0 or 3b:00.0
    #[arg(value_name = "ADDR", required = true)]
    pub devices: Vec<DeviceName>,
    /// Whoever had them before: let the kernel choose the driver, as it does at boot
    #[arg(long)]
    pub default: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// What became of every device.
#[derive(Debug, Serialize)]
pub struct Report {
    /// In the order in which they were named.
    pub devices: Vec<Outcome>,
}

/// What became of a device.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Where it sits.
    pub address: PciAddress,
    /// What happened.
    pub result: Deed,
    /// The driver that had it.
    pub driver_before: Option<String>,
    /// The interfaces that it had.
    pub interfaces_before: Vec<String>,
    /// The driver that has it now.
    pub driver: Option<String>,
    /// The interfaces that it has now.
    pub interfaces: Vec<String>,
    /// What was in the way.
    pub obstacles: Vec<Obstacle>,
    /// What to know about it.
    pub warnings: Vec<Obstacle>,
    /// What was or would be written.
    pub steps: Vec<Step>,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// It has the new driver.
    Bound,
    /// It has its old driver.
    GivenBack,
    /// Nothing had to be done.
    Already,
    /// It would be done, were this not a dry run.
    Planned,
    /// Something is in the way, and nothing was changed.
    Refused,
    /// It was tried, and taken back.
    Failed,
    /// Another device was refused or failed, and so this one was not tried.
    NotTried,
}

impl Outcome {
    fn new(device: &PciDevice, result: Deed) -> Self {
        Self {
            address: device.address,
            result,
            driver_before: device.driver.clone(),
            interfaces_before: device.interfaces.clone(),
            driver: device.driver.clone(),
            interfaces: device.interfaces.clone(),
            obstacles: Vec::new(),
            warnings: Vec::new(),
            steps: Vec::new(),
            error: None,
        }
    }

    /// Takes over what came of the change; true if it succeeded.
    fn settle(
        &mut self,
        machine: &Machine,
        changed: Result<PciDevice, pci::ChangeError>,
        deed: Deed,
    ) -> bool {
        let now = match changed {
            Ok(device) => {
                self.result = deed;
                Some(device)
            }
            Err(error) => {
                self.result = Deed::Failed;
                self.error = Some(error.to_string());
                PciDevice::read(&machine.root, self.address)
            }
        };
        self.driver = now.as_ref().and_then(|device| device.driver.clone());
        self.interfaces = now.map(|device| device.interfaces).unwrap_or_default();
        self.result == deed
    }
}

/// Runs `linecard bind` on this machine.
pub fn run_bind(args: &BindArgs) -> anyhow::Result<ExitCode> {
    finish(&bind(&Machine::live(), args)?, args.json)
}

/// Runs `linecard unbind` on this machine.
pub fn run_unbind(args: &UnbindArgs) -> anyhow::Result<ExitCode> {
    finish(&unbind(&Machine::live(), args)?, args.json)
}

fn bind(machine: &Machine, args: &BindArgs) -> anyhow::Result<Report> {
    let mut lock = (!args.dry_run).then(|| lock(machine)).transpose()?;
    let devices = find(machine, &args.devices)?;
    let options = BindOptions {
        driver: args.driver.clone(),
        force: args.force,
        together: devices.iter().map(|device| device.address).collect(),
    };
    let plans: Vec<pci::BindPlan> = devices
        .iter()
        .map(|device| pci::plan_bind(machine, device, &options))
        .collect();
    let mut go_on = plans.iter().all(|plan| plan.obstacles.is_empty()) && !args.dry_run;
    if go_on && plans.iter().any(|plan| !plan.already) {
        needed(&mut lock)?;
    }
    let mut report = Report {
        devices: Vec::new(),
    };
    for plan in plans {
        let result = first_deed(plan.already, !plan.obstacles.is_empty(), args.dry_run);
        let mut outcome = Outcome::new(&plan.device, result);
        if go_on && result == Deed::NotTried {
            go_on = outcome.settle(machine, pci::bind(machine, &plan), Deed::Bound);
        }
        outcome.obstacles = plan.obstacles;
        outcome.warnings = plan.warnings;
        outcome.steps = plan.steps;
        report.devices.push(outcome);
    }
    Ok(report)
}

fn unbind(machine: &Machine, args: &UnbindArgs) -> anyhow::Result<Report> {
    let mut lock = Some(lock(machine)?);
    let options = UnbindOptions {
        default: args.default,
    };
    let plans: Vec<pci::UnbindPlan> = find(machine, &args.devices)?
        .iter()
        .map(|device| pci::plan_unbind(machine, device, options))
        .collect();
    let mut report = Report {
        devices: Vec::new(),
    };
    // Each for itself: one that cannot be given back is no reason to keep the others.
    for plan in plans {
        let result = first_deed(plan.already, !plan.obstacles.is_empty(), false);
        let mut outcome = Outcome::new(&plan.device, result);
        if result == Deed::NotTried {
            needed(&mut lock)?;
            outcome.settle(machine, pci::unbind(machine, &plan), Deed::GivenBack);
        }
        outcome.obstacles = plan.obstacles;
        outcome.steps = plan.steps;
        report.devices.push(outcome);
    }
    Ok(report)
}

/// The lock, or why it cannot be made: what stands in the way of the devices themselves says more to one who may
/// not write anything.
type Held = Result<pci::Lock, pci::LockError>;

/// Keeps others from changing devices, from before they are read. Refused if another does.
fn lock(machine: &Machine) -> Result<Held, pci::LockError> {
    match pci::lock(machine) {
        Err(error @ pci::LockError::Busy { .. }) => Err(error),
        held => Ok(held),
    }
}

/// Before the first change: a lock that could not be made is an error now.
fn needed(lock: &mut Option<Held>) -> Result<(), pci::LockError> {
    match lock.take_if(|held| held.is_err()) {
        Some(Err(error)) => Err(error),
        _ => Ok(()),
    }
}

/// What is known of a device before anything is tried.
fn first_deed(already: bool, refused: bool, dry_run: bool) -> Deed {
    match (refused, already, dry_run) {
        (true, ..) => Deed::Refused,
        (_, true, _) => Deed::Already,
        (_, _, true) => Deed::Planned,
        _ => Deed::NotTried,
    }
}

/// Every device that was named, once.
fn find(machine: &Machine, names: &[DeviceName]) -> anyhow::Result<Vec<PciDevice>> {
    let mut devices: Vec<PciDevice> = Vec::new();
    for name in names {
        let device = pci::find(machine, name)?;
        if !devices.iter().any(|known| known.address == device.address) {
            devices.push(device);
        }
    }
    Ok(devices)
}

fn finish(report: &Report, json: bool) -> anyhow::Result<ExitCode> {
    let bad = |outcome: &Outcome| {
        matches!(
            outcome.result,
            Deed::Refused | Deed::Failed | Deed::NotTried
        )
    };
    let text = if json {
        serde_json::to_string_pretty(report)? + "\n"
    } else {
        render(report, Paint::for_stdout())
    };
    super::print(&text)?;
    Ok(ExitCode::from(u8::from(report.devices.iter().any(bad))))
}

fn render(report: &Report, paint: Paint) -> String {
    let mut text = String::new();
    for outcome in &report.devices {
        let (word, tone) = match outcome.result {
            Deed::Bound => ("bound", Tone::Good),
            Deed::GivenBack => ("given back", Tone::Good),
            Deed::Already => ("nothing to do", Tone::Good),
            Deed::Planned => ("would bind", Tone::Plain),
            Deed::Refused => ("refused", Tone::Bad),
            Deed::Failed => ("failed", Tone::Bad),
            Deed::NotTried => ("not tried", Tone::Caution),
        };
        text.push_str(&format!(
            "{}: {}\n",
            outcome.address,
            paint.tone(word, tone)
        ));
        text.push_str(&format!("    {}\n", story(outcome)));
        for obstacle in outcome.obstacles.iter().chain(&outcome.warnings) {
            let Obstacle { reason, remedy } = obstacle;
            text.push_str(&format!("    {reason}\n        try: {remedy}\n"));
        }
        if outcome.result == Deed::Planned {
            for Step { path, value } in &outcome.steps {
                text.push_str(&format!("    echo {value} > {path}\n"));
            }
        }
    }
    text
}

/// What happened, in a sentence.
fn story(outcome: &Outcome) -> String {
    let who = |driver: &Option<String>, interfaces: &[String]| match (driver, interfaces) {
        (None, _) => "no driver".to_owned(),
        (Some(driver), []) => driver.clone(),
        (Some(driver), names) => format!("{driver}, as {}", names.join(", ")),
    };
    let before = who(&outcome.driver_before, &outcome.interfaces_before);
    let now = who(&outcome.driver, &outcome.interfaces);
    let address = outcome.address;
    match (outcome.result, &outcome.error) {
        (Deed::Bound, _) => {
            let open = match outcome.driver.as_deref() {
                Some("vfio-pci") => format!("open it as dpdk:{address}, "),
                _ => String::new(),
            };
            format!(
                "was with {before}, is with {now}; {open}give it back with linecard unbind {address}"
            )
        }
        (Deed::GivenBack, _) => format!("was with {before}, is with {now}"),
        (Deed::Failed, Some(error)) => error.clone(),
        (Deed::Refused, _) => format!("is with {now}; nothing was changed"),
        (Deed::NotTried, _) => format!("is with {now}; another device could not be bound"),
        (Deed::Planned, _) => format!("is with {now}; this is what would be done:"),
        _ => format!("is with {now} already"),
    }
}
