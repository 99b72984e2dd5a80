//! Mempools: a fixed number of mbufs in one region, with a cache for each worker.
//!
//! A pool never grows. When it is empty, allocation gives fewer mbufs than asked for, and that is
//! counted. Its [`Ledger`] says how many mbufs are out; when everything that held mbufs has stopped,
//! [`Mempool::leaks`] names each one that did not come back and the port that received it.
//!
//! Workers [register](crate::lcore::register) as lcores; their allocations and frees then go through a
//! cache of their own. Any other thread goes to the shared ring.
#![allow(unsafe_code)]

mod adopt;
pub(crate) mod fresh;
mod layout;
pub(crate) mod store;
#[cfg(all(test, not(loom)))]
mod tests;

use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::burst::{Burst, Fresh};
use crate::lcore;
use crate::mbuf::{HEADER_LEN, Mbuf, NO_PORT, RawMbuf};
use crate::region::{Region, RegionError, RegionRequest};
use store::Store;

pub(crate) use adopt::PoolHead;
pub use adopt::{POOL_DATA_OFFSET, PoolData};
pub use layout::Layout;

/// Bytes before every header that belong to whoever adopted the pool: DPDK keeps a `rte_mempool_objhdr`
/// of at most 32 bytes right before each object.
pub const SPARE: usize = 64;

/// What a pool is to be.
#[derive(Debug, Clone)]
pub struct MempoolConfig {
    /// The name in tables, errors and reports.
    pub name: String,
    /// How many mbufs. Never more, never fewer.
    pub size: usize,
    /// Bytes before the data of a fresh mbuf, for headers to be prepended. 128 as in DPDK.
    pub headroom: u16,
    /// Bytes for data behind the headroom. 2048 takes any frame of an MTU up to 2,034.
    pub data_room: u16,
    /// Mbufs in each worker's cache; 0 for none. At most half of the size.
    pub cache: usize,
    /// The NUMA node that the memory must lie on, if that matters.
    pub node: Option<u32>,
}

impl MempoolConfig {
    /// A pool with the usual headroom, data room and caches.
    pub fn new(name: impl Into<String>, size: usize) -> Self {
        Self {
            name: name.into(),
            size,
            headroom: 128,
            data_room: 2048,
            cache: 256.min(size / 4),
            node: None,
        }
    }

    /// Bytes from one mbuf's header to the next one's: an odd number of cache lines, so that the
    /// headers of a pool use all sets of a cache and not only every fourth or so. The last [`SPARE`]
    /// bytes are left to the next mbuf's header.
    pub fn stride(&self) -> usize {
        let bytes = HEADER_LEN + self.headroom as usize + self.data_room as usize + SPARE;
        (bytes.div_ceil(64) | 1) * 64
    }

    /// Where everything lies.
    fn layout(&self) -> Layout {
        Layout::new(self.size, self.stride())
    }

    /// Bytes of memory for all of them.
    pub fn len_bytes(&self) -> usize {
        self.layout().len_bytes()
    }

    fn check(&self) -> Result<(), MempoolError> {
        let wrong = |what: String, remedy: String| {
            Err(MempoolError::Config {
                pool: self.name.clone(),
                what,
                remedy,
            })
        };
        if self.size == 0 || self.size > 1 << 26 {
            return wrong(
                format!(
                    "a size of {} mbufs is not between 1 and {}",
                    self.size,
                    1 << 26
                ),
                "set the pool's size".into(),
            );
        }
        if u32::from(self.headroom) + u32::from(self.data_room) > u32::from(u16::MAX) {
            return wrong(
                format!(
                    "headroom {} and data room {} exceed 65535 bytes",
                    self.headroom, self.data_room
                ),
                "frames that are longer travel as chains; use a data room of 65407 at most".into(),
            );
        }
        if self.cache > self.size / 2 {
            return wrong(
                format!("caches of {} mbufs for a pool of {}", self.cache, self.size),
                format!("use a cache of {} at most", self.size / 2),
            );
        }
        Ok(())
    }
}

