//! The pools that are adopted, whichever ports use them.
//!
//! A pool is adopted once, however many ports it is given to, and until the last of them has stopped
//! and every mbuf is home. If one is still out by then, or in another worker's cache, the adoption stays, so
//! that whoever frees that mbuf finds what its header names; it is looked at again whenever a port stops.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use linecard_hal::Mempool;

use crate::sys::pool::RtePool;

static ADOPTED: Mutex<Vec<Arc<RtePool>>> = Mutex::new(Vec::new());
static NUMBER: AtomicU32 = AtomicU32::new(0);

fn adopted() -> MutexGuard<'static, Vec<Arc<RtePool>>> {
    ADOPTED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Adopts those of `pools` that are not adopted yet; in their order. All of them or none.
pub(crate) fn adopt(pools: &[Mempool]) -> io::Result<Vec<Arc<RtePool>>> {
    let all = adopt_all(pools);
    if all.is_err() {
        release(Vec::new());
    }
    all
}

fn adopt_all(pools: &[Mempool]) -> io::Result<Vec<Arc<RtePool>>> {
    let mut adopted = adopted();
    pools
        .iter()
        .map(|pool| {
            if let Some(known) = adopted.iter().find(|a| a.pool().same(pool)) {
                return Ok(known.clone());
            }
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let new = Arc::new(RtePool::new(pool, &format!("lc{number}"))?);
            adopted.push(new.clone());
            Ok(new)
        })
        .collect()
}

/// A pool that is registered with DPDK now, in memory that is not DPDK's own.
pub(crate) fn registered() -> Option<String> {
    let adopted = adopted();
    let other = adopted.iter().find(|one| !one.pool().region().is_lent())?;
    Some(other.pool().config().name.clone())
}

/// Ends the adoptions that no port needs any more. No worker of such a port may run.
pub(crate) fn release(mine: Vec<Arc<RtePool>>) {
    let mut adopted = adopted();
    drop(mine);
    for one in core::mem::take(&mut *adopted) {
        let kept = match Arc::try_unwrap(one) {
            Ok(unused) => match unused.close() {
                Ok(()) => continue,
                Err(mbufs_out) => Arc::new(mbufs_out),
            },
            Err(in_use) => in_use,
        };
        adopted.push(kept);
    }
}

/// Gives back what the calling thread's caches hold, of every adopted pool: this thread may have sent
/// mbufs of any of them.
pub(crate) fn flush_own() {
    for pool in adopted().iter() {
        pool.flush_own();
    }
}
