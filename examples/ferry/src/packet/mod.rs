//! What a packet looks like: checked parsing, and writing in place.
//!
//! ```text
//!  0               1               2               3
//! +---------------+---------------+---------------+---------------+
//! | version, kind | parts         | zero                          |
//! | CRC32C of the whole packet, with zero in its own place        |
//! | connection id of the receiver, 8 bytes                        |
//! | packet number, 8 bytes                                        |
//! | how many numbers behind this one the sender has forgotten     |
//! +---------------------------------------------------------------+
//! | parts, in the order of their bits                             |
//! ```
//!
//! Each part is there at most once, in one order only, so there is one way to write a packet and parsing has no loop
//! but that over the ranges of an acknowledgement. Everything that can be wrong with the bytes is found by
//! [`Packet::parse`]; what it returns cannot panic.

#[cfg(test)]
mod tests;
mod write;

use zerocopy::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use write::{Writer, write_cookie, write_hello, write_welcome};

/// The version of this layout, in the upper half of the first byte.
pub const VERSION: u8 = 1;
/// The bytes in front of the parts.
pub const HEADER_LEN: usize = 28;
/// No datagram is shorter than this allows: header, acknowledgement, both path parts, a chunk.
pub const LEAST_DATAGRAM: usize = 256;
/// The most ranges in one acknowledgement, beside the first.
pub const MOST_RANGES: usize = 31;

const HELLO: u8 = 1;
const COOKIE: u8 = 2;
const WELCOME: u8 = 3;
const DATA: u8 = 4;

/// The bits of the byte `parts`.
mod part {
    pub(super) const ACK: u8 = 1;
    pub(super) const CHALLENGE: u8 = 2;
    pub(super) const RESPONSE: u8 = 4;
    pub(super) const CLOSE: u8 = 8;
    pub(super) const CHUNK: u8 = 16;
    pub(super) const END: u8 = 32;
    pub(super) const PING: u8 = 64;
    pub(super) const KNOWN: u8 = 127;
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Fixed {
    version_kind: u8,
    parts: u8,
    zero: U16,
    checksum: U32,
    to: U64,
    number: U64,
    behind: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AckPart {
    credit: U64,
    largest: U64,
    delay_us: U32,
    first: U16,
    more: u8,
    zero: u8,
}

/// One further range of an acknowledgement: numbers missing, then numbers present, going down.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RangePart {
    missing: U16,
    present: U16,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TermsPart {
    from: U64,
    window: U32,
    message_len: U32,
    idle_ms: U32,
    datagram_len: U16,
    ack_delay_ms: U16,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct CookiePart {
    issued_ms: U64,
    mac: U64,
}

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than a length or a part asks for.
    #[error("the packet is cut short")]
    Truncated,
    /// Another version or kind, or a bit set that has no meaning.
    #[error("the packet is of an unknown version or kind")]
    Unknown,
    /// Bits changed on the way.
    #[error("the checksum does not match")]
    Checksum,
    /// Fields that contradict each other.
    #[error("the packet contradicts itself")]
    Contradiction,
}

/// What each side tells the other once, in its first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The connection id that packets to the teller must carry.
    pub from: u64,
    /// How many bytes it takes before it gives further credit.
    pub window: u32,
    /// The longest message that it takes.
    pub message_len: u32,
    /// It gives up when it hears nothing for so long.
    pub idle_ms: u32,
    /// The longest datagram that it takes and sends.
    pub datagram_len: u16,
    /// It delays acknowledgements by at most this.
    pub ack_delay_ms: u16,
}

/// Proof that its bearer receives at an address: see [`crate::secret`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// When it was issued.
    pub issued_ms: u64,
    /// The issuer's proof that this is so.
    pub mac: u64,
}

/// A packet that has been checked.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    /// A client asks for a connection; without a cookie (all zero) the first time.
    Hello {
        /// The client's terms.
        terms: Terms,
        /// What it got by a [`Packet::Cookie`], if anything.
        cookie: Cookie,
    },
    /// "Show that you receive here": to be returned with the next hello.
    Cookie {
        /// The connection id of the client.
        to: u64,
        /// What to return.
        cookie: Cookie,
    },
    /// The server takes the connection.
    Welcome {
        /// The connection id of the client.
        to: u64,
        /// The server's terms.
        terms: Terms,
    },
    /// Everything after that.
    Data(Data<'a>),
}

