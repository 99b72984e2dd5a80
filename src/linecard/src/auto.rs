//! `auto:DEVICE`: the best driver that can take a device, and why not a better one.
//!
//! The ladder, from the top:
//!
//! | rung | what it is | when it is not taken |
//! | --- | --- | --- |
//! | `dpdk` | DPDK's poll-mode driver | the kernel has the card: `linecard bind` gives it away, and then it is `auto:` and its PCI address |
//! | `xdp zerocopy` | AF_XDP on the pool's memory, by the driver | the driver has none; the pool is in small pages |
//! | `xdp copy` | AF_XDP, the driver runs the program | the driver runs none; a program of somebody else; no privileges |
//! | `xdp skb` | AF_XDP behind the driver | the same, and on a virtual link |
//! | `uring ring` | the kernel's mapped packet ring | the kernel has none |
//! | `uring multishot`, `uring mmsg` | a system call a burst | – |
//!
//! A rung may fail when it is opened, when it is configured (AF_XDP wants as many workers as the interface has queues) or
//! when it is started (a queue that somebody has, a memory limit): the next one takes over, as long as it can
//! live with the pools that were made. [`PortInfo::rungs`] has each with the reason and what would change it.
//!
//! # Why in this order
//!
//! `benches/README.md` has the figures on a veth: `xdp copy` forwards 1.2 times the packets of `uring ring` for two thirds
//! of the processor time, and a lone frame arrives sooner, as it waits for no block to be handed over. What it costs there is bulk TCP
//! between hosts of one machine, which cut their super-frames themselves meanwhile: a quarter of the ring's
//! throughput. The rung says so, and `uring:` by name is the remedy. `xdp skb` on a virtual link loses UDP
//! super-frames, copies as often as the ring does, and is left out; on a physical card, whose frames come from a wire, it keeps its
//! place. No physical card was there to measure any of them.
//!
//! # What the kernel sees
//!
//! A `uring:` port listens: the kernel's own stack sees the same frames. An AF_XDP port takes them away. So that
//! nobody loses their ssh session to the word "auto", the AF_XDP rungs are passed over where the kernel has something to
//! lose: an interface with an address (other than IPv6's link-local), with a route, below a VLAN or the like, or in
//! a bridge or bond. What then opens it all the same is its name, `xdp:eth1`, or `auto:eth1?share=none`. Elsewhere
//! the kernel does nothing with frames but drop them, and it makes no difference. An address
//! that is added while a port runs is not noticed, nor is a macvlan that another namespace has.
//!
//! # Options
//!
//! The options are those of the drivers. `mode=` and `rx=` choose a rung; a rung whose driver does not know an option
//! is not taken.

mod ladder;
mod stake;

use linecard_af_xdp::{self as xdp, Obstacle};
use linecard_engine::topology::{SysRoot, interfaces};
use linecard_hal::flow::FlowRules;
use linecard_hal::region::{Region, RegionRequest};
use linecard_hal::{
    LinkState, Mempool, Port, PortConfig, PortError, PortErrorKind, PortInfo, PortName, QueuePair,
};
use linecard_io_uring as uring;

use self::ladder::{Candidate, candidates, told};
use crate::open::open;
use crate::pci::{self, PciAddress, SHARED_DRIVERS};

pub use self::ladder::{Facts, lines, predict};
pub use self::stake::stake;

/// Opens `auto:DEVICE?options`.
pub(crate) fn open_auto(name: PortName) -> Result<Box<dyn Port>, PortError> {
    let (_, options) = name.full().split_once('?').unwrap_or((name.full(), ""));
    if name.device().parse::<PciAddress>().is_ok() {
        let mut chosen = format!("dpdk:{}", name.device());
        if !options.is_empty() {
            chosen = format!("{chosen}?{options}");
        }
        let ladder = vec![Candidate {
            rung: "dpdk".into(),
            port: chosen,
            about: "DPDK's driver has the card".into(),
            instead: String::new(),
            obstacle: None,
        }];
        return Ok(Box::new(Auto::open(name.full(), ladder, open)?));
    }
    let facts = facts(name.device(), &SysRoot::default())?;
    let ladder = candidates(&facts, options);
    Ok(Box::new(Auto::open(name.full(), ladder, open)?))
}

