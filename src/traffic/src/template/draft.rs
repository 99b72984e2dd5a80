//! Templates in the making.

use linecard_wire::describe::{Algorithm, Expression, Headers, Role};

use super::complete::complete;
use super::{Addresses, SHORT, Template, Variant};
use crate::fields::{BLOCK, Changing, MOST_CHECKSUMS, Place, Program, Sum, Sums, fold};
use crate::stream::StreamSpec;
use crate::{FCS_BYTES, size, stamp};

/// The smallest frame without FCS.
const LEAST: usize = (size::LEAST - FCS_BYTES) as usize;

/// A template in the making.
pub(super) struct Draft {
    pub(super) expression: Expression,
    /// What is in the packet behind its headers.
    data: Vec<u8>,
    /// With FCS.
    sizes: Vec<u16>,
    stamped: bool,
}

impl Draft {
    pub(super) fn of_text(
        headers: &Headers,
        spec: &StreamSpec,
        addresses: Addresses,
    ) -> Result<Self, String> {
        let expression = headers
            .expression(&spec.packet)
            .map_err(|error| error.to_string())?;
        let expression = complete(headers, expression, addresses);
        let data = expression.data().to_vec();
        let bytes = expression.to_bytes().map_err(|error| error.to_string())?;
        let is_padded =
            expression.layout().last().map_or(0, |l| l.range().end) + data.len() < bytes.len();
        if is_padded && spec.stamp {
            return Err(
                "pad() is where the stamp goes; leave it out, or send without stamps (--no-stamp, stamp = false)".into(),
            );
        }
        let room = if spec.stamp { stamp::LEN } else { 0 };
        let least = (bytes.len() + room + usize::from(FCS_BYTES)).max(size::LEAST.into());
        let sizes = spec.sizes.each();
        if let Some(small) = sizes.iter().find(|size| usize::from(**size) < least) {
            return Err(format!(
                "{small} bytes are too few for headers of {}{} and an FCS of {FCS_BYTES}: {least} is the least size{}",
                bytes.len(),
                if spec.stamp {
                    format!(", a stamp of {room}")
                } else {
                    String::new()
                },
                if spec.stamp {
                    ", or send without stamps (--no-stamp, stamp = false)"
                } else {
                    ""
                },
            ));
        }
        Ok(Self {
            expression,
            data,
            sizes,
            stamped: spec.stamp,
        })
    }

    /// A frame of a capture file: the last bytes of its payload or padding make room for the stamp.
    pub(super) fn of_frame(headers: &Headers, frame: &[u8], stamped: bool) -> Result<Self, String> {
        let most = usize::from(size::GREATEST - FCS_BYTES);
        if frame.len() > most {
            return Err(format!("{} bytes are more than {most}", frame.len()));
        }
        let mut bytes = frame.to_vec();
        bytes.resize(bytes.len().max(LEAST), 0);
        let dissection = headers.dissect("eth", &bytes);
        let (data, pad) = (dissection.data().len(), dissection.pad().len());
        let mut expression = dissection.to_expression();
        let mut payload = expression.data().to_vec();
        if stamped {
            let zeros = [0; stamp::LEN];
            if pad == 0 && data >= stamp::LEN {
                let at = payload.len() - stamp::LEN;
                payload[at..].fill(0);
                expression.set_data(&payload);
            } else if pad >= stamp::LEN {
                let at = bytes.len() - stamp::LEN;
                bytes[at..].copy_from_slice(&zeros);
                expression = headers.dissect("eth", &bytes).to_expression();
            } else {
                return Err(format!(
                    "a frame of {} bytes has no {} bytes of payload that could be a stamp; send without stamps (--no-stamp, stamp = false)",
                    frame.len(),
                    stamp::LEN
                ));
            }
        }
        Ok(Self {
            expression,
            data: payload,
            sizes: vec![bytes.len() as u16 + FCS_BYTES],
            stamped,
        })
    }

    /// The packet with these fields at zero.
    fn at_zero(&mut self, programs: &[Program]) {
        for field in all(programs) {
            let zero = field.found.value(0, field.upper);
            let _ = self
                .expression
                .set(field.found.layer, field.found.field.name, zero);
        }
    }

