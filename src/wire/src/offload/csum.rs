//! Checksums of a frame: partial, complete, verified.

use crate::{
    Icmpv4, Icmpv4Mut, Icmpv6, Icmpv6Mut, IpProtocol, Ipv4, Ipv4Mut, Ipv6, Ipv6Mut, L3, Layers,
    ParseError, Pseudo, Sum, Tcp, TcpMut, Udp, UdpMut,
};

/// Where the checksum field is in a UDP header. No other protocol that is summed this way has it
/// there (TCP: 16, ICMP and ICMPv6: 2).
const UDP_CHECKSUM_OFFSET: usize = 6;
const TCP_CHECKSUM_OFFSET: usize = 16;
const ICMP_CHECKSUM_OFFSET: usize = 2;

/// A checksum that is still to be completed: virtio's `csum_start` and `csum_offset` (virtio 1.2
/// section 5.1.6), the kernel's `CHECKSUM_PARTIAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Where the sum begins, from the front of the frame.
    pub start: u16,
    /// Where the checksum field is, from `start`.
    pub offset: u16,
}

/// Completes a partial checksum (virtio 1.2 section 5.1.6.2, `VIRTIO_NET_HDR_F_NEEDS_CSUM`): sums
/// everything from `csum_start` to the end of `buf`, the field included, which holds the sum of the
/// pseudo header, and stores the complement in the field at `csum_start + csum_offset`. `buf` must
/// end where the packet ends, without padding.
///
/// For UDP (recognised by its offset of 6) a checksum of zero is stored as `0xffff`.
///
/// # Errors
/// [`ParseError::Truncated`], with nothing changed, if the field does not lie within `buf`.
///
/// ```
/// use linecard_wire::{Pseudo, IpProtocol, Udp, offload::complete_checksum};
///
/// let pseudo = Pseudo::v4([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
/// let mut datagram = *b"\x04\xd2\x00\x35\x00\x0c\x00\x00ping";
/// let seed = pseudo.sum(IpProtocol::UDP, datagram.len()).fold();
/// datagram[6..8].copy_from_slice(&seed.to_be_bytes());
/// complete_checksum(&mut datagram, 0, 6)?;
/// assert!(Udp::parse(&datagram)?.checksum_ok(pseudo));
/// # Ok::<(), linecard_wire::ParseError>(())
/// ```
#[inline]
pub fn complete_checksum(
    buf: &mut [u8],
    csum_start: usize,
    csum_offset: usize,
) -> Result<(), ParseError> {
    complete_checksum_chained(buf, csum_start, csum_offset, [])
}

/// As [`complete_checksum`], for a chained packet: `first` is the segment with the headers, `rest`
/// are the segments after it, of any lengths.
///
/// # Errors
/// As [`complete_checksum`]; the field must lie within `first`.
pub fn complete_checksum_chained<'a>(
    first: &mut [u8],
    csum_start: usize,
    csum_offset: usize,
    rest: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), ParseError> {
    let need = csum_start.saturating_add(csum_offset).saturating_add(2);
    let truncated = ParseError::Truncated {
        need,
        have: first.len(),
    };
    let summed = first.get_mut(csum_start..).ok_or(truncated)?;
    let mut sum = Sum::of(summed);
    rest.into_iter().for_each(|segment| sum.add_bytes(segment));
    let field = summed
        .get_mut(csum_offset..)
        .and_then(|tail| tail.first_chunk_mut::<2>());
    let checksum = if csum_offset == UDP_CHECKSUM_OFFSET {
        sum.udp_checksum()
    } else {
        sum.checksum()
    };
    *field.ok_or(truncated)? = checksum.to_be_bytes();
    Ok(())
}

/// What a checksum was found to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumState {
    /// There is none, or it cannot be verified: not IP, a fragment, a protocol that is not summed
    /// this way, UDP without checksum over IPv4, IPv6 with a Routing header under way.
    #[default]
    None,
    /// It is right.
    Good,
    /// It is wrong, or is missing where it may not be.
    Bad,
}

impl ChecksumState {
    #[inline]
    const fn from_ok(ok: bool) -> Self {
        if ok { Self::Good } else { Self::Bad }
    }
}

/// The checksums of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChecksumReport {
    /// The IPv4 header checksum. IPv6 has none.
    pub ip: ChecksumState,
    /// The checksum of TCP, UDP, ICMP or ICMPv6.
    pub l4: ChecksumState,
}