/// Why a pool could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MempoolError {
    /// The configuration cannot work.
    #[error("mempool {pool}: {what}: {remedy}")]
    Config {
        /// The pool's name.
        pool: String,
        /// What is wrong, with the value.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// There is no memory for it.
    #[error("mempool {pool}: {source}")]
    Region {
        /// The pool's name.
        pool: String,
        /// The system's answer.
        source: RegionError,
    },
}

/// A fixed pool of mbufs. Cloning gives another handle to the same pool.
///
/// The memory is returned to the system when the last handle is dropped, provided that every mbuf is
/// home. If some are still out, it is kept for them and a warning says how many.
pub struct Mempool {
    shared: NonNull<PoolShared>,
}

/// What all handles and every mbuf of a pool refer to.
pub(crate) struct PoolShared {
    /// What the headers point to as long as nobody has adopted the pool.
    head: PoolHead,
    store: Store<Header>,
    buf_len: u16,
    headroom: u16,
    config: MempoolConfig,
    layout: Layout,
    region: Region,
    base: NonNull<u8>,
    counts: Box<[Counts]>,
    handles: AtomicUsize,
}

/// A header in the store. Only a wrapper to make the pointer `Send`.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Header(NonNull<RawMbuf>);

// SAFETY: a header in the store has no other owner; taking it out makes the taker its owner.
unsafe impl Send for Header {}

/// One lcore's counters, on cache lines of their own. The last entry is shared by all threads without
/// an lcore.
#[derive(Default)]
#[repr(align(128))]
struct Counts {
    allocated: AtomicU64,
    freed: AtomicU64,
    short: AtomicU64,
}

/// Adds to a counter that only one thread writes: a plain load and store.
#[inline(always)]
fn add_owned(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

/// A pool's books at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ledger {
    /// The pool's name.
    pub name: String,
    /// NUMA node of the memory, if it was asked for.
    pub node: Option<u32>,
    /// Mbufs in the pool.
    pub size: usize,
    /// Mbufs that somebody holds.
    pub in_use: usize,
    /// Mbufs allocated since the start.
    pub allocated: u64,
    /// Mbufs given back since the start.
    pub freed: u64,
    /// Mbufs that were asked for and not to be had.
    pub exhausted: u64,
    /// Bytes of each page of the memory.
    pub page_bytes: u64,
    /// The kind of page, as [`PageKind`](crate::region::PageKind) prints it.
    pub page: String,
}

/// An mbuf that did not come back. See [`Mempool::leaks`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leak {
    /// Its number within the pool.
    pub index: usize,
    /// The port that received it last, or `None` if it was allocated for transmission. Of an mbuf that a device has to receive into, or
    /// that nobody ever looked at, the one before that.
    pub port: Option<u16>,
    /// Bytes of its frame; of such an mbuf, of the one before.
    pub frame_len: u32,
    /// How many owners it has.
    pub owners: u16,
}

impl PoolShared {
    #[inline(always)]
    pub(crate) fn buf_len(&self) -> u16 {
        self.buf_len
    }

    #[inline(always)]
    pub(crate) fn headroom(&self) -> u16 {
        self.headroom
    }

