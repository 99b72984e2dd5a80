//! Giving mbufs back: each segment to the pool it came from, exactly once.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::raw::{ExtShared, HEADER_LEN, RawMbuf};
use crate::mempool::PoolHead;
use crate::offload::MbufFlags;

/// What giving back a header takes.
enum Kind {
    /// One segment, one owner, its own buffer: straight back to its pool.
    Plain,
    /// The same with an external buffer, which has to be given back as well.
    External,
    /// A chain, a clone, or a buffer that a clone still uses.
    Special,
}

/// Reads the first cache line only.
///
/// # Safety
///
/// The caller owns the handle.
#[inline(always)]
unsafe fn kind(m: NonNull<RawMbuf>) -> Kind {
    // SAFETY: the header is alive; `refcnt` is the only field that another thread may touch, and it
    // is atomic. Acquire: with a count of 1 the last of the other owners is done with the buffer, and
    // we must be ordered after it.
    let (alone, flags) = unsafe {
        let m = m.as_ref();
        (
            m.refcnt.load(Ordering::Acquire) == 1 && m.nb_segs == 1,
            m.ol_flags,
        )
    };
    let indirect = flags & MbufFlags::INDIRECT.bits() != 0;
    match flags & MbufFlags::NOT_DIRECT.bits() != 0 {
        false if alone => Kind::Plain,
        true if alone && !indirect => Kind::External,
        _ => Kind::Special,
    }
}

/// Counts to give back to one external buffer. The frames of a receive block lie side by side in a
/// burst, so their counts go back in one subtraction instead of one each.
struct ExternalRun {
    shared: *const ExtShared,
    addr: *mut u8,
    count: u16,
}

impl ExternalRun {
    /// # Safety
    ///
    /// `m` is of [`Kind::External`] and ours; its count passes to the run.
    #[inline(always)]
    unsafe fn take(&mut self, m: NonNull<RawMbuf>) {
        // SAFETY: alive and exclusive.
        let (shared, addr) = unsafe { (m.as_ref().shinfo, m.as_ref().buf_addr) };
        if shared != self.shared || self.count == u16::MAX {
            self.finish();
            (self.shared, self.addr) = (shared, addr);
        }
        self.count += 1;
    }

    #[inline(always)]
    fn finish(&mut self) {
        if self.count > 0 {
            // SAFETY: `take` collected `count` counts of `shared`, which is thereby not null.
            unsafe {
                ExtShared::release(
                    NonNull::new_unchecked(self.shared.cast_mut()),
                    self.count,
                    self.addr,
                );
            }
            self.count = 0;
        }
    }
}

/// Frees the handles in `mbufs`.
///
/// # Safety
///
/// The caller owns every handle and forgets them.
#[inline]
pub(crate) unsafe fn free_bulk(mbufs: &[NonNull<RawMbuf>]) {
    let Some(first) = mbufs.first() else { return };
    // SAFETY: per the contract every header is alive and ours. See `kind` for the order of `owners`.
    unsafe {
        let pool = first.as_ref().pool;
        // Nearly always all are plain and of one pool: one pass without a branch finds that out, and
        // its loads, of headers that another core may have had last, do not wait for one another.
        let (mut counts, mut flags, mut others) = (1, 0, 0);
        for &m in mbufs {
            // Neither count is ever 0, so all are 1 if no other bit is set in any of them.
            counts |= RawMbuf::owners(m).load(Ordering::Acquire) | m.as_ref().nb_segs;
            flags |= m.as_ref().ol_flags;
            others |= m.as_ref().pool.addr() ^ pool.addr();
        }
        if counts == 1 && flags & MbufFlags::NOT_DIRECT.bits() == 0 && others == 0 {
            (*(*pool).pool()).put(mbufs);
        } else {
            free_mixed(mbufs);
        }
    }
}

/// As [`free_bulk`], without a look at any but the first.
///
/// # Safety
///
/// As [`free_bulk`]; and each is one segment with one owner in its own buffer, and all are of one pool.
#[inline]
pub(crate) unsafe fn free_plain(mbufs: &[NonNull<RawMbuf>]) {
    let Some(first) = mbufs.first() else { return };
    // SAFETY: by the contract; a pool outlives its mbufs.
    unsafe {
        let pool = first.as_ref().pool;
        debug_assert!(
            mbufs
                .iter()
                .all(|m| matches!(kind(*m), Kind::Plain) && m.as_ref().pool == pool)
        );
        (*(*pool).pool()).put(mbufs);
    }
}

