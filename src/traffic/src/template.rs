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
//! | the rest up to the frame's size | zeros, then the [stamp](crate::stamp) |
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
use linecard_wire::describe::{
    Algorithm, ETHERTYPE, Expression, Headers, IP_PROTOCOL, Role, Value,
};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;

use crate::fields::{Changing, MOST_CHECKSUMS, Place, Program, Sums, Vary, Wheel, Writer, fold};
use crate::stamp;
use crate::stream::StreamSpec;
use crate::{FCS_BYTES, size};

/// The smallest frame without FCS.
const LEAST: usize = (size::LEAST - FCS_BYTES) as usize;

/// A frame that is longer than this is copied as far as it is not zeros, in pieces of 64 bytes.
const SHORT: usize = 128;

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
    programs: Vec<(Program, Vec<Writer>)>,
    pub(crate) stamped: bool,
}

/// The frame of one size.
#[derive(Debug)]
pub(crate) struct Variant {
    /// Bytes without FCS.
    pub(crate) len: u16,
    /// The frame, or all of it behind which there are only zeros.
    image: Box<[u8]>,
    /// What the checksums that change are over, without the fields that change.
    sums: Sums,
}

/// A checksum that changes.
#[derive(Debug, Clone, Copy)]
struct Sum {
    at: u16,
    /// Zero says that there is none (UDP).
    zero_is_none: bool,
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
        let found = self.sizes.iter().position(|known| *known == size);
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

    /// What changes from frame to frame, for one worker.
    pub(crate) fn wheels(&self, worker: u64, workers: u64) -> Box<[Wheel]> {
        self.programs
            .iter()
            .map(|(program, writers)| Wheel::new(program, writers, worker, workers))
            .collect()
    }

    /// Writes a whole frame, but for its stamp. `frame` has the variant's length.
    #[inline(always)]
    pub(crate) fn write(
        &self,
        variant: &Variant,
        frame: &mut [u8],
        wheels: &mut [Wheel],
        dice: &mut Pcg64,
    ) {
        copy(&variant.image, frame);
        if wheels.is_empty() {
            return;
        }
        let mut sums = variant.sums;
        for wheel in wheels {
            wheel.write(frame, &mut sums, dice);
        }
        for (sum, words) in self.checksums.iter().zip(sums) {
            let at = sum.at as usize;
            if let Some(field) = frame.get_mut(at..at + 2) {
                field.copy_from_slice(&sum.finish(words).to_be_bytes());
            }
        }
    }
}

