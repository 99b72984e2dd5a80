//! Ports of DPDK: opened by name, configured, started, stopped, closed.

use std::ffi::{CStr, CString};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use linecard_dpdk_sys as dpdk;
use linecard_hal::Burst;

use super::answer;
use super::events::{Events, Listener};
use super::frames::Gives;
use super::pool::RtePool;
use super::queue::{Lent, RawRx, RawTx, queue_pair};

pub(crate) use dpdk::{lc_port_config as Config, lc_port_info as Info, lc_port_stats as Stats};

/// Devices come and go one at a time: DPDK's lists of them are not safe for several threads, and it is
/// content with a device that it knows already, which must not be taken for a new one.
fn alone() -> MutexGuard<'static, ()> {
    static COMING_AND_GOING: Mutex<()> = Mutex::new(());
    COMING_AND_GOING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Makes a device, and says which port it is.
fn probe(devargs: &CStr, name: &CStr) -> io::Result<u16> {
    let mut id = 0;
    let _alone = alone();
    // SAFETY: EAL is up (`eal::start` comes first); C strings.
    unsafe {
        if dpdk::lc_port_by_name(name.as_ptr(), &raw mut id) == 0 {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        answer(dpdk::lc_probe(devargs.as_ptr()))?;
        answer(dpdk::lc_port_by_name(name.as_ptr(), &raw mut id))?;
    }
    Ok(id)
}

/// A port. Closed, and its device removed, when dropped.
#[derive(Debug)]
pub(crate) struct Device {
    id: u16,
    events: Arc<Events>,
    listener: Option<Listener>,
    lent: Lent,
    gives: Gives,
    started: bool,
    /// Whether it took the wish for receive interrupts.
    interrupts: bool,
}

impl Device {
    /// Makes the device and finds its port. `name` is DPDK's, `arguments` the driver's.
    pub(crate) fn open(name: &str, arguments: &str) -> io::Result<Self> {
        let devargs = if arguments.is_empty() {
            name.to_owned()
        } else {
            format!("{name},{arguments}")
        };
        let (devargs, name) = (CString::new(devargs)?, CString::new(name)?);
        let mut device = Self {
            id: probe(&devargs, &name)?,
            events: Arc::default(),
            listener: None,
            lent: Lent::new(),
            gives: Gives::Anything,
            started: false,
            interrupts: false,
        };
        // From here on an error closes it.
        device.gives = Gives::of(&device.info()?, arguments);
        device.listener = Some(Listener::new(device.id, &device.events)?);
        device.ask_for_marks();
        Ok(device)
    }

    /// Some drivers deliver the marks of flow rules only if they are asked before they are configured.
    fn ask_for_marks(&self) {
        let port = self.id;
        // SAFETY: the port exists.
        match answer(unsafe { dpdk::lc_port_marks(port) }) {
            Ok(0) => {
                tracing::debug!(target: "dpdk", port, "the driver delivers no marks of flow rules")
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(target: "dpdk", port, %error, "asking for the marks of flow rules");
            }
        }
    }

    /// DPDK's number of the port.
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// The configuration that it took.
    pub(crate) fn effective(&self, config: Config) -> Config {
        Config {
            rx_interrupts: self.interrupts,
            ..config
        }
    }

    /// Makes the memory of a pool known to the device; `vfio` says that the kernel's vfio has it.
    pub(crate) fn map(&self, pool: &RtePool, vfio: bool) -> io::Result<()> {
        pool.map_for(self.id, Arc::as_ptr(&self.events).addr(), vfio)
    }

    /// Undoes that, as far as it was done.
    pub(crate) fn unmap(&self, pool: &RtePool) {
        let port = (!self.events.is_destroyed()).then_some(self.id);
        pool.unmap_for(port, Arc::as_ptr(&self.events).addr());
    }

    /// Whether it interrupts for received frames.
    pub(crate) fn interrupts(&self) -> bool {
        self.interrupts
    }

    /// Closes it as if another part of the process had unplugged it.
    #[cfg(test)]
    pub(crate) fn unplug(&self) {
        let _alone = alone();
        // SAFETY: nothing is in a burst: a test with one thread.
        unsafe {
            answer(dpdk::lc_port_stop(self.id)).unwrap();
            answer(dpdk::lc_port_close(self.id)).unwrap();
        }
    }

    /// Raises an event as the device would.
    #[cfg(test)]
    pub(crate) fn raise(&self, event: u32) {
        assert!(self.events.raise(self.id, event));
    }

    /// How many ends of queues are in use.
    pub(crate) fn lent(&self) -> usize {
        self.lent.count()
    }

    pub(crate) fn info(&self) -> io::Result<Info> {
        let mut info = Info::default();
        // SAFETY: the port exists as long as `self`.
        answer(unsafe { dpdk::lc_port_info(self.id, &raw mut info) })?;
        Ok(info)
    }

    /// The numbers of descriptors nearest to these that it can have.
    pub(crate) fn descriptors(&self, rx: u32, tx: u32) -> io::Result<(u16, u16)> {
        let limit = |n: u32| n.clamp(1, u32::from(u16::MAX)) as u16;
        let (mut rx, mut tx) = (limit(rx), limit(tx));
        // SAFETY: as above.
        answer(unsafe { dpdk::lc_port_descriptors(self.id, &raw mut rx, &raw mut tx) })?;
        Ok((rx, tx))
    }

    /// Configures, sets up a queue for each pool, and starts. `key` is the RSS key, if one is to be set.
    pub(crate) fn start(&mut self, setup: &Setup<'_>) -> Result<Vec<(RawRx, RawTx)>, Step> {
        if self.started || self.lent() > 0 {
            return Err(("start it", io::Error::from_raw_os_error(libc::EBUSY)));
        }
        let mut config = setup.config;
        config.key = setup.key.as_ptr();
        config.key_len = setup.key.len() as u8;
        config.queues = setup.pools.len() as u16;
        let done = |what, result| answer(result).map_err(|e| (what, e));
        let scatters = config.offloads & dpdk::LC_RX_SCATTER != 0;
        // SAFETY: the port exists and is stopped; the key outlives the call.
        unsafe {
            let mut configured = dpdk::lc_port_configure(self.id, &raw const config);
            if configured < 0 && config.rx_interrupts {
                // Some drivers refuse the whole configuration if they have no interrupts.
                config.rx_interrupts = false;
                configured = dpdk::lc_port_configure(self.id, &raw const config);
            }
            done("configure it", configured)?;
            self.interrupts = config.rx_interrupts;
            set_mtu(self.id, setup.mtu).map_err(|e| ("set its MTU", e))?;
            for (queue, pool) in (0..).zip(setup.pools) {
                let pool = pool.raw().as_ptr();
                // SAFETY: the pool outlives the queue: the caller keeps it until the port is stopped.
                done(
                    "set up a receive queue",
                    dpdk::lc_port_rx_queue(self.id, queue, setup.rx_descriptors, pool),
                )?;
                done(
                    "set up a transmit queue",
                    dpdk::lc_port_tx_queue(self.id, queue, setup.tx_descriptors),
                )?;
            }
            done("start it", dpdk::lc_port_start(self.id))?;
            self.started = true;
            dpdk::lc_port_stats_clear(self.id);
            // Each queue once, and not again before they are all back.
            Ok((0..)
                .zip(setup.pools)
                .map(|(queue, pool)| {
                    let known = self.gives.known(pool.token(), scatters);
                    queue_pair(self.id, queue, known, &self.events, &self.lent)
                })
                .collect())
        }
    }

    /// Spreads flows evenly over the queues.
    pub(crate) fn spread(&self, queues: u16, reta_size: u16) -> io::Result<()> {
        // SAFETY: the port exists.
        answer(unsafe { dpdk::lc_port_spread(self.id, queues, reta_size) }).map(drop)
    }

    /// Receives what is left in the queues, and frees it. Only for drivers that would keep it. Its queues
    /// must be back.
    pub(crate) fn drain(&mut self, queues: u16) -> usize {
        let mut drained = 0;
        if !self.started || self.lent() > 0 || self.events.is_destroyed() {
            return drained;
        }
        let mut burst = Burst::with_capacity(64);
        for queue in 0..queues {
            loop {
                let room = burst.spare();
                // SAFETY: started, and no queue is polled elsewhere; as in `RawRx::receive_behind`.
                unsafe {
                    let (mbufs, n) = (room.as_mut_ptr().cast(), room.len() as u16);
                    let got = dpdk::lc_rx_burst(self.id, queue, mbufs, n).min(n);
                    burst.add_len(usize::from(got));
                }
                if burst.is_empty() {
                    break;
                }
                drained += burst.len();
                burst.clear();
            }
        }
        drained
    }

    /// Stops it. Its queues must be back.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        if self.lent() > 0 {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        if !core::mem::take(&mut self.started) || self.events.is_destroyed() {
            return Ok(());
        }
        // SAFETY: the port exists, and no queue is polled.
        answer(unsafe { dpdk::lc_port_stop(self.id) }).map(drop)
    }

    pub(crate) fn set_promiscuous(&self, on: bool) -> io::Result<()> {
        // SAFETY: the port exists.
        answer(unsafe { dpdk::lc_port_promiscuous(self.id, on) }).map(drop)
    }
}

