//! What can be chosen, and what is counted.

use crate::congestion::{MakeController, cubic};

const MS: u64 = 1_000_000;

/// The choices of one endpoint. Both ends may choose differently: each tells the other its [terms](crate::packet::Terms).
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The longest datagram, without IP and UDP headers. What every IPv6 path takes (1,280 bytes) less those is 1,232; it
    /// is not looked for more. Never below [`LEAST_DATAGRAM`](crate::packet::LEAST_DATAGRAM).
    pub datagram_len: u16,
    /// Bytes that a connection holds for messages that are incomplete or not read: the peer has no more credit.
    pub receive_window: u32,
    /// Bytes that a connection holds until they are acknowledged.
    pub send_buffer: u32,
    /// The longest message that is taken; never more than `receive_window` less 4.
    pub message_len: u32,
    /// How long a single packet may wait for its acknowledgement.
    pub ack_delay_ns: u64,
    /// A connection ends when nothing was heard for so long: the shorter time of both ends.
    pub idle_ns: u64,
    /// When nothing was sent or heard for so long, something is sent.
    pub keep_alive_ns: Option<u64>,
    /// A handshake that takes longer has failed.
    pub handshake_ns: u64,
    /// No retransmission timeout is shorter; see [`Rtt::new`](crate::rtt::Rtt::new).
    pub shortest_timeout_ns: u64,
    /// The congestion controller.
    pub controller: MakeController,
    /// Most connections at a time.
    pub connections: usize,
    /// Most connections at a time whose handshake is not over, of those.
    pub half_open: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            datagram_len: 1_232,
            receive_window: 1 << 20,
            send_buffer: 1 << 20,
            message_len: 1 << 18,
            ack_delay_ns: 25 * MS,
            idle_ns: 30_000 * MS,
            keep_alive_ns: None,
            handshake_ns: 10_000 * MS,
            shortest_timeout_ns: 50 * MS,
            controller: cubic,
            connections: 1_024,
            half_open: 128,
        }
    }
}

/// What was received and not used, by reason, and what was done about losses. Nothing is dropped without being here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that are no packets.
    pub malformed: u64,
    /// Datagrams whose bits changed on the way.
    pub checksum: u64,
    /// Packets for no connection that is here, or of a kind that it does not await.
    pub unexpected: u64,
    /// Cookies that were asked for.
    pub cookies: u64,
    /// Hellos with a cookie that is not ours, not the sender's, or too old.
    pub bad_cookie: u64,
    /// Hellos for which there was no place.
    pub no_place: u64,
    /// Packets that had come before.
    pub duplicate: u64,
    /// Packets so old that their sender has forgotten them.
    pub old: u64,
    /// Acknowledgements of packets that were never sent.
    pub never_sent: u64,
    /// Chunks beyond the credit.
    pub beyond_credit: u64,
    /// Chunks that would have left too many gaps.
    pub too_many_pieces: u64,
    /// Chunks beyond the end of the row.
    pub beyond_end: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that were given up.
    pub lost: u64,
    /// Packets that were given up and arrived.
    pub mistaken: u64,
    /// Tail loss probes.
    pub probes: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Times that the peer's address changed.
    pub moves: u64,
}

/// Why a packet was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// See [`Counters::malformed`].
    Malformed,
    /// See [`Counters::checksum`].
    Checksum,
    /// See [`Counters::unexpected`].
    Unexpected,
    /// See [`Counters::no_place`].
    NoPlace,
    /// See [`Counters::duplicate`].
    Duplicate,
    /// See [`Counters::old`].
    Old,
    /// See [`Counters::never_sent`].
    NeverSent,
    /// See [`Counters::beyond_credit`].
    BeyondCredit,
    /// See [`Counters::too_many_pieces`].
    TooManyPieces,
    /// See [`Counters::beyond_end`].
    BeyondEnd,
}

impl Refused {
    /// What reports call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Checksum => "checksum",
            Self::Unexpected => "unexpected",
            Self::NoPlace => "no_place",
            Self::Duplicate => "duplicate",
            Self::Old => "old",
            Self::NeverSent => "never_sent",
            Self::BeyondCredit => "beyond_credit",
            Self::TooManyPieces => "too_many_pieces",
            Self::BeyondEnd => "beyond_end",
        }
    }
}

impl Counters {
    /// Counts a packet that is not used.
    pub fn refuse(&mut self, why: Refused) -> Refused {
        *match why {
            Refused::Malformed => &mut self.malformed,
            Refused::Checksum => &mut self.checksum,
            Refused::Unexpected => &mut self.unexpected,
            Refused::NoPlace => &mut self.no_place,
            Refused::Duplicate => &mut self.duplicate,
            Refused::Old => &mut self.old,
            Refused::NeverSent => &mut self.never_sent,
            Refused::BeyondCredit => &mut self.beyond_credit,
            Refused::TooManyPieces => &mut self.too_many_pieces,
            Refused::BeyondEnd => &mut self.beyond_end,
        } += 1;
        why
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        let Self {
            malformed,
            checksum,
            unexpected,
            cookies,
            bad_cookie,
            no_place,
            ..
        } = other;
        self.malformed += malformed;
        self.checksum += checksum;
        self.unexpected += unexpected;
        self.cookies += cookies;
        self.bad_cookie += bad_cookie;
        self.no_place += no_place;
        let Self {
            duplicate,
            old,
            never_sent,
            beyond_credit,
            too_many_pieces,
            beyond_end,
            ..
        } = other;
        self.duplicate += duplicate;
        self.old += old;
        self.never_sent += never_sent;
        self.beyond_credit += beyond_credit;
        self.too_many_pieces += too_many_pieces;
        self.beyond_end += beyond_end;
        let Self {
            sent,
            lost,
            mistaken,
            probes,
            timeouts,
            moves,
            ..
        } = other;
        self.sent += sent;
        self.lost += lost;
        self.mistaken += mistaken;
        self.probes += probes;
        self.timeouts += timeouts;
        self.moves += moves;
    }
}
