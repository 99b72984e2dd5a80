//! What the peer sends: its row of bytes, put together in a ring of fixed size, and cut into messages again.

use crate::config::Refused;
use crate::outgoing::PREFIX_LEN;
use crate::packet::Chunk;
use crate::ranges::Ranges;

/// The row may be in one piece for so many bytes of the window: as many as the shortest datagrams that fit in it. A peer
/// that leaves a gap behind every byte is told nothing for what makes one piece more, as if it had been lost.
const BYTES_A_PIECE: usize = crate::packet::LEAST_DATAGRAM;
/// And in so many in any case.
const LEAST_PIECES: usize = 64;

/// The peer announces a message that is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// The row from the first byte that was not read.
#[derive(Debug)]
pub struct Incoming {
    /// The byte with the place p of the row lies at p modulo the length. It is made when the first chunk comes.
    ring: Vec<u8>,
    window: usize,
    read: u64,
    /// All before this has arrived.
    arrived: u64,
    pieces: Ranges,
    end: Option<u64>,
    message_len: usize,
    /// The credit that the peer knows of, or will.
    told: u64,
}

impl Incoming {
    /// An empty row; at most `window` bytes of it are held, messages are at most `message_len` long.
    pub fn new(window: usize, message_len: usize) -> Self {
        let message_len = message_len.min(window.saturating_sub(PREFIX_LEN));
        let pieces = Ranges::new((window / BYTES_A_PIECE).max(LEAST_PIECES));
        Self {
            ring: Vec::new(),
            window,
            read: 0,
            arrived: 0,
            pieces,
            end: None,
            message_len,
            told: window as u64,
        }
    }

    /// Takes a chunk. What was there before is taken again without harm.
    ///
    /// # Errors
    /// [`Refused`], and nothing has changed.
    pub fn accept(&mut self, chunk: &Chunk<'_>) -> Result<(), Refused> {
        let chunk_end = chunk.offset + chunk.bytes.len() as u64;
        if chunk_end > self.credit() {
            return Err(Refused::BeyondCredit);
        }
        let highest = self.pieces.last().map_or(self.arrived, |last| last + 1);
        let contradicts = match self.end {
            Some(end) => chunk_end > end || chunk.end && chunk_end != end,
            None => chunk.end && chunk_end < highest,
        };
        if contradicts {
            return Err(Refused::BeyondEnd);
        }
        let from = chunk.offset.max(self.arrived);
        if from < chunk_end {
            if !self.pieces.insert(from..chunk_end) {
                return Err(Refused::TooManyPieces);
            }
            self.store(from, &chunk.bytes[(from - chunk.offset) as usize..]);
            if let Some(first) = self
                .pieces
                .first()
                .filter(|first| first.start == self.arrived)
            {
                self.arrived = first.end;
                self.pieces.remove_below(first.end);
            }
        }
        if chunk.end {
            self.end = Some(chunk_end);
        }
        Ok(())
    }

    /// Whether accepting this left or closed a gap: then the sender should hear of it at once.
    pub fn has_gaps(&self) -> bool {
        !self.pieces.is_empty()
    }

    fn store(&mut self, from: u64, bytes: &[u8]) {
        if self.ring.is_empty() {
            self.ring = vec![0; self.window];
        }
        let at = (from % self.window as u64) as usize;
        let first = bytes.len().min(self.window - at);
        self.ring[at..at + first].copy_from_slice(&bytes[..first]);
        self.ring[..bytes.len() - first].copy_from_slice(&bytes[first..]);
    }

    fn load(&self, from: u64, len: usize, mut each: impl FnMut(&[u8])) {
        let at = (from % self.window as u64) as usize;
        let first = len.min(self.window - at);
        each(&self.ring[at..at + first]);
        each(&self.ring[..len - first]);
    }

    /// The length of the next message, if it is there whole.
    ///
    /// # Errors
    /// [`TooLong`]: the peer does not keep to what was agreed.
    pub fn next_len(&self) -> Result<Option<usize>, TooLong> {
        let there = (self.arrived - self.read) as usize;
        if there < PREFIX_LEN {
            return Ok(None);
        }
        let mut len = 0;
        self.load(self.read, PREFIX_LEN, |bytes| {
            len = bytes.iter().fold(len, |len, b| len << 8 | usize::from(*b))
        });
        if len > self.message_len {
            return Err(TooLong);
        }
        Ok((there >= PREFIX_LEN + len).then_some(len))
    }

    /// Moves the next message to `to`, in place of what was there. False if it is not there whole.
    pub fn pop(&mut self, to: &mut Vec<u8>) -> bool {
        let Ok(Some(len)) = self.next_len() else {
            return false;
        };
        to.clear();
        self.load(self.read + PREFIX_LEN as u64, len, |bytes| {
            to.extend_from_slice(bytes)
        });
        self.read += (PREFIX_LEN + len) as u64;
        if self.is_drained() {
            self.ring = Vec::new();
        }
        true
    }

