//! Fields at work: what changes in the next frames, worked out for many frames at once.
//!
//! A frame is 16-bit words, and so is what a checksum of the internet is over. The words in which fields lie, and the
//! checksums that follow them, are worked out for the next [`AHEAD`] frames, field by field; they are gathered in blocks of 16
//! bytes that lie together in the frame, with a row for each frame:
//!
//! ```text
//!                 block at 34: sport, dport, length, checksum, …      for each field, over all frames: its numbers,
//!   frame 0        0400  ....  ....  5c1e  ....  …                    its words, what it adds to each checksum's sum;
//!   frame 1        0401  ....  ....  5c1d  ....  …                    then, frame by frame: one row or two, with the
//!   …                                                                 image behind it
//! ```
//!
//! So where a field comes from, how wide it is and which checksums it is in is asked once for all of them, in loops that the
//! compiler turns into vector instructions. A frame costs as many stores as there are blocks: one for ports, two for
//! addresses and ports.
//!
//! Where frames begin again after so few that their rows can be kept near the core, as of a thousand flows, each row is worked
//! out once.

use rand_pcg::Pcg64;

use super::wheel::Wheel;
use super::{Place, Program, Sum, Sums};
use crate::size::gcd;
use crate::template::Variant;

/// For how many frames columns are worked out at once.
pub(crate) const AHEAD: usize = 32;

/// Bytes of a block. With a stamp behind all headers, a block that begins in one of them ends within the frame.
pub(crate) const BLOCK: usize = 16;

type Row = [u8; BLOCK];

/// Bytes of a frame in which fields and checksums lie; zeros where there are none.
#[derive(Debug, Clone)]
pub(super) struct Block {
    at: usize,
    /// [`AHEAD`] of them, or as many times that as hold all that there are.
    rows: Box<[Row]>,
    /// The first of those that are being worked out.
    from: usize,
}

/// Where a word lies: in which block, and how far on.
pub(super) type Spot = (usize, usize);

impl Block {
    /// As few as hold all words that begin at these places; without rows.
    fn all(mut words: Vec<usize>) -> Box<[Self]> {
        words.sort_unstable();
        let mut blocks: Vec<Self> = Vec::new();
        for at in words {
            if blocks.last().is_none_or(|block| at + 2 > block.at + BLOCK) {
                let rows = Box::default();
                blocks.push(Self { at, rows, from: 0 });
            }
        }
        blocks.into()
    }

    /// Where a word is that begins at this place. Of two blocks that share a byte it is the latter, which is written last.
    fn find(blocks: &[Self], at: usize) -> Spot {
        let block = blocks.iter().rposition(|block| block.at <= at);
        let block = block.unwrap_or(0);
        (block, at - blocks.get(block).map_or(at, |block| block.at))
    }

    /// The rows that are being worked out.
    #[inline(always)]
    fn ahead(&mut self) -> &mut [Row] {
        let rows = self.rows.get_mut(self.from..self.from + AHEAD);
        rows.unwrap_or_default()
    }

    /// Adds a word to each row that is being worked out.
    #[inline(always)]
    pub(super) fn put(&mut self, byte: usize, words: &[u16; AHEAD]) {
        for (row, word) in self.ahead().iter_mut().zip(words) {
            if let Some(to) = row.get_mut(byte..byte + 2) {
                let word = word.to_be() | u16::from_ne_bytes([to[0], to[1]]);
                to.copy_from_slice(&word.to_ne_bytes());
            }
        }
    }

    /// Writes a row, and what the image has in the bits between.
    #[inline(always)]
    fn write(&self, row: usize, image: &[u8], frame: &mut [u8]) {
        let Some(row) = self.rows.get(row) else {
            return;
        };
        let to = frame.get_mut(self.at..).and_then(|to| to.first_chunk_mut());
        let from = image.get(self.at..).and_then(|from| from.first_chunk());
        match (to, from) {
            // By value, so that the compiler need not ask whether one lies in the other.
            (Some(to), Some(from)) => *to = or(*from, *row),
            _ => self.write_end(row, image, frame),
        }
    }

    /// Of a frame that ends in the middle of the block, perhaps of its last word.
    #[cold]
    fn write_end(&self, row: &Row, image: &[u8], frame: &mut [u8]) {
        for (n, bits) in (self.at..).zip(row) {
            if let Some(to) = frame.get_mut(n) {
                *to = image.get(n).copied().unwrap_or(0) | bits;
            }
        }
    }
}

/// Of the image of frames that all have one size, what is under the only `B` blocks: where, and the bytes.
pub(crate) type Under<const B: usize> = [(usize, Row); B];

#[inline(always)]
fn or(mut one: Row, other: Row) -> Row {
    for (one, other) in one.iter_mut().zip(other) {
        *one |= other;
    }
    one
}

/// A checksum that follows.
#[derive(Debug, Clone)]
pub(super) struct Follower {
    sum: Sum,
    spot: Spot,
    /// What the fields add to its sum.
    pub(super) values: [u32; AHEAD],
}

/// The fields of a stream that change, and their checksums, as one worker sends them.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    wheels: Box<[Wheel]>,
    dice: Pcg64,
    blocks: Box<[Block]>,
    followers: Box<[Follower]>,
    /// What the checksums are over without the fields, if all frames have one size. Else they are not in the blocks.
    only: Option<Sums>,
    /// After how many frames all begins again, if all their rows are kept.
    period: Option<usize>,
    /// The next frame's row, and the first that is not worked out.
    next: usize,
    end: usize,
}

/// A program, and where its fields lie.
pub(crate) type Placed = (Program, Vec<Place>);

