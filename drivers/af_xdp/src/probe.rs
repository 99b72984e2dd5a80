//! What an interface can do, for `linecard ports` and `auto:`, without touching it.

use linecard_hal::PortError;
use serde::Serialize;

use crate::device::Device;
use crate::ladder;
use crate::options::Mode;
use crate::steering;

/// What an interface can do. See [`probe`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The interface's name.
    pub interface: String,
    /// The modes, the best first.
    pub modes: Vec<ModeFit>,
    /// Queues that it has, and so queue pairs of the port.
    pub queues: u16,
    /// Queues that send; a veth runs no program if its other end has more of these than it has queues.
    pub tx_queues: u16,
    /// Whether its frames come from a wire; those of a virtual link may come as UDP super-frames, which
    /// `mode=skb` loses.
    pub physical: bool,
    /// The XDP programs that are attached now.
    pub programs: Vec<Program>,
    /// Why no mode can be used at the moment: privileges that are missing, a program of somebody else.
    pub obstacle: Option<Obstacle>,
}

/// An XDP program at an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Its number, as `bpftool prog show id` takes it.
    pub id: u32,
    /// Where it runs, as `ip link` names that: `xdpdrv`, `xdpgeneric`, `xdpoffload`.
    pub mode: String,
    /// Its name, if we may ask for that.
    pub name: Option<String>,
}

/// Whether one mode would work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModeFit {
    /// `zerocopy`, `copy`, `skb`.
    pub mode: String,
    /// The name that opens it so.
    pub port: String,
    /// Why it would not work, if that is known beforehand.
    pub obstacle: Option<Obstacle>,
}

/// Why something does not work, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// Why.
    pub reason: String,
    /// What to type; may be empty.
    pub remedy: String,
}

impl Probe {
    /// The best mode that is not known to fail; `None` while there is an [obstacle](Self::obstacle) for all.
    pub fn best(&self) -> Option<&ModeFit> {
        let fit = self.modes.iter().find(|mode| mode.obstacle.is_none());
        fit.filter(|_| self.obstacle.is_none())
    }
}

/// Asks what an interface can do. Nothing is changed or attached: whether a driver keeps its word is only seen
/// when a port is started.
pub fn probe(interface: &str) -> Result<Probe, PortError> {
    let name = format!("xdp:{interface}");
    let device = Device::open(&name, interface)?;
    let now = device.interface().map_err(|e| device.not_found(e))?;
    let features = device.features(now.index);
    let channels = device.channels(now.index);
    let modes = Mode::LADDER.map(|mode| ModeFit {
        mode: mode.to_string(),
        port: format!("{name}?mode={mode}"),
        obstacle: ladder::beforehand(mode, &now, features)
            .err()
            .map(|r| Obstacle {
                reason: r.why,
                remedy: r.remedy,
            }),
    });
    let ready =
        steering::check_privileges(&device).and_then(|()| steering::check_place(&device, &now));
    Ok(Probe {
        interface: interface.into(),
        modes: modes.into(),
        physical: now.is_physical(),
        programs: (now.xdp.each())
            .map(|(id, mode)| Program {
                id,
                mode: mode.into(),
                name: steering::program_name(id),
            })
            .collect(),
        queues: u16::try_from(channels.rx).unwrap_or(u16::MAX),
        tx_queues: u16::try_from(channels.tx).unwrap_or(u16::MAX),
        obstacle: ready.err().map(|e| Obstacle {
            reason: match &e.cause {
                Some(cause) => format!("{}: {cause}", e.what),
                None => e.what,
            },
            remedy: e.remedy,
        }),
    })
}