    /// Takes plain mbufs of this pool back.
    ///
    /// # Safety
    ///
    /// Every header is of this pool, plain (one segment, one owner, its own buffer), and the caller's.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, mbufs: &[NonNull<RawMbuf>]) {
        let id = lcore::current();
        self.count(id, |c| &c.freed, mbufs.len());
        // SAFETY: `Header` is a transparent wrapper; the headers come from this store and go back
        // once; `id` is the calling thread's.
        unsafe {
            self.store
                .give(id, mbufs.as_ptr().cast::<Header>(), mbufs.len())
        };
    }

    #[inline(always)]
    fn count(&self, id: u32, counter: impl Fn(&Counts) -> &AtomicU64, n: usize) {
        if (id as usize) < lcore::MAX_LCORES {
            add_owned(counter(&self.counts[id as usize]), n as u64);
        } else {
            counter(&self.counts[lcore::MAX_LCORES]).fetch_add(n as u64, Ordering::Relaxed);
        }
    }

    /// Takes up to `n` headers to `out`, as they were given back, and returns how many.
    ///
    /// # Safety
    ///
    /// `out` has room for `n`.
    #[inline(always)]
    unsafe fn take_as_they_are(&self, out: *mut NonNull<RawMbuf>, n: usize) -> usize {
        let id = lcore::current();
        // SAFETY: `out` has room; `Header` is a transparent wrapper; `id` is the calling thread's.
        let got = unsafe { self.store.take(id, out.cast::<Header>(), n) };
        self.count(id, |c| &c.allocated, got);
        if got < n {
            self.count(id, |c| &c.short, n - got);
        }
        got
    }

    /// Takes up to `n` empty mbufs to `out`, which has room for them.
    #[inline(always)]
    fn take(&self, out: *mut Mbuf, n: usize) -> usize {
        let out = out.cast::<NonNull<RawMbuf>>();
        // SAFETY: callers give room for `n`; `Mbuf` is a transparent header pointer.
        let got = unsafe { self.take_as_they_are(out, n) };
        let fresh = fresh::fields(self.headroom, NO_PORT, 0);
        // Prepares the headers in a second pass: the first line of each, and nothing else.
        for i in 0..got {
            // SAFETY: the first `got` entries are headers that are ours alone.
            unsafe { fresh::set(out.add(i).read(), fresh) };
        }
        got
    }

    fn header(&self, index: usize) -> NonNull<RawMbuf> {
        debug_assert!(index < self.config.size);
        // SAFETY: `index` is below the size, so this stays within the region.
        unsafe { self.base.add(self.layout.header_at(index)).cast() }
    }

    /// Lays out all headers and puts them into the store.
    fn fill(&self) {
        for index in 0..self.config.size {
            let m = self.header(index);
            let own = m.as_ptr() as usize + HEADER_LEN;
            // SAFETY: the region has room for `size` strides, each aligned to a cache line and not
            // yet used by anybody. The store has a slot for each.
            unsafe {
                m.write(RawMbuf {
                    buf_addr: m.as_ptr().cast::<u8>().add(HEADER_LEN),
                    buf_iova: own as u64,
                    data_off: self.headroom,
                    refcnt: 1.into(),
                    nb_segs: 1,
                    port: NO_PORT,
                    ol_flags: 0,
                    packet_type: 0,
                    pkt_len: 0,
                    data_len: 0,
                    vlan_tci: 0,
                    rss: 0,
                    mark: 0,
                    vlan_tci_outer: 0,
                    buf_len: self.buf_len,
                    pool: &raw const self.head,
                    next: core::ptr::null_mut(),
                    tx_offload: 0,
                    shinfo: core::ptr::null(),
                    priv_size: 0,
                    timesync: 0,
                    reserved: 0,
                    timestamp_ns: 0,
                    dynamic: [0; 6],
                    shared: core::marker::PhantomPinned,
                });
                self.store.give(lcore::NONE, &Header(m), 1);
            }
        }
    }
}

impl Mempool {
    /// Makes a pool: reserves and touches its memory, so that no page fault comes later.
    pub fn new(config: MempoolConfig) -> Result<Self, MempoolError> {
        config.check()?;
        let request = RegionRequest {
            len_bytes: config.len_bytes(),
            node: config.node,
        };
        let region = Region::new(&request).map_err(|source| MempoolError::Region {
            pool: config.name.clone(),
            source,
        })?;
        Self::within(config, region)
    }

