//! What we send: all messages in one row of bytes, each behind its length.
//!
//! The row is what is numbered, sent in chunks, acknowledged and sent again. So a long message is fragmented and short
//! ones share a packet without a word about either. At the end of the row stands an imagined byte for "that was
//! all", as TCP's FIN: it is lost and acknowledged like any other.

use std::collections::VecDeque;
use std::ops::Range;

use crate::ranges::Ranges;

/// The length in front of each message.
pub const PREFIX_LEN: usize = 4;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Not yet: too much is waiting. Try again when some has arrived.
    #[error("too many bytes are waiting to be sent")]
    Full,
    /// Never: it is longer than the peer takes, or than the send buffer.
    #[error("the message is longer than can be sent")]
    TooLong,
    /// Never: this side has closed, or the connection is over.
    #[error("the connection is closed")]
    Closed,
}

/// The row as far as it is not acknowledged.
#[derive(Debug)]
pub struct Outgoing {
    bytes: VecDeque<u8>,
    /// The place of `bytes[0]`; everything below has arrived.
    first: u64,
    /// Everything from here on was never sent.
    fresh: u64,
    arrived: Ranges,
    lost: Ranges,
    /// The peer takes bytes up to here.
    credit: u64,
    most: usize,
    message_len: usize,
    closed: bool,
    settled: bool,
}

impl Outgoing {
    /// An empty row that holds at most `most` bytes.
    pub fn new(most: usize) -> Self {
        // The ranges are as many as packets are unsettled, at most; that is bounded where packets are remembered.
        let (arrived, lost) = (Ranges::new(usize::MAX), Ranges::new(usize::MAX));
        let message_len = most.saturating_sub(PREFIX_LEN);
        Self {
            bytes: VecDeque::new(),
            first: 0,
            fresh: 0,
            arrived,
            lost,
            credit: 0,
            most,
            message_len,
            closed: false,
            settled: false,
        }
    }

    /// The peer's terms are known: how many bytes it takes at first, and how long a message.
    pub fn agree(&mut self, credit: u64, message_len: usize) {
        self.credit = credit;
        self.message_len = self.message_len.min(message_len);
    }

