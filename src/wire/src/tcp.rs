//! TCP (RFC 9293). Options are in [`crate::tcp_options`].

use crate::bytes::{self, Header, deref_to_header};
use crate::tcp_options::TcpOptions;
use crate::{EmitError, IpProtocol, ParseError, Pseudo, Sum};
use core::fmt;
use core::ops::{BitAnd, BitOr, Not};
use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of a header without options.
pub const HEADER_LEN: usize = 20;
/// The most options a header can carry.
pub const MAX_OPTIONS_LEN: usize = 40;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
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

    /// The length of the options that the header promises.
    #[inline]
    fn extent(&self) -> Result<usize, ParseError> {
        let len = self.header_len();
        len.checked_sub(HEADER_LEN).ok_or(ParseError::BadHeaderLen { len })
    }
}

/// A segment: header, options and payload.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    header: &'a TcpHeader,
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// A view of a segment, which is the whole payload of an IP packet (or what there is of it in
    /// the first segment of a chain: TCP has no length field of its own).
    ///
    /// # Errors
    /// A data offset below 20 bytes, or fewer bytes than it says.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, rest) = TcpHeader::cut(bytes)?;
        let (options, payload) = bytes::split(rest, header.extent()?, HEADER_LEN)?;
        Ok(Self { header, options, payload })
    }

    /// The fixed header.
    #[inline]
    pub fn header(&self) -> &'a TcpHeader {
        self.header
    }

    /// The options as bytes.
    #[inline]
    pub fn options_bytes(&self) -> &'a [u8] {
        self.options
    }

    /// The options, one by one.
    #[inline]
    pub fn options(&self) -> TcpOptions<'a> {
        TcpOptions::new(self.options)
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// How much of the sequence space the segment takes: its payload, SYN and FIN.
    #[inline]
    pub fn seq_len(&self) -> u32 {
        let controls = u32::from(self.flags().contains(TcpFlags::SYN))
            + u32::from(self.flags().contains(TcpFlags::FIN));
        self.payload.len() as u32 + controls
    }

    /// Whether the checksum is right.
    #[inline]
    pub fn checksum_ok(&self, pseudo: Pseudo) -> bool {
        sum(self.header, self.options, self.payload, pseudo).is_valid()
    }
}

/// A mutable view of a segment.
#[derive(Debug)]
pub struct TcpMut<'a> {
    header: &'a mut TcpHeader,
    options: &'a mut [u8],
    payload: &'a mut [u8],
}

impl<'a> TcpMut<'a> {
    /// A mutable view of a segment.
    ///
    /// # Errors
    /// As [`Tcp::parse`].
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, ParseError> {
        let (header, rest) = TcpHeader::cut_mut(bytes)?;
        let (options, payload) = bytes::split_mut(rest, header.extent()?, HEADER_LEN)?;
        Ok(Self { header, options, payload })
    }

    /// Writes `header` and `options` (filled up with zeros, which end the list, to a multiple of
    /// four bytes) to the front of `buf`, with the data offset set; the rest of `buf` is the
    /// payload. [`TcpMut::fill_checksum`] comes last.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`] if `buf` is too short, [`EmitError::TooLong`] if the options exceed
    /// 40 bytes.
    pub fn emit(
        buf: &'a mut [u8],
        header: &TcpHeader,
        options: &[u8],
    ) -> Result<Self, EmitError> {
        if options.len() > MAX_OPTIONS_LEN {
            return Err(EmitError::TooLong { len: options.len(), max: MAX_OPTIONS_LEN });
        }
        let options_len = options.len().next_multiple_of(4);
        let (header, rest) = header.put(buf)?;
        let (place, payload) = bytes::room(rest, options_len, HEADER_LEN)?;
        place.fill(0);
        for (to, from) in place.iter_mut().zip(options) {
            *to = *from;
        }
        header.data_offset =
            ((HEADER_LEN + options_len) / 4 << 4) as u8 | header.data_offset & 0x0f;
        Ok(Self { header, options: place, payload })
    }

    /// The same segment, read only.
    #[inline]
    pub fn view(&self) -> Tcp<'_> {
        Tcp { header: self.header, options: self.options, payload: self.payload }
    }

    /// The options as bytes.
    #[inline]
    pub fn options_mut(&mut self) -> &mut [u8] {
        self.options
    }

    /// The payload.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    /// The payload, for as long as the buffer is borrowed.
    #[inline]
    pub fn into_payload(self) -> &'a mut [u8] {
        self.payload
    }

    /// Computes the checksum and stores it.
    #[inline]
    pub fn fill_checksum(&mut self, pseudo: Pseudo) {
        self.header.set_checksum(0);
        let sum = sum(self.header, self.options, self.payload, pseudo);
        self.header.set_checksum(sum.checksum());
    }
}