    /// Makes a pool in memory that is there already, of [`MempoolConfig::len_bytes`] or more: what a port
    /// [lends](crate::Port::memory).
    pub fn within(config: MempoolConfig, region: Region) -> Result<Self, MempoolError> {
        config.check()?;
        if region.len_bytes() < config.len_bytes() {
            return Err(MempoolError::Config {
                what: format!(
                    "{} bytes of memory for {} mbufs",
                    region.len_bytes(),
                    config.size
                ),
                remedy: format!("{} are needed", config.len_bytes()),
                pool: config.name,
            });
        }
        let shared = Box::new(PoolShared {
            head: PoolHead::of(core::ptr::null()),
            store: Store::new(config.size, lcore::MAX_LCORES, config.cache),
            buf_len: config.headroom + config.data_room,
            headroom: config.headroom,
            base: region.base(),
            layout: config.layout(),
            region,
            counts: (0..=lcore::MAX_LCORES).map(|_| Counts::default()).collect(),
            handles: AtomicUsize::new(1),
            config,
        });
        let mut shared = NonNull::from(Box::leak(shared));
        // SAFETY: just made, and nobody else knows it yet.
        unsafe { shared.as_mut().head = PoolHead::of(shared.as_ptr()) };
        let pool = Self { shared };
        pool.shared().fill();
        Ok(pool)
    }

    #[inline(always)]
    fn shared(&self) -> &PoolShared {
        // SAFETY: the pool is freed only with its last handle.
        unsafe { self.shared.as_ref() }
    }