/// What is known of an interface without opening it. Fails if there is no such interface.
fn facts(interface: &str, root: &SysRoot) -> Result<Facts, PortError> {
    let xdp = match xdp::probe(interface) {
        Err(error) if error.kind == PortErrorKind::NotFound => {
            return Err(PortError {
                port: format!("auto:{interface}"),
                ..error
            });
        }
        answer => answer.map_err(|error| obstacle(&error)),
    };
    let socket = uring::probe();
    let ring = (!socket.tpacket_v3).then(|| Obstacle {
        reason: "the kernel has no TPACKET_V3".into(),
        remedy: "linecard doctor".into(),
    });
    let multishot = match &socket.io_uring {
        // Then nothing was tried; the socket is the reason.
        _ if socket.packet_socket.is_err() => None,
        Err(reason) => Some(format!("io_uring: {reason}")),
        Ok(()) if !socket.multishot => Some("multishot receive needs Linux 6.0".to_owned()),
        Ok(()) => None,
    };
    Ok(Facts {
        interface: interface.into(),
        dpdk: no_dpdk(interface, root),
        stake: stake(interface, &interfaces(root)),
        xdp,
        // Is tried when the port is opened, and then has the error of the system.
        socket: None,
        ring: ring.filter(|_| socket.packet_socket.is_ok()),
        multishot: multishot.map(|reason| Obstacle {
            reason,
            remedy: "linecard doctor".into(),
        }),
    })
}

/// An error as the reason why a rung is not taken.
pub fn obstacle(error: &PortError) -> Obstacle {
    // The rung's name says the mode already.
    let what = match error.what.split_once(": ") {
        Some((mode, rest)) if mode.starts_with("mode=") && !mode.contains(' ') => rest,
        _ => &error.what,
    };
    Obstacle {
        reason: match &error.cause {
            Some(cause) => format!("{what}: {cause}"),
            None => what.to_owned(),
        },
        remedy: error.remedy.clone(),
    }
}

/// Why DPDK does not take an interface of the kernel's. An interface is there because the kernel's own
/// driver has the card.
pub fn no_dpdk(interface: &str, root: &SysRoot) -> Obstacle {
    let cards = pci::network_devices(root).into_iter();
    let mut cards = cards.filter(|card| card.interfaces.iter().any(|name| name == interface));
    let Some(card) = cards.next() else {
        return Obstacle {
            reason: format!("{interface} is not a PCI card"),
            remedy: "linecard ports lists the cards that there are".into(),
        };
    };
    let (address, driver) = (card.address, card.driver.unwrap_or_default());
    let (reason, mut remedy) = if SHARED_DRIVERS.contains(&driver.as_str()) {
        (
            format!("DPDK drives {address} beside the kernel's {driver}, by its address"),
            format!("open auto:{address}"),
        )
    } else {
        (
            format!("{address} belongs to the kernel's {driver}"),
            format!("linecard bind {address}, then open auto:{address}"),
        )
    };
    if !cfg!(feature = "dpdk") {
        remedy += ", with a build that has it: cargo build --release --features dpdk";
    }
    Obstacle { reason, remedy }
}

/// A port that stands on a rung, and steps down when that breaks before it carries anything.
struct Auto {
    name: String,
    /// As far as it was known when the port was opened.
    ladder: Vec<Candidate>,
    /// With what was found out since.
    now: Vec<Candidate>,
    at: usize,
    inner: Box<dyn Port>,
    config: PortConfig,
    running: bool,
    opener: Opener,
}

/// What opens a rung: [`open`], or a test's own.
type Opener = fn(&str) -> Result<Box<dyn Port>, PortError>;

impl Auto {
    fn open(name: &str, ladder: Vec<Candidate>, opener: Opener) -> Result<Self, PortError> {
        let mut now = ladder;
        let (at, inner) = first(name, &mut now, opener)?;
        Ok(Self {
            name: name.into(),
            ladder: now.clone(),
            now,
            at,
            inner,
            config: PortConfig::default(),
            running: false,
            opener,
        })
    }

