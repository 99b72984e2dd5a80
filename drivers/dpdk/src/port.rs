//! `dpdk:` ports: control plane.

use std::io;
use std::sync::Arc;

use linecard_hal::flow::FlowRules;
use linecard_hal::{
    LinkState, Mempool, Offloads, Port, PortConfig, PortError, PortErrorKind, PortInfo, PortName,
    QueuePair, RxStats, TxStats,
};
use linecard_wire::rss::SYMMETRIC_KEY;

use crate::device::{self, Target};
use crate::eal::{self, Pages};
use crate::flow::Rules;
use crate::rx::{Rx, Shared};
use crate::sys::pool::{RtePool, cache_size};
use crate::sys::port::{Config, Device, Info, Setup};
use crate::sys::recovery::Plan;
use crate::tx::Tx;
use crate::{DATA_ROOM, MAX_BURST, MAX_QUEUES, log, pools, sys};

/// Drivers that hand over frames whose checksums their peer has left unfinished, once they are asked for
/// the state of checksums.
const PARTIAL_CHECKSUMS: [&str; 3] = ["net_virtio", "net_virtio_user", "net_vhost"];

/// Opens a device.
pub(crate) fn open(name: PortName) -> Result<Box<dyn Port>, PortError> {
    Ok(Box::new(open_device(name)?))
}

fn open_device(name: PortName) -> Result<DpdkPort, PortError> {
    let target = Target::parse(name)?;
    let device = target.open()?;
    let info = device
        .info()
        .map_err(|e| system(&target.full, "ask it what it can do", e))?;
    let mut port = DpdkPort {
        target,
        device: Some(device),
        rules: None,
        info,
        config: None,
        can_wait: false,
        descriptors: (0, 0),
        pools: Vec::new(),
    };
    port.set_mtu()?;
    Ok(port)
}

fn system(port: &str, what: &str, error: io::Error) -> PortError {
    let said = log::since();
    let why = if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    };
    PortError::new(
        port,
        PortErrorKind::System,
        format!("DPDK cannot {what}{why}"),
    )
    .remedy("LINECARD_LOG=dpdk=trace shows all that DPDK says")
    .cause(error)
}

pub(crate) struct DpdkPort {
    target: Target,
    /// None after a stop: only a device that is closed has given back every mbuf, so the next
    /// configuration opens it again.
    pub(crate) device: Option<Device>,
    /// While it runs.
    pub(crate) rules: Option<Rules>,
    info: Info,
    config: Option<PortConfig>,
    /// Whether workers can sleep on its queues, as it was last started.
    can_wait: bool,
    descriptors: (u16, u16),
    /// Adopted as long as the port is started.
    pools: Vec<Arc<RtePool>>,
}

