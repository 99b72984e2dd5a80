//! Where the mbufs of a pool lie in its memory, and which one lies at a place.

use super::SPARE;

/// No mbuf lies across a multiple of this, the size of the smaller huge page: a buffer is in one piece for
/// a device too, whatever its IOMMU makes of the pages, and costs one entry of a TLB.
pub(super) const CHUNK: usize = 2 << 20;

/// Headers are at multiples of this from one another.
const LINE: usize = 64;

/// The arithmetic of a pool's memory: numbers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    size: usize,
    stride: usize,
    per_chunk: usize,
    /// 2³² divided by the stride in lines, rounded up: a multiplication instead of a division.
    reciprocal: u64,
}

impl Layout {
    pub(super) fn new(size: usize, stride: usize) -> Self {
        debug_assert!(stride.is_multiple_of(LINE) && stride <= CHUNK);
        Self {
            size,
            stride,
            per_chunk: CHUNK / stride,
            reciprocal: (1u64 << 32).div_ceil((stride / LINE) as u64),
        }
    }

    /// Bytes from one header to the next within a chunk.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Where the header of an mbuf lies, counted from the region's first byte.
    pub(super) fn header_at(&self, index: usize) -> usize {
        let (chunk, place) = (index / self.per_chunk, index % self.per_chunk);
        chunk * CHUNK + SPARE + place * self.stride
    }

    /// Which mbuf's header begins exactly there, if one does.
    pub(super) fn index_at(&self, place: usize) -> Option<usize> {
        let (chunk, within) = (place / CHUNK, (place % CHUNK).wrapping_sub(SPARE));
        // Exact for all lines of a chunk: there are 2¹⁵, and the reciprocal is wrong by less than 2⁻³² of
        // a line. (A place before the first header has wrapped to a huge one.)
        let line = (within / LINE) as u64;
        let in_chunk = (((line & 0xffff) * self.reciprocal) >> 32) as usize;
        let index = chunk * self.per_chunk + in_chunk;
        (in_chunk < self.per_chunk && index < self.size && within == in_chunk * self.stride)
            .then_some(index)
    }

    /// Bytes of memory for all of them.
    pub(super) fn len_bytes(&self) -> usize {
        self.header_at(self.size.saturating_sub(1)) + self.stride
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_a_header_or_is_not() {
        for stride in [192, 2368, 2368 + 128, 4160, 65_728] {
            let size = CHUNK / stride * 2 + 3;
            let layout = Layout::new(size, stride);
            let mut next = 0;
            for place in (0..layout.len_bytes() + CHUNK).step_by(LINE) {
                let expected = next < size && place == layout.header_at(next);
                assert_eq!(
                    layout.index_at(place),
                    expected.then_some(next),
                    "{stride}: {place}"
                );
                assert_eq!(layout.index_at(place + 1), None);
                next += usize::from(expected);
            }
            assert_eq!(next, size);
        }
        for place in [usize::MAX, usize::MAX - 63, 1 << 40] {
            assert_eq!(Layout::new(9, 2368).index_at(place), None);
        }
    }
}