    /// Takes the next rung, as this one failed.
    fn step_down(&mut self, error: PortError) -> Result<(), PortError> {
        tracing::info!(port = %self.name, rung = %self.now[self.at].rung, "stepping down: {error}");
        self.now[self.at].obstacle = Some(obstacle(&error));
        if self.now[self.at..]
            .iter()
            .all(|rung| rung.obstacle.is_some())
        {
            return Err(failed(&self.name, &self.now, error));
        }
        (self.at, self.inner) = first(&self.name, &mut self.now, self.opener)?;
        Ok(())
    }

    /// Whether the rung can live with pools that were made for the one above it.
    fn fits(&self, pools: &[Mempool], mbufs: usize) -> Result<(), PortError> {
        let (wants, holds) = (self.inner.info().data_room, self.inner.mbufs_per_queue());
        let refuse = |what: String| {
            let remedy = format!("open {}", self.now[self.at].port);
            Err(PortError::new(&self.name, PortErrorKind::Pool, what).remedy(remedy))
        };
        match pools.iter().map(|pool| pool.config().data_room).min() {
            Some(room) if room < wants => refuse(format!(
                "the pools were made with a data room of {room}, and it wants {wants}"
            )),
            _ if holds > mbufs => refuse(format!(
                "the pools were made for {mbufs} mbufs a queue, and it holds {holds}"
            )),
            _ => Ok(()),
        }
    }
}

/// Opens the first rung that can be opened, and notes of those before it why they cannot.
fn first(
    name: &str,
    ladder: &mut [Candidate],
    open: Opener,
) -> Result<(usize, Box<dyn Port>), PortError> {
    let mut last = None;
    for (at, rung) in ladder.iter_mut().enumerate() {
        if rung.obstacle.is_some() {
            continue;
        }
        match open(&rung.port) {
            Ok(port) => return Ok((at, port)),
            Err(error) => {
                rung.obstacle = Some(obstacle(&error));
                last = Some(error);
            }
        }
    }
    let nothing = || PortError::new(name, PortErrorKind::Unsupported, "there is no rung");
    Err(failed(name, ladder, last.unwrap_or_else(nothing)))
}

/// The error when the last rung broke. With the others, if there are any.
fn failed(name: &str, ladder: &[Candidate], last: PortError) -> PortError {
    let error = PortError {
        port: name.into(),
        ..last
    };
    if ladder.len() < 2 {
        return error;
    }
    PortError {
        what: format!(
            "no rung can be taken: {}",
            lines(&told(ladder, None)).join("; ")
        ),
        cause: None,
        ..error
    }
}

impl Port for Auto {
    fn info(&self) -> PortInfo {
        let mut info = self.inner.info();
        info.name.clone_from(&self.name);
        info.rungs = told(&self.now, Some(self.at));
        info
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        if self.running {
            return self.inner.configure(config); // Refuses.
        }
        let most = self.inner.info().max_queues;
        if config.queues == 0 || config.queues > most {
            // What it says of itself holds, though a lower rung may have more.
            let what = format!("{} queues, but it has 1 to {most}", config.queues);
            return Err(PortError::new(&self.name, PortErrorKind::Config, what)
                .remedy("use fewer workers on this port"));
        }
        // What an earlier configuration found out need not be so with this one.
        self.now.clone_from(&self.ladder);
        let best = self.now.iter().position(|rung| rung.obstacle.is_none());
        if best.is_some_and(|best| best < self.at) {
            (self.at, self.inner) = first(&self.name, &mut self.now, self.opener)?;
        }
        while let Err(error) = self.inner.configure(config) {
            self.step_down(error)?;
        }
        self.config = config.clone();
        Ok(())
    }

    fn mbufs_per_queue(&self) -> usize {
        self.inner.mbufs_per_queue()
    }

