//! What is known of a whole burst without looking at each mbuf, and what is not even written to them yet.

use core::ptr::NonNull;

use super::Burst;
use crate::mbuf::{Mbuf, RawMbuf};

/// What a driver knows of a whole burst, so that nobody has to look at each mbuf again: all are of one
/// pool, and each is one segment in its own buffer, has one owner and asks for nothing on transmit.
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
        // SAFETY: by the contract.
        unsafe { self.set_plain(plain) };
        self.late_port.set(Some(port));
    }

    // --- for the burst itself ------------------------------------------------------------------

    /// Writes what the headers do not have yet. Whoever lets an mbuf be seen calls this.
    #[inline(always)]
    pub(super) fn settle(&self) {
        if let Some(port) = self.late_port.get() {
            self.write_port(port);
        }
    }

    #[inline(never)]
    fn write_port(&self, port: u16) {
        self.late_port.set(None);
        for slot in &self.slots[..self.len] {
            // SAFETY: the first `len` slots are initialised, with headers that have no other owner, by the contract of
            // `set_received`. Nobody has a reference to any of them: as long as there is a port to write, none was given out.
            unsafe {
                let header = slot.as_ptr().cast::<NonNull<RawMbuf>>().read();
                (*header.as_ptr()).port = port;
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
