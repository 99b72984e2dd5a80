//! The bytes of a burst's frames, written without a look at the rest of each mbuf where the burst is known well enough.

use super::{Burst, Fresh, Plain};
use crate::mbuf::Mbuf;

impl Burst {
    /// Lets `change` work on the bytes of each frame's first segment, in order, until it answers `false`;
    /// returns how many frames were changed. `false` counts also for bytes that a clone shares.
    ///
    /// Nothing but the bytes can change, so what is [known](Self::plain) of the burst stays so: for a stage
    /// that rewrites headers this is faster than [`iter_mut`](Self::iter_mut).
    #[inline(always)]
    pub fn change_data(&mut self, mut change: impl FnMut(&mut [u8]) -> bool) -> usize {
        self.settle_fresh();
        // SAFETY: the first `len` slots are initialised. Only bytes are changed: see `plain`.
        let mbufs: &mut [Mbuf] =
            unsafe { core::slice::from_raw_parts_mut(self.slots.as_mut_ptr().cast(), self.len) };
        let own = if self.plain.pool != 0 {
            mbufs.len()
        } else {
            let shared = mbufs.iter().position(Mbuf::is_shared);
            shared.unwrap_or(mbufs.len())
        };
        let each = match self.plain.pool {
            0 => 0,
            _ => self.plain.each as usize,
        };
        // `change` is called from one place only, so that the compiler puts it there; and all there is to ask is asked before,
        // so that it has the registers for itself. So is what `change` asks of a length that is known to be the same for all.
        let mut rest = mbufs[..own].iter_mut();
        while let Some(mbuf) = rest.next() {
            // SAFETY: nobody shares its bytes: one owner and its own buffer, by the contract of `set_plain`, or by the look at it.
            let mut data = unsafe { mbuf.own_data_mut() };
            debug_assert!([0, data.len()].contains(&each));
            if each != 0 {
                // SAFETY: it is as long, by the contract of `set_plain`.
                data = unsafe { core::slice::from_raw_parts_mut(data.as_mut_ptr(), each) };
            }
            if !change(data) {
                return own - rest.len() - 1;
            }
        }
        own
    }

    /// As [`change_data`](Self::change_data), for who makes frames of several sizes in mbufs that came as long as the
    /// longest of them ([`Mempool::alloc_frames`](crate::Mempool::alloc_frames)): `change` answers how many bytes the
    /// first segment keeps. Returns how many all frames have then. Those whose bytes a clone shares are left as they are.
    #[inline(always)]
    pub fn cut_data(&mut self, mut change: impl FnMut(&mut [u8]) -> usize) -> u64 {
        self.settle_fresh();
        // SAFETY: the first `len` slots are initialised. Of headers only lengths are changed, and `plain` is set right.
        let mbufs: &mut [Mbuf] =
            unsafe { core::slice::from_raw_parts_mut(self.slots.as_mut_ptr().cast(), self.len) };
        // Nothing is known meanwhile: `change` may panic, with lengths half changed.
        let pool = core::mem::take(&mut self.plain.pool);
        let known = pool != 0;
        let mut bytes = 0;
        for mbuf in mbufs {
            let data = if known {
                // SAFETY: one owner and its own buffer, by the contract of `set_plain`.
                Some(unsafe { mbuf.own_data_mut() })
            } else {
                mbuf.data_mut()
            };
            if let Some(data) = data {
                let kept = change(data);
                mbuf.cut_first(kept);
            }
            bytes += mbuf.frame_len() as u64;
        }
        let each = 0;
        self.plain = Plain { pool, bytes, each };
        bytes
    }

    /// Writes these bytes over the first segment of each frame, as long as it has as many, and returns how many frames have them
    /// then: those before one of another length, or whose bytes a clone shares. As [`change_data`](Self::change_data), and of
    /// [fresh](Self::fresh) frames the headers are not looked at either.
    pub fn write_data(&mut self, bytes: &[u8]) -> usize {
        match self.fresh() {
            Some(fresh) => self.write_fresh(fresh, bytes),
            None => self.change_data(|data| {
                let fits = data.len() == bytes.len();
                if fits {
                    data.copy_from_slice(bytes);
                }
                fits
            }),
        }
    }

    #[inline(never)]
    fn write_fresh(&mut self, fresh: Fresh, bytes: &[u8]) -> usize {
        const HALF: usize = 32;
        if usize::from(fresh.len) != bytes.len() {
            return 0;
        }
        // A short frame is two halves that overlap, which stay in registers.
        let short = (bytes.len() <= 2 * HALF)
            .then_some(bytes.first_chunk::<HALF>().zip(bytes.last_chunk::<HALF>()))
            .flatten();
        // SAFETY: the burst is said to be so; each mbuf is there once.
        let frames = self
            .headers()
            .iter()
            .map(|header| unsafe { fresh.data(*header) });
        match short {
            Some((&first, &last)) => frames.for_each(|data| {
                if let Some(start) = data.first_chunk_mut() {
                    *start = first;
                }
                if let Some(end) = data.last_chunk_mut() {
                    *end = last;
                }
            }),
            None => frames.for_each(|data| data.copy_from_slice(bytes)),
        }
        self.len()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::mempool::{Mempool, MempoolConfig};

    use super::*;

    #[test]
    fn the_same_bytes_are_written_to_frames_of_their_length() {
        let pool = Mempool::new(MempoolConfig::new("bytes", 16)).unwrap();
        let mut burst = Burst::with_capacity(8);
        for len in [0usize, 20, 31, 32, 33, 60, 63, 64, 65, 1514] {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 5 + 1) as u8).collect();
            pool.alloc_frames(&mut burst, 8, len as u16);
            assert_eq!(burst.write_data(&bytes), 8);
            assert!(burst.plain().is_some());
            assert!(burst.iter().all(|mbuf| mbuf.data() == bytes));
            if len == 0 {
                burst.clear();
                continue;
            }
            assert_eq!(burst.write_data(&bytes[1..]), 0);
            // One that is shorter, and then one that is a clone's as well.
            assert!(burst.as_mut_slice()[5].trim(1));
            assert_eq!(burst.write_data(&bytes), 5);
            let clone = burst.as_mut_slice()[2].share(&pool);
            assert_eq!((clone.is_some(), burst.write_data(&bytes)), (true, 2));
            drop(clone);
            burst.clear();
            assert_eq!(pool.in_use(), 0);
        }
    }
}
