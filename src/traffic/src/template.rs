//! Templates: what the frames of a stream look like.
//!
//! A template is a packet expression, or a frame of a capture file, worked out once for each size. What an
//! expression leaves out is filled in:
//!
//! | what | with |
//! | --- | --- |
//! | headers | `eth`, `ipv4`, `udp`, as far as they are missing |
//! | Ethernet addresses | the port's own as the source, the peer's as the destination |
//! | IPv4 addresses | 198.18.0.1 to 198.19.0.1, from the block for benchmarks (RFC 2544 appendix C.2.2) |
//! | IPv6 addresses | 2001:2::1 to 2001:2:0:1::1, from the block for benchmarks (RFC 5180) |
//! | UDP and TCP ports | from 1024 to 9, discard |
//! | the rest up to the frame's size | zeros, then the [`stamp`] |
//!
//! Lengths and checksums are right at each size. A stamp is nothing to a checksum that covers it, so what is summed
//! once stays right, but for [fields that change](crate::fields).
//!
//! # What a frame costs
//!
//! The template is copied into every mbuf. A buffer that held the frame before needs that no less than another one
//! does: whoever had it in between may have changed any byte of it, and finding that out reads as many bytes as copying
//! writes. For a small frame a copy is two stores of 32 bytes.

use linecard_wire::MacAddr;
use linecard_wire::describe::Headers;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;

use crate::fields::{Columns, Placed, Sum, Sums};
use crate::stamp;
use crate::stream::StreamSpec;

mod complete;
mod draft;
#[cfg(test)]
mod tests;

use complete::flows;
use draft::Draft;

/// A frame that is longer than this is copied as far as it is not zeros, in pieces of 64 bytes.
pub(crate) const SHORT: usize = 128;

/// Whose addresses frames have if nobody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Our own.
    pub own: MacAddr,
    /// At the other end.
    pub peer: MacAddr,
}

/// The frames of a stream.
#[derive(Debug)]
pub(crate) struct Template {
    /// By size, in the order of [`sizes`](Self::sizes).
    variants: Vec<Variant>,
    sizes: Vec<u16>,
    checksums: Vec<Sum>,
    programs: Vec<Placed>,
    pub(crate) stamped: bool,
}

/// The frame of one size.
#[derive(Debug)]
pub(crate) struct Variant {
    /// Bytes without FCS.
    pub(crate) len: u16,
    /// The frame, or all of it behind which there are only zeros. Fields that change and their checksums are zeros, too.
    pub(crate) image: Box<[u8]>,
    /// What the checksums that change are over, without the fields that change.
    pub(crate) sums: Sums,
}

impl Template {
    pub(crate) fn new(spec: &StreamSpec, addresses: Addresses) -> Result<Self, String> {
        let headers = Headers::standard();
        let draft = match &spec.frame {
            Some(frame) => Draft::of_frame(&headers, frame, spec.stamp)?,
            None => Draft::of_text(&headers, spec, addresses)?,
        };
        let mut vary = spec.vary.clone();
        if spec.flows > 1 {
            vary.push(flows(&draft.expression, spec.flows)?);
        }
        let programs: Result<Vec<_>, String> = vary
            .iter()
            .map(|vary| vary.resolve(&headers, &draft.expression))
            .collect();
        draft.changing(&programs?)
    }

    /// The variant of a size.
    pub(crate) fn index_of(&self, size: u16) -> Option<u16> {
        let found = self.sizes.binary_search(&size).ok();
        found.map(|index| index as u16)
    }

    /// The sizes that its frames have, ascending.
    pub(crate) fn sizes(&self) -> &[u16] {
        &self.sizes
    }

    #[inline(always)]
    pub(crate) fn variant(&self, index: u16) -> Option<&Variant> {
        self.variants.get(index as usize)
    }

    /// What changes from frame to frame, for the `worker`-th of `workers`; in `keep` bytes what is worked out may be kept.
    pub(crate) fn columns(&self, who: (u64, u64), keep: usize, dice: Pcg64) -> Columns {
        let only = match &self.variants[..] {
            [only] => Some(only.sums),
            _ => None,
        };
        Columns::new(&self.programs, &self.checksums, only, who, keep, dice)
    }
}

/// Writes a whole frame, but for its stamp. `frame` has the variant's length.
#[inline(always)]
pub(crate) fn write(variant: &Variant, columns: &mut Columns, frame: &mut [u8]) {
    copy(&variant.image, frame);
    columns.write(variant, frame);
}

/// Copies an image and fills the rest with zeros. Of a short frame, two pieces that may overlap, each of a
/// length that the compiler knows.
#[inline(always)]
fn copy(image: &[u8], frame: &mut [u8]) {
    if frame.len() > SHORT {
        if let Some((head, rest)) = frame.split_at_mut_checked(image.len()) {
            head.copy_from_slice(image);
            rest.fill(0);
        }
    } else if frame.len() <= 64 {
        ends::<32>(image, frame);
    } else {
        ends::<64>(image, frame);
    }
}

#[inline(always)]
fn ends<const N: usize>(from: &[u8], to: &mut [u8]) {
    if let Some(ends) = Ends::<N>::of(from) {
        ends.write(to);
    }
}

/// The first and the last `N` bytes of an image, which is no longer than both.
pub(crate) struct Ends<const N: usize> {
    first: [u8; N],
    last: [u8; N],
}

impl<const N: usize> Ends<N> {
    /// `None` of an image that is shorter than one of them.
    #[inline(always)]
    pub(crate) fn of(image: &[u8]) -> Option<Self> {
        Some(Self {
            first: *image.first_chunk()?,
            last: *image.last_chunk()?,
        })
    }

    #[inline(always)]
    pub(crate) fn write(&self, to: &mut [u8]) {
        if let Some(to) = to.first_chunk_mut() {
            *to = self.first;
        }
        if let Some(to) = to.last_chunk_mut() {
            *to = self.last;
        }
    }
}

/// The first frames of a stream, as one worker would send them; their stamps say that they were sent at time 0.
///
/// # Errors
/// What is wrong with the stream.
pub fn first_frames(
    spec: &StreamSpec,
    addresses: Addresses,
    frames: usize,
    seed: u64,
) -> Result<Vec<Vec<u8>>, String> {
    let template = Template::new(spec, addresses)?;
    let sizes = match spec.frame {
        Some(_) => template.sizes.clone(),
        None => spec.sizes.pattern(seed),
    };
    let mut columns = template.columns((0, 1), 0, Pcg64::seed_from_u64(seed));
    let numbered = (0..).zip(sizes.iter().cycle()).take(frames);
    Ok(numbered
        .filter_map(|(sequence, size)| {
            let variant = template.variant(template.index_of(*size)?)?;
            let mut frame = vec![0; variant.len.into()];
            write(variant, &mut columns, &mut frame);
            let (lane, sent_ns) = (0, 0);
            let stamp = stamp::Stamp {
                lane,
                sequence,
                sent_ns,
            };
            let _ = template.stamped && stamp.put_at_end_of(&mut frame);
            Some(frame)
        })
        .collect())
}