    /// Puts a message at the end of the row.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn push(&mut self, message: &[u8]) -> Result<(), SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        let len = u32::try_from(message.len()).map_err(|_| SendError::TooLong)?;
        if message.len() > self.message_len {
            return Err(SendError::TooLong);
        }
        if self.bytes.len() + PREFIX_LEN + message.len() > self.most {
            return Err(SendError::Full);
        }
        self.bytes.extend(len.to_be_bytes());
        self.bytes.extend(message);
        Ok(())
    }

    /// Ends the row.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether the row has an end.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn end(&self) -> u64 {
        self.first + self.bytes.len() as u64
    }

    /// Where the row ends, with the imagined byte if it is there.
    fn whole(&self) -> u64 {
        self.end() + u64::from(self.closed)
    }

    /// The row is closed, and all of it has arrived, its end too.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// More credit; it is never taken back (the latest packet may be an old one).
    pub fn extend_credit(&mut self, credit: u64) {
        self.credit = self.credit.max(credit);
    }

    /// How far fresh bytes may be sent now.
    fn allowed(&self) -> u64 {
        if self.credit >= self.end() {
            self.whole()
        } else {
            self.credit
        }
    }

    /// Whether there is something to send.
    pub fn is_waiting(&self) -> bool {
        !self.lost.is_empty() || self.fresh < self.allowed()
    }

    /// What to send next, of at most `most` bytes: what was lost before what is fresh.
    pub fn take(&mut self, most: usize) -> Option<Range<u64>> {
        if let Some(range) = self.lost.take(most as u64) {
            return Some(range);
        }
        let range = self.fresh..self.allowed().min(self.fresh + most as u64);
        if range.is_empty() {
            return None;
        }
        self.fresh = range.end;
        Some(range)
    }

    /// The place, length and end mark of a chunk for `range`.
    pub fn chunk(&self, range: &Range<u64>) -> (u64, usize, bool) {
        let end = range.end > self.end();
        (
            range.start,
            (range.end - range.start) as usize - usize::from(end),
            end,
        )
    }

    /// Copies the bytes from `offset` on.
    pub fn copy(&self, offset: u64, to: &mut [u8]) {
        let at = (offset - self.first) as usize;
        let (front, back) = self.bytes.as_slices();
        let from_front = front.get(at..).unwrap_or_default();
        let (first, second) = to.split_at_mut(from_front.len().min(to.len()));
        first.copy_from_slice(&from_front[..first.len()]);
        let at = at.saturating_sub(front.len());
        second.copy_from_slice(&back[at..at + second.len()]);
    }

    /// These bytes have arrived.
    pub fn arrived(&mut self, range: Range<u64>) {
        let range = range.start.max(self.first)..range.end;
        self.lost.remove(range.clone());
        let _ = self.arrived.insert(range);
        if let Some(run) = self.arrived.first().filter(|run| run.start <= self.first) {
            let end = self.end();
            self.settled = run.end > end;
            self.bytes.drain(..(run.end.min(end) - self.first) as usize);
            self.first = run.end.min(end);
            self.arrived.remove_below(self.first);
        }
    }

    /// These bytes were in a packet that was given up: as far as they have not arrived in another, they are sent again.
    pub fn lost(&mut self, range: Range<u64>) {
        let mut from = range.start.max(self.first);
        for have in self.arrived.within(from..range.end) {
            let _ = self.lost.insert(from..have.start.max(from));
            from = have.end;
        }
        let _ = self.lost.insert(from..range.end.max(from));
    }

    /// What of `range` has not arrived, up to the first gap: for a probe.
    pub fn still_wanted(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let from = range.start.max(self.first);
        (from < range.end && !self.arrived.contains(from)).then_some(from..range.end)
    }

    /// How far the row was sent, and how far it may be.
    pub fn sent_and_credit(&self) -> (u64, u64) {
        (self.fresh.min(self.end()), self.credit)
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets everything, and gives the memory back.
    pub fn clear(&mut self) {
        self.bytes = VecDeque::new();
        self.arrived.clear();
        self.lost.clear();
        self.closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty bytes: two messages of six.
    fn row() -> Outgoing {
        let mut row = Outgoing::new(100);
        row.agree(1_000, 100);
        assert_eq!(row.push(b"first!"), Ok(()));
        assert_eq!(row.push(b"second"), Ok(()));
        row
    }

    #[test]
    fn messages_share_a_chunk_and_are_cut() {
        let mut row = row();
        let range = row.take(15).unwrap();
        assert_eq!((range.clone(), row.chunk(&range)), (0..15, (0, 15, false)));
        let mut bytes = [0; 15];
        row.copy(0, &mut bytes);
        assert_eq!(&bytes, b"\0\0\0\x06first!\0\0\0\x06s");
        assert_eq!(row.take(15), Some(15..20));
        assert_eq!(row.take(15), None);
    }

    #[test]
    fn the_lost_goes_before_the_fresh_and_what_arrived_is_not_sent_again() {
        let mut row = row();
        assert_eq!(
            (row.take(5), row.take(5), row.take(5)),
            (Some(0..5), Some(5..10), Some(10..15))
        );
        row.arrived(5..10);
        row.lost(0..12);
        assert_eq!(
            (row.take(9), row.take(9), row.take(9)),
            (Some(0..5), Some(10..12), Some(15..20))
        );
        row.lost(0..5);
        row.arrived(0..5);
        assert!(!row.is_waiting(), "it was late, not lost");
        assert_eq!(row.held(), 10);
    }

    #[test]
    fn the_end_is_sent_and_acknowledged_like_a_byte() {
        let mut row = row();
        row.close();
        assert_eq!(row.push(b"more"), Err(SendError::Closed));
        let range = row.take(100).unwrap();
        assert_eq!((range.clone(), row.chunk(&range)), (0..21, (0, 20, true)));
        row.arrived(0..20);
        assert!(!row.is_settled());
        row.lost(0..21);
        let range = row.take(100).unwrap();
        assert_eq!(row.chunk(&range), (20, 0, true));
        row.arrived(range);
        assert!(row.is_settled() && !row.is_waiting());
        row.arrived(0..21);
        assert!(row.is_settled());
    }

    #[test]
    fn credit_holds_bytes_back_but_not_the_end() {
        let mut row = Outgoing::new(100);
        row.agree(8, 100);
        row.push(b"first!").unwrap();
        row.close();
        assert_eq!((row.take(100), row.take(100)), (Some(0..8), None));
        row.extend_credit(10);
        row.extend_credit(9);
        assert_eq!(row.take(100), Some(8..11));
    }

    #[test]
    fn limits() {
        let mut row = Outgoing::new(20);
        assert_eq!(row.push(&[0; 17]), Err(SendError::TooLong));
        assert_eq!(row.push(&[0; 16]), Ok(()));
        assert_eq!(row.push(b""), Err(SendError::Full));
        row.agree(100, 3);
        assert_eq!(row.push(&[0; 4]), Err(SendError::TooLong));
    }
}
