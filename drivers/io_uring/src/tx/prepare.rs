//! Makes frames ready for the kernel: the virtio-net header before them, the VLAN tag in them.

use linecard_hal::{Mbuf, MbufFlags};

use crate::frame::insert_tag;
use crate::meta::tpid_of;
use crate::sys::send::{HEAD_LEN, Shape};
use crate::vnet::{VNET_LEN, VnetHdr};

const ADDRESSES: usize = 12;
const TAG: usize = 4;

/// Which frames get a virtio-net header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Headers {
    /// None can: a frame with requests cannot be sent.
    Never,
    /// Those with requests.
    Asked,
    /// All.
    Always,
}

/// Prepares bursts.
pub(super) struct Preparer {
    headers: Headers,
    longest: usize,
}

/// Bytes that go before a frame of this shape.
pub(super) fn header_len(shape: &Shape) -> usize {
    if shape.headed() { VNET_LEN } else { 0 }
}

impl Preparer {
    /// Frames that are not to be cut have `longest` bytes at most.
    pub(super) fn new(headers: Headers, longest: usize) -> Self {
        Self { headers, longest }
    }

    /// Whether a frame that asks for nothing goes as it is.
    #[inline(always)]
    pub(super) fn leaves_plain(&self) -> bool {
        self.headers != Headers::Always
    }

    /// Adds a shape for each frame. Stops at the first that cannot be sent and returns its place.
    pub(super) fn prepare(&self, frames: &mut [Mbuf], shapes: &mut Vec<Shape>) -> Option<usize> {
        for (i, frame) in frames.iter_mut().enumerate() {
            match self.shape(frame) {
                Some(shape) => shapes.push(shape),
                None => return Some(i),
            }
        }
        None
    }

    /// Takes the headers off frames that stay. A tag that was put in stays in: the frame is the same.
    pub(super) fn undo(&self, frames: &mut [Mbuf], shapes: &[Shape]) {
        for (frame, _) in frames
            .iter_mut()
            .zip(shapes)
            .filter(|(_, s)| **s == Shape::Headed)
        {
            let _taken = frame.adjust(VNET_LEN);
        }
    }

    #[inline]
    fn shape(&self, frame: &mut Mbuf) -> Option<Shape> {
        let flags = frame.flags();
        if frame.frame_len() > self.longest
            && !flags.intersects(MbufFlags::TX_TCP_SEG | MbufFlags::TX_UDP_SEG)
        {
            return None;
        }
        let mut header = VnetHdr::default();
        let mut tag = false;
        let mut headed = self.headers == Headers::Always;
        if flags.intersects(MbufFlags::TX_REQUESTS) {
            tag = flags.contains(MbufFlags::TX_VLAN);
            if self.headers == Headers::Never
                && flags.intersects(MbufFlags::TX_REQUESTS - MbufFlags::TX_VLAN)
            {
                return None;
            }
            header = VnetHdr::for_transmit(flags, frame.tx_offload(), |at| cwr(frame, at))?;
            headed |= self.headers == Headers::Asked && header != VnetHdr::default();
            if tag {
                if frame.data().len() < 14 {
                    return None;
                }
                if header.csum_start != 0 {
                    header.csum_start += TAG as u16;
                    header.hdr_len += if header.hdr_len == 0 { 0 } else { TAG as u16 };
                }
                tag = !put_tag(frame, flags);
            }
        }
        if !tag && frame.segment_count() == 1 {
            if !headed {
                return Some(Shape::Plain);
            }
            if write_before(frame, header) {
                return Some(Shape::Headed);
            }
        }
        Some(split(frame, headed.then_some(header), tag))
    }
}

/// Writes the header into the headroom.
#[inline]
fn write_before(frame: &mut Mbuf, header: VnetHdr) -> bool {
    match frame.prepend(VNET_LEN) {
        Some(space) => {
            space.copy_from_slice(&header.to_bytes());
            true
        }
        None => false,
    }
}

/// The header, and the tag if it is not in the frame, in front of the frame's own bytes.
#[cold]
fn split(frame: &Mbuf, header: Option<VnetHdr>, tag: bool) -> Shape {
    let mut head = [0; HEAD_LEN];
    let (mut len, mut skip) = (0, 0);
    if let Some(header) = header {
        head[..VNET_LEN].copy_from_slice(&header.to_bytes());
        len = VNET_LEN;
    }
    if tag {
        skip = ADDRESSES;
        head[len..len + ADDRESSES].copy_from_slice(&frame.data()[..ADDRESSES]);
        len += ADDRESSES;
        head[len..len + 2].copy_from_slice(&tpid_of(frame.flags()).to_be_bytes());
        head[len + 2..len + TAG].copy_from_slice(&frame.vlan_tci().to_be_bytes());
        len += TAG;
    }
    Shape::Split {
        headed: header.is_some(),
        head,
        len: len as u8,
        skip: skip as u8,
    }
}

/// Puts the tag into the frame, if its bytes may be written and it has headroom.
fn put_tag(frame: &mut Mbuf, flags: MbufFlags) -> bool {
    if frame.prepend(TAG).is_none() {
        return false;
    }
    let tci = frame.vlan_tci();
    // Long enough: the caller has seen 14 bytes, and 4 came before.
    let done = frame
        .data_mut()
        .is_some_and(|data| insert_tag(data, tpid_of(flags), tci));
    if done {
        frame.set_flags(flags - (MbufFlags::TX_VLAN | MbufFlags::RX_VLAN_STRIPPED));
        let mut lengths = frame.tx_offload();
        lengths.l2_len += TAG as u16;
        frame.set_tx_offload(lengths);
    }
    done
}

/// Whether the TCP header at `at` has CWR set.
fn cwr(frame: &Mbuf, at: usize) -> bool {
    let mut flags = [0; 1];
    frame.copy_out(at + 13, &mut flags) == 1 && flags[0] & 0x80 != 0
}
