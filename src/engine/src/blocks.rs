//! Blocks: frames in bulk between a worker and an ordinary thread, in either direction.
//!
//! ```text
//!   Filler ─► full blocks ─► Emptier
//!      ◄───── empty blocks ◄────┘
//! ```
//!
//! A [`lane`] has a fixed number of blocks that go round between its two ends, each through a ring with one producer and
//! one consumer. Frames are copied once, into the block; nothing is allocated on the way. A filler that finds no empty
//! block knows that the other side is behind: a worker that captures counts a drop, a thread that feeds a worker
//! waits.
//!
//! In a block, each frame is a record laid out as an Enhanced Packet Block of a pcapng file
//! (draft-ietf-opsawg-pcapng, section 4.3), little-endian, with a time in nanoseconds and the direction, if it is known, in
//! its flags: so the bytes of a block can be written to such a file as they are.

use linecard_hal::Way;
use linecard_hal::ring::{Consumer, Producer, spsc};

use crate::sync::{Arc, AtomicBool, Ordering};

/// Bytes of a record in front of the frame.
const HEAD: usize = 28;

/// Bytes of the options behind the frame and its padding, if it is said which way it went: `epb_flags`, end of options.
const OPTIONS: usize = 12;

/// Bytes at the end of a record: the length again.
const TAIL: usize = 4;

/// The type of an Enhanced Packet Block.
const ENHANCED_PACKET: u32 = 6;

/// What is known of a frame beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The port.
    pub interface: u32,
    /// Which way it went there.
    pub way: Way,
    /// When.
    pub time_ns: u64,
    /// How long it was before it was cut.
    pub original_len: u32,
}

/// Some frames.
pub struct Block {
    bytes: Box<[u8]>,
    len: usize,
    frames: usize,
}

/// Bytes that a record of so many bytes of a frame takes at most.
#[inline(always)]
pub const fn record_len(frame_len: usize) -> usize {
    HEAD + frame_len.next_multiple_of(4) + OPTIONS + TAIL
}

impl Block {
    /// An empty block, all of whose memory is there already.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut bytes = vec![0; bytes].into_boxed_slice();
        // Otherwise the worker would meet each page fault.
        bytes.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        Self {
            bytes,
            len: 0,
            frames: 0,
        }
    }

    /// How many frames.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The records, as they stand in a file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Bytes that are still free.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.len
    }

    /// Forgets all frames.
    pub fn clear(&mut self) {
        (self.len, self.frames) = (0, 0);
    }

    /// Adds a frame of `len` bytes, which `fill` writes. `false` if it does not fit.
    #[inline]
    pub fn push(&mut self, about: &About, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let padded = len.next_multiple_of(4);
        let is_told = about.way != Way::Unknown;
        let total = HEAD + padded + if is_told { OPTIONS } else { 0 } + TAIL;
        let Some(record) = self.bytes.get_mut(self.len..self.len + total) else {
            return false;
        };
        let Some((head, rest)) = record.split_first_chunk_mut::<HEAD>() else {
            return false;
        };
        let fields = [
            ENHANCED_PACKET,
            total as u32,
            about.interface,
            (about.time_ns >> 32) as u32,
            about.time_ns as u32,
            len as u32,
            about.original_len,
        ];
        for (to, field) in head.as_chunks_mut::<4>().0.iter_mut().zip(fields) {
            *to = field.to_le_bytes();
        }
        let (data, tail) = rest.split_at_mut(padded);
        // The padding, in one piece whatever its length.
        if let Some(last) = data.last_chunk_mut::<4>() {
            *last = [0; 4];
        }
        fill(&mut data[..len]);
        let (options, tail) = tail.split_at_mut(tail.len() - TAIL);
        if let Some(options) = options.first_chunk_mut::<OPTIONS>() {
            // epb_flags is option 2 with 4 bytes; option 0 ends the list.
            let fields = [2 | 4 << 16, about.way as u32, 0];
            for (to, field) in options.as_chunks_mut::<4>().0.iter_mut().zip(fields) {
                *to = field.to_le_bytes();
            }
        }
        tail.copy_from_slice(&(total as u32).to_le_bytes());
        self.len += total;
        self.frames += 1;
        true
    }

    /// The frames in order.
    pub fn records(&self) -> Records<'_> {
        Records {
            bytes: self.bytes(),
            offset: 0,
        }
    }

    /// Where it ends and how many frames there are.
    fn mark(&self) -> (usize, usize) {
        (self.len, self.frames)
    }
}

