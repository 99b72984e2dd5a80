//! Just enough of a frame's headers to name the place of its transport header, and the two checksums
//! that have to be finished here when no request can say so.

/// Where the headers of a frame are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Ethernet header with the tags that are in the data.
    pub(crate) l2_len: u16,
    /// IP header with options or extension headers.
    pub(crate) l3_len: u16,
    /// The transport protocol's number.
    pub(crate) protocol: u8,
    /// IPv6, not IPv4.
    pub(crate) ipv6: bool,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

impl Layout {
    /// Reads the headers of an IPv4 or IPv6 frame, behind at most two VLAN tags.
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        let mut l2_len = 14;
        let mut kind = word(frame, 12)?;
        for _ in 0..2 {
            if kind == 0x8100 || kind == 0x88a8 {
                kind = word(frame, l2_len + 2)?;
                l2_len += 4;
            }
        }
        let ip = frame.get(l2_len..)?;
        let (l3_len, protocol) = match kind {
            0x0800 => {
                let first = *ip.first()?;
                let len = usize::from(first & 15) * 4;
                if first >> 4 != 4 || len < 20 {
                    return None;
                }
                (len, *ip.get(9)?)
            }
            0x86dd => ipv6(ip)?,
            _ => return None,
        };
        // Both far below 64 KiB: at most 22, and at most 40 + 8 × 2048.
        Some(Self {
            l2_len: l2_len as u16,
            l3_len: l3_len as u16,
            protocol,
            ipv6: kind == 0x86dd,
        })
    }

    /// Where the transport header starts.
    pub(crate) fn l4_at(self) -> u16 {
        self.l2_len + self.l3_len
    }

    /// The length of the TCP header.
    pub(crate) fn tcp_len(self, frame: &[u8]) -> Option<u16> {
        let len = u16::from(*frame.get(usize::from(self.l4_at()) + 12)? >> 4) * 4;
        (len >= 20).then_some(len)
    }
}

/// Length of the header with its extensions (at most eight), and what follows them.
fn ipv6(ip: &[u8]) -> Option<(usize, u8)> {
    if ip.first()? >> 4 != 6 {
        return None;
    }
    let (mut len, mut next) = (40, *ip.get(6)?);
    for _ in 0..8 {
        let units = match next {
            0 | 43 | 60 => usize::from(*ip.get(len + 1)?) + 1,
            44 => 1,
            _ => break,
        };
        next = *ip.get(len)?;
        len += units * 8;
    }
    Some((len, next))
}

/// Finishes the checksum of a frame that is in one piece: the sum from `start` to the end goes to
/// `offset` behind `start`. `false`, and nothing is changed, if that is not within the frame.
///
/// The generic rule of the kernel's `CHECKSUM_PARTIAL`. SCTP's is a CRC (RFC 9260, appendix A) although
/// the kernel marks it the same way.
pub(crate) fn finish_checksum(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let sctp = Layout::of(frame)
        .is_some_and(|l| l.protocol == 132 && usize::from(l.l4_at()) == start && offset == 8);
    let Some(covered) = frame.get_mut(start..) else {
        return false;
    };
    if sctp {
        let Some(field) = covered.get_mut(8..12) else {
            return false;
        };
        field.fill(0);
        let crc = crc32c(covered);
        covered[8..12].copy_from_slice(&crc.to_le_bytes());
        return true;
    }
    if offset + 2 > covered.len() {
        return false;
    }
    let sum = !ones_sum(covered);
    // UDP says "no checksum" by zero, so zero is sent as its other form (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    covered[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// The ones' complement sum of RFC 1071.
pub(crate) fn ones_sum(bytes: &[u8]) -> u16 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut sum: u64 = pairs
        .iter()
        .map(|p| u64::from(u16::from_be_bytes(*p)))
        .sum();
    sum += rest.first().map_or(0, |b| u64::from(*b) << 8);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// CRC-32C, bit by bit: for the rare SCTP frame that a host left to its NIC.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

/// Puts a VLAN tag into the first `frame[4..]` bytes: the caller has grown the frame by four at the
/// front; the addresses move there and the tag takes their place.
pub(crate) fn insert_tag(frame: &mut [u8], tpid: u16, tci: u16) -> bool {
    if frame.len() < 18 {
        return false;
    }
    frame.copy_within(4..16, 0);
    frame[12..14].copy_from_slice(&tpid.to_be_bytes());
    frame[14..16].copy_from_slice(&tci.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_the_standard_vector() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_finished_checksum_sums_to_nothing() {
        let mut frame = vec![7u8; 61];
        frame[40] = 0;
        frame[41] = 0;
        assert!(finish_checksum(&mut frame, 34, 6));
        assert_eq!(ones_sum(&frame[34..]), 0xffff);
        assert!(!finish_checksum(&mut frame, 34, 26));
        assert!(!finish_checksum(&mut frame, 62, 0));
    }

    #[test]
    fn a_tag_goes_behind_the_addresses() {
        let mut frame: Vec<u8> = (0..24).collect();
        assert!(insert_tag(&mut frame, 0x8100, 0x0005));
        assert_eq!(frame[..12], (4..16).collect::<Vec<u8>>());
        assert_eq!(frame[12..16], [0x81, 0, 0, 5]);
        assert_eq!(frame[16..], (16..24).collect::<Vec<u8>>());
        assert!(!insert_tag(&mut frame[..17], 0x8100, 5));
    }

    #[test]
    fn layouts() {
        let mut frame = vec![0u8; 80];
        frame[12..14].copy_from_slice(&[0x81, 0x00]);
        frame[16..18].copy_from_slice(&[0x08, 0x00]);
        frame[18] = 0x46;
        frame[18 + 9] = 6;
        frame[18 + 24 + 12] = 0x80;
        let layout = Layout::of(&frame).unwrap();
        assert_eq!(
            (layout.l2_len, layout.l3_len, layout.protocol, layout.ipv6),
            (18, 24, 6, false)
        );
        assert_eq!(layout.tcp_len(&frame), Some(32));

        let mut frame = vec![0u8; 120];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[14] = 0x60;
        frame[20] = 0; // hop-by-hop
        frame[54..56].copy_from_slice(&[17, 1]); // 16 bytes, then UDP
        let layout = Layout::of(&frame).unwrap();
        assert_eq!(
            (layout.l3_len, layout.protocol, layout.ipv6),
            (56, 17, true)
        );
        for len in 0..70 {
            let _ = Layout::of(&frame[..len]);
        }
    }
}
