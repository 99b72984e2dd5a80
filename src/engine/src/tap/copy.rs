//! Copying a frame, with the VLAN tag that belongs to it.

use linecard_hal::{Mbuf, MbufFlags, Way};

use super::HEAD_BYTES;
use crate::blocks::{About, Block};
use crate::stage::PortIndex;

/// The tag that belongs to a frame and is not among its bytes.
fn tag_of(frame: &Mbuf) -> Option<[u8; 4]> {
    let flags = frame.flags();
    flags.contains(MbufFlags::TX_VLAN).then(|| {
        let tpid: u16 = if flags.contains(MbufFlags::VLAN_8021AD) {
            0x88a8
        } else {
            0x8100
        };
        let ([a, b], [c, d]) = (tpid.to_be_bytes(), frame.vlan_tci().to_be_bytes());
        [a, b, c, d]
    })
}

/// Bytes of a frame with the tag that belongs to it.
pub fn tagged_len(frame: &Mbuf) -> usize {
    frame.frame_len() + 4 * usize::from(tag_of(frame).is_some())
}

/// The beginning of a frame, with the tag that belongs to it: its first segment, or what fits `scratch` if it has to be
/// put together there.
#[inline]
pub fn head_of<'a>(frame: &'a Mbuf, scratch: &'a mut [u8; HEAD_BYTES]) -> &'a [u8] {
    if frame.segment_count() == 1 && !frame.flags().contains(MbufFlags::TX_VLAN) {
        return frame.data();
    }
    let n = copy_tagged(frame, scratch);
    &scratch[..n]
}

/// Copies as much of a frame as fits, with its tag; returns how much.
#[inline]
fn copy_tagged(frame: &Mbuf, to: &mut [u8]) -> usize {
    match tag_of(frame) {
        None if frame.segment_count() == 1 => {
            let data = frame.data();
            let n = to.len().min(data.len());
            to[..n].copy_from_slice(&data[..n]);
            n
        }
        Some(tag) if to.len() >= 16 && frame.frame_len() >= 12 => {
            frame.copy_out(0, &mut to[..12]);
            to[12..16].copy_from_slice(&tag);
            16 + frame.copy_out(12, &mut to[16..])
        }
        _ => frame.copy_out(0, to),
    }
}

/// Copies a frame into a block. `false` if it does not fit.
#[inline]
pub(super) fn copy(
    frame: &Mbuf,
    (port, way): (PortIndex, Way),
    time_ns: u64,
    snaplen: usize,
    block: &mut Block,
) -> bool {
    let original_len = tagged_len(frame);
    let about = About {
        interface: u32::from(port),
        way,
        time_ns,
        original_len: original_len as u32,
    };
    block.push(&about, original_len.min(snaplen), |to| {
        copy_tagged(frame, to);
    })
}