impl core::fmt::Debug for Block {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Block({} frames, {}/{})",
            self.frames,
            self.len,
            self.bytes.len()
        )
    }
}

/// A frame in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What is known of it.
    pub about: About,
    /// Its bytes.
    pub data: &'a [u8],
    /// Where the next record begins in the block.
    pub end: usize,
}

/// The iterator of [`Block::records`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Records<'a> {
    /// Those of `block` from byte `offset` on, which is the [end](Record::end) of a record.
    pub fn from(block: &'a Block, offset: usize) -> Self {
        let bytes = block.bytes();
        Self { bytes, offset }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        let (head, rest) = self.bytes.get(self.offset..)?.split_first_chunk::<HEAD>()?;
        let (words, _) = head.as_chunks::<4>();
        let word = |at: usize| u32::from_le_bytes(words[at]);
        let len = word(5) as usize;
        let data = rest.get(..len)?;
        let options = rest.get(len.next_multiple_of(4)..(word(1) as usize).checked_sub(HEAD)?)?;
        let flags = options.get(4).filter(|_| options.len() > TAIL);
        self.offset += word(1) as usize;
        Some(Record {
            about: About {
                interface: word(2),
                way: match flags {
                    Some(1) => Way::In,
                    Some(2) => Way::Out,
                    _ => Way::Unknown,
                },
                time_ns: u64::from(word(3)) << 32 | u64::from(word(4)),
                original_len: word(6),
            },
            data,
            end: self.offset,
        })
    }
}

/// Makes a lane of so many blocks of so many bytes.
///
/// # Panics
///
/// If there are to be none, or more than a ring holds.
pub fn lane(blocks: usize, block_bytes: usize) -> (Filler, Emptier) {
    let (full_in, full) = spsc(blocks);
    let (mut empty_in, empty) = spsc(blocks);
    for _ in 0..blocks {
        let fits = empty_in.push(Block::with_capacity(block_bytes));
        debug_assert!(fits.is_ok());
    }
    let closed = Arc::new(AtomicBool::new(false));
    let filler = Filler {
        block: None,
        spare: Vec::with_capacity(blocks),
        full: full_in,
        empty,
        closed: closed.clone(),
    };
    let emptier = Emptier {
        full,
        empty: empty_in,
        closed,
    };
    (filler, emptier)
}

/// The end where frames go in. When it is dropped, the other end is told after its last block.
pub struct Filler {
    /// The one in hand.
    block: Option<Block>,
    /// Empty ones, the one that came back last at the end. There is room for all.
    spare: Vec<Block>,
    full: Producer<Block>,
    empty: Consumer<Block>,
    closed: Arc<AtomicBool>,
}

impl Filler {
    /// A block with room for so many bytes of [records](record_len): the one in hand, or else an empty one. `None` if
    /// there is none, or none so large.
    #[inline]
    pub fn with_room(&mut self, bytes: usize) -> Option<&mut Block> {
        if self.block.as_ref().is_none_or(|b| b.room() < bytes) {
            self.send();
            if self.block.is_none() {
                self.block = self.warmest();
            }
        }
        self.block.as_mut().filter(|block| block.room() >= bytes)
    }

    /// The empty block that came back last, whose memory is likely to be in a cache still: a reader that keeps up has
    /// a few blocks go round, of however many.
    fn warmest(&mut self) -> Option<Block> {
        while let Some(block) = self.empty.pop() {
            self.spare.push(block);
        }
        self.spare.pop()
    }

    /// The block in hand.
    pub fn in_hand(&mut self) -> Option<&mut Block> {
        self.block.as_mut()
    }

    /// Lets the other end have the block in hand, if there is anything in it.
    pub fn send(&mut self) {
        if let Some(block) = self.block.take_if(|block| block.frames > 0)
            // The ring has a slot for every block.
            && let Err(block) = self.full.push(block)
        {
            self.block = Some(block);
        }
    }

    /// Where the block in hand ends.
    pub(crate) fn mark(&self) -> (usize, usize) {
        self.block.as_ref().map_or((0, 0), Block::mark)
    }

    /// Forgets what is behind the mark of the block in hand.
    pub(crate) fn cut(&mut self, (len, frames): (usize, usize)) {
        if let Some(block) = &mut self.block {
            block.len = block.len.min(len);
            block.frames = block.frames.min(frames);
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.send();
        self.closed.store(true, Ordering::Release);
    }
}

impl core::fmt::Debug for Filler {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Filler({:?})", self.block)
    }
}

