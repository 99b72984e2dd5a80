//! `uring:` ports: any Linux interface.

use std::sync::Arc;

use linecard_hal::{
    LinkState, Mempool, Offloads, Port, PortConfig, PortError, PortErrorKind, PortInfo, PortName,
    QueuePair,
};

use crate::device::Device;
use crate::meta::RxPolicy;
use crate::options::{Options, RxMode, TxMode};
use crate::probe::{io_uring, kernel_at_least};
use crate::rx::{Engine, Group, Plan, Rx};
use crate::sys::batch::BatchRing;
use crate::sys::send::{Sender, Sink};
use crate::sys::slots::SlotSize;
use crate::sys::socket::PacketSocket;
use crate::tx::{Outlet, Sockets, Tx};
use crate::{DATA_ROOM, MAX_BURST, MAX_QUEUES, SUPER_DATA_ROOM};

/// Buffers of a multishot request: each has room for a super-frame, and the socket's own buffer stands
/// behind them.
const MULTISHOT_BUFFERS: u32 = 256;

/// Bytes of an Ethernet header, and of the two tags that may follow it.
const ETHERNET_LEN: usize = 14;
const TAGS_LEN: usize = 8;

/// Opens an interface.
///
/// The interface may be switched off: the port then starts [down](linecard_hal::QueueState::Down) and
/// begins to work when it is switched on.
pub(crate) fn open(mut name: PortName) -> Result<Box<dyn Port>, PortError> {
    let options = Options::take(&mut name)?;
    let device = Arc::new(Device::open(name.full(), name.device())?);
    let mut port = UringPort {
        uring: io_uring(),
        can: Features::of(&device)?,
        device,
        options,
        config: PortConfig::default(),
        running: false,
    };
    port.config.queues = options.queues.unwrap_or(1);
    Ok(Box::new(port))
}

/// What the kernel lets a socket have.
#[derive(Debug, Clone, Copy)]
struct Features {
    vnet: bool,
    qdisc_bypass: bool,
    ring: bool,
    slots: bool,
}

impl Features {
    fn of(device: &Device) -> Result<Self, PortError> {
        let socket = PacketSocket::new().map_err(|e| device.system("a socket", e))?;
        let has = |version| {
            socket
                .set_packet(libc::PACKET_VERSION, version as libc::c_int)
                .is_ok()
        };
        Ok(Self {
            vnet: socket.set_packet(libc::PACKET_VNET_HDR, 1).is_ok(),
            qdisc_bypass: socket.set_packet(libc::PACKET_QDISC_BYPASS, 1).is_ok(),
            ring: has(libc::tpacket_versions::TPACKET_V3),
            slots: has(libc::tpacket_versions::TPACKET_V2),
        })
    }
}

struct UringPort {
    device: Arc<Device>,
    options: Options,
    can: Features,
    /// Why there is no io_uring.
    uring: Result<(), String>,
    config: PortConfig,
    running: bool,
}

impl UringPort {
    fn engine(&self) -> Engine {
        let descriptors = self.config.rx_descriptors;
        let multishot = self.uring.is_ok() && kernel_at_least(6, 0);
        let ring = Engine::Ring(self.options.ring_size(descriptors, self.config.rx_gather));
        let many = descriptors.clamp(16, MULTISHOT_BUFFERS).next_power_of_two() as u16;
        match self.options.rx {
            RxMode::Auto | RxMode::Ring if self.can.ring => ring,
            RxMode::Auto | RxMode::Ring | RxMode::Multishot if multishot => Engine::Multishot(many),
            _ => Engine::Mmsg,
        }
    }

    /// Whether frames without requests leave by the mapped ring. A device that hands them to a local
    /// receiver makes the kernel copy them once more, so that a plain send is cheaper there.
    fn tx_by_ring(&self) -> bool {
        match self.options.tx {
            TxMode::Auto => self.can.slots && !self.device.is_local_link(),
            TxMode::Ring => self.can.slots,
            TxMode::Uring | TxMode::Mmsg => false,
        }
    }

    fn tx_by_uring(&self) -> bool {
        self.uring.is_ok() && self.options.tx != TxMode::Mmsg
    }