    /// Works out every size, and what the fields that change do to checksums.
    pub(super) fn changing(mut self, programs: &[Program]) -> Result<Template, String> {
        let mut known = Vec::new();
        for field in all(programs) {
            if known.contains(&field.found) {
                let name = field.found.field.name;
                return Err(format!(
                    "'{name}' is to change in two ways (flows change source ports and addresses)"
                ));
            }
            known.push(field.found);
        }
        self.at_zero(programs);
        let sums = self.checksums(!programs.is_empty())?;
        let before = bytes_of(&self.expression)?;
        let mut factors = Vec::new();
        for field in all(programs) {
            factors.push(self.factors(field, &sums, &before)?);
        }
        // Only those that something changes.
        let used: Vec<usize> = (0..sums.len())
            .filter(|sum| factors.iter().any(|f| f[*sum] != 0))
            .collect();
        if used.len() > MOST_CHECKSUMS {
            return Err(format!(
                "the fields that change are in {} checksums, more than {MOST_CHECKSUMS}",
                used.len()
            ));
        }
        let layout = self.expression.layout();
        let mut places = all(programs).zip(&factors).map(|(field, factors)| {
            let factors = (0..).zip(&used).map(|(n, sum)| (n, factors[*sum]));
            let factors = factors.filter(|(_, factor)| *factor != 0).collect();
            let start = layout[field.found.layer].start;
            Place::of(start, field.found.field, factors)
        });
        let programs: Vec<_> = programs
            .iter()
            .map(|program| {
                let fields = program.steps.iter().map(|step| step.fields.len()).sum();
                (program.clone(), places.by_ref().take(fields).collect())
            })
            .collect();
        drop(places);
        let checksums: Vec<Sum> = used.iter().map(|sum| sums[*sum]).collect();
        let mut variants = Vec::new();
        for size in self.sizes.clone() {
            variants.push(self.variant(size, before.len(), &checksums)?);
        }
        Ok(Template {
            variants,
            sizes: self.sizes,
            checksums,
            programs,
            stamped: self.stamped,
        })
    }

    fn variant(&mut self, size: u16, least: usize, checksums: &[Sum]) -> Result<Variant, String> {
        let len = size - FCS_BYTES;
        let mut data = self.data.clone();
        data.resize(data.len() + usize::from(len).saturating_sub(least), 0);
        if !data.is_empty() {
            self.expression.set_data(&data);
        }
        let mut image = bytes_of(&self.expression)?;
        debug_assert_eq!(image.len(), usize::from(len));
        let mut sums = Sums::default();
        for (sum, checksum) in sums.iter_mut().zip(checksums) {
            *sum = u32::from(!word(&image, checksum.at));
            // The other zero of one's complement, so that the sum of something is never that of nothing.
            *sum += if *sum == 0 { 0xffff } else { 0 };
            if let Some(word) = image
                .get_mut(checksum.at.into()..)
                .and_then(|i| i.get_mut(..2))
            {
                word.fill(0);
            }
        }
        if image.len() > SHORT {
            let end = image
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            // A block of fields that begins at or before that end has image under all of it.
            let end = (end + BLOCK).next_multiple_of(64);
            image.truncate(end.min(image.len()));
        }
        Ok(Variant {
            len,
            image: image.into(),
            sums,
        })
    }

    /// The checksums that are filled in.
    fn checksums(&self, fields_change: bool) -> Result<Vec<Sum>, String> {
        let mut sums = Vec::new();
        for (index, layer) in self.expression.layout().iter().enumerate() {
            for field in layer.header.fixed() {
                let Role::Checksum(checksum) = field.role else {
                    continue;
                };
                if self.expression.value(index, field.name).is_some() {
                    continue;
                }
                if checksum.algorithm != Algorithm::Internet {
                    if fields_change || self.stamped {
                        return Err(format!(
                            "'{}.{}' is a CRC, which does not follow what changes; send without stamps and fields that change",
                            layer.header.name, field.name
                        ));
                    }
                    continue;
                }
                sums.push(Sum {
                    at: (layer.start + field.byte_range().start) as u16,
                    zero_is_none: checksum.zero_is_none,
                });
            }
        }
        Ok(sums)
    }

    /// By what a field's number is multiplied in each checksum's sum.
    fn factors(&self, field: &Changing, sums: &[Sum], zero: &[u8]) -> Result<Vec<u16>, String> {
        let with = |number: u64| {
            let mut expression = self.expression.clone();
            let value = field.found.value(number, field.upper);
            let set = expression.set(field.found.layer, field.found.field.name, value);
            set.ok_or("a value does not fit its field")?;
            bytes_of(&expression)
        };
        let (one, most) = (with(1)?, with(field.found.max())?);
        let sum = |bytes: &[u8], at| u64::from(!word(bytes, at)) % 0xffff;
        let mut factors = Vec::new();
        for checksum in sums {
            let none = sum(zero, checksum.at);
            let factor = (sum(&one, checksum.at) + 0xffff - none) % 0xffff;
            let expected = (none + fold(field.found.max()) % 0xffff * factor) % 0xffff;
            if expected != sum(&most, checksum.at) {
                return Err(format!(
                    "'{}' cannot change: a checksum does not follow it",
                    field.found.field.name
                ));
            }
            factors.push(factor as u16);
        }
        Ok(factors)
    }
}

fn all(programs: &[Program]) -> impl Iterator<Item = &Changing> {
    let steps = programs.iter().flat_map(|program| &program.steps);
    steps.flat_map(|step| &step.fields)
}

fn bytes_of(expression: &Expression) -> Result<Vec<u8>, String> {
    expression.to_bytes().map_err(|error| error.what)
}

fn word(bytes: &[u8], at: u16) -> u16 {
    let at = usize::from(at);
    let word = bytes.get(at..at + 2).and_then(|word| word.try_into().ok());
    word.map_or(0, u16::from_be_bytes)
}