/// As [`free_bulk`]. A run of plain mbufs of one pool goes back in one bulk copy.
///
/// # Safety
///
/// As [`free_bulk`].
#[inline(never)]
unsafe fn free_mixed(mbufs: &[NonNull<RawMbuf>]) {
    let mut start = 0;
    let mut pool: *const PoolHead = core::ptr::null();
    let mut external = ExternalRun {
        shared: core::ptr::null(),
        addr: core::ptr::null_mut(),
        count: 0,
    };
    for (i, &m) in mbufs.iter().enumerate() {
        // SAFETY: per the contract the header is alive and ours, until it is put.
        unsafe {
            match kind(m) {
                Kind::Plain => {}
                Kind::External => {
                    external.take(m);
                    reset_buffer(m);
                }
                Kind::Special => {
                    put(pool, &mbufs[start..i]);
                    start = i + 1;
                    free_chain(m);
                    continue;
                }
            }
            let owner = m.as_ref().pool;
            if owner != pool {
                put(pool, &mbufs[start..i]);
                (pool, start) = (owner, i);
            }
        }
    }
    // SAFETY: the last run.
    unsafe { put(pool, &mbufs[start..]) };
    external.finish();
}

#[inline(always)]
unsafe fn put(pool: *const PoolHead, run: &[NonNull<RawMbuf>]) {
    if !run.is_empty() {
        // SAFETY: a run is non-empty only after its pool was set; a pool outlives its mbufs.
        unsafe { (*(*pool).pool()).put(run) };
    }
}

/// Frees a whole frame: every segment.
///
/// # Safety
///
/// The caller owns the handle and forgets it.
pub(crate) unsafe fn free_chain(head: NonNull<RawMbuf>) {
    let mut segment = Some(head);
    while let Some(m) = segment {
        // SAFETY: the chain is ours; its link is read before the segment is let go. A segment alone
        // has a null link by the pools' invariant, so its second cache line need not be read.
        unsafe {
            segment = if m.as_ref().nb_segs == 1 && m == head {
                None
            } else {
                NonNull::new(m.as_ref().next)
            };
            release_segment(m);
        }
    }
}

/// Gives up one count of a segment; with the last, its buffer and its header.
///
/// # Safety
///
/// The caller owns one count.
unsafe fn release_segment(mut m: NonNull<RawMbuf>) {
    // SAFETY: alive while we hold a count; once the count is 0 nobody else refers to it, so writing
    // through the pointer is exclusive.
    unsafe {
        let owners = RawMbuf::owners(m);
        if owners.load(Ordering::Acquire) != 1 {
            if owners.fetch_sub(1, Ordering::AcqRel) != 1 {
                return;
            }
            owners.store(1, Ordering::Relaxed);
        }
        if m.as_ref().ol_flags & MbufFlags::NOT_DIRECT.bits() != 0 {
            detach(m);
        }
        let raw = m.as_mut();
        if raw.nb_segs != 1 || !raw.next.is_null() {
            raw.nb_segs = 1;
            raw.next = core::ptr::null_mut();
        }
        (*(*raw.pool).pool()).put(core::slice::from_ref(&m));
    }
}

/// Gives back the buffer that is not the mbuf's own and returns the mbuf to its own one.
///
/// # Safety
///
/// The caller is the only owner of `m`, which is external or indirect.
pub(crate) unsafe fn detach(mut m: NonNull<RawMbuf>) {
    // SAFETY: exclusive by the contract. An indirect mbuf's buffer starts right behind its origin's
    // header (and that one's private area), where `attach` found it.
    unsafe {
        let raw = m.as_mut();
        if raw.ol_flags & MbufFlags::INDIRECT.bits() != 0 {
            let origin = raw
                .buf_addr
                .sub(HEADER_LEN + raw.priv_size as usize)
                .cast::<RawMbuf>();
            release_segment(NonNull::new_unchecked(origin));
        } else {
            let shared = NonNull::new_unchecked(raw.shinfo.cast_mut());
            ExtShared::release(shared, 1, raw.buf_addr);
        }
        reset_buffer(m);
    }
}

/// Points `m` at its own buffer again.
///
/// # Safety
///
/// The caller is the only owner of `m` and has given back the other buffer.
unsafe fn reset_buffer(mut m: NonNull<RawMbuf>) {
    // SAFETY: exclusive; a pool lays a buffer of `buf_len` bytes behind each of its headers.
    unsafe {
        let own = m.as_ptr().cast::<u8>().add(HEADER_LEN);
        let raw = m.as_mut();
        let pool = &*(*raw.pool).pool();
        raw.buf_addr = own;
        raw.buf_iova = own as u64;
        raw.buf_len = pool.buf_len();
        raw.data_off = pool.headroom();
        raw.priv_size = 0;
        raw.shinfo = core::ptr::null();
        raw.ol_flags &= !(MbufFlags::NOT_DIRECT | MbufFlags::SHARED).bits();
    }
}
