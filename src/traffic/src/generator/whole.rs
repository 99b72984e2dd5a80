//! Bursts of frames: what does not change from frame to frame is asked once a burst.
//!
//! ```text
//!   alloc_frames ─► for each frame: image, stamp, fields ─► emit_burst
//! ```
//!
//! The mbufs come with the length of the longest frame and are known to be plain, so that nobody looks at them again
//! before they are sent; all of a stamp but its number is worked out once. Of one stream whose frames have one size, what
//! nearly every job is that goes as fast as it can, the image is two pieces of a length that the compiler knows (they stay
//! in registers).

use linecard_hal::{Burst, Mempool};

use super::run::Lane;
use crate::FCS_BYTES;
use crate::fields::Columns;
use crate::stamp::{Moment, Series};
use crate::template::{Ends, SHORT, Variant, write};

impl Lane {
    /// Whether all frames have one size.
    pub(super) fn has_one_size(&self) -> bool {
        self.sizes.len() == 1
    }

    /// The stamps of the next frames, if they have any.
    #[inline(always)]
    pub(super) fn stamps(&self, sent: Moment) -> Option<Series> {
        let stamped = self.template.stamped;
        stamped.then(|| Series::new(self.lane, self.next as u32, sent))
    }

    /// Makes the next frame, of any size, in a buffer that is long enough; returns how long it is.
    #[inline(always)]
    pub(super) fn fill(&mut self, room: &mut [u8], stamps: &mut Option<Series>) -> usize {
        let index = self.sizes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        if self.at >= self.sizes.len() {
            self.at = 0;
        }
        let variant = self.template.variant(index);
        let Some((variant, frame)) =
            variant.and_then(|v| Some((v, room.get_mut(..usize::from(v.len))?)))
        else {
            return 0;
        };
        write(variant, &mut self.columns, frame);
        if let Some(stamps) = stamps {
            stamps.put_at_end_of(frame);
        }
        self.next += 1;
        self.bytes += u64::from(variant.len + FCS_BYTES);
        frame.len()
    }

    /// Makes the next frames, of the first size, as many as there are mbufs for; returns their bytes with FCS.
    #[inline]
    pub(super) fn fill_burst(
        &mut self,
        pool: &Mempool,
        burst: &mut Burst,
        wanted: usize,
        now_ns: u64,
    ) -> u64 {
        let index = self.sizes.first().copied().unwrap_or(0);
        let stamps = self.stamps(Moment::new(now_ns));
        let Some(variant) = self.template.variant(index) else {
            return 0;
        };
        let got = pool.alloc_frames(burst, wanted, variant.len);
        let columns = &mut self.columns;
        match usize::from(variant.len) {
            0..=64 => sized::<32>(variant, columns, burst, stamps),
            65..=SHORT => sized::<64>(variant, columns, burst, stamps),
            _ => each(variant.len, burst, stamps, |frame| {
                write(variant, columns, frame);
            }),
        }
        self.next += got as u64;
        let bytes = u64::from(variant.len + FCS_BYTES) * got as u64;
        self.bytes += bytes;
        bytes
    }
}

/// Makes a burst of short frames of one size. `N`: the length of the two pieces in which the image is copied.
#[inline(always)]
fn sized<const N: usize>(
    variant: &Variant,
    columns: &mut Columns,
    burst: &mut Burst,
    stamps: Option<Series>,
) {
    let Some(image) = Ends::<N>::of(&variant.image) else {
        return;
    };
    if columns.is_empty() {
        each(variant.len, burst, stamps, |frame| image.write(frame));
    } else if let Some(under) = columns.under::<1>(variant) {
        each(variant.len, burst, stamps, |frame| {
            image.write(frame);
            columns.write_over(&under, frame);
        });
    } else if let Some(under) = columns.under::<2>(variant) {
        each(variant.len, burst, stamps, |frame| {
            image.write(frame);
            columns.write_over(&under, frame);
        });
    } else {
        each(variant.len, burst, stamps, |frame| {
            image.write(frame);
            columns.write(variant, frame);
        });
    }
}

/// Makes a burst of frames of one size.
#[inline(always)]
fn each(len: u16, burst: &mut Burst, mut stamps: Option<Series>, mut make: impl FnMut(&mut [u8])) {
    burst.change_data(|frame| {
        // All have this length; said here, it is known to be the same for all.
        let Some(frame) = frame.get_mut(..len.into()) else {
            return false;
        };
        make(frame);
        if let Some(stamps) = &mut stamps {
            stamps.put_at_end_of(frame);
        }
        true
    });
}