/// A packet of an open connection.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// The connection id of its receiver.
    pub to: u64,
    /// Its number: each packet has a higher one than those before, whatever it carries.
    pub number: u64,
    /// The sender has forgotten the packets below this and wants no word on them.
    pub floor: u64,
    /// Which packets have arrived.
    pub ack: Option<Ack<'a>>,
    /// To be returned as a response, to the address that this came from.
    pub challenge: Option<u64>,
    /// The answer to a challenge.
    pub response: Option<u64>,
    /// The connection is over: zero if all is delivered, else why.
    pub close: Option<u32>,
    /// A piece of the row of bytes.
    pub chunk: Option<Chunk<'a>>,
    /// An acknowledgement is wanted though there is no chunk.
    pub ping: bool,
}

impl Data<'_> {
    /// Whether its sender waits for an acknowledgement.
    pub fn wants_ack(&self) -> bool {
        self.chunk.is_some() || self.ping
    }
}

/// A piece of the row of bytes that one side sends to the other.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// The place of its first byte in the row.
    pub offset: u64,
    /// The bytes.
    pub bytes: &'a [u8],
    /// The row ends behind them.
    pub end: bool,
}

/// An acknowledgement. It always brings the sender's credit too.
#[derive(Clone, Copy, Debug)]
pub struct Ack<'a> {
    /// The row may be sent up to here.
    pub credit: u64,
    /// The highest packet number that has arrived.
    pub largest: u64,
    /// How long that packet lay before this was sent.
    pub delay_ns: u64,
    first: u16,
    rest: &'a [RangePart],
}

impl Ack<'_> {
    /// The numbers that have arrived, as ranges (first, last), from the highest down.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        // Parsing has walked the same way with checks, so nothing saturates here.
        let low = self
            .largest
            .saturating_sub(u64::from(self.first).saturating_sub(1));
        let rest = self.rest.iter().scan(low, |low, range| {
            let last = low.saturating_sub(u64::from(range.missing.get()) + 1);
            *low = last.saturating_sub(u64::from(range.present.get()).saturating_sub(1));
            Some((*low, last))
        });
        core::iter::once((low, self.largest)).chain(rest)
    }

    /// Every range has numbers, and none goes below zero.
    fn check(&self) -> Option<()> {
        let mut low = (u64::from(self.first))
            .checked_sub(1)
            .and_then(|n| self.largest.checked_sub(n))?;
        for range in self.rest {
            let missing = u64::from(range.missing.get()).checked_sub(1)?;
            let present = u64::from(range.present.get()).checked_sub(1)?;
            low = low.checked_sub(missing + 2)?.checked_sub(present)?;
        }
        Some(())
    }
}

impl<'a> Packet<'a> {
    /// Checks a datagram, from its checksum to the last part.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (fixed, rest) = Fixed::ref_from_prefix(datagram).map_err(|_| Malformed::Truncated)?;
        if fixed.version_kind >> 4 != VERSION || fixed.zero.get() != 0 {
            return Err(Malformed::Unknown);
        }
        if fixed.checksum.get() != checksum(datagram) {
            return Err(Malformed::Checksum);
        }
        let to = fixed.to.get();
        match fixed.version_kind & 15 {
            DATA => Ok(Self::Data(parse_data(fixed, rest)?)),
            _ if fixed.parts != 0 => Err(Malformed::Unknown),
            HELLO => {
                let (terms, rest) = parse_terms(rest)?;
                Ok(Self::Hello {
                    terms,
                    cookie: parse_cookie(rest)?,
                })
            }
            COOKIE => Ok(Self::Cookie {
                to,
                cookie: parse_cookie(rest)?,
            }),
            WELCOME => Ok(Self::Welcome {
                to,
                terms: parse_terms(rest)?.0,
            }),
            _ => Err(Malformed::Unknown),
        }
    }
}

/// The connection id that a datagram carries, before anything of it is checked. Hellos carry none.
pub fn receiver(datagram: &[u8]) -> Option<u64> {
    let (fixed, _) = Fixed::ref_from_prefix(datagram).ok()?;
    Some(fixed.to.get()).filter(|to| *to != 0)
}

