//! Fragments that wait: sorted runs of them, out of one store of a fixed size.

use std::ops::Range;

use linecard_hal::Mbuf;

use super::Fragment;

const NONE: u32 = u32::MAX;

/// A fragment that waits.
#[derive(Debug)]
pub(super) struct Piece {
    /// Which bytes of the datagram it has.
    pub(super) range: Range<u32>,
    pub(super) fragment: Option<Fragment>,
    pub(super) frame: Option<Mbuf>,
    next: u32,
}

/// The fragments of one datagram, sorted by their offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    first: u32,
    last: u32,
    /// How many there are.
    pub(super) count: u32,
    /// Bytes of the datagram that they have.
    pub(super) bytes: u32,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            first: NONE,
            last: NONE,
            count: 0,
            bytes: 0,
        }
    }
}

/// What became of a piece.
#[derive(Debug)]
pub(super) enum Placed {
    Kept,
    /// The same bytes are there already.
    Duplicate(Mbuf),
    /// Some of these bytes are there already.
    Overlap(Mbuf),
}

/// All that wait.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: Box<[Piece]>,
    free: u32,
    used: usize,
    /// Bytes of their frames.
    bytes: usize,
}

impl Pieces {
    pub(super) fn new(count: u32) -> Self {
        let piece = |i: u32| Piece {
            range: 0..0,
            fragment: None,
            frame: None,
            next: if i + 1 < count { i + 1 } else { NONE },
        };
        Self {
            pieces: (0..count).map(piece).collect(),
            free: 0,
            used: 0,
            bytes: 0,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_full(&self) -> bool {
        self.free == NONE
    }

    /// Where the last fragment of a run ends.
    pub(super) fn end(&self, run: &Run) -> u32 {
        match run.last {
            NONE => 0,
            last => self.pieces[last as usize].range.end,
        }
    }

    /// Puts a fragment into its place, unless it overlaps. There must be room.
    pub(super) fn insert(
        &mut self,
        run: &mut Run,
        range: Range<u32>,
        fragment: &Fragment,
        frame: Mbuf,
    ) -> Placed {
        // Most come in order, behind the last.
        let before = if self.end(run) <= range.start {
            run.last
        } else {
            self.before(run, range.start)
        };
        let after = match before {
            NONE => run.first,
            before => self.pieces[before as usize].next,
        };
        for neighbor in [before, after] {
            let Some(piece) = self.pieces.get(neighbor as usize) else {
                continue;
            };
            if piece.range == range && piece.has(fragment, &frame) {
                return Placed::Duplicate(frame);
            }
            if piece.range.start < range.end && range.start < piece.range.end {
                return Placed::Overlap(frame);
            }
        }
        let slot = self.free;
        let bytes = frame.frame_len();
        let Some(piece) = self.pieces.get_mut(slot as usize) else {
            return Placed::Overlap(frame);
        };
        self.free = piece.next;
        (self.used, self.bytes) = (self.used + 1, self.bytes + bytes);
        (run.count, run.bytes) = (run.count + 1, run.bytes + (range.end - range.start));
        *piece = Piece {
            range,
            fragment: Some(*fragment),
            frame: Some(frame),
            next: after,
        };
        match before {
            NONE => run.first = slot,
            before => self.pieces[before as usize].next = slot,
        }
        if after == NONE {
            run.last = slot;
        }
        Placed::Kept
    }

    /// The last piece that begins at `start` or before.
    fn before(&self, run: &Run, start: u32) -> u32 {
        let (mut before, mut at) = (NONE, run.first);
        while at != NONE && self.pieces[at as usize].range.start <= start {
            (before, at) = (at, self.pieces[at as usize].next);
        }
        before
    }

    /// Takes the piece with the lowest offset.
    pub(super) fn pop(&mut self, run: &mut Run) -> Option<(Fragment, Mbuf)> {
        let slot = run.first;
        let piece = self.pieces.get_mut(slot as usize)?;
        let (fragment, frame) = (piece.fragment.take()?, piece.frame.take()?);
        let next = std::mem::replace(&mut piece.next, self.free);
        self.free = slot;
        (self.used, self.bytes) = (self.used - 1, self.bytes - frame.frame_len());
        (run.count, run.bytes) = (run.count - 1, run.bytes - u32::from(fragment.len));
        run.first = next;
        if next == NONE {
            run.last = NONE;
        }
        Some((fragment, frame))
    }

    /// Turns a run round: [`pop`](Self::pop) then takes the piece with the highest offset.
    pub(super) fn reverse(&mut self, run: &mut Run) {
        let (mut before, mut at) = (NONE, run.first);
        while at != NONE {
            (before, at) = (
                at,
                std::mem::replace(&mut self.pieces[at as usize].next, before),
            );
        }
        (run.first, run.last) = (run.last, run.first);
    }

    /// Takes the fragment that begins the datagram, if it came.
    pub(super) fn take_first(&mut self, run: &mut Run) -> Option<Mbuf> {
        let piece = self.pieces.get(run.first as usize)?;
        if piece.range.start != 0 {
            return None;
        }
        self.pop(run).map(|(_, frame)| frame)
    }

    /// Frees all of a run; returns how many there were.
    pub(super) fn clear(&mut self, run: &mut Run) -> usize {
        let mut count = 0;
        while self.pop(run).is_some() {
            count += 1;
        }
        count
    }
}

impl Piece {
    /// Whether it is the same as another fragment of the same range.
    fn has(&self, fragment: &Fragment, frame: &Mbuf) -> bool {
        let (Some(mine), Some(my_frame)) = (&self.fragment, &self.frame) else {
            return false;
        };
        if mine.more != fragment.more {
            return false;
        }
        let (mut done, len) = (0, usize::from(fragment.len));
        let (mut a, mut b) = ([0; 256], [0; 256]);
        while done < len {
            let n = (len - done).min(a.len());
            my_frame.copy_out(usize::from(mine.data_offset) + done, &mut a[..n]);
            frame.copy_out(usize::from(fragment.data_offset) + done, &mut b[..n]);
            if a[..n] != b[..n] {
                return false;
            }
            done += n;
        }
        true
    }
}