/// Verifies the checksums of a whole frame (`layers` are those of this frame).
///
/// # Errors
/// As the parsers: the frame must hold what its length fields promise.
pub fn verify_checksums(frame: &[u8], layers: &Layers) -> Result<ChecksumReport, ParseError> {
    let packet = frame.get(layers.l3_offset()..).unwrap_or_default();
    let mut report = ChecksumReport::default();
    match layers.l3 {
        L3::Ipv4 => {
            let ip = Ipv4::parse(packet)?;
            report.ip = ChecksumState::from_ok(ip.checksum_ok());
            if !ip.is_fragment() {
                report.l4 = verify_l4(ip.protocol(), ip.payload(), ip.pseudo())?;
            }
        }
        L3::Ipv6 => {
            let ip = Ipv6::parse(packet)?;
            let upper = ip.upper()?;
            if upper.fragment.is_none() && !upper.routed {
                report.l4 = verify_l4(upper.protocol, upper.payload, ip.pseudo())?;
            }
        }
        L3::Arp | L3::Other => {}
    }
    Ok(report)
}

fn verify_l4(
    protocol: IpProtocol,
    bytes: &[u8],
    pseudo: Pseudo,
) -> Result<ChecksumState, ParseError> {
    let ok = match protocol {
        IpProtocol::TCP => Tcp::parse(bytes)?.checksum_ok(pseudo),
        IpProtocol::UDP => {
            let udp = Udp::parse(bytes)?;
            if udp.checksum() == 0 && !pseudo.is_v6() {
                return Ok(ChecksumState::None);
            }
            udp.checksum_ok(pseudo)
        }
        IpProtocol::ICMP if !pseudo.is_v6() => Icmpv4::parse(bytes)?.checksum_ok(),
        IpProtocol::ICMPV6 if pseudo.is_v6() => Icmpv6::parse(bytes)?.checksum_ok(pseudo),
        _ => return Ok(ChecksumState::None),
    };
    Ok(ChecksumState::from_ok(ok))
}

/// Computes and stores the checksums of a whole frame: the IPv4 header's and that of TCP, UDP,
/// ICMP or ICMPv6 (`layers` are those of this frame). What [`verify_checksums`] cannot verify is
/// left alone, but UDP over IPv4 gets a checksum even if it had none.
///
/// # Errors
/// As [`verify_checksums`].
pub fn fill_checksums(frame: &mut [u8], layers: &Layers) -> Result<(), ParseError> {
    let packet = frame.get_mut(layers.l3_offset()..).unwrap_or_default();
    match layers.l3 {
        L3::Ipv4 => {
            let mut ip = Ipv4Mut::parse(packet)?;
            ip.fill_checksum();
            let (protocol, pseudo) = (ip.protocol(), ip.pseudo());
            if !ip.is_fragment() {
                fill_l4(protocol, ip.payload_mut(), pseudo)?;
            }
        }
        L3::Ipv6 => {
            let mut ip = Ipv6Mut::parse(packet)?;
            let pseudo = ip.pseudo();
            let view = ip.view();
            let upper = view.upper()?;
            let (protocol, ext_len) = (upper.protocol, upper.ext_len);
            if upper.fragment.is_none() && !upper.routed {
                let l4 = ip.payload_mut().get_mut(ext_len..).unwrap_or_default();
                fill_l4(protocol, l4, pseudo)?;
            }
        }
        L3::Arp | L3::Other => {}
    }
    Ok(())
}

fn fill_l4(protocol: IpProtocol, bytes: &mut [u8], pseudo: Pseudo) -> Result<(), ParseError> {
    match protocol {
        IpProtocol::TCP => TcpMut::parse(bytes)?.fill_checksum(pseudo),
        IpProtocol::UDP => UdpMut::parse(bytes)?.fill_checksum(pseudo),
        IpProtocol::ICMP if !pseudo.is_v6() => Icmpv4Mut::parse(bytes)?.fill_checksum(),
        IpProtocol::ICMPV6 if pseudo.is_v6() => Icmpv6Mut::parse(bytes)?.fill_checksum(pseudo),
        _ => {}
    }
    Ok(())
}

