//! The program at an interface, and the flow rules that it carries out.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use linecard_hal::flow::{FlowAction, FlowCount, FlowId, FlowRule};
use linecard_hal::{PortError, PortErrorKind};

use crate::device::{Device, Interface};
use crate::ladder::{self, GRANT, Refusal};
use crate::options::Mode;
use crate::program::{MAX_RULES, Maps, NAME, Placed, Share, Slot, Spec};
use crate::sys::bpf::{
    ForeignLink, Link, Program, ProgramInfo, Rejected, XDP_FLAGS_DRV, XDP_FLAGS_HW, XDP_FLAGS_SKB,
};
use crate::sys::socket::Xsk;

/// The rules of a port and the program that they make.
#[derive(Debug)]
pub(crate) struct Steering {
    pub(crate) maps: Maps,
    share: Share,
    queues: u16,
    /// What stands before a mark; 0 while no rule marks.
    cookie: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Installed>,
    next: u64,
    /// Frames may come in pieces.
    frags: bool,
    link: Option<Link>,
    /// The kernel's number of the program that is attached; 0 for none.
    program: u32,
}

#[derive(Debug, Clone)]
struct Installed {
    id: FlowId,
    placed: Placed,
}

impl Steering {
    pub(crate) fn new(share: Share, queues: u16) -> io::Result<Self> {
        Ok(Self {
            maps: Maps::new(u32::from(crate::MAX_QUEUES))?,
            share,
            queues,
            cookie: AtomicU32::new(0),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands before a frame's mark, if any rule marks.
    #[inline(always)]
    pub(crate) fn cookie(&self) -> Option<u32> {
        Some(self.cookie.load(Ordering::Relaxed)).filter(|cookie| *cookie != 0)
    }

    fn load(&self, rules: &[Installed], frags: bool) -> Result<(Program, u32), Rejected> {
        let placed: Vec<_> = rules.iter().map(|i| i.placed.clone()).collect();
        let marks = |p: &Placed| matches!(p.rule.action, FlowAction::Mark(_));
        let cookie = if placed.iter().any(marks) {
            fresh_cookie()
        } else {
            0
        };
        let spec = Spec {
            share: self.share,
            rules: &placed,
            frags,
            cookie,
        };
        Ok((self.maps.program(&spec)?, cookie))
    }

    /// Attaches the program in the place of the one before, which may be at an interface that is gone.
    pub(crate) fn attach(
        &self,
        device: &Device,
        interface: &Interface,
        mode: Mode,
        frags: bool,
    ) -> Result<(), Refusal> {
        let mut state = self.state();
        state.link = None;
        let (program, cookie) = self
            .load(&state.rules, frags)
            .map_err(|rejected| Refusal::new(mode, PortErrorKind::System, rejected.to_string()))?;
        let flags = match mode {
            Mode::ZeroCopy | Mode::Copy => XDP_FLAGS_DRV,
            Mode::Skb => XDP_FLAGS_SKB,
        };
        let link = Link::attach(&program, interface.index, flags)
            .map_err(|e| ladder::attaching(mode, device, interface, e))?;
        state.link = Some(link);
        state.program = program.id();
        state.frags = frags;
        self.cookie.store(cookie, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn detach(&self) {
        let mut state = self.state();
        (state.link, state.program) = (None, 0);
    }

    /// Whether the program is still where it was attached, by the interface as it is now.
    pub(crate) fn is_attached(&self, interface: &Interface) -> bool {
        let program = self.state().program;
        program == 0 || interface.xdp.each().any(|(id, _)| id == program)
    }

    /// Puts a changed set of rules in force, all at once.
    fn change(&self, state: &mut State, rules: Vec<Installed>) -> Result<(), Rejected> {
        let (program, cookie) = self.load(&rules, state.frags)?;
        if let Some(link) = &state.link {
            match link.replace(&program) {
                // The interface is gone; the rules are in force when it is back.
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
                Err(error) => {
                    let log = "putting it in the place of the one before".into();
                    return Err(Rejected { error, log });
                }
                Ok(()) => state.program = program.id(),
            }
        }
        self.cookie.store(cookie, Ordering::Relaxed);
        state.rules = rules;
        Ok(())
    }

    /// Why a rule cannot be had, if so.
    pub(crate) fn check(&self, rule: &FlowRule) -> Result<(), String> {
        rule.matches.check().map_err(|e| e.to_string())?;
        let elsewhere = "the kernel gives a frame to sockets of its own queue only, so a rule cannot move it to \
             another; ethtool --config-ntuple moves it before, where the card can";
        match &rule.action {
            FlowAction::Queue(n) if *n >= self.queues => Err(format!(
                "there is no queue {n}; the port has {}",
                self.queues
            )),
            FlowAction::Queue(_) if self.queues > 1 => Err(elsewhere.into()),
            FlowAction::Rss(to) => {
                let all = (0..self.queues).all(|queue| to.contains(&queue));
                let known = to.iter().all(|queue| *queue < self.queues);
                if all && known {
                    Ok(())
                } else {
                    Err(elsewhere.into())
                }
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn validate(&self, rule: &FlowRule) -> Result<(), String> {
        self.check(rule)?;
        let state = self.state();
        let (rules, _) = Self::with(&state, rule)?;
        self.load(&rules, state.frags).map(drop).map_err(refused)
    }

    fn with(state: &State, rule: &FlowRule) -> Result<(Vec<Installed>, Slot), String> {
        let used = |slot: Slot| state.rules.iter().any(|i| i.placed.slot == slot);
        let slot = (0..MAX_RULES).map(Maps::slot).find(|slot| !used(*slot));
        let slot = slot.ok_or_else(|| format!("there are {MAX_RULES} rules already"))?;
        let mut rules = state.rules.clone();
        rules.push(Installed {
            id: FlowId(state.next),
            placed: Placed {
                rule: rule.clone(),
                slot,
            },
        });
        Ok((rules, slot))
    }

    pub(crate) fn create(&self, rule: &FlowRule) -> Result<FlowId, String> {
        self.check(rule)?;
        let mut state = self.state();
        let (rules, slot) = Self::with(&state, rule)?;
        self.maps
            .counters
            .clear(slot.0)
            .map_err(|e| format!("its counter: {e}"))?;
        self.change(&mut state, rules).map_err(refused)?;
        let id = FlowId(state.next);
        state.next += 1;
        Ok(id)
    }

    pub(crate) fn destroy(&self, id: FlowId) -> Result<(), String> {
        let mut state = self.state();
        let rest: Vec<_> = state.rules.iter().filter(|i| i.id != id).cloned().collect();
        if rest.len() == state.rules.len() {
            return Err(format!("there is no rule {}", id.0));
        }
        self.change(&mut state, rest).map_err(refused)
    }

    pub(crate) fn flush(&self) -> Result<(), String> {
        self.change(&mut self.state(), Vec::new()).map_err(refused)
    }

    pub(crate) fn query(&self, id: FlowId) -> Result<FlowCount, String> {
        let state = self.state();
        let found = state.rules.iter().find(|i| i.id == id);
        let slot = found
            .ok_or_else(|| format!("there is no rule {}", id.0))?
            .placed
            .slot;
        let [packets, bytes] = self.maps.count(slot);
        Ok(FlowCount { packets, bytes })
    }
}

/// What is said of rules that the kernel does not take.
fn refused(rejected: Rejected) -> String {
    match rejected.error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            format!("flow rules need CAP_PERFMON beside CAP_BPF; {GRANT}")
        }
        _ => rejected.to_string(),
    }
}

/// Another one each time, and not to be guessed by who writes frames.
fn fresh_cookie() -> u32 {
    RandomState::new().hash_one(0u8) as u32 | 1
}

/// Whether this process may do what a port needs, by doing it.
pub(crate) fn check_privileges(device: &Device) -> Result<(), PortError> {
    let tried = [
        ("an AF_XDP socket needs CAP_NET_RAW", Xsk::new().map(drop)),
        (
            "an XDP program needs CAP_BPF and CAP_NET_ADMIN of the machine itself; those of a user namespace do not do",
            Maps::new(1).and_then(|maps| maps.trial().map_err(|r| r.error)),
        ),
    ];
    for (what, result) in tried {
        match result {
            Ok(()) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
                return Err(device
                    .error(PortErrorKind::Permission, what)
                    .cause(e)
                    .remedy(GRANT));
            }
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                let what = "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)";
                let remedy = format!("open uring:{} instead", device.name);
                return Err(device
                    .error(PortErrorKind::Unsupported, what)
                    .cause(e)
                    .remedy(remedy));
            }
            Err(e) => {
                let what = "AF_XDP sockets and XDP programs do not work here";
                return Err(device.error(PortErrorKind::System, what).cause(e));
            }
        }
    }
    Ok(())
}

/// A program's name, if we may ask.
pub(crate) fn program_name(id: u32) -> Option<String> {
    let info = ProgramInfo::by_id(id).ok()?;
    (!info.name.is_empty()).then_some(info.name)
}

/// Refuses an interface that has a program already.
pub(crate) fn check_place(device: &Device, interface: &Interface) -> Result<(), PortError> {
    let Some((id, mode)) = interface.xdp.each().next() else {
        return Ok(());
    };
    let name = &device.name;
    let info = ProgramInfo::by_id(id);
    let who = match &info {
        Ok(info) if info.name == NAME => format!("of another linecard (program {id}, {mode})"),
        Ok(info) => format!(
            "already: {mode} program {id}, {:?}, loaded by user {}",
            info.name, info.uid
        ),
        Err(_) => format!("already: {mode} program {id}"),
    };
    let off = match ForeignLink::find(id, interface.index) {
        Some(link) => format!("end its process (bpftool link show id {} --pids)", link.id),
        None => format!("ip link set dev {name} {mode} off"),
    };
    Err(device
        .error(
            PortErrorKind::Busy,
            format!("{name} has an XDP program {who}"),
        )
        .remedy(format!("{off}, or replace it: xdp:{name}?force=1")))
}

/// Takes every program off an interface.
pub(crate) fn clear_place(
    mode: Mode,
    device: &Device,
    interface: &Interface,
) -> Result<(), Refusal> {
    for (id, how) in interface.xdp.each() {
        tracing::warn!(port = %device.port, program = id, mode = how, "replacing an XDP program, as force=1 says");
        let done = match ForeignLink::find(id, interface.index) {
            Some(link) => link.detach(),
            None => {
                let flags = match how {
                    "xdpgeneric" => XDP_FLAGS_SKB,
                    "xdpdrv" => XDP_FLAGS_DRV,
                    _ => XDP_FLAGS_HW,
                };
                device.take_off(interface.index, flags)
            }
        };
        done.map_err(|e| {
            let why = format!("taking {how} program {id} off {}: {e}", device.name);
            Refusal::new(mode, PortErrorKind::Busy, why)
        })?;
    }
    Ok(())
}