impl Sum {
    #[inline(always)]
    fn finish(self, words: u64) -> u16 {
        let words = (words >> 32) + (words & 0xffff_ffff);
        let words = fold(words);
        let words = (words >> 16) + (words & 0xffff);
        let words = (words >> 16) + (words & 0xffff);
        match !(words as u16) {
            0 if self.zero_is_none => 0xffff,
            checksum => checksum,
        }
    }
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
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = *from;
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
    let (mut wheels, mut dice) = (template.wheels(0, 1), Pcg64::seed_from_u64(seed));
    let numbered = (0..).zip(sizes.iter().cycle()).take(frames);
    Ok(numbered
        .filter_map(|(sequence, size)| {
            let variant = template.variant(template.index_of(*size)?)?;
            let mut frame = vec![0; variant.len.into()];
            template.write(variant, &mut frame, &mut wheels, &mut dice);
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

// --- making one -------------------------------------------------------------------------------

/// A template in the making.
struct Draft {
    expression: Expression,
    /// What is in the packet behind its headers.
    data: Vec<u8>,
    /// With FCS.
    sizes: Vec<u16>,
    stamped: bool,
}

impl Draft {
    fn of_text(headers: &Headers, spec: &StreamSpec, addresses: Addresses) -> Result<Self, String> {
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
    fn of_frame(headers: &Headers, frame: &[u8], stamped: bool) -> Result<Self, String> {
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
    fn changing(mut self, programs: &[Program]) -> Result<Template, String> {
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
        let mut writers = all(programs).zip(&factors).map(|(field, factors)| Writer {
            place: Place::of(layout[field.found.layer].start, field.found.field),
            factors: (0..)
                .zip(&used)
                .map(|(n, sum)| (n, factors[*sum]))
                .filter(|(_, factor)| *factor != 0)
                .collect(),
        });
        let programs: Vec<_> = programs
            .iter()
            .map(|program| {
                let fields = program.steps.iter().map(|step| step.fields.len()).sum();
                (program.clone(), writers.by_ref().take(fields).collect())
            })
            .collect();
        drop(writers);
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
            *sum = u64::from(!word(&image, checksum.at));
            // The other zero of one's complement, so that the sum of something is never that of nothing.
            *sum += if *sum == 0 { 0xffff } else { 0 };
        }
        if image.len() > SHORT {
            let end = image
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            image.truncate(end.next_multiple_of(64).min(image.len()));
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

/// Fills in headers and fields that are left out.
fn complete(headers: &Headers, mut expression: Expression, addresses: Addresses) -> Expression {
    let names = |e: &Expression| -> Vec<&'static str> { e.headers().map(|h| h.name).collect() };
    let insert = |expression: &mut Expression, at, name| {
        if let Some(header) = headers.find(name) {
            expression.insert(at, header);
        }
    };
    if names(&expression).first() != Some(&"eth") {
        insert(&mut expression, 0, "eth");
    }
    // Behind Ethernet and its tags.
    let tags = names(&expression)
        .iter()
        .take_while(|name| matches!(**name, "eth" | "vlan"))
        .count();
    let next = expression.headers().nth(tags);
    match next {
        Some(next)
            if next.number_in(ETHERTYPE).is_none() && next.number_in(IP_PROTOCOL).is_some() =>
        {
            let ip = if next.name == "icmp6" { "ipv6" } else { "ipv4" };
            insert(&mut expression, tags, ip);
        }
        None if expression.data().is_empty()
            && expression.value(tags - 1, "ethertype").is_none() =>
        {
            insert(&mut expression, tags, "ipv4");
        }
        _ => {}
    }
    let last = names(&expression).len() - 1;
    let announces = match names(&expression)[last] {
        "ipv4" => Some("protocol"),
        "ipv6" => Some("next_header"),
        _ => None,
    };
    if let Some(field) = announces
        && expression.data().is_empty()
        && expression.value(last, field).is_none()
        && expression.value(last, "frag").is_none()
    {
        insert(&mut expression, last + 1, "udp");
    }
    fill_in(expression, addresses)
}

fn fill_in(mut expression: Expression, addresses: Addresses) -> Expression {
    let names: Vec<_> = expression.headers().map(|h| h.name).collect();
    let mut say = |layer: usize, field: &str, value: &[u8]| {
        if expression.value(layer, field).is_some() {
            return;
        }
        let number = value.iter().fold(0, |n, b| n << 8 | u64::from(*b));
        // An address or a number, whichever the field takes.
        let _ = expression
            .set(layer, field, Value::Bytes(value.to_vec()))
            .or_else(|| expression.set(layer, field, Value::Number(number)));
    };
    for (layer, name) in names.iter().enumerate() {
        match *name {
            "eth" => {
                say(layer, "src", &addresses.own.0);
                say(layer, "dst", &addresses.peer.0);
            }
            "arp" => {
                say(layer, "sender_mac", &addresses.own.0);
                say(layer, "sender_ip", &[198, 18, 0, 1]);
                say(layer, "target_ip", &[198, 19, 0, 1]);
            }
            "ipv4" => {
                say(layer, "src", &[198, 18, 0, 1]);
                say(layer, "dst", &[198, 19, 0, 1]);
            }
            "ipv6" => {
                let mut address = [0; 16];
                (address[0], address[1], address[3], address[15]) = (0x20, 0x01, 2, 1);
                say(layer, "src", &address);
                address[7] = 1;
                say(layer, "dst", &address);
            }
            // A header that follows is announced by the port.
            "udp" | "tcp" if layer + 1 == names.len() => {
                say(layer, "sport", &1024u16.to_be_bytes());
                say(layer, "dport", &9u16.to_be_bytes());
            }
            _ => {}
        }
    }
    expression
}

/// So many flows: source ports, then source addresses.
fn flows(expression: &Expression, flows: u32) -> Result<Vary, String> {
    let names: Vec<_> = expression.headers().map(|h| h.name).collect();
    let label = |layer: usize, field| {
        let nth = names[..=layer]
            .iter()
            .filter(|n| **n == names[layer])
            .count();
        format!("{}#{nth}.{field}", names[layer])
    };
    let last = |wanted: &[&str]| names.iter().rposition(|name| wanted.contains(name));
    let number = |layer: usize, field| match expression.value(layer, field) {
        Some(Value::Number(number)) => u128::from(*number),
        Some(Value::Bytes(bytes)) => bytes.iter().fold(0, |n, b| n << 8 | u128::from(*b)),
        None => 0,
    };
    // So many addresses from the one that is there.
    let addresses = |count: u64| -> Result<(String, String, String), String> {
        let layer = last(&["ipv4", "ipv6"]).or_else(|| last(&["eth"]));
        let layer = layer.ok_or("a packet without addresses has no flows")?;
        let first = number(layer, "src");
        let (bits, text): (u32, fn(u128) -> String) = match names[layer] {
            "ipv4" => (32, |n| std::net::Ipv4Addr::from(n as u32).to_string()),
            "ipv6" => (128, |n| std::net::Ipv6Addr::from(n).to_string()),
            _ => (48, |n| {
                let [.., a, b, c, d, e, f] = n.to_be_bytes();
                MacAddr([a, b, c, d, e, f]).to_string()
            }),
        };
        let to = first + u128::from(count - 1);
        if bits < 128 && to >> bits != 0 {
            return Err(format!(
                "{flows} flows are more than there are addresses from {} on",
                text(first)
            ));
        }
        Ok((label(layer, "src"), text(first), text(to)))
    };
    let Some(layer) = last(&["udp", "tcp"]) else {
        let (field, from, to) = addresses(flows.into())?;
        return Ok(Vary::range(field, from, to));
    };
    let first = number(layer, "sport") as u64;
    let ports = u64::from(flows).min(65_536 - first.min(65_535));
    let more = u64::from(flows).div_ceil(ports);
    let then = if more > 1 {
        Some(addresses(more)?)
    } else {
        None
    };
    let ports = (label(layer, "sport"), first, first + ports - 1);
    Ok(Vary::flows(ports, then, flows.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stamp::Stamp;

    const ADDRESSES: Addresses = Addresses {
        own: MacAddr([2, 0, 0, 0, 0, 1]),
        peer: MacAddr([2, 0, 0, 0, 0, 2]),
    };

    fn spec(packet: &str, sizes: &str, vary: &[&str]) -> StreamSpec {
        StreamSpec {
            packet: packet.into(),
            sizes: sizes.parse().unwrap(),
            vary: vary.iter().map(|text| text.parse().unwrap()).collect(),
            ..StreamSpec::default()
        }
    }

    /// So many frames of each size, as one of so many workers sends them.
    fn frames(spec: &StreamSpec, each: usize, worker: u64, workers: u64) -> Vec<Vec<u8>> {
        let template = Template::new(spec, ADDRESSES).unwrap();
        let mut wheels = template.wheels(worker, workers);
        let mut dice = Pcg64::seed_from_u64(7);
        let mut frames = Vec::new();
        for index in 0..template.sizes().len() {
            let variant = template.variant(index as u16).unwrap();
            for n in 0..each {
                // Whatever was in the buffer before.
                let mut frame = vec![0xa5; variant.len.into()];
                template.write(variant, &mut frame, &mut wheels, &mut dice);
                if template.stamped {
                    let stamp = Stamp {
                        lane: 7,
                        sequence: n as u32,
                        sent_ns: 0x1234_5678_9abc * n as u64,
                    };
                    assert!(stamp.put_at_end_of(&mut frame));
                }
                frames.push(frame);
            }
        }
        frames
    }

    fn text(frame: &[u8]) -> String {
        Headers::standard().dissect("eth", frame).to_string()
    }

    /// Every length and checksum is what it should be: none has to be said.
    fn assert_right(frame: &[u8]) {
        let headers = Headers::standard();
        let dissection = headers.dissect("eth", frame);
        let expression = dissection.to_expression();
        for (index, layer) in dissection.layers().iter().enumerate() {
            for field in layer.header.fixed() {
                let automatic = matches!(field.role, Role::Checksum(_) | Role::Length { .. });
                let said = expression.value(index, field.name);
                assert!(
                    !automatic || said.is_none(),
                    "{}.{}: {dissection}",
                    layer.header.name,
                    field.name
                );
            }
        }
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        for (packet, starts) in [
            (
                "eth",
                "eth(dst=02:00:00:00:00:02, src=02:00:00:00:00:01)/ipv4(src=198.18.0.1, dst=198.19.0.1)/udp(sport=1024, dport=9)/",
            ),
            (
                "ipv4(dst=10.0.0.2)",
                "eth(dst=02:00:00:00:00:02, src=02:00:00:00:00:01)/ipv4(src=198.18.0.1, dst=10.0.0.2)/udp(sport=1024, dport=9)/",
            ),
            (
                "udp(dport=53)",
                "eth(dst=02:00:00:00:00:02, src=02:00:00:00:00:01)/ipv4(src=198.18.0.1, dst=198.19.0.1)/udp(sport=1024, dport=53)/",
            ),
            (
                "eth/vlan(vid=7)/ipv6",
                "eth(dst=02:00:00:00:00:02, src=02:00:00:00:00:01)/vlan(vid=7)/ipv6(src=2001:2::1, dst=2001:2:0:1::1)/udp(sport=1024, dport=9)/",
            ),
            (
                "eth(dst=ff:ff:ff:ff:ff:ff)/arp",
                "eth(dst=ff:ff:ff:ff:ff:ff, src=02:00:00:00:00:01)/arp(sender_mac=02:00:00:00:00:01, sender_ip=198.18.0.1, target_ip=198.19.0.1)/pad(",
            ),
            (
                "eth(ethertype=0x1234)",
                "eth(dst=02:00:00:00:00:02, src=02:00:00:00:00:01, ethertype=0x1234)/data(",
            ),
            (
                "icmp/echo",
                "eth(dst=02:00:00:00:00:02, src=02:00:00:00:00:01)/ipv4(src=198.18.0.1, dst=198.19.0.1)/icmp",
            ),
        ] {
            let frame = &frames(&spec(packet, "128", &[]), 1, 0, 1)[0];
            assert_eq!(frame.len(), 124);
            assert!(text(frame).starts_with(starts), "{packet}: {}", text(frame));
            assert_right(frame);
        }
    }

    #[test]
    fn a_size_too_small_names_the_least() {
        let error = Template::new(&spec("ipv6/udp", "64", &[]), ADDRESSES).unwrap_err();
        assert!(error.contains("84 is the least size"), "{error}");
        let mut unstamped = spec("ipv6/udp", "66", &[]);
        unstamped.stamp = false;
        assert!(Template::new(&unstamped, ADDRESSES).is_ok());
        let error = Template::new(&spec("ipv4/udp/pad(0x00)", "64", &[]), ADDRESSES).unwrap_err();
        assert!(error.contains("--no-stamp"), "{error}");
    }

    #[test]
    fn fields_step_as_they_are_told() {
        let vary = ["udp.sport=10..12 & ipv4.src=10.0.0.1..10.0.0.3 then udp.dport=[5, 7]"];
        let read = |frame: &Vec<u8>| {
            (
                u16::from_be_bytes([frame[34], frame[35]]),
                frame[29],
                frame[37],
            )
        };
        let all = |worker, workers| -> Vec<_> {
            frames(&spec("eth/ipv4/udp", "64", &vary), 12, worker, workers)
                .iter()
                .map(read)
                .collect()
        };
        let once = [
            (10, 1, 5),
            (11, 2, 5),
            (12, 3, 5),
            (10, 1, 7),
            (11, 2, 7),
            (12, 3, 7),
        ];
        assert_eq!(all(0, 1), [once, once].concat());
        // Two workers have every other one.
        let (a, b) = (all(0, 2), all(1, 2));
        let both: Vec<_> = a
            .iter()
            .zip(&b)
            .flat_map(|(a, b)| [*a, *b])
            .take(12)
            .collect();
        assert_eq!(both, [once, once].concat());
    }

    #[test]
    fn so_many_flows_there_are() {
        for (packet, flows, src) in [
            ("eth/ipv4/udp", 1000, 26),
            ("eth/ipv4/tcp", 100_000, 26),
            ("eth/ipv4/icmp", 77, 26),
            ("eth/ipv6/udp", 64_513, 22),
        ] {
            let mut spec = spec(packet, "128", &[]);
            spec.flows = flows;
            let ports = src + 4 + if src == 22 { 28 } else { 4 };
            let seen: std::collections::HashSet<Vec<u8>> = frames(&spec, 200_000, 0, 1)
                .into_iter()
                .inspect(|frame| {
                    if frame[12] == 0 {
                        assert_right(frame)
                    }
                })
                .map(|frame| [&frame[src..src + 16], &frame[ports..ports + 2]].concat())
                .collect();
            assert_eq!(seen.len(), flows as usize, "{packet}");
        }
        let mut spec = spec("eth/ipv4(src=255.255.255.250)/udp", "64", &[]);
        spec.flows = 1_000_000;
        let error = Template::new(&spec, ADDRESSES).unwrap_err();
        assert!(error.contains("255.255.255.250"), "{error}");
    }

    #[test]
    fn a_checksum_said_stays_as_it_is_said() {
        let vary = ["udp.sport=1..100"];
        for frame in frames(&spec("eth/ipv4/udp(checksum=0)", "64", &vary), 100, 0, 1) {
            assert_eq!(frame[40..42], [0, 0]);
        }
    }

    #[test]
    fn frames_of_a_capture_are_sent_as_they_are_but_for_the_stamp() {
        let headers = Headers::standard();
        let packet =
            "eth/ipv4(dst=10.0.0.2)/udp(dport=53)/data(\"0123456789abcdefghijklmnopqrstuvwxyz\")";
        let frame = headers.expression(packet).unwrap().to_bytes().unwrap();
        let mut spec = StreamSpec {
            frame: Some(frame.clone()),
            flows: 10,
            ..StreamSpec::default()
        };
        for sent in frames(&spec, 10, 0, 1) {
            assert_eq!((sent.len(), &sent[42..60]), (frame.len(), &frame[42..60]));
            assert_right(&sent);
            assert!(Stamp::at_end_of(&sent).is_some());
        }
        spec.stamp = false;
        spec.flows = 1;
        assert_eq!(frames(&spec, 1, 0, 1)[0], frame);
        // An ARP request has its stamp in the padding; a short datagram has no room.
        spec.stamp = true;
        spec.frame = Some(headers.expression("eth/arp").unwrap().to_bytes().unwrap());
        assert_eq!(frames(&spec, 1, 0, 1)[0].len(), 60);
        spec.frame = Some(
            headers
                .expression("eth/ipv4/udp/data(\"short\")")
                .unwrap()
                .to_bytes()
                .unwrap(),
        );
        let error = Template::new(&spec, ADDRESSES).unwrap_err();
        assert!(error.contains("--no-stamp"), "{error}");
    }

    const PACKETS: [&str; 7] = [
        "eth/ipv4/udp",
        "eth/vlan/ipv4(options=0x01*8)/tcp/data(0x5a*31)",
        "eth/ipv6/tcp",
        "eth/ipv4/ipv4/udp",
        "eth/ipv4/ipv6/udp/data(\"odd\")",
        "eth/ipv6/icmp6/echo",
        "eth/ipv4/icmp/echo",
    ];

    const FIELDS: [&str; 14] = [
        "ipv4.src=10.0.0.1..10.9.9.9 step 4097",
        "ipv4.dst=random(0.0.0.0..255.255.255.255)",
        "ipv4.ident=0..65535",
        "ipv4.dscp=0..63",
        "ipv4.ttl=[1, 64, 255]",
        "ipv4#2.src=random(0.0.0.0..255.255.255.255)",
        "ipv6.src=2001:db8::..2001:db8::ffff:ffff:ffff:ffff step 1311768467463790321",
        "ipv6.flow_label=random(0..0xfffff)",
        "udp.sport=random(0..65535) & udp.dport=1..65535",
        "tcp.seq=random(0..0xffffffff)",
        "tcp.flags=0..255",
        "eth.src=02:00:00:00:00:00..02:00:ff:ff:ff:ff step 65537",
        "vlan.vid=0..4095",
        "echo.seq=0..65535",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn checksums_are_right_whatever_changes(
            packet in 0..PACKETS.len(), fields in 0u32..1 << FIELDS.len(), size in 0usize..4, flows in 1u32..100_000,
        ) {
            let packet = PACKETS[packet];
            let known = |vary: &&&str| {
                let spec = spec(packet, "256", &[**vary]);
                Template::new(&spec, ADDRESSES).is_ok()
            };
            let chosen = FIELDS.iter().enumerate().filter(|(n, _)| fields >> n & 1 == 1).map(|(_, f)| f);
            let vary: Vec<_> = chosen.filter(known).copied().collect();
            let mut spec = spec(packet, ["160", "161", "512", "200..260"][size], &vary);
            spec.flows = flows;
            if let Err(error) = Template::new(&spec, ADDRESSES) {
                prop_assert!(error.contains("in two ways"), "{}", error);
                spec.flows = 1;
            }
            for frame in frames(&spec, 8, 1, 3) {
                assert_right(&frame);
            }
        }
    }
}
