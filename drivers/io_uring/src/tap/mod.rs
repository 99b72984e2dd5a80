//! `tap:` ports: an Ethernet interface of the kernel whose other end is this port.
//!
//! The device is made when the port is opened and disappears with the last descriptor, so also when the
//! process is killed. What the kernel would leave to a NIC it leaves to us, by the same virtio-net
//! header as on a socket; VLAN tags stay in the data.

mod rx;

use std::io;
use std::sync::Arc;

use linecard_hal::{
    LinkState, Mempool, Offloads, Port, PortConfig, PortError, PortErrorKind, PortInfo, PortName,
    QueuePair,
};

use crate::device::Device;
use crate::meta::RxPolicy;
use crate::options::take_queues;
use crate::port::{check_config, check_pools, check_stopped};
use crate::probe::io_uring;
use crate::sys::batch::BatchRing;
use crate::sys::mmsg::ReadBatch;
use crate::sys::send::{Sender, Sink};
use crate::sys::tun::{TapOffloads, TapQueue};
use crate::tx::{Outlet, Tx};
use crate::{MAX_BURST, MAX_QUEUES, SUPER_DATA_ROOM};
use rx::TapRx;

/// Makes the device, or takes one that was made for us (`ip tuntap add NAME mode tap`).
pub(crate) fn open(mut name: PortName) -> Result<Box<dyn Port>, PortError> {
    let queues = take_queues(&mut name)?;
    name.finish(&["queues"])?;
    let port = name.full();
    let (first, multi, device_name) = open_first(name.device(), queues.unwrap_or(1))
        .map_err(|e| tap_error(port, name.device(), e))?;
    let offloads = first.offloads();
    let device = Arc::new(Device::open(port, &device_name)?);
    device
        .bring_up()
        .map_err(|e| tap_error(port, &device_name, e))?;
    let config = PortConfig {
        queues: queues.unwrap_or(1),
        ..PortConfig::default()
    };
    Ok(Box::new(TapPort {
        device,
        first: Arc::new(first),
        multi,
        offloads,
        by_name: queues,
        uring: io_uring(),
        config,
        running: false,
    }))
}

/// With several queues where that is possible: more may be asked for later.
fn open_first(name: &str, queues: u16) -> io::Result<(TapQueue, bool, String)> {
    match TapQueue::open_device(name, true) {
        Ok((queue, name)) => Ok((queue, true, name)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && queues <= 1 => {
            TapQueue::open_device(name, false).map(|(queue, name)| (queue, false, name))
        }
        Err(error) => Err(error),
    }
}

fn tap_error(port: &str, name: &str, source: io::Error) -> PortError {
    let (kind, what, remedy) = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => (
            PortErrorKind::Permission,
            format!("making the TAP device {name:?} needs the capability CAP_NET_ADMIN"),
            "grant it: sudo setcap cap_net_raw,cap_net_admin+ep $(which linecard); \
             or try in a namespace of your own: unshare -Urn",
        ),
        Some(libc::EBUSY) => (
            PortErrorKind::Busy,
            format!("{name:?} is in use or not a TAP device"),
            "choose another name",
        ),
        Some(libc::ENOENT | libc::ENXIO) => (
            PortErrorKind::Unsupported,
            "there is no /dev/net/tun".to_owned(),
            "try: sudo modprobe tun",
        ),
        Some(libc::ENODEV) => (
            PortErrorKind::Name,
            format!("{name:?} is not an interface's name of 1 to 15 bytes"),
            "for example tap:lc0",
        ),
        _ => (
            PortErrorKind::System,
            format!("cannot open the TAP device {name:?}"),
            "",
        ),
    };
    PortError::new(port, kind, what)
        .remedy(remedy)
        .cause(source)
}

struct TapPort {
    device: Arc<Device>,
    /// The first queue, which keeps the device while the port is there.
    first: Arc<TapQueue>,
    multi: bool,
    offloads: TapOffloads,
    by_name: Option<u16>,
    uring: Result<(), String>,
    config: PortConfig,
    running: bool,
}

impl TapPort {
    fn available(&self) -> Offloads {
        // Tags are never stripped here.
        let mut all = Offloads::TX_VLAN_INSERT
            | Offloads::TX_MULTI_SEGS
            | Offloads::RX_CKSUM
            | Offloads::TX_TCP_CKSUM
            | Offloads::TX_UDP_CKSUM
            | Offloads::TX_TCP_SEG;
        if self.offloads != TapOffloads::None {
            all |= Offloads::RX_SUPER_FRAMES;
        }
        if self.offloads == TapOffloads::All {
            all |= Offloads::TX_UDP_SEG;
        }
        all
    }

    fn ring(&self) -> Option<BatchRing> {
        if self.uring.is_ok() {
            BatchRing::new(self.burst()).ok()
        } else {
            None
        }
    }

    fn burst(&self) -> usize {
        self.config.burst.clamp(64, MAX_BURST)
    }
}

impl Port for TapPort {
    fn info(&self) -> PortInfo {
        let mut notes = vec![match &self.uring {
            Ok(()) => "io_uring: one io_uring_enter a burst".to_owned(),
            Err(reason) => format!("io_uring: {reason}; using read and write"),
        }];
        if !self.multi {
            notes.push("the device was made without multi_queue: one queue only".into());
        }
        PortInfo {
            name: self.device.port.clone(),
            driver: "tap",
            mac: self.device.mac(),
            mtu: self.device.mtu(),
            node: None,
            speed_mbps: None,
            speed_is_nominal: false,
            max_queues: if self.multi { MAX_QUEUES } else { 1 },
            data_room: SUPER_DATA_ROOM,
            offloads: self.available() & self.config.offloads,
            can_wait: true,
            notes,
            rungs: Vec::new(),
        }
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        check_config(&self.device.port, config, self.by_name, self.running)?;
        if config.queues > 1 && !self.multi {
            return Err(self
                .device
                .error(
                    PortErrorKind::Config,
                    format!("{} has one queue", self.device.name),
                )
                .remedy("make it with: ip tuntap add NAME mode tap multi_queue"));
        }
        self.config = config.clone();
        Ok(())
    }

    fn mbufs_per_queue(&self) -> usize {
        self.burst()
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        check_stopped(&self.device.port, self.running)?;
        let queues = usize::from(self.config.queues);
        check_pools(&self.info(), pools, queues)?;
        // What the kernel leaves unfinished is finished on receive if nobody wants it otherwise.
        let policy = RxPolicy::new(self.config.index, self.available() & self.config.offloads);
        let mut pairs = Vec::with_capacity(queues);
        for (id, pool) in pools.iter().take(queues).enumerate() {
            let queue = if id == 0 {
                self.first.clone()
            } else {
                let queue = TapQueue::open(&self.device.name)
                    .map_err(|e| tap_error(&self.device.port, &self.device.name, e))?;
                Arc::new(queue)
            };
            if self.config.offloads.contains(Offloads::RX_SUPER_FRAMES) {
                queue.offloads();
            } else {
                queue.no_offloads();
            }
            let batch = ReadBatch::new(self.ring(), self.burst());
            let rx = TapRx::new(
                self.device.clone(),
                queue.clone(),
                policy,
                batch,
                pool.clone(),
                self.burst(),
            );
            let sender = Sender::new(Sink::File, self.ring(), self.burst());
            let tx = Tx::new(self.device.clone(), Outlet::Tap(queue), sender, None);
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
