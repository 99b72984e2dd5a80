//! Mbufs: owned packet buffers, one type for every driver.
//!
//! ```text
//!            ┌── HEADER_LEN ──┬─ headroom ─┬──── data ────┬─ tailroom ─┐
//!  in memory │ header (128 B) │            │ frame bytes  │            │
//!            └────────────────┴────────────┴──────────────┴────────────┘
//!                             buf_addr     +data_off      +data_len    +buf_len
//! ```
//!
//! An [`Mbuf`] is a pointer to that header: eight bytes, move-only, and it gives itself back to its
//! [`Mempool`](crate::Mempool) when dropped. A [`Burst`](crate::Burst) of them is given back in bulk.
//! The header is laid out as DPDK's `rte_mbuf`, so a DPDK burst is used in place.
//!
//! A frame that does not fit one buffer is a *chain* of segments. The bytes may also lie elsewhere: in
//! an *external* buffer (a block of the kernel's receive ring), or in another mbuf's buffer (a *clone*
//! for multicast). Writing needs the bytes to be the mbuf's alone: [`Mbuf::data_mut`] is `None`
//! otherwise, and [`Mbuf::unshare`] mends that by a copy.
#![allow(unsafe_code)]

mod chain;
pub(crate) mod free;
mod raw;
mod share;
#[cfg(all(test, not(loom)))]
pub(crate) mod tests;

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::offload::{MbufFlags, TxOffload};

pub use chain::Segments;
pub use raw::{ExtShared, HEADER_LEN, NO_PORT, RawMbuf};

/// An owned packet buffer. See the [module](self) for the layout.
#[repr(transparent)]
pub struct Mbuf {
    raw: NonNull<RawMbuf>,
}

