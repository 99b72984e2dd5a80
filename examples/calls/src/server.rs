//! The protocol: its header, and the server, which answers, refuses by name, or drops.

use std::ops::RangeInclusive;

use linecard_derive::Header;
use linecard_engine::Verdict;
use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol};

/// The port.
pub const PORT: u16 = 4600;
/// Bytes of the header.
pub const HEADER_LEN: usize = 10;
/// The longest frame: every link of IPv6 takes it in one packet (1280 bytes, less the headers).
pub const MOST_BYTES: usize = 1232;

/// Calls for something, or answers.
#[derive(Header, Clone, Debug, PartialEq, Eq)]
#[header(crate = linecard_wire, udp_port = 4600)]
pub struct Call {
    /// Tells frames from whatever else arrives.
    #[field(constant = 0xca11, hex)]
    pub magic: u16,
    /// Of the protocol, from 1; a hello, which all versions have, need not say one.
    #[field(bits = 4)]
    pub version: u8,
    /// What became of the request.
    #[field(
        bits = 4,
        values(ok = 0, unknown_type = 1, bad_version = 2, bad_length = 3)
    )]
    #[field(values(too_long = 4, no_room = 5, bad_body = 6))]
    pub status: u8,
    /// Whether this is an answer.
    pub reply: bool,
    /// What is called for.
    #[field(bits = 7, name = "type", values(hello = 0, echo = 1, sum = 2))]
    pub kind: u8,
    /// Length of the body.
    #[field(len = "payload")]
    pub len: u16,
    /// The client's; an answer has that of its request.
    #[field(key)]
    pub id: u32,
}

/// What a handler says: a refusal is the status of the answer, one of `Call::STATUS_…`.
pub type Served = Result<(), u8>;

/// The body of an answer, as far as there is room for it.
#[derive(Debug)]
pub struct Reply<'a> {
    room: &'a mut [u8],
    len: usize,
}

impl Reply<'_> {
    /// Adds to it.
    pub fn put(&mut self, bytes: &[u8]) -> Served {
        let room = self.room.get_mut(self.len..self.len + bytes.len());
        room.ok_or(Call::STATUS_NO_ROOM)?.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }
}

type Handler = Box<dyn FnMut(&[u8], &mut Reply<'_>) -> Served + Send>;

/// Who answers which type of message.
pub struct Dispatcher {
    versions: RangeInclusive<u8>,
    /// By type: since which version, and who.
    handlers: [Option<(u8, Handler)>; 128],
}

impl Dispatcher {
    /// For these versions of the protocol, 1 to 15.
    pub fn new(versions: RangeInclusive<u8>) -> Self {
        Self {
            versions,
            handlers: [const { None }; 128],
        }
    }

    /// From version `since` on, this type is answered by `handler`. Panics beyond type 127.
    pub fn on(
        mut self,
        kind: u8,
        since: u8,
        handler: impl FnMut(&[u8], &mut Reply<'_>) -> Served + Send + 'static,
    ) -> Self {
        self.handlers[usize::from(kind)] = Some((since, Box::new(handler)));
        self
    }

    /// Writes the answer to a datagram and says how long it is, or why there is none.
    pub fn answer(&mut self, datagram: &[u8], room: &mut [u8]) -> Result<usize, &'static str> {
        let (header, body) = datagram.split_first_chunk().ok_or("too_short")?;
        let mut header: [u8; HEADER_LEN] = *header;
        // A request of another length than it says is refused by its id, so the length comes last.
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        header[4..6].fill(0);
        let mut call = Call::from(CallView::parse(&header).map_err(|_| "not_a_call")?);
        if call.reply {
            return Err("a_reply");
        }
        (call.reply, call.status) = (true, Call::STATUS_OK);
        // No more than was asked, so that nobody can make this server send much to somebody else.
        let most = datagram.len().min(room.len());
        let space = room.get_mut(HEADER_LEN..most).ok_or("no_room")?;
        let mut reply = Reply {
            room: space,
            len: 0,
        };
        let served = match body.get(..len) {
            _ if len > MOST_BYTES - HEADER_LEN => Err(Call::STATUS_TOO_LONG),
            None => Err(Call::STATUS_BAD_LENGTH),
            Some(body) => self.serve(&mut call, body, &mut reply),
        };
        if let Err(refusal) = served {
            (call.status, reply.len) = (refusal, 0);
            if refusal == Call::STATUS_BAD_VERSION {
                // Without room for both, which a hello has, the header names the newest.
                let _ = reply.put(&[*self.versions.start(), *self.versions.end()]);
                call.version = *self.versions.end();
            }
        }
        let len = reply.len;
        call.emit(room, len).map_err(|_| "no_room")?;
        Ok(HEADER_LEN + len)
    }

    fn serve(&mut self, call: &mut Call, body: &[u8], reply: &mut Reply<'_>) -> Served {
        if call.kind == Call::KIND_HELLO {
            let &[oldest, newest] = body else {
                return Err(Call::STATUS_BAD_BODY);
            };
            call.version = newest.min(*self.versions.end());
            if call.version < oldest.max(*self.versions.start()) {
                return Err(Call::STATUS_BAD_VERSION);
            }
            return reply.put(&[call.version]);
        }
        if !self.versions.contains(&call.version) {
            return Err(Call::STATUS_BAD_VERSION);
        }
        match &mut self.handlers[usize::from(call.kind)] {
            Some((since, handler)) if *since <= call.version => handler(body, reply),
            _ => Err(Call::STATUS_UNKNOWN_TYPE),
        }
    }
}

/// Answers calls.
pub struct Server {
    dispatcher: Dispatcher,
    claims: Vec<Claim>,
    request: [u8; MOST_BYTES],
    answer: [u8; MOST_BYTES],
}

impl Server {
    /// A server for what is claimed: [`PORT`], at some address or at any.
    pub fn new(dispatcher: Dispatcher, claims: Vec<Claim>) -> Self {
        let (request, answer) = ([0; MOST_BYTES], [0; MOST_BYTES]);
        Self {
            dispatcher,
            claims,
            request,
            answer,
        }
    }
}

impl Protocol for Server {
    fn name(&self) -> &str {
        "calls"
    }

    fn claims(&self) -> Vec<Claim> {
        self.claims.clone()
    }

    fn packet(&mut self, _now_ns: u64, mut packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        if packet.is_for_a_group() {
            return out.drop("for_a_group");
        }
        if packet.flow().is_none_or(|flow| flow.src_port() < 1024) {
            return out.drop("from_a_service");
        }
        if !packet.checksums_ok() {
            return out.drop("bad_checksum");
        }
        let datagram = packet.payload_in(&mut self.request);
        match self.dispatcher.answer(datagram, &mut self.answer) {
            Ok(len) => packet.reply(&self.answer[..len], out),
            Err(reason) => out.drop(reason),
        }
    }
}