impl DpdkPort {
    fn driver(&self) -> String {
        let bytes = self.info.driver.map(|c| c as u8);
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    fn error(&self, what: &str, error: io::Error) -> PortError {
        system(&self.target.full, what, error)
    }

    pub(crate) fn wrong(&self, kind: PortErrorKind, what: impl Into<String>) -> PortError {
        PortError::new(&self.target.full, kind, what)
    }

    /// The device, opened again if the port was stopped.
    fn device(&mut self) -> Result<&mut Device, PortError> {
        if self.device.is_none() {
            self.device = Some(self.target.open()?);
            self.set_mtu()?;
        }
        let closed = self.wrong(PortErrorKind::System, "the device is closed");
        self.device.as_mut().ok_or(closed)
    }

    fn set_mtu(&mut self) -> Result<(), PortError> {
        let (Some(mtu), Some(device)) = (self.target.mtu, &self.device) else {
            return Ok(());
        };
        if mtu > self.info.max_mtu {
            let what = format!(
                "an MTU of {mtu}, but the device has {} at most",
                self.info.max_mtu
            );
            return Err(self
                .wrong(PortErrorKind::Config, what)
                .remedy("use a smaller mtu="));
        }
        // Drivers that do not know the notion take what they are given when they are configured.
        if let Err(error) = device.set_mtu(mtu)
            && error.raw_os_error() != Some(libc::ENOTSUP)
        {
            return Err(self.error(&format!("set an MTU of {mtu}"), error));
        }
        self.info.mtu = mtu;
        Ok(())
    }

    /// The data room that takes any frame of the MTU in one segment.
    fn data_room(&self) -> u16 {
        let frame = u32::from(self.info.mtu) + u32::from(self.info.overhead);
        let least = self.info.min_rx_buffer.max(u32::from(DATA_ROOM));
        if frame <= least || self.can(Offloads::RX_SCATTER) {
            least.min(u32::from(MAX_DATA_ROOM)) as u16
        } else {
            frame.min(u32::from(MAX_DATA_ROOM)) as u16
        }
    }

    /// What the device can do, whatever is switched on.
    fn able(&self) -> Offloads {
        let mut able = Offloads::from_bits_truncate(self.info.offloads);
        let driver = self.driver();
        if PARTIAL_CHECKSUMS.contains(&driver.as_str()) {
            able -= Offloads::RX_CKSUM;
        }
        if driver == "net_tap" {
            // It cuts super-frames in software, with another idea of their checksum than ours.
            able -= Offloads::TX_TCP_SEG | Offloads::TX_UDP_SEG;
        }
        able
    }

    fn can(&self, offload: Offloads) -> bool {
        self.able().contains(offload)
    }

    fn offloads(&self) -> Offloads {
        let wanted = self.config.as_ref().map_or(Offloads::all(), |c| c.offloads);
        let mut on = self.able() & wanted;
        // Costs a slower receive function in many drivers, so only where it is needed. Virtual devices
        // hand over chains whatever they were asked for.
        let frame = u32::from(self.info.mtu) + u32::from(self.info.overhead);
        if frame <= u32::from(self.data_room())
            && (!self.target.is_virtual() || self.driver() == "net_null")
        {
            on -= Offloads::RX_SCATTER;
        } else if self.target.is_virtual() {
            on |= Offloads::RX_SCATTER;
        }
        on
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!(
            "{} with its driver {}",
            sys::eal::version(),
            self.driver()
        )];
        notes.push(match eal::pages() {
            Some(Pages::Huge) => "DPDK's own data is in hugepages".into(),
            _ => "no hugepages for DPDK's own data: it runs on ordinary pages".into(),
        });
        let wanted = self.config.as_ref().map_or(Offloads::all(), |c| c.offloads);
        let lacking = (wanted - self.able())
            & (Offloads::TX_IPV4_CKSUM
                | Offloads::TX_UDP_CKSUM
                | Offloads::TX_TCP_CKSUM
                | Offloads::TX_TCP_SEG
                | Offloads::TX_UDP_SEG
                | Offloads::TX_VLAN_INSERT
                | Offloads::TX_MULTI_SEGS);
        if !lacking.is_empty() {
            notes.push(format!("in software: {}", lacking.names().join(", ")));
        }
        if !self.info.rss && self.config.as_ref().is_some_and(|c| c.queues > 1) {
            notes
                .push("the device spreads flows over its queues as it likes: it has no RSS".into());
        }
        notes
    }

    fn config_for(&self, config: &PortConfig) -> Config {
        let rss = self.info.rss && config.queues > 1;
        let mut offloads = self.offloads();
        if !rss {
            // A driver that spreads nothing has no hash to give, and some refuse to be asked for it.
            offloads -= Offloads::RX_RSS_HASH;
        }
        Config {
            mtu: self.info.mtu,
            offloads: offloads.bits() & self.info.offloads,
            rss,
            lsc: self.info.lsc,
            rmv: self.info.rmv,
            rx_interrupts: true,
            ..Config::default()
        }
    }

