//! Packets made different: by the fields that their headers have, and then by their bytes.

use linecard_wire::describe::{Description, Expression, Field, Format, Headers, Kind, Role, Value};

use super::choices::Choices;

/// What there is to choose from.
pub(super) struct Known<'a> {
    pub(super) headers: &'a Headers,
    /// What packets begin from.
    pub(super) templates: &'a [Expression],
    /// What the host has sent, the latest first.
    pub(super) heard: &'a [Vec<u8>],
}

/// Addresses that mean something.
const V4: [[u8; 4]; 8] = [
    [10, 0, 0, 1],
    [10, 0, 0, 2],
    [10, 0, 0, 255],
    [10, 0, 0, 77],
    [255; 4],
    [0; 4],
    [127, 0, 0, 1],
    [224, 0, 0, 1],
];
const V6_FRONT: [[u8; 2]; 4] = [[0xfd, 0], [0xfe, 0x80], [0xff, 2], [0, 0]];
const MAC: [[u8; 6]; 5] = [
    [2, 0, 0, 0, 0, 1],
    [2, 0, 0, 0, 0, 2],
    [2, 0, 0, 0, 0, 77],
    [0xff; 6],
    [0; 6],
];

/// Changes up to seven things. Lengths and checksums still agree, but where it was one of them that was changed.
pub(super) fn vary(choices: &mut Choices<'_>, packet: &mut Expression, known: &Known<'_>) {
    for _ in 0..choices.byte() % 8 {
        match choices.below(8) {
            0..=3 => field(choices, packet, known),
            4 => structure(choices, packet, known),
            5 => payload(choices, packet, known),
            _ => patch(choices, packet),
        }
    }
}

/// Gives a field another value.
fn field(choices: &mut Choices<'_>, packet: &mut Expression, known: &Known<'_>) {
    let layers: Vec<&Description> = packet.headers().collect();
    if layers.is_empty() {
        return;
    }
    // From the inside out: what is the protocol's own is there.
    let index = layers.len() - 1 - choices.below(layers.len());
    let header = layers[index];
    let field = &header.fields[choices.below(header.fields.len())];
    let now = packet.value(index, field.name).cloned();
    let value = value(choices, header, field, now, known);
    packet.set(index, field.name, value);
}

fn value(
    choices: &mut Choices<'_>,
    header: &Description,
    field: &'static Field,
    now: Option<Value>,
    known: &Known<'_>,
) -> Value {
    let current = match now {
        Some(Value::Number(number)) => number,
        _ => field.default,
    };
    match choices.below(6) {
        0 => any(choices, field),
        1 if field.is_number() => {
            let max = field.max();
            let edges = [0, 1, max, max - 1, max >> 1, (max >> 1) + 1, field.default];
            Value::Number(edges[choices.below(edges.len())])
        }
        2 if field.is_number() && !field.values.is_empty() => {
            let named = field.values[choices.below(field.values.len())].value;
            Value::Number(match field.format {
                Format::Flags => current ^ named,
                _ => named,
            })
        }
        3 if field.is_number() => {
            // As far up as down.
            let step = u64::from(choices.byte());
            let near = current.wrapping_add(step.wrapping_sub(128));
            Value::Number(near & field.max())
        }
        4 | 5 => heard(choices, header, field, known).unwrap_or_else(|| any(choices, field)),
        _ => any(choices, field),
    }
}

/// Any value, of addresses preferably one that somebody has.
fn any(choices: &mut Choices<'_>, field: &Field) -> Value {
    match field.kind {
        Kind::Uint | Kind::Bool => Value::Number(choices.number(field.width_bits)),
        Kind::Ipv4 => Value::Bytes(V4[choices.below(V4.len())].into()),
        Kind::Ipv6 => {
            let mut address = [0; 16];
            address[..2].copy_from_slice(&V6_FRONT[choices.below(V6_FRONT.len())]);
            address[15] = choices.byte();
            Value::Bytes(address.into())
        }
        Kind::Mac => Value::Bytes(MAC[choices.below(MAC.len())].into()),
        Kind::Bytes if field.role == Role::Tail => {
            let len = choices.below(64);
            Value::Bytes(choices.bytes(len))
        }
        Kind::Bytes => Value::Bytes(choices.bytes(field.width_bits as usize / 8)),
    }
}

