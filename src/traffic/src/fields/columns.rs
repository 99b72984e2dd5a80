//! Fields at work: what changes in the next frames, worked out for many frames at once.
//!
//! A frame is 16-bit words, and so is what a checksum of the internet is over. Each word that has bits of a field is a
//! column, with its values in the next [`AHEAD`] frames, and each checksum that follows one is a column, too:
//!
//! ```text
//!   frame 0   sport = 1024   checksum = 0x5c1e        for each field, over all frames: its numbers,
//!   frame 1   sport = 1025   checksum = 0x5c1d          its words, what it adds to each checksum's sum
//!   …                                                  then, frame by frame: store a few words
//! ```
//!
//! So where a field comes from, how wide it is and which checksums it is in is asked once for all of them, in loops that the
//! compiler turns into vector instructions, and a frame costs a store for each word.

use rand_pcg::Pcg64;

use super::wheel::Wheel;
use super::{Place, Program, Sum, Sums};

/// For how many frames columns are worked out at once.
pub(crate) const AHEAD: usize = 32;

/// A word of a frame in which fields lie.
#[derive(Debug, Clone)]
pub(super) struct Column {
    at: usize,
    /// The bits of fields: the others are the template's.
    mask: u16,
    pub(super) values: [u16; AHEAD],
}

/// A checksum that follows.
#[derive(Debug, Clone)]
pub(super) struct Follower {
    sum: Sum,
    /// What the fields add to its sum; the checksum itself, if what they add it to is always the same.
    pub(super) values: [u32; AHEAD],
}

/// The fields of a stream that change, and their checksums, as one worker sends them.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    wheels: Box<[Wheel]>,
    dice: Pcg64,
    words: Box<[Column]>,
    followers: Box<[Follower]>,
    /// What the checksums are over without the fields, if all frames have one size.
    only: Option<Sums>,
    /// The next frame's place in the columns.
    next: usize,
}

/// A program, and where its fields lie.
pub(crate) type Placed = (Program, Vec<Place>);

impl Columns {
    /// `only`: the sums of the only variant, if there is one.
    pub(crate) fn new(
        programs: &[Placed],
        sums: &[Sum],
        only: Option<Sums>,
        (worker, workers): (u64, u64),
        dice: Pcg64,
    ) -> Self {
        let mut words: Vec<Column> = Vec::new();
        for place in programs.iter().flat_map(|(_, places)| places) {
            for (at, mask) in place.words() {
                match words.iter_mut().find(|word| word.at == at) {
                    Some(word) => word.mask |= mask,
                    None => words.push(Column {
                        at,
                        mask,
                        values: [0; AHEAD],
                    }),
                }
            }
        }
        let index = |at| words.iter().position(|word| word.at == at).unwrap_or(0);
        let wheels = programs
            .iter()
            .map(|(program, places)| Wheel::new(program, places, index, worker, workers))
            .collect();
        let followers = sums.iter().map(|sum| Follower {
            sum: *sum,
            values: [0; AHEAD],
        });
        Self {
            wheels,
            dice,
            followers: followers.collect(),
            words: words.into(),
            only,
            next: AHEAD,
        }
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Writes the values of the next frame into a copy of an image; `sums` are the image's.
    #[inline(always)]
    pub(crate) fn write(&mut self, sums: &Sums, frame: &mut [u8]) {
        if self.words.is_empty() {
            return;
        }
        if self.next >= AHEAD {
            self.work_out();
        }
        let next = self.next % AHEAD;
        self.next = next + 1;
        for word in &self.words {
            put(frame, word.at, word.values[next], word.mask);
        }
        for (follower, sum) in self.followers.iter().zip(sums) {
            let value = follower.values[next];
            let checksum = match self.only {
                Some(_) => value as u16,
                None => follower.sum.finish(sum + value),
            };
            put(frame, follower.sum.at.into(), checksum, 0xffff);
        }
    }

    #[inline(never)]
    fn work_out(&mut self) {
        for word in &mut self.words {
            word.values = [0; AHEAD];
        }
        for follower in &mut self.followers {
            follower.values = [0; AHEAD];
        }
        for wheel in &mut self.wheels {
            wheel.work_out(&mut self.words, &mut self.followers, &mut self.dice);
        }
        let Some(only) = &self.only else { return };
        for (follower, base) in self.followers.iter_mut().zip(only) {
            let sum = follower.sum;
            for value in &mut follower.values {
                *value = sum.finish(base + *value).into();
            }
        }
    }
}

/// Writes the bits of `mask`; those of `word` are.
#[inline(always)]
fn put(frame: &mut [u8], at: usize, word: u16, mask: u16) {
    if let Some(to) = frame.get_mut(at..at + 2) {
        let word = match mask {
            0xffff => word,
            _ => word | u16::from_be_bytes([to[0], to[1]]) & !mask,
        };
        to.copy_from_slice(&word.to_be_bytes());
    } else if let Some(to) = frame.get_mut(at) {
        // The last byte of a frame of an odd length.
        let [high, mask] = [(word >> 8) as u8, (mask >> 8) as u8];
        *to = high | *to & !mask;
    }
}
