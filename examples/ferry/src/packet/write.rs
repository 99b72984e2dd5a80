//! Writing packets, in place.

use zerocopy::network_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    AckPart, COOKIE, Cookie, CookiePart, DATA, Fixed, HEADER_LEN, HELLO, MOST_RANGES, RangePart,
    Terms, TermsPart, VERSION, WELCOME, checksum, part,
};

/// A packet being written, part by part in the order of the methods.
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    len: usize,
    fixed: Fixed,
}

impl<'b> Writer<'b> {
    /// A packet of an open connection. `buffer` has at least [`LEAST_DATAGRAM`](super::LEAST_DATAGRAM) bytes.
    pub fn data(buffer: &'b mut [u8], to: u64, number: u64, floor: u64) -> Self {
        let behind = u32::try_from(number - floor).unwrap_or(u32::MAX);
        Self::new(buffer, DATA, to, number, behind)
    }

    fn new(buffer: &'b mut [u8], kind: u8, to: u64, number: u64, behind: u32) -> Self {
        let fixed = Fixed {
            version_kind: VERSION << 4 | kind,
            parts: 0,
            zero: 0.into(),
            checksum: 0.into(),
            to: to.into(),
            number: number.into(),
            behind: behind.into(),
        };
        Self {
            buffer,
            len: HEADER_LEN,
            fixed,
        }
    }

    /// How many bytes a chunk can have after what is there.
    pub fn room(&self) -> usize {
        self.buffer.len().saturating_sub(self.len + 8)
    }

    fn put(&mut self, part: &(impl IntoBytes + Immutable), bit: u8) {
        let bytes = part.as_bytes();
        if let Some(place) = self.buffer.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
            self.fixed.parts |= bit;
        }
    }

    /// An acknowledgement of `ranges` (first, last), from the highest down; as many as there is place for.
    pub fn ack(&mut self, credit: u64, delay_ns: u64, ranges: impl Iterator<Item = (u64, u64)>) {
        let mut ranges = ranges.peekable();
        let Some((first, last)) = ranges.next() else {
            return;
        };
        let at = self.len;
        // A range that is too long for its field is told from its upper end; the rest was told before.
        let present = u16::try_from(last - first + 1).unwrap_or(u16::MAX);
        let mut part = AckPart {
            credit: credit.into(),
            largest: last.into(),
            delay_us: u32::try_from(delay_ns / 1_000).unwrap_or(u32::MAX).into(),
            first: present.into(),
            more: 0,
            zero: 0,
        };
        self.put(&part, part::ACK);
        let mut low = last - (u64::from(present) - 1);
        let whole = low == first;
        while whole && usize::from(part.more) < MOST_RANGES {
            let Some((first, last)) = ranges.next() else {
                break;
            };
            let (Ok(missing), Ok(present)) = (
                u16::try_from(low - last - 1),
                u16::try_from(last - first + 1),
            ) else {
                break;
            };
            self.put(
                &RangePart {
                    missing: missing.into(),
                    present: present.into(),
                },
                0,
            );
            part.more += 1;
            low = first;
        }
        if let Some((place, _)) = self
            .buffer
            .get_mut(at..)
            .and_then(|b| AckPart::mut_from_prefix(b).ok())
        {
            place.more = part.more;
        }
    }

    /// A challenge, a response, a close: each if there is one.
    pub fn extras(&mut self, challenge: Option<u64>, response: Option<u64>, close: Option<u32>) {
        let parts = [
            (challenge, part::CHALLENGE),
            (response, part::RESPONSE),
            (close.map(u64::from), part::CLOSE),
        ];
        for (value, bit) in parts {
            if let Some(value) = value {
                self.put(&U64::new(value), bit);
            }
        }
    }

    /// Asks for an acknowledgement.
    pub fn ping(&mut self) {
        self.fixed.parts |= part::PING;
    }

    /// A chunk of `len` bytes, at most [`Writer::room`], which are to be filled in.
    pub fn chunk(&mut self, offset: u64, len: usize, end: bool) -> &mut [u8] {
        self.put(&U64::new(offset), part::CHUNK);
        if end {
            self.fixed.parts |= part::END;
        }
        let from = self.len;
        self.len = (from + len).min(self.buffer.len());
        self.buffer.get_mut(from..self.len).unwrap_or_default()
    }

    /// Puts the header in front; the length of the datagram.
    pub fn finish(mut self) -> usize {
        let Some(datagram) = self.buffer.get_mut(..self.len) else {
            return 0;
        };
        if self.fixed.write_to_prefix(datagram).is_err() {
            return 0;
        }
        self.fixed.checksum = checksum(datagram).into();
        let _ = self.fixed.write_to_prefix(datagram);
        self.len
    }

    fn pad(&mut self, len: usize) {
        let to = len.min(self.buffer.len());
        if let Some(padding) = self.buffer.get_mut(self.len..to) {
            padding.fill(0);
            self.len = to;
        }
    }
}

/// Writes a hello. It is padded to a whole datagram: a path that loses long packets is found out at once, not when the
/// first long message hangs; and the answer, which goes to an address nobody has proven, is shorter.
pub fn write_hello(buffer: &mut [u8], terms: &Terms, cookie: Cookie) -> usize {
    let mut writer = Writer::new(buffer, HELLO, 0, 0, 0);
    writer.put(&TermsPart::from(terms), 0);
    writer.put(&CookiePart::from(cookie), 0);
    writer.pad(terms.datagram_len.into());
    writer.finish()
}

/// Writes the demand for proof.
pub fn write_cookie(buffer: &mut [u8], to: u64, cookie: Cookie) -> usize {
    let mut writer = Writer::new(buffer, COOKIE, to, 0, 0);
    writer.put(&CookiePart::from(cookie), 0);
    writer.finish()
}

/// Writes the server's consent, padded as the hello is: this is the other direction.
pub fn write_welcome(buffer: &mut [u8], to: u64, terms: &Terms, datagram_len: usize) -> usize {
    let mut writer = Writer::new(buffer, WELCOME, to, 0, 0);
    writer.put(&TermsPart::from(terms), 0);
    writer.pad(datagram_len);
    writer.finish()
}

impl From<&Terms> for TermsPart {
    fn from(terms: &Terms) -> Self {
        Self {
            from: terms.from.into(),
            window: terms.window.into(),
            message_len: terms.message_len.into(),
            idle_ms: terms.idle_ms.into(),
            datagram_len: terms.datagram_len.into(),
            ack_delay_ms: terms.ack_delay_ms.into(),
        }
    }
}

impl From<Cookie> for CookiePart {
    fn from(cookie: Cookie) -> Self {
        Self {
            issued_ms: cookie.issued_ms.into(),
            mac: cookie.mac.into(),
        }
    }
}