/// What failed, and the answer.
pub(crate) type Step = (&'static str, io::Error);

/// How a device is to be started.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    /// Everything but the queues and the key.
    pub(crate) config: Config,
    pub(crate) key: &'a [u8],
    /// The MTU to set, if it was named.
    pub(crate) mtu: Option<u16>,
    pub(crate) rx_descriptors: u16,
    pub(crate) tx_descriptors: u16,
    /// One for each queue; kept by the caller until the port is stopped.
    pub(crate) pools: &'a [Arc<RtePool>],
}

/// Sets the MTU, if there is one to be set. Only a device that is configured can be told.
pub(super) fn set_mtu(port: u16, mtu: Option<u16>) -> io::Result<()> {
    let Some(mtu) = mtu else {
        return Ok(());
    };
    // SAFETY: DPDK checks the number itself.
    match answer(unsafe { dpdk::lc_port_mtu(port, mtu) }) {
        // Drivers that do not know the notion have taken what they were configured with.
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => Ok(()),
        other => other.map(drop),
    }
}

/// Whether a port's link is up; false if it cannot be asked.
pub(crate) fn link_up(port: u16) -> bool {
    let mut speed = 0;
    // SAFETY: DPDK checks the number itself.
    unsafe { dpdk::lc_port_link(port, &raw mut speed) == 1 }
}

