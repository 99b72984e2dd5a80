//! Chains: one frame in several segments.

use core::ptr::NonNull;

use super::{HEADER_LEN, Mbuf, RawMbuf};
use crate::mempool::Mempool;
use crate::offload::MbufFlags;

/// The segments of a frame, first to last, as byte slices. See [`Mbuf::segments`].
#[derive(Debug)]
pub struct Segments<'a> {
    next: Option<&'a RawMbuf>,
    left: u16,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let raw = self.next?;
        self.left -= 1;
        // SAFETY: every segment of a live chain is alive and keeps its data within its buffer. The
        // link, which lies in the second cache line, is read only if there is a further segment.
        unsafe {
            self.next = if self.left == 0 {
                None
            } else {
                raw.next.as_ref()
            };
            let start = raw.buf_addr.add(raw.data_off as usize);
            Some(core::slice::from_raw_parts(start, raw.data_len as usize))
        }
    }
}

impl Mbuf {
    /// How many segments the frame has; 1 unless it is a chain.
    #[inline]
    pub fn segment_count(&self) -> usize {
        self.raw().nb_segs as usize
    }

    /// The bytes of the frame, segment by segment.
    #[inline]
    pub fn segments(&self) -> Segments<'_> {
        Segments {
            next: Some(self.raw()),
            left: self.raw().nb_segs,
        }
    }

    /// What the first segment's header names as its pool: the same for all mbufs of one pool. See
    /// [`Mempool::adopt`](crate::Mempool::adopt).
    #[inline(always)]
    pub fn pool_token(&self) -> usize {
        self.raw().pool.addr()
    }

    /// Whether `known` holds for every pool that giving this mbuf back would touch: those of its
    /// segments, and of the mbufs whose bytes they share.
    pub fn every_pool(&self, mut known: impl FnMut(usize) -> bool) -> bool {
        let mut next = Some(self.raw());
        for left in (0..self.raw().nb_segs).rev() {
            let Some(raw) = next else { return false };
            if !known(raw.pool.addr()) {
                return false;
            }
            // SAFETY: a clone's buffer lies behind its origin's header, which the clone keeps alive and
            // whose `pool` does not change meanwhile; the link is read only if there is a further segment.
            unsafe {
                if raw.ol_flags & MbufFlags::INDIRECT.bits() != 0 {
                    let origin = raw
                        .buf_addr
                        .sub(HEADER_LEN + raw.priv_size as usize)
                        .cast::<RawMbuf>();
                    if !known((&raw const (*origin).pool).read().addr()) {
                        return false;
                    }
                }
                next = if left == 0 { None } else { raw.next.as_ref() };
            }
        }
        true
    }

    /// Whether any segment's bytes lie outside of its pool's memory, where only processors are sure to reach
    /// them.
    pub fn any_external(&self) -> bool {
        let mut next = Some(self.raw());
        for left in (0..self.raw().nb_segs).rev() {
            let Some(raw) = next else { return false };
            if raw.ol_flags & MbufFlags::EXTERNAL.bits() != 0 {
                return true;
            }
            // SAFETY: as above.
            next = unsafe { if left == 0 { None } else { raw.next.as_ref() } };
        }
        false
    }

    /// Adds the segments of `tail` behind those of `self`. Gives `tail` back if the chain would have
    /// more than 65,535 segments or 4 GiB.
    pub fn chain(&mut self, tail: Mbuf) -> Result<(), Mbuf> {
        let segments = self.raw().nb_segs.checked_add(tail.raw().nb_segs);
        let len = self.raw().pkt_len.checked_add(tail.raw().pkt_len);
        let (Some(segments), Some(len)) = (segments, len) else {
            return Err(tail);
        };
        let mut last = self.last_segment_ptr();
        // SAFETY: the last segment is ours and exclusive through `&mut self`; `tail` gives up its
        // handle, so its segments have one owner again: this chain.
        unsafe { last.as_mut().next = tail.into_raw().as_ptr() };
        let raw = self.raw_mut();
        raw.nb_segs = segments;
        raw.pkt_len = len;
        Ok(())
    }

    /// Takes the first segment off: what is left, if it was a chain. Metadata stays with the first segment.
    pub fn unchain(mut self) -> (Mbuf, Option<Mbuf>) {
        let (segments, len) = (self.raw().nb_segs, self.raw().pkt_len);
        if segments == 1 {
            return (self, None);
        }
        let raw = self.raw_mut();
        let first_len = u32::from(raw.data_len);
        // SAFETY: a chain of more than one segment has a link, and its segments have one owner, this
        // handle; from here on there are two, of the first and of the others.
        let mut rest = unsafe {
            Mbuf::from_raw(NonNull::new_unchecked(core::mem::replace(
                &mut raw.next,
                core::ptr::null_mut(),
            )))
        };
        raw.nb_segs = 1;
        raw.pkt_len = first_len;
        rest.raw_mut().nb_segs = segments - 1;
        rest.raw_mut().pkt_len = len - first_len;
        (self, Some(rest))
    }

    /// Adds a copy of `data` at the end, in further mbufs of `pool` if there is no room for all of it. `None`, and
    /// everything freed, if there are not enough.
    #[inline]
    pub fn copy_in(mut self, data: &[u8], pool: &Mempool) -> Option<Self> {
        let (first, mut rest) = data.split_at(data.len().min(self.tailroom()));
        self.append(first.len())?.copy_from_slice(first);
        while !rest.is_empty() {
            let mut next = pool.alloc()?;
            // A further segment needs no headroom.
            if !next.set_data(0, 0) {
                return None;
            }
            let (part, left) = rest.split_at(rest.len().min(next.tailroom()));
            next.append(part.len())?.copy_from_slice(part);
            self.chain(next).ok()?;
            rest = left;
        }
        Some(self)
    }

    /// Copies bytes of the frame from `offset` on into `out`, across segments, and returns how many:
    /// fewer than `out.len()` only when the frame ends.
    pub fn copy_out(&self, mut offset: usize, out: &mut [u8]) -> usize {
        let mut done = 0;
        for segment in self.segments() {
            if offset >= segment.len() {
                offset -= segment.len();
                continue;
            }
            let part = &segment[offset..];
            let n = part.len().min(out.len() - done);
            out[done..done + n].copy_from_slice(&part[..n]);
            (done, offset) = (done + n, 0);
            if done == out.len() {
                break;
            }
        }
        done
    }

    pub(super) fn last_segment_ptr(&self) -> NonNull<RawMbuf> {
        let mut segment = self.raw;
        // A segment alone is its own last; its link, which lies in the second cache line, is not read.
        for _ in 1..self.raw().nb_segs {
            // SAFETY: a chain is `nb_segs` long, so every link but the last is set.
            segment = unsafe { NonNull::new_unchecked(segment.as_ref().next) };
        }
        segment
    }

    pub(super) fn last_segment(&self) -> &RawMbuf {
        // SAFETY: a segment of our chain lives as long as we do.
        unsafe { self.last_segment_ptr().as_ref() }
    }
}
