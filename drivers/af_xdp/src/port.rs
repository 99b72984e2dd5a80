//! `xdp:` ports: the control plane.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use linecard_hal::flow::{FlowCount, FlowId, FlowRule, FlowRules};
use linecard_hal::{
    LinkState, Mempool, Offloads, Port, PortConfig, PortError, PortErrorKind, PortInfo, PortName,
    QueuePair,
};

use crate::device::{Device, Features, Interface};
use crate::group::{Group, Plan, check_channels};
use crate::ladder::{self, Abilities};
use crate::options::{Mode, Options};
use crate::program::{MARK_LOST, NO_SOCKET, PASSED, Share};
use crate::rx::{Checksums, Policy, Rx};
use crate::steering;
use crate::sys::socket::{CARD_GRAIN, Sizes, room_of};
use crate::tx::Tx;
use crate::{DATA_ROOM, MAX_BURST, MAX_QUEUES};

/// Bytes of an Ethernet header and of the two tags that may follow it.
const HEADERS_LEN: u32 = 14 + 8;

/// Mbufs that a fill ring's visit to the pool has in its hands.
const IN_HAND: usize = 64;

/// The largest data room that the kernel uses: a buffer is a page at most.
const MOST_DATA_ROOM: u16 = 4096 - 256;

/// Opens an interface.
pub(crate) fn open(mut name: PortName) -> Result<Box<dyn Port>, PortError> {
    let options = Options::take(&mut name)?;
    let device = Arc::new(Device::open(name.full(), name.device())?);
    steering::check_privileges(&device)?;
    let interface = device.interface().map_err(|e| device.not_found(e))?;
    let features = device.features(interface.index);
    let likely = |mode: &Mode| ladder::beforehand(*mode, &interface, features).is_ok();
    // Whatever rung it comes to, it is one of these.
    let possible: Vec<_> = options.modes().filter(likely).collect();
    let abilities = possible.iter().map(|mode| Abilities::of(*mode, features));
    let abilities = abilities.reduce(Abilities::and).unwrap_or(Abilities {
        pieces: 1,
        checksum: false,
    });
    let mut port = XdpPort {
        device,
        options,
        features,
        abilities,
        config: PortConfig::default(),
        group: None,
    };
    port.config.queues = options.queues.unwrap_or(1);
    Ok(Box::new(port))
}

struct XdpPort {
    device: Arc<Device>,
    options: Options,
    features: Option<Features>,
    abilities: Abilities,
    config: PortConfig,
    /// While it runs.
    group: Option<Arc<Group>>,
}

impl XdpPort {
    /// Queues of the interface that one queue of the port serves.
    fn served(&self) -> u32 {
        let index = self.device.interface().map_or(0, |i| i.index);
        let channels = self.device.channels(index).rx;
        channels
            .div_ceil(u32::from(self.config.queues.max(1)))
            .max(1)
    }

    /// Entries of the rings; those of all queues that one queue of the port serves are what was asked for.
    fn sizes(&self, served: u32) -> Sizes {
        let entries = |n: u32| n.clamp(64, 1 << 15).next_power_of_two();
        Sizes {
            rx: entries(self.config.rx_descriptors / served),
            tx: entries(self.config.tx_descriptors),
        }
    }

    fn offloads(&self, interface: Option<&Interface>) -> Offloads {
        let mut all = Offloads::empty();
        if interface.is_none_or(|i| !i.is_physical()) {
            all |= Offloads::RX_SUPER_FRAMES; // Unfinished checksums only.
        }
        if self.abilities.checksum {
            all |= Offloads::TX_TCP_CKSUM | Offloads::TX_UDP_CKSUM;
        }
        if self.abilities.pieces > 1 {
            all |= Offloads::RX_SCATTER | Offloads::TX_MULTI_SEGS;
        }
        all
    }

    /// What is on, of what it can do.
    fn enabled(&self, interface: Option<&Interface>) -> Offloads {
        self.offloads(interface) & self.config.offloads
    }

    /// The abilities that are on.
    fn used(&self, enabled: Offloads) -> Abilities {
        Abilities {
            pieces: if enabled.contains(Offloads::TX_MULTI_SEGS) {
                self.abilities.pieces
            } else {
                1
            },
            checksum: enabled.contains(Offloads::TX_TCP_CKSUM),
        }
    }

    /// Bytes of a buffer, so that a frame of this MTU fits where it cannot come in pieces.
    fn data_room(&self, mtu: u32) -> u16 {
        if self.abilities.pieces > 1 {
            return DATA_ROOM;
        }
        let frame = (mtu + HEADERS_LEN).next_multiple_of(CARD_GRAIN as u32);
        (frame.min(u32::from(MOST_DATA_ROOM)) as u16).max(DATA_ROOM)
    }

