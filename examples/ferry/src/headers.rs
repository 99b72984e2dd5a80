//! Ferry's packets described as data: for packet scripts, Wireshark and people. [`packet`](crate::packet) is what the
//! endpoint itself reads and writes by.
//!
//! ```
//! use linecard_wire::describe::Headers;
//!
//! let headers = linecard_ferry::headers::add(Headers::standard());
//! let text = "ferry(to=7, number=3, parts=chunk|ping)/ferry_chunk(offset=100)/data(\"over there\")";
//! let packet = headers.expression(text)?.to_bytes()?;
//! assert!(linecard_ferry::packet::Packet::parse(&packet).is_ok());
//! # Ok::<(), linecard_wire::describe::TextError>(())
//! ```
//!
//! A packet is `ferry` and then what its kind and its parts say. The parts of a data packet have one order and no
//! header of their own that would say what comes next, so each combination that is sent has a name: behind `ferry_ack`
//! there is nothing, behind `ferry_ack_chunk` a chunk, behind `ferry_ack_close` a close.

use linecard_derive::Header;
use linecard_wire::describe::Headers;

/// Ferry.
/// A reliable, ordered message transport.
#[derive(Header, Clone, Debug)]
#[header(crate = linecard_wire, name = "ferry", udp_port = 33779, ip_protocol = 253)]
pub struct FerryHeader {
    #[field(bits = 4, constant = 1)]
    version: u8,
    #[field(
        bits = 4,
        values(hello = 1, cookie = 2, welcome = 3, data = 4),
        default = 4,
        selects = "ferry.kind"
    )]
    kind: u8,
    /// What follows, in the order of the bits.
    #[field(
        flags(
            ack = 1,
            challenge = 2,
            response = 4,
            close = 8,
            chunk = 16,
            end = 32,
            ping = 64
        ),
        selects = "ferry.parts"
    )]
    parts: u8,
    #[field(constant = 0)]
    zero: u16,
    /// Of the whole packet.
    #[field(checksum = "crc32c", hex)]
    checksum: u32,
    /// The connection id of the receiver.
    #[field(key, hex)]
    to: u64,
    /// The number of the packet.
    number: u64,
    /// How many numbers behind this one the sender has forgotten.
    behind: u32,
}

/// Ferry: a hello.
/// A client's terms, and the proof of its address that it was asked for.
#[derive(Header, Clone, Debug)]
#[header(crate = linecard_wire, name = "ferry_hello", under("ferry.kind" = 1))]
pub struct FerryHello {
    /// The connection id that packets to the client must carry.
    #[field(hex)]
    from: u64,
    /// Bytes that it takes before it gives further credit.
    #[field(default = 1048576)]
    window: u32,
    /// The longest message that it takes.
    #[field(default = 262144)]
    message_len: u32,
    /// It gives up when it hears nothing for so long.
    #[field(default = 30000)]
    idle_ms: u32,
    /// The longest datagram that it takes and sends.
    #[field(default = 1232)]
    datagram_len: u16,
    /// It delays acknowledgements by at most this.
    #[field(default = 25)]
    ack_delay_ms: u16,
    /// When the cookie was issued.
    issued_ms: u64,
    /// The issuer's proof.
    #[field(hex)]
    mac: u64,
}

/// Ferry: a cookie.
/// To be returned in the next hello.
#[derive(Header, Clone, Debug)]
#[header(crate = linecard_wire, name = "ferry_cookie", under("ferry.kind" = 2))]
pub struct FerryCookie {
    /// When it was issued.
    issued_ms: u64,
    /// The issuer's proof.
    #[field(hex)]
    mac: u64,
}

