//! Whole bursts of one stream whose frames have one size: what nearly every job is that goes as fast as it can.
//!
//! What does not change is asked once a burst and not once a frame: the image in two pieces of a length that the
//! compiler knows (they stay in registers), all of a stamp but its number, a field that counts up and its checksums as
//! additions. The mbufs come with the frames' length, and nobody looks at them again before they are sent.
//!
//! ```text
//!   alloc_frames ─► for each frame: image, fields, stamp ─► emit_burst
//! ```
//!
//! The same is written as by [`Template::write`] and [`Stamp`], which all other jobs use.

use linecard_hal::{Burst, Mempool};
use rand_pcg::Pcg64;

use super::run::Lane;
use crate::FCS_BYTES;
use crate::fields::{Counter, Shape, Wheel};
use crate::stamp::{Series, Stamp};
use crate::template::{SHORT, Template, Variant, copy, ends};

/// What one burst is made of.
struct Batch<'a> {
    template: &'a Template,
    variant: &'a Variant,
    stamps: Option<Series>,
}

impl Lane {
    /// Whether all frames have one size.
    pub(super) fn has_one_size(&self) -> bool {
        self.sizes.len() == 1
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
        let Some(variant) = self.template.variant(index) else {
            return 0;
        };
        let got = pool.alloc_frames(burst, wanted, variant.len);
        let stamps = self.template.stamped.then(|| {
            Series::new(Stamp {
                lane: self.lane,
                sequence: self.next as u32,
                sent_ns: now_ns,
            })
        });
        let template = &*self.template;
        let batch = Batch {
            template,
            variant,
            stamps,
        };
        let shape = Shape::of(&self.wheels);
        match shape.map(|shape| (shape.width, shape.factors.len())) {
            _ if self.wheels.is_empty() => batch.fill(burst, &mut Nothing),
            // A port; an IPv4 address, without and with a pseudo-header that it is in.
            Some((2, 1)) => batch.count::<2, 1>(burst, &mut self.wheels),
            Some((4, 1)) => batch.count::<4, 1>(burst, &mut self.wheels),
            Some((4, 2)) => batch.count::<4, 2>(burst, &mut self.wheels),
            _ => {
                let mut anything = Anything {
                    template,
                    variant,
                    wheels: &mut self.wheels,
                    dice: &mut self.dice,
                };
                batch.fill(burst, &mut anything);
            }
        }
        self.next += got as u64;
        let bytes = u64::from(variant.len + FCS_BYTES) * got as u64;
        self.bytes += bytes;
        bytes
    }
}

/// What changes from frame to frame, besides the stamp. A trait because its functions can be had inlined for certain,
/// which those of a closure cannot.
trait Change {
    /// Writes the next values into a copy of the image.
    fn change(&mut self, frame: &mut [u8]);
}

struct Nothing;

impl Change for Nothing {
    #[inline(always)]
    fn change(&mut self, _: &mut [u8]) {}
}

impl<const W: usize, const C: usize> Change for Counter<'_, W, C> {
    #[inline(always)]
    fn change(&mut self, frame: &mut [u8]) {
        self.write(frame);
    }
}

struct Anything<'a> {
    template: &'a Template,
    variant: &'a Variant,
    wheels: &'a mut [Wheel],
    dice: &'a mut Pcg64,
}

impl Change for Anything<'_> {
    #[inline(always)]
    fn change(&mut self, frame: &mut [u8]) {
        self.template
            .change(self.variant, frame, self.wheels, self.dice);
    }
}

impl Batch<'_> {
    /// With one field that counts up.
    #[inline(always)]
    fn count<const W: usize, const C: usize>(self, burst: &mut Burst, wheels: &mut [Wheel]) {
        let (sums, checksums) = (&self.variant.sums, &self.template.checksums);
        let ([wheel], Some(shape)) = (&*wheels, Shape::of(wheels)) else {
            return;
        };
        let mut counter = Counter::<W, C>::new(wheel, shape, sums, checksums);
        self.fill(burst, &mut counter);
        let at = counter.at();
        if let [wheel] = wheels {
            wheel.turn_to(at);
        }
    }

    #[inline(always)]
    fn fill(self, burst: &mut Burst, change: &mut impl Change) {
        match usize::from(self.variant.len) {
            0..=64 => self.each::<32>(burst, change),
            65..=SHORT => self.each::<64>(burst, change),
            _ => self.each::<0>(burst, change),
        }
    }

    /// `N`: the length of the two pieces in which the image is copied; 0 for one of any length.
    #[inline(always)]
    fn each<const N: usize>(self, burst: &mut Burst, change: &mut impl Change) {
        let (image, len) = (&*self.variant.image, usize::from(self.variant.len));
        let mut stamps = self.stamps;
        burst.change_data(|frame| {
            // All have this length; said here, it is known to be the same for all.
            let frame = frame.get_mut(..len).unwrap_or_default();
            match N {
                0 => copy(image, frame),
                _ => ends::<N>(image, frame),
            }
            change.change(frame);
            if let Some(stamps) = &mut stamps {
                stamps.put_at_end_of(frame);
            }
            true
        });
    }
}