    fn offloads(&self) -> Offloads {
        let mut all = Offloads::RX_VLAN_STRIP
            | Offloads::RX_CKSUM
            | Offloads::RX_TIMESTAMP
            | Offloads::TX_VLAN_INSERT
            | Offloads::TX_MULTI_SEGS;
        if self.can.vnet {
            all |= Offloads::RX_SUPER_FRAMES
                | Offloads::TX_TCP_CKSUM
                | Offloads::TX_UDP_CKSUM
                | Offloads::TX_TCP_SEG;
            if kernel_at_least(6, 2) {
                all |= Offloads::TX_UDP_SEG;
            }
            if matches!(self.engine(), Engine::Ring(_)) {
                // A super-frame of more than 65,535 bytes with its header.
                all |= Offloads::RX_SCATTER;
            }
        }
        all
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let engine = self.engine();
        notes.push(match engine {
            Engine::Ring(size) => format!(
                "rx=ring: the mapped packet ring costs about a thirtieth of a system-call path; {} blocks \
                 of {} KiB a queue, handed over after {} ms at the latest",
                size.blocks,
                size.block_size / 1024,
                size.retire_ms
            ),
            Engine::Multishot(n) => format!("rx=multishot: {n} buffers of the pool are with the kernel"),
            Engine::Mmsg => "rx=mmsg: one recvmmsg a burst".into(),
        });
        if let Err(reason) = &self.uring {
            let instead = if engine == Engine::Mmsg {
                "recvmmsg/sendmmsg"
            } else {
                "epoll and sendmmsg"
            };
            notes.push(format!("io_uring: {reason}; using {instead}"));
        } else if self.options.rx == RxMode::Multishot && engine == Engine::Mmsg {
            notes.push("multishot receive needs Linux 6.0; using recvmmsg".into());
        }
        if !self.can.ring && matches!(self.options.rx, RxMode::Auto | RxMode::Ring) {
            notes.push("the kernel has no TPACKET_V3".into());
        }
        notes.push(self.tx_note());
        if !self.can.vnet {
            notes.push(
                "no PACKET_VNET_HDR: switch the peers' offloads off (ethtool -K … tx off)".into(),
            );
        }
        if !self.can.qdisc_bypass {
            notes.push("no PACKET_QDISC_BYPASS: frames pass the queueing discipline".into());
        }
        if self.config.queues > 1 {
            notes.push(
                "queues by PACKET_FANOUT with the symmetric Toeplitz hash (key 6d5a…)".into(),
            );
        }
        if self.device.link() == LinkState::Down {
            notes.push(format!("{0} is down: ip link set {0} up", self.device.name));
        }
        notes
    }

    fn tx_note(&self) -> String {
        let otherwise = if self.tx_by_uring() {
            "uring: one io_uring_enter a burst"
        } else {
            "mmsg: one sendmmsg a burst"
        };
        match self.slots() {
            Some(size) => format!(
                "tx=ring: the mapped packet ring of {} slots of {} bytes a queue, one send a burst, for frames \
                 without offload requests; the others tx={otherwise}",
                size.slots, size.slot
            ),
            None if self.options.tx == TxMode::Auto && self.can.slots => {
                format!("tx={otherwise}, which beats the mapped ring over a veth")
            }
            None => format!("tx={otherwise}"),
        }
    }

    /// The mapped transmit ring, if there is to be one.
    fn slots(&self) -> Option<SlotSize> {
        let frame = self.device.mtu() as usize + ETHERNET_LEN + TAGS_LEN;
        self.tx_by_ring()
            .then(|| SlotSize::for_frames(frame, self.config.tx_descriptors))
    }

    fn sender(&self) -> Sender {
        let burst = self.config.burst.clamp(64, MAX_BURST);
        let ring = if self.tx_by_uring() {
            BatchRing::new(burst).ok()
        } else {
            None
        };
        Sender::new(Sink::Socket, ring, burst)
    }
}

impl Port for UringPort {
    fn info(&self) -> PortInfo {
        let ring = matches!(self.engine(), Engine::Ring(_));
        PortInfo {
            name: self.device.port.clone(),
            driver: "uring",
            mac: self.device.mac(),
            mtu: self.device.mtu(),
            node: self.device.node(),
            speed_mbps: self.device.speed(),
            speed_is_nominal: self.device.is_speed_nominal(),
            max_queues: MAX_QUEUES,
            // The ring needs the pool's headers only.
            data_room: if ring || !self.can.vnet {
                DATA_ROOM
            } else {
                SUPER_DATA_ROOM
            },
            offloads: self.offloads() & self.config.offloads,
            can_wait: true,
            notes: self.notes(),
            rungs: Vec::new(),
        }
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        check_config(&self.device.port, config, self.options.queues, self.running)?;
        self.config = config.clone();
        Ok(())
    }