#[inline]
fn sum(header: &TcpHeader, options: &[u8], payload: &[u8], pseudo: Pseudo) -> Sum {
    let mut sum = pseudo.sum(IpProtocol::TCP, HEADER_LEN + options.len() + payload.len());
    sum.add_bytes(header.as_bytes());
    sum.add_bytes(options);
    sum.add_bytes(payload);
    sum
}

deref_to_header!(Tcp, TcpMut, TcpHeader);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, naive_checksum};
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn reads_a_syn() {
        let bytes = hex("d431 0050 01020304 00000000 6002 ffff beef 0000 020405b4");
        let tcp = Tcp::parse(&bytes).unwrap();
        assert_eq!((tcp.src_port(), tcp.dst_port()), (54321, 80));
        assert_eq!((tcp.seq(), tcp.ack(), tcp.window()), (0x01020304, 0, 65535));
        assert_eq!((tcp.header_len(), tcp.checksum(), tcp.urgent()), (24, 0xbeef, 0));
        assert_eq!((tcp.flags(), tcp.seq_len()), (TcpFlags::SYN, 1));
        assert_eq!(tcp.options_bytes(), [2, 4, 5, 0xb4]);
        assert!(!tcp.accurate_ecn());
    }

    #[test]
    fn flags_are_readable() {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        assert_eq!(flags.to_string(), "SYN|ACK");
        assert_eq!(TcpFlags(0).to_string(), "none");
        assert!(flags.contains(TcpFlags::ACK) && !flags.contains(TcpFlags::ACK | TcpFlags::FIN));
        assert!(flags.intersects(TcpFlags::ACK | TcpFlags::FIN));
        assert_eq!(flags & !TcpFlags::SYN, TcpFlags::ACK);
    }

    #[test]
    fn refuses_what_does_not_agree() {
        let mut bytes = std::vec![0; 20];
        assert_eq!(Tcp::parse(&bytes).unwrap_err(), ParseError::BadHeaderLen { len: 0 });
        bytes[12] = 0x60;
        let error = Tcp::parse(&bytes).unwrap_err();
        assert_eq!(error, ParseError::Truncated { need: 24, have: 20 });
        assert!(TcpMut::emit(&mut [0; 80], &TcpHeader::new(1, 2), &[1; 41]).is_err());
        assert!(TcpMut::emit(&mut [0; 23], &TcpHeader::new(1, 2), &[1]).is_err());
    }

    proptest! {
        #[test]
        fn emit_then_parse(
            src: u128, dst: u128, ports: (u16, u16), seq: u32, ack: u32, flags: u8, window: u16,
            options in proptest::collection::vec(any::<u8>(), 0..=40), body: Vec<u8>,
        ) {
            let pseudo = Pseudo::v6(src.into(), dst.into());
            let mut header = TcpHeader::new(ports.0, ports.1);
            header.set_seq(seq);
            header.set_ack(ack);
            header.set_flags(TcpFlags(flags));
            header.set_window(window);
            let header_len = HEADER_LEN + options.len().next_multiple_of(4);
            let mut buf = std::vec![0xee; header_len + body.len()];
            let mut tcp = TcpMut::emit(&mut buf, &header, &options).unwrap();
            tcp.payload_mut().copy_from_slice(&body);
            tcp.fill_checksum(pseudo);
            let mut whole = Vec::new();
            whole.extend_from_slice(&src.to_be_bytes());
            whole.extend_from_slice(&dst.to_be_bytes());
            whole.extend_from_slice(&(buf.len() as u32).to_be_bytes());
            whole.extend_from_slice(&[0, 0, 0, 6]);
            whole.extend_from_slice(&buf);
            prop_assert_eq!(naive_checksum(&whole), 0);
            let parsed = Tcp::parse(&buf).unwrap();
            prop_assert_eq!((parsed.src_port(), parsed.dst_port()), ports);
            prop_assert_eq!((parsed.seq(), parsed.ack()), (seq, ack));
            prop_assert_eq!((parsed.flags().0, parsed.window()), (flags, window));
            prop_assert!(parsed.options_bytes().starts_with(&options));
            prop_assert_eq!(parsed.payload(), &body[..]);
            prop_assert!(parsed.checksum_ok(pseudo));
        }

        #[test]
        fn any_bytes(mut bytes: Vec<u8>, likely: bool) {
            if likely && bytes.len() > 12 {
                bytes[12] = 0x50 + (bytes[12] & 0x3f);
            }
            let pseudo = Pseudo::v6([1; 16].into(), [2; 16].into());
            if let Ok(tcp) = Tcp::parse(&bytes) {
                prop_assert_eq!(&bytes[tcp.header_len()..], tcp.payload());
                prop_assert_eq!(&bytes[20..tcp.header_len()], tcp.options_bytes());
                prop_assert!(tcp.options().count() <= 40);
                let _ = tcp.checksum_ok(pseudo);
            }
        }
    }
}