    fn memory(&self, request: &RegionRequest) -> Option<Result<Region, PortError>> {
        self.inner.memory(request)
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        if self.running {
            return self.inner.start(pools); // Refuses.
        }
        let mbufs = self.inner.mbufs_per_queue();
        let mut started = self.inner.start(pools);
        while let Err(error) = started {
            self.step_down(error)?;
            let configured = self.inner.configure(&self.config);
            started = configured
                .and_then(|()| self.fits(pools, mbufs))
                .and_then(|()| self.inner.start(pools));
        }
        self.running = started.is_ok();
        started
    }

    fn stop(&mut self) -> Result<(), PortError> {
        self.running = false;
        self.inner.stop()
    }

    fn link(&self) -> LinkState {
        self.inner.link()
    }

    fn ifindex(&self) -> Option<u32> {
        self.inner.ifindex()
    }

    fn flow_rules(&mut self) -> Option<&mut dyn FlowRules> {
        self.inner.flow_rules()
    }

    fn extended_stats(&self) -> Vec<(String, u64)> {
        self.inner.extended_stats()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use linecard_hal::MempoolConfig;

    use super::*;

    #[test]
    fn the_kernels_cards_are_named_with_what_gives_them_away() {
        let dir = tempfile::tempdir().unwrap();
        let card = |address: &str, driver: &str, interface: &str| {
            let folder = dir.path().join("sys/bus/pci/devices").join(address);
            fs::create_dir_all(folder.join(interface)).unwrap();
            fs::write(folder.join("class"), "0x020000\n").unwrap();
            let driver = format!("/sys/bus/pci/drivers/{driver}");
            symlink(driver, folder.join("driver")).unwrap();
        };
        card("0000:3b:00.0", "ixgbe", "net/eth1");
        card("0000:3c:00.0", "mlx5_core", "net/eth2");
        card("0000:00:03.0", "virtio-pci", "virtio0/net/eth3");
        let why = |interface: &str| no_dpdk(interface, &SysRoot::new(dir.path()));

        let card = why("eth1");
        assert_eq!(card.reason, "0000:3b:00.0 belongs to the kernel's ixgbe");
        assert!(
            card.remedy.starts_with("linecard bind 0000:3b:00.0"),
            "{card:?}"
        );
        // One that `linecard bind` refuses, as DPDK needs the kernel's driver.
        let shared = why("eth2");
        assert!(!shared.remedy.contains("linecard bind"), "{shared:?}");
        assert!(
            shared.remedy.contains("open auto:0000:3c:00.0"),
            "{shared:?}"
        );
        let behind_virtio = why("eth3");
        assert!(
            behind_virtio.remedy.contains("linecard bind 0000:00:03.0"),
            "{behind_virtio:?}"
        );
        assert_eq!(why("veth1").reason, "veth1 is not a PCI card");
    }

    /// A card by its address has one rung: what this build says of it is the answer.
    #[test]
    fn a_pci_address_is_dpdks() {
        for text in ["0000:ff:1f.7", "ff:1f.7", "10000:e1:00.0"] {
            let error = open_auto(format!("auto:{text}").parse().unwrap()).err();
            let error = error.expect("there is no such card").to_string();
            assert!(!error.contains("uring"), "{error}");
        }
        let missing = open_auto("auto:0000.3b.00.0".parse().unwrap())
            .err()
            .unwrap();
        assert_eq!(missing.kind, PortErrorKind::NotFound);
    }

    /// A null port that fails where its name says so.
    struct Fake {
        inner: Box<dyn Port>,
        fails: &'static str,
        data_room: u16,
    }

    impl Fake {
        fn check(&self, at: &str) -> Result<(), PortError> {
            if self.fails != at {
                return Ok(());
            }
            let busy = std::io::Error::from_raw_os_error(nix::libc::EBUSY);
            Err(PortError::new(
                "fake",
                PortErrorKind::Busy,
                format!("mode=copy: {at}s badly"),
            )
            .cause(busy)
            .remedy(format!("mend {at}")))
        }
    }

    fn fake(name: &str) -> Result<Box<dyn Port>, PortError> {
        let fails = ["open", "configure", "start"]
            .into_iter()
            .find(|at| name.contains(at));
        let fake = Fake {
            inner: open("null:0")?,
            fails: fails.unwrap_or(""),
            data_room: if name.contains("large") { 9000 } else { 2048 },
        };
        fake.check("open")?;
        Ok(Box::new(fake))
    }

    impl Port for Fake {
        fn info(&self) -> PortInfo {
            PortInfo {
                data_room: self.data_room,
                ..self.inner.info()
            }
        }

        fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
            self.check("configure")?;
            self.inner.configure(config)
        }

        fn mbufs_per_queue(&self) -> usize {
            self.inner.mbufs_per_queue()
        }

        fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
            self.check("start")?;
            self.inner.start(pools)
        }

