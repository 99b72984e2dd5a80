//! Starting: memory for pools, the device, its queues.

use std::sync::Arc;

use linecard_hal::region::{Region, RegionRequest};
use linecard_hal::{
    Mempool, Offloads, PortConfig, PortError, PortErrorKind, QueuePair, RxStats, TxStats,
};
use linecard_wire::rss::SYMMETRIC_KEY;

use super::{DpdkPort, Estate, said, system};
use crate::device;
use crate::eal::{self, Pages};
use crate::rx::{Rx, Shared};
use crate::sys::port::{Device, Setup};
use crate::sys::queue::{RawRx, RawTx};
use crate::sys::recovery::Plan;
use crate::tx::Tx;
use crate::{log, pools, sys};

impl DpdkPort {
    /// Memory that another process can map.
    pub(super) fn lend(&self, request: &RegionRequest) -> Result<Region, PortError> {
        sys::memory::region(request).map_err(|error| {
            let mib = request.len_bytes.div_ceil(1 << 20);
            let what = format!("DPDK has no {mib} MiB in one piece for a pool that its back end can map");
            self.wrong(PortErrorKind::Pool, what)
                .remedy(match eal::pages() {
                    Some(Pages::Huge) => {
                        "reserve more hugepages (linecard doctor says how), or use a smaller --pool-size".to_owned()
                    }
                    _ => format!(
                        "give it more with {}={}, or memory_mib in [dpdk]; or use a smaller --pool-size",
                        crate::MEMORY_VARIABLE,
                        (mib + 64).next_multiple_of(128).max(512)
                    ),
                })
                .cause(error)
        })
    }

    /// Refuses pools that a back end could not map, whichever's they are: DPDK shares none of its memory as soon as
    /// there is any that it could not share.
    pub(super) fn check_shared(&self, given: &[Mempool]) -> Result<(), PortError> {
        if !self.target.shares_memory() {
            return Ok(());
        }
        if !given.iter().all(|pool| pool.region().is_lent()) {
            let what = "its back end could not map the pools' memory: DPDK shares only its own";
            return Err(self
                .wrong(PortErrorKind::Pool, what)
                .remedy("make them in memory of this port's: Port::memory, Mempool::within"));
        }
        if let Some(pool) = pools::registered() {
            let what = format!(
                "its back end maps DPDK's own memory, and DPDK shares none as long as the pool {pool:?} of another \
                 engine in this process is on a dpdk: port"
            );
            return Err(self
                .wrong(PortErrorKind::Busy, what)
                .remedy("stop that engine first, or open its ports in one engine with this one"));
        }
        Ok(())
    }

    /// The RSS key, as long as the device wants it.
    fn key(&self) -> Vec<u8> {
        SYMMETRIC_KEY
            .iter()
            .cycle()
            .take(self.key_len())
            .copied()
            .collect()
    }

    pub(super) fn key_len(&self) -> usize {
        match self.info.key_len {
            0 => SYMMETRIC_KEY.len(),
            len => usize::from(len),
        }
    }

    /// Starts the device with the pools that were adopted for it.
    pub(super) fn start_device(
        &mut self,
        config: &PortConfig,
    ) -> Result<Vec<QueuePair>, PortError> {
        let name = self.target.full.clone();
        let target = self.target.clone();
        let options = target.options_remedy(device::effective_capabilities());
        let (rx_descriptors, tx_descriptors) = self.descriptors;
        let plan = Plan {
            config: self.config_for(config),
            mtu: target.mtu,
            key: self.key(),
            rx_descriptors,
            tx_descriptors,
            pools: self.pools.clone(),
            reta_size: self.info.reta_size,
            promiscuous: config.promiscuous,
        };
        let vfio = target.is_with_vfio();
        let device = self.device()?;
        for pool in &plan.pools {
            device
                .map(pool, vfio)
                .map_err(|e| system(&name, "map the pool's memory for the device", e))?;
        }
        log::forget();
        let setup = Setup {
            config: plan.config,
            key: &plan.key,
            mtu: plan.mtu,
            rx_descriptors,
            tx_descriptors,
            pools: &plan.pools,
        };
        let mut queues = device
            .start(&setup)
            .map_err(|(what, error)| match options {
                // Some options of virtual devices are looked at only here.
                Some((_, remedy)) => target.because(said(&name, what).remedy(remedy), error),
                None => system(&name, what, error),
            })?;
        let can_wait = device.interrupts() && queues.iter_mut().all(|(rx, _)| rx.can_wait());
        started(&name, device, plan);
        let shared = Arc::new(Shared {
            name,
            id: device.id(),
            events: device.events().clone(),
        });
        self.can_wait = can_wait;
        let estate = Arc::new(Estate::default());
        self.queues = Arc::downgrade(&estate);
        Ok(self.pairs(config, (&shared, &estate), queues))
    }

    fn pairs(
        &self,
        config: &PortConfig,
        (shared, estate): (&Arc<Shared>, &Arc<Estate>),
        queues: Vec<(RawRx, RawTx)>,
    ) -> Vec<QueuePair> {
        let offloads = self.offloads();
        let known: Box<[usize]> = self.pools.iter().map(|p| p.token()).collect();
        let strips = offloads.contains(Offloads::RX_VLAN_STRIP);
        let queues = queues.into_iter().zip(&self.pools).enumerate();
        let pairs = queues.map(|(number, ((mut rx, tx), pool))| {
            rx.set_index(config.index);
            QueuePair {
                rx: Box::new(Rx {
                    raw: rx,
                    shared: shared.clone(),
                    index: config.index,
                    strips,
                    first: number == 0,
                    can_wait: self.can_wait,
                    stats: RxStats::default(),
                    hold: None,
                    _estate: estate.clone(),
                }),
                tx: Box::new(Tx {
                    raw: tx,
                    shared: shared.clone(),
                    usual: pool.token(),
                    pool: pool.clone(),
                    known: known.clone(),
                    dma: !self.target.is_virtual(),
                    longest: self.longest(),
                    prepares: !offloads.accepted_requests().is_empty(),
                    first: number == 0,
                    stats: TxStats::default(),
                    late: 0,
                    refused: 0,
                    hold: None,
                    _estate: estate.clone(),
                }),
            }
        });
        pairs.collect()
    }
}

/// What is set on a device that runs, and kept for its restart.
fn started(name: &str, device: &Device, plan: Plan) {
    let queues = plan.pools.len() as u16;
    if plan.config.rss
        && plan.reta_size > 0
        && let Err(error) = device.spread(queues, plan.reta_size)
    {
        tracing::info!(port = %name, %error, "the RSS table stays as the driver has it");
    }
    if let Err(error) = device.set_promiscuous(plan.promiscuous) {
        tracing::info!(port = %name, %error, "promiscuous mode stays as it is");
    }
    device.events().begin(Plan {
        config: device.effective(plan.config),
        ..plan
    });
}
