//! What a field gets if nobody says.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::dissection::{Layer, Stack};
use super::{Algorithm, Checksum, Cover, Field, Kind, Measure, Payload, Role};
use crate::{IpProtocol, Pseudo, Sum};

impl Stack {
    /// The value of a number in the layer `index` of this packet; `None` if what it is to say does not fit.
    pub(super) fn automatic(&self, packet: &[u8], index: usize, field: &Field) -> Option<u64> {
        let layer = self.layers.get(index)?;
        match field.role {
            Role::Constant(value) => Some(value),
            Role::Length { of, unit } => {
                let len = self.measure(layer, of)? as u64;
                let unit = u64::from(unit.max(1));
                (len.is_multiple_of(unit) && len / unit <= field.max()).then_some(len / unit)
            }
            Role::Checksum(checksum) => self.checksum(packet, index, field, checksum),
            Role::Plain | Role::Tail => Some(self.announced(index, field).unwrap_or(field.default)),
        }
    }

    fn measure(&self, layer: &Layer, of: Measure) -> Option<usize> {
        match of {
            Measure::Header => Some(layer.len),
            Measure::Payload => self.end.checked_sub(layer.range().end),
            Measure::All => self.end.checked_sub(layer.start),
            Measure::Tail(name) => Some(layer.tail_range(layer.header.field(name)?)?.len()),
        }
    }

    /// The number of the next header, if `field` is the one to say it.
    fn announced(&self, index: usize, field: &Field) -> Option<u64> {
        let header = self.layers.get(index)?.header;
        let next = self.layers.get(index + 1)?.header;
        if field.selects.is_empty() || matches!(header.payload, Payload::Always(_)) {
            return None;
        }
        let says = header
            .selecting()
            .find(|field| next.number_in(field.selects).is_some())?;
        next.number_in(field.selects).filter(|_| says == field)
    }

    /// The right checksum over what is there.
    fn checksum(
        &self,
        packet: &[u8],
        index: usize,
        field: &Field,
        checksum: Checksum,
    ) -> Option<u64> {
        let layer = self.layers.get(index)?;
        let covered = match checksum.covers {
            Cover::Header => layer.range(),
            Cover::All => layer.start..self.end,
        };
        let mut bytes = Vec::from(packet.get(covered)?);
        bytes.get_mut(field.byte_range())?.fill(0);
        let sum = match checksum.algorithm {
            Algorithm::Crc32 => return Some(crc32fast::hash(&bytes).into()),
            Algorithm::Crc32c => return Some(crate::crc32c(&[&bytes]).into()),
            Algorithm::Internet => Sum::of(&bytes),
        };
        let pseudo = checksum.pseudo.and_then(|protocol| {
            let pseudo = self.pseudo(packet, index)?;
            Some(pseudo.sum(IpProtocol(protocol), bytes.len()))
        });
        let mut whole = pseudo.unwrap_or_default();
        whole.add_sum(sum);
        let value = if checksum.zero_is_none {
            whole.udp_checksum()
        } else {
            whole.checksum()
        };
        Some(value.into())
    }

    /// The addresses of the nearest IP header around a layer.
    fn pseudo(&self, packet: &[u8], index: usize) -> Option<Pseudo> {
        self.layers.get(..index)?.iter().rev().find_map(|layer| {
            let header = packet.get(layer.range())?;
            let (src, dst) = (layer.header.field("src")?, layer.header.field("dst")?);
            let (from, to) = (header.get(src.byte_range())?, header.get(dst.byte_range())?);
            match (src.kind, dst.kind) {
                (Kind::Ipv4, Kind::Ipv4) => {
                    let address = |bytes: &[u8]| Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?));
                    Some(Pseudo::v4(address(from)?, address(to)?))
                }
                (Kind::Ipv6, Kind::Ipv6) => {
                    let address = |bytes: &[u8]| Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?));
                    Some(Pseudo::v6(address(from)?, address(to)?))
                }
                _ => None,
            }
        })
    }
}