/// Ferry: a welcome.
/// The server's terms.
#[derive(Header, Clone, Debug)]
#[header(crate = linecard_wire, name = "ferry_welcome", under("ferry.kind" = 3))]
pub struct FerryWelcome {
    /// The connection id that packets to the server must carry.
    #[field(hex)]
    from: u64,
    /// Bytes that it takes before it gives further credit.
    #[field(default = 1048576)]
    window: u32,
    /// The longest message that it takes.
    #[field(default = 262144)]
    message_len: u32,
    /// It gives up when it hears nothing for so long.
    #[field(default = 30000)]
    idle_ms: u32,
    /// The longest datagram that it takes and sends.
    #[field(default = 1232)]
    datagram_len: u16,
    /// It delays acknowledgements by at most this.
    #[field(default = 25)]
    ack_delay_ms: u16,
}

/// The three acknowledgements differ in what follows.
macro_rules! acknowledgement {
    ($title:literal $name:ident($($word:tt)*)) => {
        #[doc = $title]
        #[derive(Header, Clone, Debug)]
        #[header($($word)*)]
        pub struct $name<'a> {
            /// The row may be sent up to here.
            credit: u64,
            /// The highest packet number that has arrived.
            largest: u64,
            /// How long that packet lay.
            delay_us: u32,
            /// So many numbers up to the largest have arrived.
            #[field(default = 1)]
            first: u16,
            /// Further ranges.
            #[field(len = "ranges", unit = 4)]
            more: u8,
            #[field(constant = 0)]
            reserved: u8,
            /// Of each, 2 bytes: how many are missing, and how many have arrived.
            ranges: &'a [u8],
        }
    };
}

acknowledgement! {
    "Ferry: an acknowledgement."
    FerryAck(
        crate = linecard_wire, name = "ferry_ack", under("ferry.parts" = 1), under("ferry.parts" = 65)
    )
}

acknowledgement! {
    "Ferry: an acknowledgement before a chunk."
    FerryAckChunk(
        crate = linecard_wire, name = "ferry_ack_chunk", payload = "ferry_chunk",
        under("ferry.parts" = 17), under("ferry.parts" = 49), under("ferry.parts" = 81), under("ferry.parts" = 113)
    )
}

acknowledgement! {
    "Ferry: an acknowledgement before a close."
    FerryAckClose(
        crate = linecard_wire, name = "ferry_ack_close", payload = "ferry_close", under("ferry.parts" = 9)
    )
}

/// Ferry: a chunk.
/// A piece of the row of bytes.
#[derive(Header, Clone, Debug)]
#[header(
    crate = linecard_wire, name = "ferry_chunk",
    under("ferry.parts" = 16), under("ferry.parts" = 48), under("ferry.parts" = 80), under("ferry.parts" = 112)
)]
pub struct FerryChunk {
    /// The place of its first byte in the row.
    offset: u64,
}

/// Ferry: a close.
/// The connection is over.
#[derive(Header, Clone, Debug)]
#[header(crate = linecard_wire, name = "ferry_close", under("ferry.parts" = 8))]
pub struct FerryClose {
    /// Zero if all is delivered, else why.
    code: u64,
}

/// Ferry: a challenge.
/// To be returned from where it was sent to.
#[derive(Header, Clone, Debug)]
#[header(crate = linecard_wire, name = "ferry_challenge", under("ferry.parts" = 2))]
pub struct FerryChallenge {
    /// What to return.
    #[field(hex)]
    value: u64,
}

/// Ferry: a response to a challenge.
#[derive(Header, Clone, Debug)]
#[header(crate = linecard_wire, name = "ferry_response", under("ferry.parts" = 4))]
pub struct FerryResponse {
    /// What was to be returned.
    #[field(hex)]
    value: u64,
}

/// Adds them.
pub fn add(headers: Headers) -> Headers {
    headers
        .with::<FerryHeader>()
        .with::<FerryHello>()
        .with::<FerryCookie>()
        .with::<FerryWelcome>()
        .with::<FerryAck<'_>>()
        .with::<FerryAckChunk<'_>>()
        .with::<FerryAckClose<'_>>()
        .with::<FerryChunk>()
        .with::<FerryClose>()
        .with::<FerryChallenge>()
        .with::<FerryResponse>()
}