    fn notes(&self, interface: Option<&Interface>) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.group {
            Some(group) => {
                notes.extend(group.refusals());
                notes.extend(
                    group
                        .mode()
                        .map(|mode| format!("mode={mode}: {}", about(mode))),
                );
            }
            None => {
                let modes: Vec<_> = self.options.modes().map(|m| m.to_string()).collect();
                notes.push(format!("modes to try: {}", modes.join(", ")));
            }
        }
        notes.push(match self.options.share {
            Share::None => "share=none: all frames come here, none to the kernel's stack".into(),
            Share::Kernel => {
                "share=kernel: what no flow rule claims goes to the kernel's stack".into()
            }
        });
        if let Some(interface) = interface {
            if !interface.is_physical() {
                notes.push(
                    "checksums that a host on this machine left unfinished are recognised and asked for again \
                     on the way out"
                        .into(),
                );
            }
            if interface.link() == LinkState::Down {
                notes.push(format!("{0} is down: ip link set {0} up", self.device.name));
            }
            if self.abilities.pieces == 1 && interface.mtu + HEADERS_LEN > u32::from(MOST_DATA_ROOM)
            {
                notes.push(format!(
                    "frames above {MOST_DATA_ROOM} bytes are lost at an MTU of {}, as this kernel or mode has \
                     no frames in pieces (Linux 6.6): ip link set dev {} mtu 1500",
                    interface.mtu, self.device.name
                ));
            }
        }
        notes
    }
}

fn about(mode: Mode) -> &'static str {
    match mode {
        Mode::ZeroCopy => "the driver reads and writes the pool's mbufs",
        Mode::Copy => "the driver runs the program, and the kernel copies a frame once",
        Mode::Skb => {
            "the kernel runs the program behind the driver and copies; TCP super-frames are cut again, UDP's \
             are lost (ethtool -K … tx-udp-segmentation off at their sender)"
        }
    }
}

impl Port for XdpPort {
    fn info(&self) -> PortInfo {
        let now = self.device.interface().ok();
        let interface = now.as_ref();
        let index = interface.map_or(0, |i| i.index);
        let mtu = interface.map_or(1500, |i| i.mtu);
        let channels = self.device.channels(index);
        PortInfo {
            name: self.device.port.clone(),
            driver: "xdp",
            mac: interface.and_then(|i| i.mac),
            mtu,
            node: self.device.node(index),
            speed_mbps: self.device.speed(index),
            speed_is_nominal: interface.is_some_and(|i| self.device.is_speed_nominal(i)),
            max_queues: channels.rx.min(u32::from(MAX_QUEUES)) as u16,
            data_room: self.data_room(mtu),
            offloads: self.enabled(interface),
            can_wait: !self.options.busy_poll,
            notes: self.notes(interface),
            rungs: Vec::new(),
        }
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        let refuse = |what: String, remedy: &str| {
            Err(self
                .device
                .error(PortErrorKind::Config, what)
                .remedy(remedy))
        };
        if self.group.is_some() {
            return refuse("it is running".into(), "stop the port first");
        }
        if config.queues == 0 || config.queues > MAX_QUEUES {
            let what = format!(
                "{} queues are not between 1 and {MAX_QUEUES}",
                config.queues
            );
            return refuse(what, "use fewer workers on this port");
        }
        if let Some(named) = self.options.queues.filter(|n| *n != config.queues) {
            let what = format!(
                "the name says queues={named} and the configuration {}",
                config.queues
            );
            return refuse(
                what,
                &format!("use {named} workers, or leave queues= out of the name"),
            );
        }
        if config.burst == 0 || config.burst > MAX_BURST {
            let what = format!(
                "a burst of {} is not between 1 and {MAX_BURST}",
                config.burst
            );
            return refuse(what, "try a burst of 32");
        }
        let interface = self
            .device
            .interface()
            .map_err(|e| self.device.not_found(e))?;
        check_channels(&self.device, interface.index, u32::from(config.queues))?;
        self.config = config.clone();
        Ok(())
    }

    fn mbufs_per_queue(&self) -> usize {
        let served = self.served();
        let sizes = self.sizes(served);
        (sizes.rx * served + sizes.tx) as usize + IN_HAND
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        if self.group.is_some() {
            let error = self.device.error(PortErrorKind::Config, "it is running");
            return Err(error.remedy("stop the port first"));
        }
        let queues = usize::from(self.config.queues);
        let info = self.info();
        check_pools(&info, pools, queues)?;
        let interface = self
            .device
            .interface()
            .map_err(|e| self.device.not_found(e))?;
        let group = Group::open(Plan {
            device: self.device.clone(),
            options: self.options,
            features: self.features,
            abilities: self.used(info.offloads),
            sizes: self.sizes(self.served()),
            promiscuous: self.config.promiscuous,
            pools: pools[..queues].to_vec(),
        })?;
        let group = Arc::new(group);
        let policy = Policy {
            port: self.config.index,
            mtu: interface.mtu as usize,
            checksums: if interface.is_physical() {
                Checksums::Finished
            } else if info.offloads.contains(Offloads::RX_SUPER_FRAMES) {
                Checksums::Request
            } else {
                Checksums::Finish
            },
        };
        let mut pairs = Vec::with_capacity(queues);
        for (id, pool) in pools.iter().take(queues).enumerate() {
            pairs.push(QueuePair {
                rx: Box::new(Rx::new(group.clone(), id, policy)?),
                tx: Box::new(Tx::new(group.clone(), id, pool.clone())?),
            });
        }
        self.group = Some(group);
        Ok(pairs)
    }