/// The value of this field in a packet that the host has sent, or else of one that is like it: a cookie, a number to
/// be acknowledged, an identifier.
fn heard(
    choices: &mut Choices<'_>,
    header: &Description,
    field: &'static Field,
    known: &Known<'_>,
) -> Option<Value> {
    let packet = known.heard.get(choices.below(known.heard.len()))?;
    let found = known.headers.dissect(super::FIRST, packet);
    let mut like = Vec::new();
    for layer in found.layers() {
        for (other, value) in found.values(layer) {
            if layer.header.name == header.name && other.name == field.name {
                like.insert(0, value);
            } else if (other.kind, other.width_bits) == (field.kind, field.width_bits) {
                like.push(value);
            }
        }
    }
    if like.is_empty() {
        return None;
    }
    Some(like.swap_remove(choices.below(like.len())))
}

/// A header more, or less, or twice.
fn structure(choices: &mut Choices<'_>, packet: &mut Expression, known: &Known<'_>) {
    let count = packet.headers().count();
    let index = choices.below(count + 1);
    match choices.below(4) {
        0 => packet.remove(index),
        1 => {
            let header = packet.headers().nth(index);
            if let Some(header) = header {
                packet.insert(index, header);
            }
        }
        _ => {
            let all = known.headers.iter().count();
            if let Some(header) = known.headers.iter().nth(choices.below(all)) {
                packet.insert(index, header);
            }
        }
    }
}

/// Another payload: bytes, one byte many times, what the host has said, or a packet in a packet.
fn payload(choices: &mut Choices<'_>, packet: &mut Expression, known: &Known<'_>) {
    let data = match choices.below(5) {
        0 => {
            let len = choices.below(64);
            choices.bytes(len)
        }
        1 => vec![choices.byte(); choices.below(super::LONGEST)],
        2 | 3 => {
            let said = known.heard.get(choices.below(known.heard.len()));
            let found = said.map(|packet| known.headers.dissect(super::FIRST, packet));
            found.map_or_else(Vec::new, |found| found.data().to_vec())
        }
        _ => {
            let inner = known.templates.get(choices.below(known.templates.len()));
            let mut inner = inner.cloned().unwrap_or_else(|| packet.clone());
            // A frame, or what it carries.
            if choices.below(2) == 1 {
                inner.remove(0);
            }
            inner.to_bytes().unwrap_or_default()
        }
    };
    packet.set_data(&data);
}

/// Some bytes of the payload.
fn patch(choices: &mut Choices<'_>, packet: &mut Expression) {
    let mut data = packet.data().to_vec();
    if data.is_empty() {
        return;
    }
    let at = choices.below(data.len());
    match choices.below(4) {
        0 => data.truncate(at),
        1 => data[at] ^= 1 << choices.below(8),
        2 => {
            let len = choices.below(16);
            let new = choices.bytes(len);
            data.splice(at..at, new);
        }
        _ => data[at] = choices.byte(),
    }
    packet.set_data(&data);
}

/// Half of all packets stay as they are; of the others some bytes change, and nobody mends lengths or checksums.
pub(super) fn damage(choices: &mut Choices<'_>, bytes: &mut Vec<u8>) {
    let many = choices.byte();
    if many < 0x80 {
        return;
    }
    for _ in 0..=many % 4 {
        let at = choices.below(bytes.len());
        match choices.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.resize(bytes.len() + at % 64, choices.byte()),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= choices.byte();
                }
            }
        }
    }
}