/// A port's own counters.
pub(crate) fn stats(port: u16) -> Stats {
    let mut stats = Stats::default();
    // SAFETY: DPDK checks the number itself.
    unsafe { dpdk::lc_port_stats(port, &raw mut stats) };
    stats
}

/// A port's extended counters, by name.
pub(crate) fn xstats(port: u16) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for index in 0.. {
        let (mut name, mut value) = ([0; 64], 0);
        // SAFETY: room for a name of 64 bytes, terminated by the shim, and for a value; DPDK checks the
        // number itself.
        let result = unsafe { dpdk::lc_port_xstat(port, index, name.as_mut_ptr(), &raw mut value) };
        if result < 0 {
            break;
        }
        let bytes = name.map(|c| c as u8);
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        all.push((String::from_utf8_lossy(&bytes[..end]).into_owned(), value));
    }
    all
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.lent() > 0 {
            tracing::warn!(
                port = self.id,
                "a DPDK port is dropped before its queues; it stays open"
            );
            // The listener's callback refers to what the queues share.
            core::mem::forget(self.listener.take());
            return;
        }
        if let Err(error) = self.stop() {
            tracing::warn!(port = self.id, %error, "stopping a DPDK port");
        }
        self.listener = None;
        if self.events.is_destroyed() {
            // The number may be another device's by now.
            return;
        }
        let _alone = alone();
        // SAFETY: stopped, and nobody refers to it any more.
        if let Err(error) = answer(unsafe { dpdk::lc_port_close(self.id) }) {
            tracing::debug!(port = self.id, %error, "closing a DPDK port");
        }
    }
}