/// The end where frames come out.
pub struct Emptier {
    full: Consumer<Block>,
    empty: Producer<Block>,
    closed: Arc<AtomicBool>,
}

impl Emptier {
    /// The next block, to be [given back](Self::give_back).
    #[inline]
    pub fn pop(&mut self) -> Option<Block> {
        self.full.pop()
    }

    /// Lets the other end fill it again.
    pub fn give_back(&mut self, mut block: Block) {
        block.clear();
        // The ring has a slot for every block.
        let _: Result<(), Block> = self.empty.push(block);
    }

    /// Blocks that wait.
    pub fn waiting(&self) -> usize {
        self.full.len()
    }

    /// Whether nothing will ever come again.
    pub fn is_over(&self) -> bool {
        // In this order: the last block is sent before the lane is closed.
        self.closed.load(Ordering::Acquire) && self.full.is_empty()
    }
}

impl core::fmt::Debug for Emptier {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Emptier({} full)", self.full.len())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn about(n: u64) -> About {
        About {
            interface: 3,
            way: Way::Out,
            time_ns: n << 30,
            original_len: 1500,
        }
    }

    #[test]
    fn a_block_gives_what_was_put_in_until_it_is_full() {
        let mut block = Block::with_capacity(400);
        let mut put = Vec::new();
        for n in 0..20_u64 {
            let data = vec![n as u8; 13 + n as usize];
            if block.push(&about(n), data.len(), |to| to.copy_from_slice(&data)) {
                put.push((about(n), data));
            }
        }
        let got: Vec<_> = block
            .records()
            .map(|r| (r.about, r.data.to_vec()))
            .collect();
        assert_eq!((got.len(), &got), (block.frames(), &put));
        assert!((4..20).contains(&got.len()));
        let first = block.records().next().unwrap();
        let rest: Vec<_> = Records::from(&block, first.end).collect();
        assert_eq!(rest.len(), put.len() - 1);
    }

    #[test]
    fn a_record_that_does_not_say_which_way_is_shorter_and_reads_the_same() {
        let mut block = Block::with_capacity(400);
        for (n, way) in [Way::Unknown, Way::In, Way::Unknown]
            .into_iter()
            .enumerate()
        {
            let about = About {
                way,
                ..about(n as u64)
            };
            assert!(block.push(&about, 13 + n, |to| to.fill(7)));
        }
        assert_eq!(block.bytes().len(), 3 * record_len(16) - 2 * OPTIONS);
        assert_eq!(
            block.bytes()[HEAD..][..16],
            [[7; 13].as_slice(), &[0; 3]].concat()
        );
        let got = block.records().map(|r| (r.about.way, r.data.to_vec()));
        let put = [(Way::Unknown, 13), (Way::In, 14), (Way::Unknown, 15)];
        assert!(got.eq(put.map(|(way, len)| (way, vec![7; len]))));
        assert_eq!(block.records().last().unwrap().end, block.bytes().len());
    }

    #[test]
    fn the_block_that_came_back_last_is_filled_next() {
        let (mut filler, mut emptier) = lane(8, 256);
        let mut memory = Vec::new();
        for _ in 0..20 {
            let block = filler.with_room(100).unwrap();
            assert!(block.push(&about(1), 60, |to| to.fill(7)));
            filler.send();
            let block = emptier.pop().unwrap();
            memory.push(block.bytes().as_ptr());
            emptier.give_back(block);
        }
        memory.dedup();
        assert_eq!(memory.len(), 1, "a reader that keeps up needs no second");
    }

    #[test]
    fn blocks_go_round_and_the_end_is_known() {
        let (mut filler, mut emptier) = lane(2, 256);
        let mut push = |len: usize| {
            filler
                .with_room(record_len(len))
                .is_some_and(|block| block.push(&about(1), len, |to| to.fill(7)))
        };
        let fits = (0..10).take_while(|_| push(60)).count();
        assert_eq!(fits, 4, "two in each block");
        assert!(!push(500), "never");
        let block = emptier.pop().unwrap();
        assert_eq!(block.frames(), 2);
        emptier.give_back(block);
        assert!(push(60));
        drop(filler);
        assert!(!emptier.is_over());
        let frames = std::iter::from_fn(|| emptier.pop()).map(|b| b.frames());
        assert_eq!(frames.sum::<usize>(), 3);
        assert!(emptier.is_over());
    }
}