    /// Takes one mbuf, empty, with the pool's headroom. `None` when there is none: counted.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        let mut slot = MaybeUninit::uninit();
        // SAFETY: the slot has room for one, and is read only if it was written.
        (self.shared().take(slot.as_mut_ptr(), 1) == 1).then(|| unsafe { slot.assume_init() })
    }

    /// Adds up to `n` mbufs to `burst`, as far as it has room and the pool has any; returns how many.
    #[inline]
    pub fn alloc_burst(&self, burst: &mut Burst, n: usize) -> usize {
        let spare = burst.spare();
        let n = n.min(spare.len());
        let got = self.shared().take(spare.as_mut_ptr().cast::<Mbuf>(), n);
        // SAFETY: exactly `got` slots were written.
        unsafe { burst.add_len(got) };
        got
    }

    /// Fills an empty `burst` with up to `n` mbufs, as far as it has room and the pool has any, each with a frame of
    /// `len` bytes that are whatever was there before; returns how many. None if such a frame does not fit the
    /// buffers, or the burst is not empty.
    ///
    /// For who makes frames of one size: the burst is known to be [plain](crate::burst::Plain), so that
    /// [`change_data`](Burst::change_data) and transmit queues need not look at each mbuf; and its headers are
    /// written when somebody first does.
    #[inline]
    pub fn alloc_frames(&self, burst: &mut Burst, n: usize, len: u16) -> usize {
        let shared = self.shared();
        if !burst.is_empty() || u32::from(shared.headroom) + u32::from(len) > shared.buf_len.into()
        {
            return 0;
        }
        let spare = burst.spare();
        let n = n.min(spare.len());
        // SAFETY: exactly `got` slots are written, with mbufs that are plain, as all are that are `put`; the length fits.
        unsafe {
            let got = shared.take_as_they_are(spare.as_mut_ptr().cast(), n);
            burst.add_len(got);
            if let Some(first) = burst.headers().first() {
                let data_off = shared.headroom;
                burst.set_fresh(first.as_ref().pool.addr(), Fresh { data_off, len });
            }
            got
        }
    }

    /// Takes headers for a device to receive into, as many as there are, up to `out`'s length; returns how many were written to
    /// it. Their fields are as they were when they were given back, and no handle has them: what is received becomes one with
    /// [`Mbuf::received`], which writes them all; what is not goes back with [`Mbuf::from_raw`].
    #[inline]
    pub fn take_raw(&self, out: &mut [MaybeUninit<NonNull<RawMbuf>>]) -> usize {
        // SAFETY: it has room for as many.
        unsafe { (self.shared()).take_as_they_are(out.as_mut_ptr().cast(), out.len()) }
    }

    /// Gives the calling worker's cache back to the shared ring. A worker does so when it stops, as
    /// nobody else can reach its cache.
    pub fn flush_cache(&self) {
        // SAFETY: the id is the calling thread's own.
        unsafe { self.shared().store.flush(lcore::current()) };
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &MempoolConfig {
        &self.shared().config
    }

    /// Where its mbufs lie in the [region](Self::region).
    pub fn layout(&self) -> Layout {
        self.shared().layout
    }

    /// The memory it lies in, which a driver may register with the kernel or a device.
    pub fn region(&self) -> &Region {
        &self.shared().region
    }

    /// Whether both are handles to one pool.
    pub fn same(&self, other: &Mempool) -> bool {
        self.shared == other.shared
    }

    /// Mbufs that somebody holds. Exact when no worker runs.
    pub fn in_use(&self) -> usize {
        self.shared()
            .config
            .size
            .saturating_sub(self.shared().store.available())
    }

    /// The pool's books.
    pub fn ledger(&self) -> Ledger {
        let shared = self.shared();
        let sum = |counter: fn(&Counts) -> &AtomicU64| {
            shared
                .counts
                .iter()
                .map(|c| counter(c).load(Ordering::Relaxed))
                .sum()
        };
        Ledger {
            name: shared.config.name.clone(),
            node: shared.region.node(),
            size: shared.config.size,
            in_use: self.in_use(),
            allocated: sum(|c| &c.allocated),
            freed: sum(|c| &c.freed),
            exhausted: sum(|c| &c.short),
            page_bytes: shared.region.page().bytes(),
            page: shared.region.page().to_string(),
        }
    }

    /// The mbufs that are still out, for the report after everything that held mbufs has stopped.
    ///
    /// Empties the shared ring to see what is home and fills it again, so no worker may run meanwhile;
    /// caches must have been [flushed](Self::flush_cache), or what is in them counts as out.
    pub fn leaks(&self) -> Vec<Leak> {
        let shared = self.shared();
        let mut home = vec![false; shared.config.size];
        let mut all = Burst::with_capacity(shared.config.size);
        // SAFETY: room for all; without an lcore id this reads the shared ring only.
        unsafe {
            let got = shared.store.take(
                lcore::NONE,
                all.spare().as_mut_ptr().cast::<Header>(),
                shared.config.size,
            );
            for slot in &all.spare()[..got] {
                let header = slot.as_ptr().cast::<NonNull<RawMbuf>>().read();
                let at = header.as_ptr() as usize - shared.base.as_ptr() as usize;
                if let Some(index) = shared.layout.index_at(at) {
                    home[index] = true;
                }
            }
            shared
                .store
                .give(lcore::NONE, all.as_ptr().cast::<Header>(), got);
        }
        let out = home.iter().enumerate().filter(|(_, home)| !**home);
        out.map(|(index, _)| {
            let m = shared.header(index);
            // SAFETY: a header is always initialised; its owner, if it still runs against the contract,
            // could change a number while it is read, so each is read once, volatile.
            unsafe {
                let port = (&raw const (*m.as_ptr()).port).read_volatile();
                Leak {
                    index,
                    port: (port != NO_PORT).then_some(port),
                    frame_len: (&raw const (*m.as_ptr()).pkt_len).read_volatile(),
                    owners: RawMbuf::owners(m).load(Ordering::Relaxed),
                }
            }
        })
        .collect()
    }
}

// SAFETY: what handles share is the store, whose parts are made for many threads, and atomics.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Clone for Mempool {
    fn clone(&self) -> Self {
        self.shared().handles.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: self.shared,
        }
    }
}

impl Drop for Mempool {
    fn drop(&mut self) {
        // As `Arc` does it: release on each decrement, acquire before the destruction (by a load, as
        // the thread sanitizer does not know fences).
        if self.shared().handles.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        self.shared().handles.load(Ordering::Acquire);
        let out = self.in_use();
        if out > 0 {
            // Their headers point here, so the memory has to stay.
            tracing::warn!(pool = %self.config().name, mbufs = out, "mempool dropped while mbufs are out; its memory is kept");
            return;
        }
        // SAFETY: made by `Box::leak`; no handle and no mbuf is left. Every giver's last access to the
        // pool is the release store that `in_use` has read.
        drop(unsafe { Box::from_raw(self.shared.as_ptr()) });
    }
}

impl core::fmt::Debug for Mempool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Mempool({}: {}/{} in use)",
            self.config().name,
            self.in_use(),
            self.config().size
        )
    }
}