impl Columns {
    /// `only`: the sums of the only variant, if there is one. `keep`: how many bytes the rows may take, to be worked out once
    /// only if that suffices for all that there are.
    pub(crate) fn new(
        programs: &[Placed],
        sums: &[Sum],
        only: Option<Sums>,
        (worker, workers): (u64, u64),
        keep: usize,
        dice: Pcg64,
    ) -> Self {
        let places = programs.iter().flat_map(|(_, places)| places);
        let mut words: Vec<_> = places.flat_map(Place::words).collect();
        if only.is_some() && !words.is_empty() {
            words.extend(sums.iter().map(|sum| usize::from(sum.at)));
        }
        let mut blocks = Block::all(words);
        let find = |at| Block::find(&blocks, at);
        let wheels: Box<[Wheel]> = programs
            .iter()
            .map(|(program, places)| Wheel::new(program, places, find, worker, workers))
            .collect();
        let followers = sums.iter().map(|sum| Follower {
            sum: *sum,
            spot: if only.is_some() {
                find(sum.at.into())
            } else {
                (0, 0)
            },
            values: [0; AHEAD],
        });
        let followers = followers.collect();
        // Of several sizes each has checksums of its own, which are in no row.
        let most = keep / (BLOCK * blocks.len().max(1));
        let period = only.and_then(|_| period(&wheels, most));
        for block in &mut blocks {
            let rows = period.unwrap_or(AHEAD).next_multiple_of(AHEAD);
            block.rows = vec![[0; BLOCK]; rows].into();
        }
        Self {
            wheels,
            dice,
            followers,
            blocks,
            only,
            period,
            next: 0,
            end: 0,
        }
    }

    /// After how many frames their rows are used again, if they are kept.
    #[cfg(test)]
    pub(crate) fn period(&self) -> Option<usize> {
        self.period
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Writes the values of the next frame into a copy of an image.
    #[inline(always)]
    pub(crate) fn write(&mut self, variant: &Variant, frame: &mut [u8]) {
        if self.blocks.is_empty() {
            return;
        }
        let next = self.next();
        for block in &self.blocks {
            block.write(next, &variant.image, frame);
        }
        if self.only.is_some() {
            return;
        }
        for (follower, base) in self.followers.iter().zip(&variant.sums) {
            let at = usize::from(follower.sum.at);
            if let Some(to) = frame.get_mut(at..at + 2) {
                let checksum = follower.sum.finish(base + follower.values[next % AHEAD]);
                to.copy_from_slice(&checksum.to_be_bytes());
            }
        }
    }

    /// What is under all blocks, if there are `B` of them and frames of this variant have room for each. Then
    /// [`write_over`](Self::write_over) writes the same as [`write`](Self::write), with less to ask for each frame.
    #[inline(always)]
    pub(crate) fn under<const B: usize>(&self, variant: &Variant) -> Option<Under<B>> {
        self.only?;
        let mut under = [(0, [0; BLOCK]); B];
        let blocks: &[Block; B] = self.blocks[..].try_into().ok()?;
        for (under, block) in under.iter_mut().zip(blocks) {
            *under = (block.at, *variant.image.get(block.at..)?.first_chunk()?);
        }
        Some(under)
    }

    /// Writes the values of the next frame into a copy of the image.
    #[inline(always)]
    pub(crate) fn write_over<const B: usize>(&mut self, under: &Under<B>, frame: &mut [u8]) {
        let next = self.next();
        let Some(blocks) = self.blocks.first_chunk::<B>() else {
            return;
        };
        for (block, (at, image)) in blocks.iter().zip(under) {
            let to = frame.get_mut(*at..).and_then(|to| to.first_chunk_mut());
            if let (Some(to), Some(row)) = (to, block.rows.get(next)) {
                *to = or(*image, *row);
            }
        }
    }

    /// The next frame's row.
    #[inline(always)]
    fn next(&mut self) -> usize {
        if self.next == self.end {
            self.go_on();
        }
        let next = self.next;
        self.next = next + 1;
        next
    }

    /// Where no row is left: works out the next ones, or begins with the first again.
    #[inline(never)]
    fn go_on(&mut self) {
        let from = match self.period {
            Some(period) if self.end == period => {
                self.next = 0;
                return;
            }
            Some(_) => self.end,
            None => 0,
        };
        self.work_out(from);
        self.next = from;
        let end = from + AHEAD;
        self.end = self.period.map_or(end, |period| end.min(period));
    }

    #[inline(always)]
    fn work_out(&mut self, from: usize) {
        for block in &mut self.blocks {
            block.from = from;
            block.ahead().fill([0; BLOCK]);
        }
        for follower in &mut self.followers {
            follower.values = [0; AHEAD];
        }
        for wheel in &mut self.wheels {
            wheel.work_out(&mut self.blocks, &mut self.followers, &mut self.dice);
        }
        let Some(only) = &self.only else { return };
        for (follower, base) in self.followers.iter().zip(only) {
            let (block, byte) = follower.spot;
            let checksums = follower
                .values
                .map(|value| follower.sum.finish(base + value));
            if let Some(block) = self.blocks.get_mut(block) {
                block.put(byte, &checksums);
            }
        }
    }
}

/// After how many frames all wheels begin again together, if those are not more than `most`.
fn period(wheels: &[Wheel], most: usize) -> Option<usize> {
    let most = most as u64;
    let all = wheels.iter().try_fold(1u64, |all, wheel| {
        let one = wheel.period().filter(|one| *one <= most)?;
        let both = all / gcd(all, one) * one;
        (both <= most).then_some(both)
    })?;
    usize::try_from(all).ok()
}
