//! Which headers some bytes are.

use alloc::vec::Vec;
use core::ops::Range;

use super::{Description, Field, Headers, Measure, Payload, Role, bits};

/// How many headers are looked for in a packet. What lies deeper is data.
pub const MAX_LAYERS: usize = 256;

/// Bytes, and the headers that they are.
///
/// It is as lenient as can be: a header is there if the bytes of its fixed part are. What is wrong with it, such as
/// a length that cannot be or a checksum, shows in its fields.
#[derive(Clone, Debug)]
pub struct Dissection<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) stack: Stack,
}

/// Where headers lie, without the bytes.
#[derive(Clone, Debug)]
pub(super) struct Stack {
    pub(super) layers: Vec<Layer>,
    /// Where the packet ends and padding begins.
    pub(super) end: usize,
}

/// A header in a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Which it is.
    pub header: &'static Description,
    /// Where it begins in the packet.
    pub start: usize,
    /// How long it is, with all that varies.
    pub len: usize,
    /// How long the fields are whose length varies, in order.
    pub(super) tails: Vec<usize>,
}

impl Layer {
    /// Where it lies in the packet.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }

    /// Where a field of varying length lies in the packet.
    pub(super) fn tail_range(&self, tail: &Field) -> Option<Range<usize>> {
        let mut at = self.start + self.header.fixed_len();
        for (field, len) in self.header.tails().zip(&self.tails) {
            if field == tail {
                return Some(at..at + len);
            }
            at += len;
        }
        None
    }
}

impl Headers {
    /// Finds the headers of `packet`, of which the first is the one called `first` (`"eth"` for a frame). If none is
    /// called so, all is data.
    pub fn dissect<'a>(&self, first: &str, packet: &'a [u8]) -> Dissection<'a> {
        let first: Vec<_> = self.find(first).into_iter().collect();
        self.dissect_along(&first, packet)
    }

    /// As [`Headers::dissect`]; a header that nothing announces is taken to be the one that is `expected` in its
    /// place, such as a protocol on a port that is not its own.
    pub(super) fn dissect_along<'a>(
        &self,
        expected: &[&'static Description],
        packet: &'a [u8],
    ) -> Dissection<'a> {
        let mut stack = Stack {
            layers: Vec::new(),
            end: packet.len(),
        };
        let mut expected = expected.iter().copied();
        let (mut next, mut start, mut bounded) = (expected.next(), 0, false);
        while let Some(header) = next.filter(|_| stack.layers.len() < MAX_LAYERS) {
            let bytes = packet.get(start..stack.end).unwrap_or_default();
            let Some((layer, extent)) = find(header, start, bytes) else {
                break;
            };
            // The outermost length counts; what is beyond is padding.
            if let Some(extent) = extent.filter(|_| !bounded) {
                (stack.end, bounded) = (start + extent, true);
            }
            let hint = expected.next();
            next = self.after(header, bytes).or(hint);
            start += layer.len;
            if header.payload == Payload::None {
                (stack.end, next) = (start, None);
            }
            stack.layers.push(layer);
        }
        Dissection {
            bytes: packet,
            stack,
        }
    }

    /// The header that follows, as the one before it says.
    fn after(&self, header: &Description, bytes: &[u8]) -> Option<&'static Description> {
        match header.payload {
            Payload::None => return None,
            Payload::Always(name) => return self.find(name),
            Payload::SelectedIfZero(field) => {
                if bits::read(bytes, header.field(field)?)? != 0 {
                    return None;
                }
            }
            Payload::Selected => {}
        }
        header
            .selecting()
            .find_map(|field| self.announced_by(field.selects, bits::read(bytes, field)?))
    }
}

/// The header at the front of `bytes`, and how far its length says that it and its payload go, if that can be.
fn find(
    header: &'static Description,
    start: usize,
    bytes: &[u8],
) -> Option<(Layer, Option<usize>)> {
    let fixed_len = header.fixed_len();
    if fixed_len == 0 || bytes.len() < fixed_len {
        return None;
    }
    let tails = tails(header, bytes).unwrap_or_else(|| header.tails().map(|_| 0).collect());
    let len = fixed_len + tails.iter().sum::<usize>();
    let mut extents = header.fixed().filter_map(|field| {
        let extent = match field.role {
            Role::Length {
                of: Measure::All,
                unit,
            } => says(bytes, field, unit)?,
            Role::Length {
                of: Measure::Payload,
                unit,
            } => says(bytes, field, unit)?.checked_add(len)?,
            _ => return None,
        };
        (len..=bytes.len()).contains(&extent).then_some(extent)
    });
    let extent = extents.next();
    let layer = Layer {
        header,
        start,
        len,
        tails,
    };
    Some((layer, extent))
}

/// The lengths of all fields whose length varies; `None` if what says so contradicts itself or the bytes.
fn tails(header: &Description, bytes: &[u8]) -> Option<Vec<usize>> {
    let measured = |wanted: Measure| {
        header.fixed().find_map(|field| match field.role {
            Role::Length { of, unit } if of == wanted => says(bytes, field, unit),
            _ => None,
        })
    };
    let own: Vec<Option<usize>> = header
        .tails()
        .map(|tail| measured(Measure::Tail(tail.name)))
        .collect();
    let known = own
        .iter()
        .flatten()
        .try_fold(header.fixed_len(), |sum, len| sum.checked_add(*len))?;
    // What the header's length leaves is the one tail's that has no length of its own.
    let left = match measured(Measure::Header) {
        Some(len) => len.checked_sub(known)?,
        None => 0,
    };
    if known.checked_add(left)? > bytes.len() || (left > 0 && !own.contains(&None)) {
        return None;
    }
    Some(own.into_iter().map(|len| len.unwrap_or(left)).collect())
}

/// How many bytes a length field says.
fn says(bytes: &[u8], field: &Field, unit: u32) -> Option<usize> {
    let len = bits::read(bytes, field)?.checked_mul(unit.into())?;
    usize::try_from(len).ok()
}

impl<'a> Dissection<'a> {
    /// All bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The headers, from the outside in.
    pub fn layers(&self) -> &[Layer] {
        &self.stack.layers
    }

    /// What follows the last header that was recognised.
    pub fn data(&self) -> &'a [u8] {
        let start = self
            .stack
            .layers
            .last()
            .map_or(0, |layer| layer.range().end);
        self.bytes.get(start..self.stack.end).unwrap_or_default()
    }

    /// What no length counts.
    pub fn pad(&self) -> &'a [u8] {
        self.bytes.get(self.stack.end..).unwrap_or_default()
    }
}
