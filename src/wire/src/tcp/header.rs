//! The fixed TCP header and its control bits.

use super::HEADER_LEN;
use crate::ParseError;
use core::fmt;
use core::ops::{BitAnd, BitOr, Not};
use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The control bits (RFC 9293 section 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number is meaningful.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is meaningful.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for TcpFlags {
    type Output = Self;
    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for TcpFlags {
    type Output = Self;
    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for TcpFlags {
    type Output = Self;
    #[inline]
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let mut set = (0..8).zip(NAMES).filter(|(bit, _)| self.0 >> bit & 1 == 1);
        match set.next() {
            None => f.write_str("none")?,
            Some((_, name)) => f.write_str(name)?,
        }
        set.try_for_each(|(_, name)| write!(f, "|{name}"))
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The fixed header, as on the wire.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct TcpHeader {
    src_port: U16,
    dst_port: U16,
    seq: U32,
    ack: U32,
    data_offset: u8,
    flags: u8,
    window: U16,
    checksum: U16,
    urgent: U16,
}

impl TcpHeader {
    /// A header with these ports and everything else zero.
    #[inline]
    pub fn new(src_port: u16, dst_port: u16) -> Self {
        Self {
            src_port: src_port.into(),
            dst_port: dst_port.into(),
            seq: 0.into(),
            ack: 0.into(),
            data_offset: 0x50,
            flags: 0,
            window: 0.into(),
            checksum: 0.into(),
            urgent: 0.into(),
        }
    }

    /// The source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        self.src_port.get()
    }

    /// The destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        self.dst_port.get()
    }

    /// The sequence number of the first payload byte (of the SYN, if there is one).
    #[inline]
    pub fn seq(&self) -> u32 {
        self.seq.get()
    }

    /// The acknowledgement number.
    #[inline]
    pub fn ack(&self) -> u32 {
        self.ack.get()
    }

    /// The length of header and options.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.data_offset >> 4) * 4
    }

    /// The control bits.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(self.flags)
    }

    /// Accurate ECN (RFC 9768): the ninth control bit, once the ECN nonce.
    #[inline]
    pub fn accurate_ecn(&self) -> bool {
        self.data_offset & 1 == 1
    }

    /// The window, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        self.window.get()
    }

    /// The checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// The urgent pointer.
    #[inline]
    pub fn urgent(&self) -> u16 {
        self.urgent.get()
    }

    /// Sets the source port.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) {
        self.src_port = port.into();
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) {
        self.dst_port = port.into();
    }

    /// Sets the sequence number.
    #[inline]
    pub fn set_seq(&mut self, seq: u32) {
        self.seq = seq.into();
    }

    /// Sets the acknowledgement number.
    #[inline]
    pub fn set_ack(&mut self, ack: u32) {
        self.ack = ack.into();
    }

    /// Sets the control bits.
    #[inline]
    pub fn set_flags(&mut self, flags: TcpFlags) {
        self.flags = flags.0;
    }

    /// Sets the window.
    #[inline]
    pub fn set_window(&mut self, window: u16) {
        self.window = window.into();
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        self.checksum = checksum.into();
    }

    /// Sets the urgent pointer.
    #[inline]
    pub fn set_urgent(&mut self, urgent: u16) {
        self.urgent = urgent.into();
    }

    /// Exchanges the ports. The checksum does not change: see [`crate::swap`].
    #[inline]
    pub fn swap(&mut self) {
        core::mem::swap(&mut self.src_port, &mut self.dst_port);
    }

    /// Sets the length of header and options: a multiple of four, from 20 to 60.
    #[inline]
    pub(super) fn set_header_len(&mut self, len: usize) {
        self.data_offset = ((len / 4) << 4) as u8 | (self.data_offset & 0x0f);
    }

    /// The length of the options that the header promises.
    #[inline]
    pub(super) fn extent(&self) -> Result<usize, ParseError> {
        let len = self.header_len();
        len.checked_sub(HEADER_LEN)
            .ok_or(ParseError::BadHeaderLen { len })
    }
}