    fn start_device(&mut self, config: &PortConfig) -> Result<Vec<QueuePair>, PortError> {
        let key = SYMMETRIC_KEY.iter().cycle().take(match self.info.key_len {
            0 => SYMMETRIC_KEY.len(),
            len => usize::from(len),
        });
        let key: Vec<u8> = key.copied().collect();
        let setup_config = self.config_for(config);
        let (rx_descriptors, tx_descriptors) = self.descriptors;
        let pools = self.pools.clone();
        let name = self.target.full.clone();
        let strips = self.offloads().contains(Offloads::RX_VLAN_STRIP);
        let requests = !self.offloads().accepted_requests().is_empty();
        let dma = !self.target.is_virtual();
        let (rss, reta) = (setup_config.rss, self.info.reta_size);
        let options = self.target.options_remedy(device::effective_capabilities());
        let vfio = self.target.is_with_vfio();
        let device = self.device()?;
        for pool in &pools {
            device
                .map(pool, vfio)
                .map_err(|e| system(&name, "map the pool's memory for the device", e))?;
        }
        log::forget();
        let setup = Setup {
            config: setup_config,
            key: &key,
            rx_descriptors,
            tx_descriptors,
            pools: &pools,
        };
        let mut queues = device
            .start(&setup)
            .map_err(|(what, error)| match options {
                // Some options of virtual devices are looked at only here.
                Some((_, remedy)) => system(&name, what, error).remedy(remedy),
                None => system(&name, what, error),
            })?;
        let can_wait = device.interrupts() && queues.iter_mut().all(|(rx, _)| rx.can_wait());
        if rss
            && reta > 0
            && let Err(error) = device.spread(config.queues, reta)
        {
            tracing::info!(port = %name, %error, "the RSS table stays as the driver has it");
        }
        if let Err(error) = device.set_promiscuous(config.promiscuous) {
            tracing::info!(port = %name, %error, "promiscuous mode stays as it is");
        }
        device.events().begin(Plan {
            config: device.effective(setup_config),
            key: key.clone(),
            rx_descriptors,
            tx_descriptors,
            pools: pools.clone(),
            reta_size: reta,
            promiscuous: config.promiscuous,
        });
        let shared = Arc::new(Shared {
            name,
            id: device.id(),
            events: device.events().clone(),
        });
        let known: Box<[usize]> = pools.iter().map(|p| p.token()).collect();
        let pairs = (0_usize..).zip(queues).map(|(number, (rx, tx))| {
            let pool = pools[number].clone();
            QueuePair {
                rx: Box::new(Rx {
                    straight: rx.is_own() && rx.port() == config.index && !strips,
                    raw: rx,
                    shared: shared.clone(),
                    index: config.index,
                    strips,
                    first: number == 0,
                    can_wait,
                    stats: RxStats::default(),
                    hold: None,
                }),
                tx: Box::new(Tx {
                    raw: tx,
                    shared: shared.clone(),
                    usual: pool.token(),
                    pool,
                    known: known.clone(),
                    dma,
                    prepares: requests,
                    first: number == 0,
                    stats: TxStats::default(),
                    late: 0,
                    refused: 0,
                    hold: None,
                }),
            }
        });
        let pairs = pairs.collect();
        self.can_wait = can_wait;
        Ok(pairs)
    }
}

/// The largest data room of a pool with the usual headroom.
const MAX_DATA_ROOM: u16 = 65_407;

impl Port for DpdkPort {
    fn info(&self) -> PortInfo {
        PortInfo {
            name: self.target.full.clone(),
            driver: "dpdk",
            mac: (self.info.mac != [0; 6]).then_some(self.info.mac),
            mtu: u32::from(self.info.mtu),
            node: u32::try_from(self.info.node).ok(),
            speed_mbps: (self.info.speed_mbps > 0).then_some(self.info.speed_mbps),
            max_queues: self.info.max_queues.min(MAX_QUEUES),
            data_room: self.data_room(),
            offloads: self.offloads(),
            can_wait: self.can_wait,
            notes: self.notes(),
        }
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        let most = self.info.max_queues.min(MAX_QUEUES);
        if config.queues == 0 || config.queues > most {
            let what = format!("{} queues, but the device has 1 to {most}", config.queues);
            return Err(self
                .wrong(PortErrorKind::Config, what)
                .remedy(format!("use {most} or fewer workers for it")));
        }
        if config.burst == 0 || config.burst > MAX_BURST {
            let what = format!("a burst of {} frames", config.burst);
            return Err(self
                .wrong(PortErrorKind::Config, what)
                .remedy(format!("use a burst of 1 to {MAX_BURST} frames")));
        }
        let (rx, tx) = (config.rx_descriptors, config.tx_descriptors);
        self.descriptors = self
            .device()?
            .descriptors(rx, tx)
            .map_err(|e| self.error("tell how many descriptors it can have", e))?;
        self.config = Some(config.clone());
        Ok(())
    }

