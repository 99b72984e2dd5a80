//! Clones, external buffers, and the way back to bytes of one's own.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::Mbuf;
use super::raw::{ExtShared, HEADER_LEN, RawMbuf, retain};
use crate::mempool::Mempool;
use crate::offload::MbufFlags;

/// Whether somebody else may read the bytes of this segment.
#[inline(always)]
pub(super) fn segment_shared(raw: &RawMbuf) -> bool {
    // A clone's bytes are its origin's; it may write only when it is the last that holds them, which
    // is not worth finding out. Frames of one external block hold the block together but not each
    // other's bytes; a cloned one is marked.
    raw.refcnt.load(Ordering::Acquire) != 1
        || raw.ol_flags & (MbufFlags::INDIRECT | MbufFlags::SHARED).bits() != 0
}

impl Mbuf {
    /// Whether the bytes of the first segment are shared with a clone, and so read-only.
    #[inline(always)]
    pub fn is_shared(&self) -> bool {
        segment_shared(self.raw())
    }

    /// Makes a second mbuf with the same bytes, without copying them: for multicast. Its header, and
    /// one for each further segment, come from `pool`; `None` when that is exhausted. Both are
    /// read-only while both exist.
    pub fn share(&mut self, pool: &Mempool) -> Option<Mbuf> {
        let count = self.segment_count();
        let mut clone: Option<Mbuf> = None;
        let mut segment = self.raw;
        for i in 0..count {
            let mut part = pool.alloc()?;
            // SAFETY: `segment` walks our own chain, exclusive through `&mut self`; `part` is fresh
            // and so has one owner and its own buffer.
            unsafe {
                if !attach(part.raw, segment) {
                    return None;
                }
                if i + 1 < count {
                    segment = NonNull::new_unchecked(segment.as_ref().next);
                }
            }
            match &mut clone {
                None => {
                    part.copy_metadata(self);
                    clone = Some(part);
                }
                // Cannot fail: the clone has no more segments and bytes than `self`.
                Some(head) => head.chain(part).ok()?,
            }
        }
        clone
    }

    /// Makes the bytes this mbuf's own by copying them into buffers of `pool` if they are shared.
    /// `false`, and nothing is changed, if the pool is exhausted or a segment does not fit its
    /// buffers.
    #[must_use]
    pub fn unshare(&mut self, pool: &Mempool) -> bool {
        if !self.is_shared() && self.segment_count() == 1 {
            return true;
        }
        match self.copy(pool) {
            Some(copy) => {
                *self = copy;
                true
            }
            None => false,
        }
    }

    /// Copies the frame and its metadata into mbufs of `pool`: as many segments as its buffers make
    /// necessary. `None` when the pool is exhausted.
    pub fn copy(&self, pool: &Mempool) -> Option<Mbuf> {
        let mut head = pool.alloc()?;
        head.copy_metadata(self);
        let mut tail: Option<Mbuf> = None;
        for mut bytes in self.segments() {
            while !bytes.is_empty() {
                let target = tail.as_mut().unwrap_or(&mut head);
                let n = target.tailroom().min(bytes.len());
                if n > 0 {
                    target.append(n)?.copy_from_slice(&bytes[..n]);
                    bytes = &bytes[n..];
                    continue;
                }
                if let Some(full) = tail.take() {
                    head.chain(full).ok()?;
                }
                let mut next = pool.alloc()?;
                // A further segment has no header to make room for.
                if !next.set_data(0, 0) || next.tailroom() == 0 {
                    return None;
                }
                tail = Some(next);
            }
        }
        if let Some(last) = tail {
            head.chain(last).ok()?;
        }
        Some(head)
    }

    /// Points a fresh mbuf at a buffer that belongs to somebody else, with the data at `data_off`.
    /// Takes over one count of `shared`, given back when the mbuf is freed.
    ///
    /// `false`, and nothing is taken over, if the data would not lie within the buffer or the mbuf is
    /// not plain.
    ///
    /// # Safety
    ///
    /// `buf..buf + buf_len` is memory that stays valid, and that nobody else reads or writes, until
    /// the count is given back. `shared` has a count for this mbuf.
    #[inline(always)]
    #[must_use]
    pub unsafe fn attach_external(
        &mut self,
        buf: NonNull<u8>,
        buf_len: u16,
        data_off: u16,
        data_len: u16,
        shared: NonNull<ExtShared>,
    ) -> bool {
        let raw = self.raw_mut();
        if u32::from(data_off) + u32::from(data_len) > u32::from(buf_len)
            || raw.nb_segs != 1
            || raw.refcnt.load(Ordering::Acquire) != 1
            || raw.ol_flags & MbufFlags::NOT_DIRECT.bits() != 0
        {
            return false;
        }
        raw.buf_addr = buf.as_ptr();
        raw.buf_len = buf_len;
        raw.data_off = data_off;
        raw.data_len = data_len;
        raw.pkt_len = u32::from(data_len);
        raw.shinfo = shared.as_ptr();
        raw.ol_flags |= MbufFlags::EXTERNAL.bits();
        true
    }
}

/// Makes `part` read the bytes of `segment`. `false`, and nothing is changed, if 65,535 clones hold
/// them already.
///
/// # Safety
///
/// `part` is fresh: one owner, one segment, its own buffer. `segment` is alive and nobody else reads
/// or writes its header meanwhile.
unsafe fn attach(mut part: NonNull<RawMbuf>, mut segment: NonNull<RawMbuf>) -> bool {
    // SAFETY: exclusive access to both headers by the contract.
    unsafe {
        let (to, from) = (part.as_mut(), segment.as_mut());
        if from.ol_flags & MbufFlags::EXTERNAL.bits() != 0 {
            // The buffer's owner counts one more; both are marked, because that count says nothing
            // about who reads which bytes.
            if !(*from.shinfo).retain() {
                return false;
            }
            to.buf_iova = from.buf_iova;
            to.shinfo = from.shinfo;
            from.ol_flags |= MbufFlags::SHARED.bits();
            to.ol_flags |= (MbufFlags::EXTERNAL | MbufFlags::SHARED).bits();
        } else {
            // A clone of a clone refers to the origin, as in DPDK.
            let origin = if from.ol_flags & MbufFlags::INDIRECT.bits() != 0 {
                from.buf_addr
                    .sub(HEADER_LEN + from.priv_size as usize)
                    .cast::<RawMbuf>()
            } else {
                core::ptr::from_mut(from)
            };
            if !retain(RawMbuf::owners(NonNull::new_unchecked(origin))) {
                return false;
            }
            to.buf_iova = from.buf_iova;
            to.priv_size = 0;
            to.ol_flags |= MbufFlags::INDIRECT.bits();
        }
        to.buf_addr = from.buf_addr;
        to.buf_len = from.buf_len;
        to.data_off = from.data_off;
        to.data_len = from.data_len;
        to.pkt_len = u32::from(from.data_len);
    }
    true
}
