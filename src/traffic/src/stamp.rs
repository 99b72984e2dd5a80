//! Stamps: what a frame carries so that the receiver knows which it is and when it left.
//!
//! A stamp is the last [`LEN`] bytes of a frame (without FCS), which is what the smallest frame of UDP over IPv4
//! has room for. All fields are in network byte order:
//!
//! | bytes | field |
//! | --- | --- |
//! | 0–1 | [`MAGIC`] |
//! | 2–3 | lane: a stream as one worker sends it, with sequence numbers of its own |
//! | 4–7 | sequence number, from 0, wrapping |
//! | 8–15 | when it was sent, in nanoseconds of the sender's clock |
//! | 16–17 | balance: what makes the one's complement sum of the stamp zero |
//!
//! Because of the balance a stamp is nothing to any checksum that covers it whole (RFC 1071): TCP's and UDP's are
//! computed once, over a template with zeros in its place, and stay right for every frame. That holds at odd
//! offsets, too, where the sum is the same with its bytes swapped, and zero either way.

/// Bytes of a stamp.
pub const LEN: usize = 18;

/// What a stamp begins with.
pub const MAGIC: u16 = 0x4c43;

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The stream, as one worker sends it.
    pub lane: u16,
    /// Its number in the lane, from 0, wrapping.
    pub sequence: u32,
    /// When it was sent, in nanoseconds of the sender's clock.
    pub sent_ns: u64,
}

impl Stamp {
    /// Writes it.
    #[inline(always)]
    pub fn write(self, to: &mut [u8; LEN]) {
        let words = u128::from(MAGIC) << 112
            | u128::from(self.lane) << 96
            | u128::from(self.sequence) << 64
            | u128::from(self.sent_ns);
        to[..16].copy_from_slice(&words.to_be_bytes());
        to[16..].copy_from_slice(&(!sum(words)).to_be_bytes());
    }

    /// Reads it; `None` if that is none, or was changed on the way.
    #[inline(always)]
    pub fn read(from: &[u8; LEN]) -> Option<Self> {
        let [words @ .., high, low] = *from;
        let words = u128::from_be_bytes(words);
        let is_one =
            (words >> 112) as u16 == MAGIC && u16::from_be_bytes([high, low]) == !sum(words);
        is_one.then_some(Self {
            lane: (words >> 96) as u16,
            sequence: (words >> 64) as u32,
            sent_ns: words as u64,
        })
    }

    /// The stamp at the end of a frame, if it has one.
    #[inline(always)]
    pub fn at_end_of(frame: &[u8]) -> Option<Self> {
        Self::read(frame.last_chunk()?)
    }

    /// Writes it to the end of a frame; `false` if there is no room.
    #[inline(always)]
    #[must_use]
    pub fn put_at_end_of(self, frame: &mut [u8]) -> bool {
        frame.last_chunk_mut().map(|to| self.write(to)).is_some()
    }
}

/// When frames are sent that leave together, as stamps have it: worked out once for all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    bytes: [u8; 8],
    sum: u32,
}

impl Moment {
    #[inline(always)]
    pub(crate) fn new(sent_ns: u64) -> Self {
        Self {
            bytes: sent_ns.to_be_bytes(),
            sum: sum(sent_ns.into()).into(),
        }
    }
}

/// The stamps of frames of one lane that leave together, one after the other: only the sequence number differs, so all
/// else is worked out once.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// The first eight bytes, with zeros for the sequence number.
    head: u64,
    sent: [u8; 8],
    /// The sum of all of that and of the sequence number, from 1 to 0xffff.
    sum: u32,
    sequence: u32,
}

impl Series {
    /// Begins with this number.
    #[inline(always)]
    pub(crate) fn new(lane: u16, sequence: u32, sent: Moment) -> Self {
        let sum = u32::from(MAGIC) + u32::from(lane) + sent.sum;
        let sum = sum + (sequence >> 16) + (sequence & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        Self {
            head: u64::from(MAGIC) << 48 | u64::from(lane) << 32,
            sent: sent.bytes,
            sum: (sum >> 16) + (sum & 0xffff),
            sequence,
        }
    }

    /// Writes the next to the end of a frame, if there is room, and goes on.
    #[inline(always)]
    pub(crate) fn put_at_end_of(&mut self, frame: &mut [u8]) {
        if let Some(to) = frame.last_chunk_mut::<LEN>() {
            to[..8].copy_from_slice(&(self.head | u64::from(self.sequence)).to_be_bytes());
            to[8..16].copy_from_slice(&self.sent);
            to[16..].copy_from_slice(&(!self.sum as u16).to_be_bytes());
        }
        self.sequence = self.sequence.wrapping_add(1);
        // A number more is 1 more in one's complement, too, but for the step from 2^32 - 1 to 0, which are the same there.
        let next = self.sum + u32::from(self.sequence != 0);
        self.sum = (next >> 16) + (next & 0xffff);
    }
}

/// The one's complement sum of eight words: zero only if all of them are.
#[inline(always)]
fn sum(words: u128) -> u16 {
    let halves = (words >> 64) as u64;
    let (sum, carry) = halves.overflowing_add(words as u64);
    let sum = u128::from(sum) + u128::from(carry);
    let folded = (sum >> 32) as u64 + (sum as u64 & 0xffff_ffff);
    let folded = (folded >> 16) + (folded & 0xffff);
    let folded = (folded >> 16) + (folded & 0xffff);
    ((folded >> 16) + (folded & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back_and_is_nothing_to_a_checksum(
            lane: u16, sequence: u32, sent_ns: u64, mut frame in proptest::collection::vec(any::<u8>(), 18..64),
        ) {
            let stamp = Stamp { lane, sequence, sent_ns };
            let at = frame.len() - LEN;
            frame[at..].fill(0);
            let before = linecard_wire::checksum(&frame);
            prop_assert!(stamp.put_at_end_of(&mut frame));
            prop_assert_eq!(Stamp::at_end_of(&frame), Some(stamp));
            let after = linecard_wire::checksum(&frame);
            // 0 and 0xffff are the same number in one's complement.
            prop_assert!(before == after || before ^ after == 0xffff && before.is_multiple_of(0xffff));
        }

        #[test]
        fn a_series_is_one_stamp_after_the_other(lane: u16, sequence: u32, sent_ns: u64, wraps: bool) {
            let sequence = if wraps { sequence | 0xffff_fff8 } else { sequence };
            let mut series = Series::new(lane, sequence, Moment::new(sent_ns));
            for n in 0..20 {
                let (mut one, mut other) = ([1; LEN + 2], [1; LEN + 2]);
                series.put_at_end_of(&mut one);
                let stamp = Stamp { lane, sequence: sequence.wrapping_add(n), sent_ns };
                prop_assert!(stamp.put_at_end_of(&mut other));
                prop_assert_eq!(one, other);
            }
        }

        #[test]
        fn a_flipped_bit_is_noticed(lane: u16, sequence: u32, sent_ns: u64, bit in 0..LEN * 8) {
            let mut bytes = [0; LEN];
            Stamp { lane, sequence, sent_ns }.write(&mut bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Stamp::read(&bytes), None);
        }
    }

    #[test]
    fn a_short_frame_has_none() {
        assert_eq!(Stamp::at_end_of(&[0; LEN - 1]), None);
        let stamp = Stamp {
            lane: 1,
            sequence: 2,
            sent_ns: 3,
        };
        assert!(!stamp.put_at_end_of(&mut [0; LEN - 1]));
    }
}