    fn mbufs_per_queue(&self) -> usize {
        let burst = self.config.burst.clamp(64, MAX_BURST);
        match self.engine() {
            Engine::Ring(_) => burst + 64,
            Engine::Multishot(buffers) => usize::from(buffers),
            Engine::Mmsg => burst, // At least a batch.
        }
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        check_stopped(&self.device.port, self.running)?;
        let queues = usize::from(self.config.queues);
        check_pools(&self.info(), pools, queues)?;
        let plan = Plan {
            device: self.device.clone(),
            engine: self.engine(),
            queues,
            promiscuous: self.config.promiscuous,
            policy: RxPolicy::new(self.config.index, self.offloads() & self.config.offloads),
            burst: self.config.burst,
            uring_wait: self.uring.is_ok(),
        };
        let group =
            Group::open(plan).map_err(|e| self.device.system("the receiving sockets", e))?;
        let group = Arc::new(group);
        let index = self
            .device
            .index()
            .map_err(|e| self.device.system("the interface number", e))?;
        let mut pairs = Vec::with_capacity(queues);
        for (id, pool) in pools.iter().take(queues).enumerate() {
            let rx = Rx::new(group.clone(), id, pool.clone())?;
            let ring = self.slots();
            let sockets = Sockets::open(index, ring)
                .map_err(|e| self.device.system("the sending sockets", e))?;
            let outlet = Outlet::Sockets(sockets);
            let tx = Tx::new(self.device.clone(), outlet, self.sender(), ring);
            pairs.push(QueuePair {
                rx: Box::new(rx),
                tx: Box::new(tx),
            });
        }
        self.running = true;
        Ok(pairs)
    }

    fn stop(&mut self) -> Result<(), PortError> {
        self.running = false;
        Ok(())
    }

    fn link(&self) -> LinkState {
        self.device.link()
    }

    fn ifindex(&self) -> Option<u32> {
        self.device.index().ok()?.try_into().ok()
    }
}

/// A port that runs is neither configured nor started.
pub(crate) fn check_stopped(port: &str, running: bool) -> Result<(), PortError> {
    if !running {
        return Ok(());
    }
    Err(PortError::new(port, PortErrorKind::Busy, "it is running").remedy("stop the port first"))
}

/// What every port here refuses.
pub(crate) fn check_config(
    port: &str,
    config: &PortConfig,
    by_name: Option<u16>,
    running: bool,
) -> Result<(), PortError> {
    let refuse = |what: String, remedy: String| {
        Err(PortError::new(port, PortErrorKind::Config, what).remedy(remedy))
    };
    check_stopped(port, running)?;
    if config.queues == 0 || config.queues > MAX_QUEUES {
        let what = format!(
            "{} queues are not between 1 and {MAX_QUEUES}",
            config.queues
        );
        return refuse(what, "use fewer workers on this port".into());
    }
    if let Some(named) = by_name.filter(|n| *n != config.queues) {
        return refuse(
            format!(
                "the name says queues={named} and the configuration {}",
                config.queues
            ),
            format!("use {named} workers, or leave queues= out of the name"),
        );
    }
    if config.burst == 0 || config.burst > MAX_BURST {
        let what = format!(
            "a burst of {} is not between 1 and {MAX_BURST}",
            config.burst
        );
        return refuse(what, "try a burst of 32".into());
    }
    Ok(())
}

/// Whether the pools suit the port.
pub(crate) fn check_pools(
    info: &PortInfo,
    pools: &[Mempool],
    queues: usize,
) -> Result<(), PortError> {
    let refuse = |what: String, remedy: String| {
        Err(PortError::new(&info.name, PortErrorKind::Pool, what).remedy(remedy))
    };
    if pools.len() < queues {
        let what = format!("{} pools for {queues} queues", pools.len());
        return refuse(what, "give one pool for each queue".into());
    }
    for pool in pools {
        let config = pool.config();
        // The kernel's headers lie before the frame.
        if usize::from(config.headroom) < 128 {
            let what = format!(
                "mempool {} has a headroom of {}",
                config.name, config.headroom
            );
            return refuse(what, "use a headroom of 128".into());
        }
        // A smaller room is accepted where it only means that some frames do not fit.
        if config.data_room < DATA_ROOM.min(info.data_room) {
            let what = format!(
                "mempool {} has a data room of {}",
                config.name, config.data_room
            );
            return refuse(what, format!("use {}", info.data_room));
        }
    }
    Ok(())
}