fn cut<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    bytes: &[u8],
) -> Result<(&T, &[u8]), Malformed> {
    T::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)
}

fn parse_terms(bytes: &[u8]) -> Result<(Terms, &[u8]), Malformed> {
    let (part, rest) = cut::<TermsPart>(bytes)?;
    let terms = Terms {
        from: part.from.get(),
        window: part.window.get(),
        message_len: part.message_len.get(),
        idle_ms: part.idle_ms.get(),
        datagram_len: part.datagram_len.get(),
        ack_delay_ms: part.ack_delay_ms.get(),
    };
    if usize::from(terms.datagram_len) < LEAST_DATAGRAM {
        return Err(Malformed::Contradiction);
    }
    Ok((terms, rest))
}

/// Behind it is padding.
fn parse_cookie(bytes: &[u8]) -> Result<Cookie, Malformed> {
    let (part, _) = cut::<CookiePart>(bytes)?;
    Ok(Cookie {
        issued_ms: part.issued_ms.get(),
        mac: part.mac.get(),
    })
}

fn parse_data<'a>(fixed: &Fixed, mut rest: &'a [u8]) -> Result<Data<'a>, Malformed> {
    let parts = fixed.parts;
    if parts & !part::KNOWN != 0 {
        return Err(Malformed::Unknown);
    }
    let number = fixed.number.get();
    let behind = u64::from(fixed.behind.get());
    let floor = number.checked_sub(behind).ok_or(Malformed::Contradiction)?;
    let mut data = Data {
        to: fixed.to.get(),
        number,
        floor,
        ack: None,
        challenge: None,
        response: None,
        close: None,
        chunk: None,
        ping: parts & part::PING != 0,
    };
    if parts & part::ACK != 0 {
        let (ack, behind) = cut::<AckPart>(rest)?;
        let (ranges, behind) =
            <[RangePart]>::ref_from_prefix_with_elems(behind, usize::from(ack.more))
                .map_err(|_| Malformed::Truncated)?;
        let ack = Ack {
            credit: ack.credit.get(),
            largest: ack.largest.get(),
            delay_ns: u64::from(ack.delay_us.get()) * 1_000,
            first: ack.first.get(),
            rest: ranges,
        };
        ack.check()
            .filter(|()| ranges.len() <= MOST_RANGES)
            .ok_or(Malformed::Contradiction)?;
        data.ack = Some(ack);
        rest = behind;
    }
    let mut number_part = |bit: u8| -> Result<Option<u64>, Malformed> {
        if parts & bit == 0 {
            return Ok(None);
        }
        let (value, behind) = cut::<U64>(rest)?;
        rest = behind;
        Ok(Some(value.get()))
    };
    data.challenge = number_part(part::CHALLENGE)?;
    data.response = number_part(part::RESPONSE)?;
    let close = number_part(part::CLOSE)?.map(u32::try_from).transpose();
    data.close = close.map_err(|_| Malformed::Contradiction)?;
    let offset = number_part(part::CHUNK)?;
    let end = parts & part::END != 0;
    match offset {
        // The row is shorter than 2^62 bytes, so that no sum of places overflows.
        Some(offset) if offset < 1 << 62 => {
            data.chunk = Some(Chunk {
                offset,
                bytes: rest,
                end,
            })
        }
        Some(_) => return Err(Malformed::Contradiction),
        None if end || !rest.is_empty() => return Err(Malformed::Contradiction),
        None => {}
    }
    Ok(data)
}

/// CRC32C, as iSCSI and SCTP (RFC 9260, appendix A) have it. The addresses are not in it, for they may be translated
/// on the way; a packet that comes to the wrong place is found out by its connection id.
fn checksum(datagram: &[u8]) -> u32 {
    let (before, rest) = datagram.split_at(4.min(datagram.len()));
    let behind = rest.get(4..).unwrap_or_default();
    crc32c::crc32c_append(
        crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]),
        behind,
    )
}

/// What a peer with ill will does to bytes of its own: the checksum is right.
#[cfg(test)]
pub(crate) fn sign(bytes: &mut [u8]) {
    if bytes.len() >= HEADER_LEN {
        bytes[4..8].fill(0);
        let sum = checksum(bytes);
        bytes[4..8].copy_from_slice(&sum.to_be_bytes());
    }
}