    /// The peer may send up to here.
    pub fn credit(&self) -> u64 {
        self.read + self.window as u64
    }

    /// The credit leaves in a packet that is sent again if it is lost.
    pub fn credit_is_told(&mut self) {
        self.told = self.credit();
    }

    /// Enough was read that the peer should hear of it, though there is nothing else to say (RFC 9293, section
    /// 3.8.6.2.2: against silly windows). Less is enough when the peer has used up all its credit in the middle of a
    /// message, for then nobody can go on.
    pub fn credit_is_worth_telling(&self) -> bool {
        let more = self.credit() - self.told;
        let stuck = more > 0 && self.arrived == self.told && self.next_len() == Ok(None);
        self.end.is_none() && (stuck || more >= self.window as u64 / 4)
    }

    /// The whole row has arrived.
    pub fn is_whole(&self) -> bool {
        self.end == Some(self.arrived)
    }

    /// The row has come to its end, and all of it was read.
    pub fn is_drained(&self) -> bool {
        self.end == Some(self.read)
    }

    /// Bytes of memory.
    pub fn held(&self) -> usize {
        self.ring.len()
    }

    /// Forgets everything, and gives the memory back.
    pub fn clear(&mut self) {
        (self.read, self.end) = (self.arrived, Some(self.arrived));
        self.pieces.clear();
        self.ring = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(offset: u64, bytes: &[u8], end: bool) -> Chunk<'_> {
        Chunk { offset, bytes, end }
    }

    #[test]
    fn puts_together_in_any_order() {
        let mut row = Incoming::new(16, 8);
        let mut message = Vec::new();
        assert_eq!(row.accept(&chunk(6, b"llo", true)), Ok(()));
        assert!(row.has_gaps() && !row.pop(&mut message));
        assert_eq!(row.accept(&chunk(0, b"\0\0\0\x05he", false)), Ok(()));
        assert!(row.is_whole() && row.pop(&mut message));
        assert_eq!(message, b"hello");
        assert!(row.is_drained() && row.held() == 0);
        assert_eq!(
            row.accept(&chunk(0, b"\0\0\0\x05he", false)),
            Ok(()),
            "an old one"
        );
        assert!(!row.pop(&mut message) && row.held() == 0);
    }

    #[test]
    fn goes_round_the_ring() {
        let mut row = Incoming::new(12, 8);
        let (mut message, mut offset) = (Vec::new(), 0);
        for round in 0..20 {
            let bytes = [0, 0, 0, 3, round, round, round];
            assert_eq!(row.accept(&chunk(offset, &bytes, false)), Ok(()));
            offset += 7;
            assert!(row.pop(&mut message));
            assert_eq!(message, [round; 3]);
        }
    }

    #[test]
    fn bounds() {
        let mut row = Incoming::new(16, 8);
        assert_eq!(
            row.accept(&chunk(10, &[0; 7], false)),
            Err(Refused::BeyondCredit)
        );
        assert_eq!(row.accept(&chunk(8, &[0; 4], true)), Ok(()));
        assert_eq!(
            row.accept(&chunk(8, &[0; 5], false)),
            Err(Refused::BeyondEnd)
        );
        assert_eq!(
            row.accept(&chunk(8, &[0; 2], true)),
            Err(Refused::BeyondEnd)
        );
        assert_eq!(row.accept(&chunk(0, &[0, 0, 0, 9], false)), Ok(()));
        assert_eq!(row.next_len(), Err(TooLong));
    }

    #[test]
    fn a_gap_behind_every_byte_is_bounded() {
        let mut row = Incoming::new(1 << 20, 8);
        let refused = (0..5_000)
            .filter(|i| row.accept(&chunk(i * 2 + 1, &[0], false)).is_err())
            .count();
        assert_eq!(refused, 5_000 - 4_096);
    }

    #[test]
    fn credit_is_told_in_quarters() {
        let mut row = Incoming::new(40, 36);
        row.accept(&chunk(0, &[0, 0, 0, 5, 0, 0, 0, 0, 0], false))
            .unwrap();
        assert!(row.pop(&mut Vec::new()) && !row.credit_is_worth_telling());
        row.accept(&chunk(9, &[0, 0, 0, 0], false)).unwrap();
        assert!(row.pop(&mut Vec::new()) && row.credit_is_worth_telling());
        row.credit_is_told();
        assert_eq!(row.credit(), 53);
        assert!(!row.credit_is_worth_telling());
    }

    #[test]
    fn or_when_a_message_is_stuck_for_less() {
        let mut row = Incoming::new(40, 36);
        row.accept(&chunk(0, &[0, 0, 0, 0, 0, 0, 0, 36], false))
            .unwrap();
        assert!(
            row.pop(&mut Vec::new()) && !row.credit_is_worth_telling(),
            "36 bytes may come yet"
        );
        row.accept(&chunk(8, &[1; 32], false)).unwrap();
        assert!(row.credit_is_worth_telling());
    }
}
