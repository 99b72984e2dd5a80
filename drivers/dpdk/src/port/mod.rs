//! `dpdk:` ports: control plane.

mod abilities;
mod estate;
#[cfg(test)]
mod event_tests;
mod start;

use std::io;
use std::sync::{Arc, Weak};

use linecard_hal::flow::FlowRules;
use linecard_hal::region::{Region, RegionRequest};
use linecard_hal::{
    LinkState, Mempool, Port, PortConfig, PortError, PortErrorKind, PortInfo, PortName, QueuePair,
};

pub(crate) use estate::Estate;

use crate::device::Target;
use crate::flow::Rules;
use crate::sys::flow;
use crate::sys::pool::{RtePool, cache_size};
use crate::sys::port::{Device, Info};
use crate::{MAX_BURST, MAX_QUEUES, log, pools, sys};

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
        info,
        config: None,
        can_wait: false,
        descriptors: (0, 0),
        pools: Vec::new(),
        queues: Weak::new(),
    };
    port.take_mtu()?;
    Ok(port)
}

fn system(port: &str, what: &str, error: io::Error) -> PortError {
    said(port, what).cause(error)
}

/// What DPDK cannot do, with what it said about that.
fn said(port: &str, what: &str) -> PortError {
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
}

pub(crate) struct DpdkPort {
    target: Target,
    /// None after a stop: only a device that is closed has given back every mbuf, so the next
    /// configuration opens it again.
    pub(crate) device: Option<Device>,
    info: Info,
    config: Option<PortConfig>,
    /// Whether workers can sleep on its queues, as it was last started.
    can_wait: bool,
    descriptors: (u16, u16),
    /// Adopted as long as the port is started.
    pools: Vec<Arc<RtePool>>,
    /// What its queues have as long as there is one.
    queues: Weak<Estate>,
}

impl DpdkPort {
    fn error(&self, what: &str, error: io::Error) -> PortError {
        system(&self.target.full, what, error)
    }

    pub(crate) fn wrong(&self, kind: PortErrorKind, what: impl Into<String>) -> PortError {
        PortError::new(&self.target.full, kind, what)
    }

    fn must_be_stopped(&self) -> Result<(), PortError> {
        if self.device.as_ref().is_some_and(|d| d.lent() > 0) || !self.pools.is_empty() {
            return Err(self
                .wrong(PortErrorKind::Busy, "its queues are still in use")
                .remedy("drop the queues and stop the port first"));
        }
        Ok(())
    }

    /// Stops it for good.
    fn end(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "dropping a port");
        }
    }

    /// The device, opened again if the port was stopped.
    fn device(&mut self) -> Result<&mut Device, PortError> {
        if self.device.is_none() {
            self.device = Some(self.target.open()?);
        }
        let closed = self.wrong(PortErrorKind::System, "the device is closed");
        self.device.as_mut().ok_or(closed)
    }

    /// The MTU that was named; the device is told when it starts.
    fn take_mtu(&mut self) -> Result<(), PortError> {
        let Some(mtu) = self.target.mtu else {
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
        self.info.mtu = mtu;
        Ok(())
    }

    /// Where flow rules are going to be.
    fn no_rules(&self, table: Box<dyn flow::Table>, queues: u16) -> Rules {
        Rules::new(
            table,
            self.driver(),
            queues,
            self.key_len(),
            self.info.rss_types,
        )
    }
}

impl Port for DpdkPort {
    fn info(&self) -> PortInfo {
        PortInfo {
            name: self.target.full.clone(),
            driver: "dpdk",
            mac: (self.info.mac != [0; 6]).then_some(self.info.mac),
            mtu: u32::from(self.info.mtu),
            node: u32::try_from(self.info.node).ok(),
            speed_mbps: (self.info.speed_mbps > 0).then_some(self.info.speed_mbps),
            speed_is_nominal: self.target.is_virtual(),
            max_queues: self.info.max_queues.min(MAX_QUEUES),
            data_room: self.data_room(),
            offloads: self.offloads(),
            can_wait: self.can_wait,
            notes: self.notes(),
            rungs: Vec::new(),
        }
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        self.must_be_stopped()?;
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

    fn memory(&self, request: &RegionRequest) -> Option<Result<Region, PortError>> {
        if !self.target.shares_memory() {
            return None;
        }
        Some(self.lend(request))
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
        self.check_shared(given)?;
        self.must_be_stopped()?;
        log::forget();
        self.pools = pools::adopt(given).map_err(|e| self.error("adopt the mempool", e))?;
        let started = self.start_device(&config);
        if started.is_err() {
            self.stop()?;
        } else if let Some(device) = &self.device {
            let table = Box::new(flow::Driver::new(device));
            device.events().recovery().rules = Some(self.no_rules(table, config.queues));
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
        let rules = device.events().recovery().rules.take();
        if let Some(mut rules) = rules
            && let Err(refused) = rules.clear()
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
        let Some(device) = self.device.as_ref() else {
            return Vec::new();
        };
        // No restart as long as this is held: the driver walks through its queues.
        let recovery = device.events().recovery();
        let Some(rules) = recovery.rules.as_ref() else {
            return Vec::new();
        };
        if device.events().is_away() {
            return Vec::new();
        }
        let mut all = sys::port::xstats(device.id());
        all.push(("flow_rules_lost".into(), rules.missing() as u64));
        all.retain(|(_, value)| *value > 0);
        all
    }

    fn flow_rules(&mut self) -> Option<&mut dyn FlowRules> {
        let device = self.device.as_ref()?;
        let runs = device.events().recovery().rules.is_some();
        runs.then_some(self)
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