/// Prepares a layer 4 checksum for hardware or a virtio backend to complete: the IPv4 header
/// checksum is computed, the layer 4 field gets the sum of the pseudo header (nothing, for ICMP),
/// and what [`complete_checksum`] needs is returned; `None` if there is nothing to complete. Only
/// headers are touched, so the payload may continue in further segments.
///
/// The pseudo header has the length of the packet, as virtio wants it also for TSO. Some NICs want
/// a zero there for TSO; their driver has to take it out. A UDP datagram has to fill its packet:
/// the sum of a partial checksum runs to the end.
///
/// # Errors
/// As the parsers, but the payload may be short.
pub fn seed_checksum(
    frame: &mut [u8],
    layers: &Layers,
) -> Result<Option<PartialChecksum>, ParseError> {
    let packet = frame.get_mut(layers.l3_offset()..).unwrap_or_default();
    let (pseudo, l4_len) = match layers.l3 {
        L3::Ipv4 => {
            let mut ip = Ipv4Mut::parse_partial(packet)?;
            ip.fill_checksum();
            (ip.pseudo(), usize::from(ip.total_len()) - ip.header_len())
        }
        L3::Ipv6 => {
            let ip = Ipv6::parse_partial(packet)?;
            let upper = ip.upper()?;
            if upper.routed {
                return Ok(None);
            }
            (
                ip.pseudo(),
                usize::from(ip.payload_len()).saturating_sub(upper.ext_len),
            )
        }
        L3::Arp | L3::Other => return Ok(None),
    };
    let (offset, seed) = match layers.l4 {
        crate::L4::Tcp => (
            TCP_CHECKSUM_OFFSET,
            pseudo.sum(IpProtocol::TCP, l4_len).fold(),
        ),
        crate::L4::Udp => (
            UDP_CHECKSUM_OFFSET,
            pseudo.sum(IpProtocol::UDP, l4_len).fold(),
        ),
        crate::L4::Icmpv6 => (
            ICMP_CHECKSUM_OFFSET,
            pseudo.sum(IpProtocol::ICMPV6, l4_len).fold(),
        ),
        crate::L4::Icmpv4 => (ICMP_CHECKSUM_OFFSET, 0),
        _ => return Ok(None),
    };
    let at = layers.l4_offset() + offset;
    let have = frame.len();
    let field = frame
        .get_mut(at..)
        .and_then(|tail| tail.first_chunk_mut::<2>());
    *field.ok_or(ParseError::Truncated { need: at + 2, have })? = seed.to_be_bytes();
    Ok(Some(PartialChecksum {
        start: layers.l4_offset() as u16,
        offset: offset as u16,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_layers;
    use crate::testing::{hex, naive_checksum, naive_sum};
    use proptest::prelude::*;
    use std::vec::Vec;

    const V6: &str = "20010db8000000000000000000000001 20010db8000000000000000000000002";

    fn frame(parts: &[&str]) -> Vec<u8> {
        let mut frame = hex("020000000002 020000000001");
        parts
            .iter()
            .for_each(|part| frame.extend_from_slice(&hex(part)));
        frame
    }

    /// One frame of each kind, all checksums zero.
    fn frames() -> Vec<Vec<u8>> {
        let v4 = |protocol: u8, len: u8| {
            std::format!("0800 4500 00{len:02x} 0001 4000 40{protocol:02x} 0000 c0000201 c0000202")
        };
        let v6 = |next: u8, len: u8| std::format!("86dd 60000000 00{len:02x} {next:02x} 40 {V6}");
        let tcp = "04d2 0050 00000001 00000002 5018 ffff 0000 0000 68656c6c6f";
        let udp = "04d2 0035 000d 0000 68656c6c6f";
        let icmp = "0800 0000 0007 0001 68656c6c6f";
        let icmpv6 = "8000 0000 0007 0001 68656c6c6f";
        Vec::from([
            frame(&[&v4(6, 45), tcp]),
            frame(&[&v4(17, 33), udp]),
            frame(&[&v4(1, 33), icmp]),
            frame(&["8100 0001", &v6(6, 25), tcp]),
            frame(&[&v6(17, 13), udp]),
            frame(&[&v6(58, 13), icmpv6]),
            frame(&[&v6(60, 33), "0600 0104 00000000", tcp]),
        ])
    }

    #[test]
    fn filled_checksums_verify_and_a_flipped_bit_does_not() {
        for mut frame in frames() {
            let layers = parse_layers(&frame);
            assert!(!layers.malformed);
            fill_checksums(&mut frame, &layers).unwrap();
            let good = verify_checksums(&frame, &layers).unwrap();
            assert_eq!(good.l4, ChecksumState::Good);
            let v4 = layers.l3 == L3::Ipv4;
            assert_eq!(
                good.ip,
                if v4 {
                    ChecksumState::Good
                } else {
                    ChecksumState::None
                }
            );
            let last = frame.len() - 1;
            frame[last] ^= 0x10;
            assert_eq!(
                verify_checksums(&frame, &layers).unwrap().l4,
                ChecksumState::Bad
            );
        }
    }

    #[test]
    fn seeding_then_completing_equals_filling() {
        for frame in frames() {
            let layers = parse_layers(&frame);
            let mut filled = frame.clone();
            fill_checksums(&mut filled, &layers).unwrap();
            let mut seeded = frame.clone();
            let partial = seed_checksum(&mut seeded, &layers).unwrap().unwrap();
            let (start, offset) = (partial.start.into(), partial.offset.into());
            // The same, where the payload is in another segment and its length is odd.
            let mut first = seeded[..seeded.len() - 3].to_vec();
            let rest = seeded[seeded.len() - 3..].to_vec();
            complete_checksum(&mut seeded, start, offset).unwrap();
            assert_eq!(seeded, filled);
            let rest = [&rest[..1], &rest[1..]];
            complete_checksum_chained(&mut first, start, offset, rest).unwrap();
            assert_eq!(first, filled[..first.len()]);
        }
    }

    #[test]
    fn what_cannot_be_verified_is_none() {
        let mut frames = frames();
        let layers = parse_layers(&frames[1]);
        let report = verify_checksums(&frames[1], &layers).unwrap();
        assert_eq!(
            report,
            ChecksumReport {
                ip: ChecksumState::Bad,
                l4: ChecksumState::None
            }
        );
        // Over IPv6 a missing UDP checksum is an error.
        let layers = parse_layers(&frames[4]);
        assert_eq!(
            verify_checksums(&frames[4], &layers).unwrap().l4,
            ChecksumState::Bad
        );
        // A fragment.
        frames[0][20] = 0x20;
        let layers = parse_layers(&frames[0]);
        assert_eq!(
            verify_checksums(&frames[0], &layers).unwrap().l4,
            ChecksumState::None
        );
        assert_eq!(seed_checksum(&mut frames[0], &layers), Ok(None));
    }

    #[test]
    fn a_field_outside_is_refused() {
        for (start, offset) in [(9, 0), (8, 0), (0, 7), (4, 3), (usize::MAX, usize::MAX)] {
            let mut buf = [1; 8];
            assert!(complete_checksum(&mut buf, start, offset).is_err());
            assert_eq!(buf, [1; 8]);
        }
        assert!(complete_checksum(&mut [1; 8], 4, 2).is_ok());
    }

    proptest! {
        #[test]
        fn completing_stores_the_complement_of_the_sum(
            bytes in proptest::collection::vec(any::<u8>(), 0..80), start in 0usize..90,
            offset in 0usize..90, cut: prop::sample::Index,
        ) {
            let mut done = bytes.clone();
            let mut want = bytes.clone();
            if complete_checksum(&mut done, start, offset).is_ok() {
                let mut checksum = naive_checksum(&bytes[start..]);
                if checksum == 0 && offset == 6 {
                    checksum = 0xffff;
                }
                want[start + offset..][..2].copy_from_slice(&checksum.to_be_bytes());
                let cut = start + offset + 2 + cut.index(bytes.len() - start - offset - 1);
                let (first, rest) = bytes.split_at(cut);
                let mut first = first.to_vec();
                complete_checksum_chained(&mut first, start, offset, [rest]).unwrap();
                prop_assert_eq!(&first[..], &want[..cut]);
            } else {
                prop_assert!(start + offset + 2 > bytes.len());
            }
            prop_assert_eq!(done, want);
        }

        #[test]
        fn any_bytes(mut bytes: Vec<u8>, other: Vec<u8>) {
            for layers in [parse_layers(&bytes), parse_layers(&other)] {
                let _ = verify_checksums(&bytes, &layers);
                let _ = fill_checksums(&mut bytes, &layers);
                let _ = seed_checksum(&mut bytes, &layers);
            }
        }
    }

    #[test]
    fn the_seed_is_the_pseudo_header_alone() {
        let mut frame = frames().swap_remove(0);
        let layers = parse_layers(&frame);
        seed_checksum(&mut frame, &layers).unwrap();
        let pseudo = hex("c0000201 c0000202 0006 0019");
        assert_eq!(frame[50..52], naive_sum(&pseudo).to_be_bytes());
    }
}