    fn mbufs_per_queue(&self) -> usize {
        let burst = self.config.as_ref().map_or(0, |c| c.burst);
        let cache = cache_size(usize::MAX);
        usize::from(self.descriptors.0)
            + usize::from(self.descriptors.1)
            + burst
            + cache
            + cache / 2
    }

    fn start(&mut self, given: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        let Some(config) = self.config.clone() else {
            return Err(self
                .wrong(PortErrorKind::Config, "started before it was configured")
                .remedy("call configure first"));
        };
        if given.len() != usize::from(config.queues) {
            let what = format!("{} pools for {} queues", given.len(), config.queues);
            return Err(self
                .wrong(PortErrorKind::Pool, what)
                .remedy("pass one pool for each queue"));
        }
        if self.device.as_ref().is_some_and(|d| d.lent() > 0) || !self.pools.is_empty() {
            return Err(self
                .wrong(PortErrorKind::Busy, "its queues are still in use")
                .remedy("drop the queues and stop the port first"));
        }
        log::forget();
        self.pools = pools::adopt(given).map_err(|e| self.error("adopt the mempool", e))?;
        let started = self.start_device(&config);
        if started.is_err() {
            self.stop()?;
        } else {
            let key_len = match self.info.key_len {
                0 => SYMMETRIC_KEY.len(),
                len => usize::from(len),
            };
            let types = self.info.rss_types;
            self.rules = Some(Rules::new(self.driver(), config.queues, key_len, types));
        }
        started
    }

    fn stop(&mut self) -> Result<(), PortError> {
        let driver = self.driver();
        let Some(device) = &mut self.device else {
            // It could not be opened again; what was adopted for it is not needed.
            pools::release(core::mem::take(&mut self.pools));
            return Ok(());
        };
        if device.lent() > 0 {
            return Err(self
                .wrong(PortErrorKind::Busy, "its queues are still in use")
                .remedy("drop the queues first"));
        }
        if let Some(mut rules) = self.rules.take()
            && let Err(refused) = rules.clear(device)
        {
            tracing::info!(port = %self.target.full, ?refused, "a flow rule ends with its device");
        }
        if driver == "net_ring" {
            // A ring without a peer keeps what was sent into it.
            let queues = self.config.as_ref().map_or(0, |c| c.queues);
            let frames = device.drain(queues);
            if frames > 0 {
                tracing::debug!(port = %self.target.full, frames, "left in the rings");
            }
        }
        let stopped = device.stop();
        for pool in &self.pools {
            device.unmap(pool);
        }
        device.events().recovery().plan = None;
        // Drivers keep mbufs in their queues until they are closed.
        self.device = None;
        pools::release(core::mem::take(&mut self.pools));
        stopped.map_err(|e| self.error("stop it", e))
    }

    fn extended_stats(&self) -> Vec<(String, u64)> {
        let Some(device) = self.device.as_ref().filter(|_| self.rules.is_some()) else {
            return Vec::new();
        };
        // No restart meanwhile: the driver walks through its queues.
        let _quiet = device.events().recovery();
        if device.events().is_away() {
            return Vec::new();
        }
        let mut all = sys::port::xstats(device.id());
        all.retain(|(_, value)| *value > 0);
        all
    }

    fn flow_rules(&mut self) -> Option<&mut dyn FlowRules> {
        match self.rules {
            Some(_) => Some(self),
            None => None,
        }
    }

    fn link(&self) -> LinkState {
        match &self.device {
            Some(device)
                if device
                    .events()
                    .removed
                    .load(std::sync::atomic::Ordering::Relaxed) =>
            {
                LinkState::Gone
            }
            Some(device) if device.events().is_away() => LinkState::Down,
            Some(device) if sys::port::link_up(device.id()) => LinkState::Up,
            _ => LinkState::Down,
        }
    }
}

impl Drop for DpdkPort {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "dropping a port");
        }
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod event_tests;
