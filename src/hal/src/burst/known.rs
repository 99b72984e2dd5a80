//! What is known of a whole burst without looking at each mbuf, and what is not even written to them yet.

use core::ptr::NonNull;

use super::Burst;
use crate::mbuf::{HEADER_LEN, Mbuf, NO_PORT, RawMbuf};
use crate::mempool::fresh;

/// What a driver knows of a whole burst, so that nobody has to look at each mbuf again: all are of one
/// pool, and each is one segment in its own buffer, has one owner and asks for nothing on transmit. Bytes are changed and
/// mbufs given back on the strength of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    /// What the headers name as their pool: [`Mbuf::pool_token`].
    pub pool: usize,
    /// Bytes of all frames.
    pub bytes: u64,
    /// Bytes of each frame, if all are known to have as many; else 0.
    pub each: u32,
}

impl Plain {
    pub(super) const UNKNOWN: Self = Self {
        pool: 0,
        bytes: 0,
        each: 0,
    };
}

/// What headers do not say yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Late {
    Nothing,
    /// The port that received them.
    Port(u16),
    /// Anything: they are as they came out of the pool.
    All(Fresh),
}

/// Where the frames of a burst lie whose headers nobody has written yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    /// Bytes between the end of the header and the frame.
    pub data_off: u16,
    /// Bytes of each frame.
    pub len: u16,
}

impl Fresh {
    /// The bytes of a frame of the burst.
    ///
    /// # Safety
    ///
    /// The header is of a burst of which this is said, and nobody else has these bytes meanwhile.
    #[inline(always)]
    pub(super) unsafe fn data<'a>(self, header: NonNull<RawMbuf>) -> &'a mut [u8] {
        // SAFETY: its own buffer lies behind its header; the data lies within it, by the contract of `set_fresh`.
        unsafe {
            let buffer = header.cast::<u8>().add(HEADER_LEN);
            let data = buffer.add(usize::from(self.data_off)).as_ptr();
            core::slice::from_raw_parts_mut(data, self.len.into())
        }
    }
}

impl Burst {
    /// Looks at each mbuf of a burst that was just received, once for all who come after: gives it the
    /// number of its port, and remembers what is [known](Self::plain) if they are all alike. Returns the
    /// bytes of all frames. For drivers that do not know by themselves what they received.
    #[inline]
    pub fn look(&mut self, port: u16) -> u64 {
        let pool = self.as_slice().first().map_or(0, Mbuf::pool_token);
        let (mut bytes, mut odd) = (0, 0);
        for mbuf in self.as_mut_slice() {
            bytes += mbuf.frame_len() as u64;
            odd |= mbuf.oddness() | (mbuf.pool_token() ^ pool) as u64;
            mbuf.set_port(port);
        }
        if odd == 0 {
            let each = 0;
            self.plain = Plain { pool, bytes, each };
        }
        bytes
    }

    /// What is [known](Self::plain) of all mbufs, or can be found out by looking at each.
    pub fn find_plain(&mut self) -> Option<Plain> {
        if self.plain.pool == 0 {
            let mbufs = self.as_slice();
            let first = mbufs.first()?;
            let (pool, each) = (first.pool_token(), first.frame_len() as u32);
            let (mut bytes, mut odd, mut uneven) = (0, 0, 0);
            for mbuf in mbufs {
                bytes += mbuf.frame_len() as u64;
                odd |= mbuf.oddness() | (mbuf.pool_token() ^ pool) as u64;
                uneven |= mbuf.frame_len() as u32 ^ each;
            }
            if odd == 0 {
                let each = if uneven == 0 { each } else { 0 };
                self.plain = Plain { pool, bytes, each };
            }
        }
        self.plain()
    }

    /// What is known of all mbufs, if it is.
    #[inline(always)]
    pub fn plain(&self) -> Option<Plain> {
        (self.plain.pool != 0).then_some(self.plain)
    }

    /// The same, if it is known that all are of this pool.
    #[inline(always)]
    pub fn plain_of(&self, pool: usize) -> Option<&Plain> {
        (self.plain.pool == pool && pool != 0).then_some(&self.plain)
    }