    fn stop(&mut self) -> Result<(), PortError> {
        if let Some(group) = self.group.take() {
            group.close();
        }
        Ok(())
    }

    fn link(&self) -> LinkState {
        self.device.link()
    }

    fn ifindex(&self) -> Option<u32> {
        Some(self.device.interface().ok()?.index)
    }

    fn extended_stats(&self) -> Vec<(String, u64)> {
        let Some(group) = &self.group else {
            return Vec::new();
        };
        let program = |slot| group.steering.maps.count(slot)[0];
        let (totals, sockets) = (&group.totals, group.totals.closed());
        let all = [
            ("xdp_passed_to_kernel", program(PASSED)),
            ("xdp_no_socket", program(NO_SOCKET)),
            ("xdp_marks_lost", program(MARK_LOST)),
            (
                "rx_unfinished_checksums",
                totals.unfinished.load(Ordering::Relaxed),
            ),
            ("sockets_reopened", totals.reopened.load(Ordering::Relaxed)),
            ("rx_no_buffer", sockets.rx_dropped),
            ("rx_ring_full", sockets.rx_ring_full),
            ("rx_fill_ring_empty", sockets.fill_ring_empty),
            ("rx_invalid_descriptors", sockets.rx_invalid),
            ("tx_invalid_descriptors", sockets.tx_invalid),
        ];
        let some = all.into_iter().filter(|(_, n)| *n > 0);
        some.map(|(name, n)| (name.into(), n)).collect()
    }

    fn flow_rules(&mut self) -> Option<&mut dyn FlowRules> {
        self.group.is_some().then_some(self as &mut dyn FlowRules)
    }
}

impl XdpPort {
    fn on_rules<T>(
        &self,
        about: &str,
        act: impl FnOnce(&Group) -> Result<T, String>,
    ) -> Result<T, PortError> {
        let done = match &self.group {
            Some(group) => act(group),
            None => Err("the port is not running".into()),
        };
        done.map_err(|why| {
            let what = format!("{about}: {why}");
            self.device.error(PortErrorKind::Unsupported, what)
        })
    }
}

impl FlowRules for XdpPort {
    fn validate(&mut self, rule: &FlowRule) -> Result<(), PortError> {
        self.on_rules(&rule.to_string(), |group| group.steering.validate(rule))
    }

    fn create(&mut self, rule: &FlowRule) -> Result<FlowId, PortError> {
        self.on_rules(&rule.to_string(), |group| group.steering.create(rule))
    }

    fn destroy(&mut self, id: FlowId) -> Result<(), PortError> {
        self.on_rules("removing a rule", |group| group.steering.destroy(id))
    }

    fn query(&mut self, id: FlowId) -> Result<Option<FlowCount>, PortError> {
        self.on_rules("a rule's count", |group| group.steering.query(id))
            .map(Some)
    }

    fn flush(&mut self) -> Result<(), PortError> {
        self.on_rules("removing all rules", |group| group.steering.flush())
    }
}

/// Whether the pools suit the port.
fn check_pools(info: &PortInfo, pools: &[Mempool], queues: usize) -> Result<(), PortError> {
    let refuse = |what: String, remedy: String| {
        Err(PortError::new(&info.name, PortErrorKind::Pool, what).remedy(remedy))
    };
    if pools.len() < queues {
        let what = format!("{} pools for {queues} queues", pools.len());
        return refuse(what, "give one pool for each queue".into());
    }
    for pool in pools {
        let config = pool.config();
        // The kernel's 256 bytes before a frame are the mbuf's header and its headroom.
        if config.headroom < 128 {
            let what = format!(
                "mempool {} has a headroom of {}",
                config.name, config.headroom
            );
            return refuse(what, "use a headroom of 128".into());
        }
        // The kernel writes as far as a buffer of 2,048 bytes goes.
        if config.data_room < info.data_room
            || room_of(config.data_room) > usize::from(config.data_room)
        {
            let what = format!(
                "mempool {} has a data room of {}",
                config.name, config.data_room
            );
            return refuse(what, format!("use {}", info.data_room));
        }
    }
    Ok(())
}
