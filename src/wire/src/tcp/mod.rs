//! TCP (RFC 9293). Options are in [`options`].

pub mod options;

mod header;

pub use header::{TcpFlags, TcpHeader};

use crate::bytes::{self, Header, deref_to_header};
use crate::{EmitError, IpProtocol, ParseError, Pseudo, Sum};
use options::TcpOptions;
use zerocopy::IntoBytes;

/// The length of a header without options.
pub const HEADER_LEN: usize = 20;
/// The most options a header can carry.
pub const MAX_OPTIONS_LEN: usize = 40;

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
        Ok(Self {
            header,
            options,
            payload,
        })
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
        Ok(Self {
            header,
            options,
            payload,
        })
    }

    /// Writes `header` and `options` (filled up with zeros, which end the list, to a multiple of
    /// four bytes) to the front of `buf`, with the data offset set; the rest of `buf` is the
    /// payload. [`TcpMut::fill_checksum`] comes last.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`] if `buf` is too short, [`EmitError::TooLong`] if the options exceed
    /// 40 bytes.
    pub fn emit(buf: &'a mut [u8], header: &TcpHeader, options: &[u8]) -> Result<Self, EmitError> {
        if options.len() > MAX_OPTIONS_LEN {
            return Err(EmitError::TooLong {
                len: options.len(),
                max: MAX_OPTIONS_LEN,
            });
        }
        let options_len = options.len().next_multiple_of(4);
        let (header, rest) = header.put(buf)?;
        let (place, payload) = bytes::room(rest, options_len, HEADER_LEN)?;
        place.fill(0);
        for (to, from) in place.iter_mut().zip(options) {
            *to = *from;
        }
        header.set_header_len(HEADER_LEN + options_len);
        Ok(Self {
            header,
            options: place,
            payload,
        })
    }

    /// The same segment, read only.
    #[inline]
    pub fn view(&self) -> Tcp<'_> {
        Tcp {
            header: self.header,
            options: self.options,
            payload: self.payload,
        }
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
        assert_eq!(
            (tcp.header_len(), tcp.checksum(), tcp.urgent()),
            (24, 0xbeef, 0)
        );
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
        assert_eq!(
            Tcp::parse(&bytes).unwrap_err(),
            ParseError::BadHeaderLen { len: 0 }
        );
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