    // --- for drivers ---------------------------------------------------------------------------

    /// Says what is known of all mbufs in the burst. It holds until they can have changed.
    ///
    /// # Safety
    ///
    /// It is true: see [`Plain`].
    #[inline(always)]
    pub unsafe fn set_plain(&mut self, plain: Plain) {
        debug_assert!(matches!(self.late.get(), Late::Nothing));
        debug_assert!(
            self.iter()
                .all(|m| m.pool_token() == plain.pool && m.is_plain())
        );
        debug_assert_eq!(
            self.iter().map(|m| m.frame_len() as u64).sum::<u64>(),
            plain.bytes
        );
        debug_assert!(plain.each == 0 || self.iter().all(|m| m.frame_len() == plain.each as usize));
        self.plain = plain;
    }

    /// As [`set_plain`](Self::set_plain), and all were received by `port`, which their headers do not say yet: they do as
    /// soon as somebody looks at one of them.
    ///
    /// # Safety
    ///
    /// As `set_plain`.
    #[inline(always)]
    pub unsafe fn set_received(&mut self, plain: Plain, port: u16) {
        self.settle();
        // SAFETY: by the contract.
        unsafe { self.set_plain(plain) };
        self.late.set(Late::Port(port));
    }

    /// Says of mbufs that just came out of the pool, with headers as they were, that they are to be frames: the headers say so as soon as
    /// somebody looks at one of them.
    ///
    /// # Safety
    ///
    /// All are of the pool with this [token](Mbuf::pool_token), nobody else has any, and such data lies within the buffers.
    #[inline(always)]
    pub(crate) unsafe fn set_fresh(&mut self, pool: usize, fresh: Fresh) {
        // SAFETY: alive by the contract; what plainness is about is never late.
        debug_assert!(self.headers().iter().all(|header| unsafe {
            let mbuf = core::mem::ManuallyDrop::new(Mbuf::from_raw(*header));
            mbuf.pool_token() == pool && mbuf.segment_count() == 1 && !mbuf.is_shared()
        }));
        let each = u32::from(fresh.len);
        let bytes = self.len as u64 * u64::from(each);
        self.plain = Plain { pool, bytes, each };
        self.late.set(Late::All(fresh));
    }

    /// Where the frames lie, if they are alike and their headers not written yet. Who sends such a burst need not look at any.
    #[inline(always)]
    pub fn fresh(&self) -> Option<Fresh> {
        match self.late.get() {
            Late::All(fresh) => Some(fresh),
            _ => None,
        }
    }

    /// Where the headers lie, which need not have been written: see [`fresh`](Self::fresh).
    #[inline(always)]
    pub fn headers(&self) -> &[NonNull<RawMbuf>] {
        // SAFETY: the first `len` slots are initialised.
        unsafe { super::raw_slots(&self.slots[..self.len]) }
    }

    // --- for the burst itself ------------------------------------------------------------------

    /// Writes the headers of fresh frames, for who needs them, but not to know the port.
    #[inline(always)]
    pub(super) fn settle_fresh(&self) {
        if matches!(self.late.get(), Late::All(_)) {
            self.write_late();
        }
    }

    /// Writes what the headers do not have yet. Whoever lets an mbuf be seen calls this.
    #[inline(always)]
    pub(super) fn settle(&self) {
        if !matches!(self.late.get(), Late::Nothing) {
            self.write_late();
        }
    }

    #[inline(never)]
    fn write_late(&self) {
        let late = self.late.replace(Late::Nothing);
        for header in self.headers() {
            // SAFETY: headers that have no other owner, by the contracts of `set_received` and `set_fresh`. Nobody has a reference to any
            // of them: as long as there is something to write, none was given out.
            unsafe {
                match late {
                    Late::Nothing => {}
                    Late::Port(port) => (*header.as_ptr()).port = port,
                    Late::All(Fresh { data_off, len }) => {
                        fresh::set(*header, fresh::fields(data_off, NO_PORT, len));
                    }
                }
            }
        }
    }

    /// Something is about to change: nothing is known any more.
    #[inline(always)]
    pub(super) fn forget(&mut self) {
        self.settle();
        self.plain.pool = 0;
    }
}