// SAFETY: a handle is the only one to its header and segments; what it may share with clones on other
// threads is the reference count, which is atomic, and bytes that nobody writes while shared.
unsafe impl Send for Mbuf {}
// SAFETY: `&Mbuf` gives read access only.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Takes over a header that is in use: what a driver received.
    ///
    /// # Safety
    ///
    /// `raw` is a live header that nobody else owns, and its fields are consistent: `data_off +
    /// data_len <= buf_len`, the chain is `nb_segs` long, `pool` is a live Linecard pool.
    pub unsafe fn from_raw(raw: NonNull<RawMbuf>) -> Self {
        Self { raw }
    }

    /// Gives up the handle without freeing the mbuf: what a driver hands to a device.
    pub fn into_raw(self) -> NonNull<RawMbuf> {
        ManuallyDrop::new(self).raw
    }

    /// Where its header lies.
    #[inline(always)]
    pub fn header(&self) -> NonNull<RawMbuf> {
        self.raw
    }

    #[inline(always)]
    fn raw(&self) -> &RawMbuf {
        // SAFETY: the header is alive while the handle is, and only `&mut self` writes to it.
        unsafe { self.raw.as_ref() }
    }

    #[inline(always)]
    fn raw_mut(&mut self) -> &mut RawMbuf {
        // SAFETY: as above, and `&mut self` is exclusive.
        unsafe { self.raw.as_mut() }
    }

    // --- bytes ---------------------------------------------------------------------------------

    /// The bytes of the first segment: for a frame that is not a chain, the frame.
    #[inline(always)]
    pub fn data(&self) -> &[u8] {
        let raw = self.raw();
        // SAFETY: every function that sets these fields keeps `data_off + data_len <= buf_len`, and
        // the buffer lives as long as the handle. Pool memory is zeroed by the system at first, so
        // every byte is initialised.
        unsafe {
            core::slice::from_raw_parts(
                raw.buf_addr.add(raw.data_off as usize),
                raw.data_len as usize,
            )
        }
    }

    /// The bytes of the first segment for writing, or `None` while a clone shares them.
    #[inline(always)]
    pub fn data_mut(&mut self) -> Option<&mut [u8]> {
        if self.is_shared() {
            return None;
        }
        let raw = self.raw_mut();
        // SAFETY: as `data`, and not shared, so these bytes are ours alone.
        Some(unsafe {
            core::slice::from_raw_parts_mut(
                raw.buf_addr.add(raw.data_off as usize),
                raw.data_len as usize,
            )
        })
    }

    /// As [`data_mut`](Self::data_mut), without a look at who else may use the bytes.
    ///
    /// # Safety
    ///
    /// Nobody else may use the bytes of the first segment: it is not [shared](Self::is_shared).
    #[inline(always)]
    pub(crate) unsafe fn own_data_mut(&mut self) -> &mut [u8] {
        let raw = self.raw_mut();
        // SAFETY: as `data`, and ours alone by the contract.
        unsafe {
            core::slice::from_raw_parts_mut(
                raw.buf_addr.add(raw.data_off as usize),
                raw.data_len as usize,
            )
        }
    }

    /// Whether it is one segment in its own buffer, has one owner and asks for nothing on transmit: see
    /// [`Plain`](crate::burst::Plain).
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.oddness() == 0
    }

    /// The bits by which it differs from a [plain](Self::is_plain) one: of many, they can be put together
    /// without a branch.
    #[inline(always)]
    pub(crate) fn oddness(&self) -> u64 {
        let raw = self.raw();
        let none = (MbufFlags::NOT_DIRECT | MbufFlags::SHARED | MbufFlags::TX_REQUESTS).bits();
        // Neither count is ever 0, so both are 1 if no other bit is set in either.
        let counts = raw.refcnt.load(Ordering::Acquire) | raw.nb_segs;
        raw.ol_flags & none | u64::from(counts ^ 1)
    }

    /// The address of the first data byte, for descriptors. Valid while the mbuf is.
    #[inline(always)]
    pub fn data_ptr(&self) -> *const u8 {
        self.data().as_ptr()
    }

    /// The address of the buffer that [`buffer_len`](Self::buffer_len) counts: where a driver lets the
    /// kernel or a device write. `None` while shared.
    pub fn buffer_ptr(&mut self) -> Option<NonNull<u8>> {
        if self.is_shared() {
            None
        } else {
            NonNull::new(self.raw().buf_addr)
        }
    }

    /// Bytes of the first segment's buffer: headroom, data and tailroom.
    #[inline]
    pub fn buffer_len(&self) -> usize {
        self.raw().buf_len as usize
    }

    /// Bytes of the whole frame, over all segments.
    #[inline(always)]
    pub fn frame_len(&self) -> usize {
        self.raw().pkt_len as usize
    }

    /// Bytes before the data of the first segment.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.raw().data_off as usize
    }

    /// Bytes behind the data of the last segment.
    #[inline]
    pub fn tailroom(&self) -> usize {
        let last = self.last_segment();
        last.buf_len as usize - last.data_off as usize - last.data_len as usize
    }

    /// Places the data of a one-segment mbuf: what a driver does after something was written into the
    /// buffer. `false`, and nothing is changed, if it would not lie within the buffer.
    #[inline(always)]
    #[must_use]
    pub fn set_data(&mut self, data_off: u16, data_len: u16) -> bool {
        let raw = self.raw_mut();
        if u32::from(data_off) + u32::from(data_len) > u32::from(raw.buf_len) || raw.nb_segs != 1 {
            return false;
        }
        raw.data_off = data_off;
        raw.data_len = data_len;
        raw.pkt_len = u32::from(data_len);
        true
    }

    /// Keeps so many bytes of the first segment, if it has more.
    #[inline(always)]
    pub(crate) fn cut_first(&mut self, kept: usize) {
        let raw = self.raw_mut();
        let cut = raw.data_len - kept.min(raw.data_len.into()) as u16;
        raw.data_len -= cut;
        raw.pkt_len -= u32::from(cut);
    }

    /// Grows the data by `len` bytes at the front and returns them, or `None` if the headroom is too
    /// small or shared. The bytes keep whatever was there before.
    #[inline]
    pub fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.headroom()
            || self.is_shared()
            || len > usize::from(u16::MAX - self.raw().data_len)
        {
            return None;
        }
        let raw = self.raw_mut();
        raw.data_off -= len as u16;
        raw.data_len += len as u16;
        raw.pkt_len += len as u32;
        self.data_mut().map(|data| &mut data[..len])
    }

    /// Grows the data by `len` bytes at the end of the last segment and returns them, or `None` if the
    /// tailroom is too small or shared. The bytes keep whatever was there before.
    #[inline]
    pub fn append(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.tailroom() {
            return None;
        }
        let mut last = self.last_segment_ptr();
        // SAFETY: the last segment is ours with the chain; it is exclusive through `&mut self`, and
        // `segment_shared` asks whether its bytes are. The new end is within the buffer.
        unsafe {
            if share::segment_shared(last.as_ref()) {
                return None;
            }
            let segment = last.as_mut();
            let start = segment
                .buf_addr
                .add(segment.data_off as usize + segment.data_len as usize);
            segment.data_len += len as u16;
            self.raw_mut().pkt_len += len as u32;
            Some(core::slice::from_raw_parts_mut(start, len))
        }
    }

    /// Removes `len` bytes at the front of the first segment. `false`, and nothing is changed, if it
    /// has fewer.
    #[inline]
    #[must_use]
    pub fn adjust(&mut self, len: usize) -> bool {
        let raw = self.raw_mut();
        if len > raw.data_len as usize {
            return false;
        }
        raw.data_off += len as u16;
        raw.data_len -= len as u16;
        raw.pkt_len -= len as u32;
        true
    }

    /// Removes `len` bytes at the end of the last segment. `false`, and nothing is changed, if it has
    /// fewer.
    #[inline]
    #[must_use]
    pub fn trim(&mut self, len: usize) -> bool {
        let mut last = self.last_segment_ptr();
        // SAFETY: as in `append`; lengths are header fields, so sharing of bytes does not matter.
        let segment = unsafe { last.as_mut() };
        if len > segment.data_len as usize {
            return false;
        }
        segment.data_len -= len as u16;
        self.raw_mut().pkt_len -= len as u32;
        true
    }

    // --- metadata ------------------------------------------------------------------------------

    /// The port that received the frame, or [`NO_PORT`].
    #[inline(always)]
    pub fn port(&self) -> u16 {
        self.raw().port
    }

    /// Sets the receiving port.
    #[inline(always)]
    pub fn set_port(&mut self, port: u16) {
        self.raw_mut().port = port;
    }

    /// Receive status and transmit requests.
    #[inline(always)]
    pub fn flags(&self) -> MbufFlags {
        MbufFlags::from_bits_retain(self.raw().ol_flags)
    }

    /// Sets the receive status and transmit requests. The bits that say whose buffer it is are kept.
    #[inline(always)]
    pub fn set_flags(&mut self, flags: MbufFlags) {
        let keep = (MbufFlags::NOT_DIRECT | MbufFlags::SHARED).bits();
        let raw = self.raw_mut();
        raw.ol_flags = raw.ol_flags & keep | flags.bits() & !keep;
    }

    /// The TCI of the VLAN tag that was stripped or is to be inserted: priority (3 bits), drop
    /// eligibility (1), VLAN id (12). Meaningful with [`MbufFlags::RX_VLAN`] or [`MbufFlags::TX_VLAN`].
    #[inline]
    pub fn vlan_tci(&self) -> u16 {
        self.raw().vlan_tci
    }

    /// Sets the TCI; the flags say what it means.
    #[inline]
    pub fn set_vlan_tci(&mut self, tci: u16) {
        self.raw_mut().vlan_tci = tci;
    }

    /// The RSS hash, if the port gave one.
    #[inline]
    pub fn rss_hash(&self) -> Option<u32> {
        self.flags()
            .contains(MbufFlags::RX_RSS_HASH)
            .then_some(self.raw().rss)
    }

    /// Sets the RSS hash and its flag.
    #[inline]
    pub fn set_rss_hash(&mut self, hash: u32) {
        let raw = self.raw_mut();
        raw.rss = hash;
        raw.ol_flags |= MbufFlags::RX_RSS_HASH.bits();
    }

    /// The mark of the flow rule that matched, if one did ([`FlowAction::Mark`]).
    ///
    /// [`FlowAction::Mark`]: crate::flow::FlowAction::Mark
    #[inline]
    pub fn mark(&self) -> Option<u32> {
        self.flags()
            .contains(MbufFlags::RX_FDIR_ID)
            .then_some(self.raw().mark)
    }

    /// Sets the mark and its flags: for a driver whose flow rules mark.
    #[inline]
    pub fn set_mark(&mut self, mark: u32) {
        let raw = self.raw_mut();
        raw.mark = mark;
        raw.ol_flags |= (MbufFlags::RX_FDIR | MbufFlags::RX_FDIR_ID).bits();
    }

    /// The receive time in nanoseconds of the port's clock, if the port stamps frames.
    #[inline]
    pub fn timestamp_ns(&self) -> Option<u64> {
        self.flags()
            .contains(MbufFlags::RX_TIMESTAMP)
            .then_some(self.raw().timestamp_ns)
    }

    /// Sets the receive time and its flag.
    #[inline]
    pub fn set_timestamp_ns(&mut self, timestamp_ns: u64) {
        let raw = self.raw_mut();
        raw.timestamp_ns = timestamp_ns;
        raw.ol_flags |= MbufFlags::RX_TIMESTAMP.bits();
    }

    /// Header lengths and segment size for the transmit requests. Meaningful only with such a flag.
    #[inline]
    pub fn tx_offload(&self) -> TxOffload {
        TxOffload::from_bits(self.raw().tx_offload)
    }

    /// Sets header lengths and segment size; the flags say what is asked for.
    #[inline]
    pub fn set_tx_offload(&mut self, offload: TxOffload) {
        self.raw_mut().tx_offload = offload.to_bits();
    }

    /// Copies receive status, requests, tag, hash and time from `other`.
    pub fn copy_metadata(&mut self, other: &Mbuf) {
        self.set_flags(other.flags());
        let (to, from) = (self.raw_mut(), other.raw());
        to.port = from.port;
        to.packet_type = from.packet_type;
        to.vlan_tci = from.vlan_tci;
        to.vlan_tci_outer = from.vlan_tci_outer;
        to.rss = from.rss;
        to.mark = from.mark;
        to.tx_offload = from.tx_offload;
        to.timestamp_ns = from.timestamp_ns;
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle owns the mbuf, and this is its end.
        unsafe { free::free_bulk(core::slice::from_ref(&self.raw)) }
    }
}

impl core::fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Mbuf")
            .field("frame_len", &self.frame_len())
            .field("segments", &self.raw().nb_segs)
            .field("port", &self.port())
            .field("flags", &self.flags())
            .finish()
    }
}
