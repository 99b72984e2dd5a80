//! Control messages that come with a received frame: tag, checksum status and time.

use crate::meta::RxMeta;

/// Bytes that hold `PACKET_AUXDATA` (20 bytes) and `SCM_TIMESTAMPNS` (16), with their headers.
pub(crate) const CONTROL_LEN: usize = 72;

const SOL_PACKET: u32 = libc::SOL_PACKET as u32;
const PACKET_AUXDATA: u32 = libc::PACKET_AUXDATA as u32;
const SOL_SOCKET: u32 = libc::SOL_SOCKET as u32;
const SCM_TIMESTAMPNS: u32 = libc::SCM_TIMESTAMPNS as u32;

const HEADER: usize = 16; // struct cmsghdr of 64-bit systems: length, level, type.

/// Bytes of `struct tpacket_auxdata`.
const AUX_LEN: usize = 20;

fn half(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(b.get(at..at + 2)?.try_into().ok()?))
}

fn word(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

fn long(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(b.get(at..at + 8)?.try_into().ok()?))
}

/// Reads what `control` says into `meta`. Anything that does not fit is left out.
#[inline(always)]
pub(crate) fn read(control: &[u8], meta: &mut RxMeta) {
    // Nearly always it is the one message that every frame has.
    if let Some(message) = control.first_chunk::<{ HEADER + AUX_LEN }>()
        && control.len() <= (HEADER + AUX_LEN).next_multiple_of(8)
        && header(message) == Some((HEADER + AUX_LEN, SOL_PACKET, PACKET_AUXDATA))
    {
        return aux(&message[HEADER..], meta);
    }
    read_all(control, meta);
}

#[inline(never)]
fn read_all(mut control: &[u8], meta: &mut RxMeta) {
    while let Some((len, level, kind)) = header(control) {
        let Some(data) = control.get(HEADER..len) else {
            return;
        };
        match (level, kind) {
            (SOL_PACKET, PACKET_AUXDATA) => aux(data, meta),
            (SOL_SOCKET, SCM_TIMESTAMPNS) => {
                if let (Some(sec), Some(nsec)) = (long(data, 0), long(data, 8)) {
                    meta.timestamp_ns = sec.wrapping_mul(1_000_000_000).wrapping_add(nsec);
                }
            }
            _ => {}
        }
        control = control.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
}

#[inline(always)]
fn header(control: &[u8]) -> Option<(usize, u32, u32)> {
    let len = usize::try_from(long(control, 0)?).ok()?;
    (len >= HEADER && len <= control.len()).then_some((len, word(control, 8)?, word(control, 12)?))
}

/// `struct tpacket_auxdata`.
#[inline(always)]
fn aux(data: &[u8], meta: &mut RxMeta) {
    if let (Some(status), Some(tci), Some(tpid)) = (word(data, 0), half(data, 16), half(data, 18)) {
        (meta.status, meta.vlan_tci, meta.vlan_tpid) = (status, tci, tpid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_messages_are_read() {
        let mut control = Vec::new();
        for (len, level, kind) in [
            (36u64, libc::SOL_PACKET, libc::PACKET_AUXDATA),
            (32, libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS),
        ] {
            control.extend_from_slice(&len.to_ne_bytes());
            control.extend_from_slice(&level.to_ne_bytes());
            control.extend_from_slice(&kind.to_ne_bytes());
            if len == 36 {
                for word in [0x51u32, 60, 60, 0x000e_0000, 0x8100_0064] {
                    control.extend_from_slice(&word.to_ne_bytes());
                }
                control.extend_from_slice(&[0; 4]);
            } else {
                control.extend_from_slice(&3u64.to_ne_bytes());
                control.extend_from_slice(&7u64.to_ne_bytes());
            }
        }
        assert_eq!(control.len(), CONTROL_LEN);
        let mut meta = RxMeta::default();
        read(&control, &mut meta);
        assert_eq!(
            (meta.status, meta.vlan_tci, meta.vlan_tpid),
            (0x51, 0x64, 0x8100)
        );
        assert_eq!(meta.timestamp_ns, 3_000_000_007);
    }

    proptest! {
        #[test]
        fn anything_is_survived(control in prop::collection::vec(any::<u8>(), 0..200), len in 0u8..80) {
            let mut control = control;
            if let Some(first) = control.get_mut(..8) {
                first.copy_from_slice(&u64::from(len).to_ne_bytes());
            }
            read(&control, &mut RxMeta::default());
        }
    }
}