        fn stop(&mut self) -> Result<(), PortError> {
            self.inner.stop()
        }

        fn link(&self) -> LinkState {
            self.inner.link()
        }
    }

    fn auto(rungs: &[&str]) -> Result<Auto, PortError> {
        let rung = |name: &&str| Candidate {
            rung: (*name).into(),
            port: format!("fake:{name}"),
            about: String::new(),
            instead: String::new(),
            obstacle: (*name == "known").then(|| Obstacle {
                reason: "it is known".into(),
                remedy: String::new(),
            }),
        };
        Auto::open("auto:eth1", rungs.iter().map(rung).collect(), fake)
    }

    fn pool() -> Mempool {
        Mempool::new(MempoolConfig::new("pool", 4096)).unwrap()
    }

    /// Each rung with the reason why it is not taken, up to the one that is.
    fn reasons(port: &Auto) -> Vec<String> {
        let rungs = port.info().rungs.into_iter();
        rungs
            .map(|rung| {
                if rung.taken {
                    "taken".into()
                } else {
                    rung.reason
                }
            })
            .collect()
    }

    #[test]
    fn a_rung_that_breaks_hands_over_to_the_next() {
        let mut port = auto(&[
            "known",
            "open",
            "configure",
            "start",
            "large",
            "good",
            "rest",
        ])
        .unwrap();
        assert_eq!(
            reasons(&port)[..3],
            [
                "it is known",
                "opens badly: Device or resource busy (os error 16)",
                "taken"
            ]
        );
        port.configure(&PortConfig::default()).unwrap();
        assert!(port.info().rungs[3].taken);
        let queues = port.start(&[pool()]).unwrap();
        let busy = |what: &str| format!("{what} badly: Device or resource busy (os error 16)");
        assert_eq!(
            reasons(&port),
            [
                "it is known".into(),
                busy("opens"),
                busy("configures"),
                busy("starts"),
                "the pools were made with a data room of 2048, and it wants 9000".into(),
                "taken".to_owned(),
                "good comes before it".into(),
            ]
        );
        assert_eq!(port.info().name, "auto:eth1");
        assert_eq!(port.info().rungs[3].remedy, "mend start");
        // A mistake of the caller's is no reason to leave a rung that works.
        assert!(port.start(&[pool()]).is_err() || port.info().rungs[5].taken);
        assert!(port.info().rungs[5].taken);
        drop(queues);
        port.stop().unwrap();
        // With another configuration all rungs have their chance again.
        port.configure(&PortConfig::default()).unwrap();
        assert!(port.info().rungs[3].taken, "{:#?}", port.info().rungs);
    }

    #[test]
    fn when_no_rung_holds_each_says_why() {
        let error = auto(&["known", "open"]).err().unwrap();
        assert_eq!(
            (error.kind, error.port.as_str()),
            (PortErrorKind::Busy, "auto:eth1")
        );
        let text = error.to_string();
        assert!(
            text.contains("not known: it is known; not open: opens badly"),
            "{text}"
        );
        assert!(text.contains("mend open"), "{text}");

        let mut port = auto(&["configure", "start"]).unwrap();
        port.configure(&PortConfig::default()).unwrap();
        let error = port.start(&[pool()]).err().unwrap().to_string();
        assert!(error.contains("not start: starts badly"), "{error}");
        assert!(error.contains("not configure: configures badly"), "{error}");
        let error = auto(&["known"]).err().unwrap().to_string();
        assert!(
            error.contains("it is known") || error.contains("no rung"),
            "{error}"
        );
    }
}
