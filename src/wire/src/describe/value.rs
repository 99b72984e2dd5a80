//! Values of fields: read from a header, written to it, and as text.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::net::{Ipv4Addr, Ipv6Addr};

use super::{Field, Format, Kind, bits};
use crate::MacAddr;

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// An address or bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// What a field of fixed length holds in `header`; `None` if it is not whole there.
    pub fn read(header: &[u8], field: &Field) -> Option<Self> {
        if field.is_number() {
            return bits::read(header, field).map(Self::Number);
        }
        Some(Self::Bytes(header.get(field.byte_range())?.into()))
    }

    /// Writes it to a field of fixed length in `header`; `None` if it does not fit.
    pub fn write(&self, header: &mut [u8], field: &Field) -> Option<()> {
        match self {
            Self::Number(number) => bits::write(header, field, *number),
            Self::Bytes(bytes) => {
                let place = header.get_mut(field.byte_range())?;
                (place.len() == bytes.len()).then(|| place.copy_from_slice(bytes))
            }
        }
    }

    /// The text of it, as packet expressions have it.
    pub fn text(&self, field: &Field) -> String {
        match self {
            Self::Number(number) => number_text(field, *number),
            Self::Bytes(bytes) => bytes_text(field.kind, bytes),
        }
    }

    /// The text of it for people: beside a name, the number; no bytes are nothing.
    pub fn long_text(&self, field: &Field) -> String {
        let text = self.text(field);
        match self {
            Self::Bytes(bytes) if bytes.is_empty() => "nothing".into(),
            Self::Number(number) if !field.values.is_empty() => {
                let plain = plain(field, *number);
                if text == plain {
                    text
                } else {
                    format!("{text} ({plain})")
                }
            }
            _ => text,
        }
    }

    /// Reads the text of a value of this field; in words, what is wrong with it.
    pub(super) fn parse(field: &Field, text: &str) -> Result<Self, String> {
        let value = match field.kind {
            Kind::Uint | Kind::Bool => Self::Number(parse_number(field, text)?),
            Kind::Mac => Self::Bytes(parse_mac(text)?.into()),
            Kind::Ipv4 => {
                let address: Ipv4Addr = text
                    .parse()
                    .map_err(|_| format!("'{text}' is no IPv4 address, such as 10.0.0.1"))?;
                Self::Bytes(address.octets().into())
            }
            Kind::Ipv6 => {
                let address: Ipv6Addr = text
                    .parse()
                    .map_err(|_| format!("'{text}' is no IPv6 address, such as 2001:db8::1"))?;
                Self::Bytes(address.octets().into())
            }
            Kind::Bytes => Self::Bytes(parse_bytes(text)?),
        };
        let want = field.width_bits as usize / 8;
        match &value {
            Self::Bytes(bytes) if want > 0 && bytes.len() != want => Err(format!(
                "'{}' has {want} bytes, not {}",
                field.name,
                bytes.len()
            )),
            _ => Ok(value),
        }
    }
}

fn plain(field: &Field, number: u64) -> String {
    match field.format {
        Format::Decimal => number.to_string(),
        Format::Hex | Format::Flags => {
            format!(
                "{number:#0width$x}",
                width = field.width_bits.div_ceil(4) as usize + 2
            )
        }
    }
}

fn number_text(field: &Field, number: u64) -> String {
    if field.format == Format::Flags {
        return flags_text(field, number);
    }
    match field.values.iter().find(|named| named.value == number) {
        Some(named) => named.name.into(),
        None => plain(field, number),
    }
}

fn flags_text(field: &Field, number: u64) -> String {
    let (mut text, mut left) = (String::new(), number);
    for named in field.values {
        if named.value != 0 && left & named.value == named.value {
            left &= !named.value;
            text.push_str(named.name);
            text.push('|');
        }
    }
    if left != 0 || text.is_empty() {
        let _ = write!(text, "{left:#x}");
    } else {
        text.pop();
    }
    text
}

fn bytes_text(kind: Kind, bytes: &[u8]) -> String {
    match kind {
        Kind::Mac => match bytes.first_chunk() {
            Some(octets) => MacAddr(*octets).to_string(),
            None => hex(bytes),
        },
        Kind::Ipv4 => match bytes.first_chunk::<4>() {
            Some(octets) => Ipv4Addr::from(*octets).to_string(),
            None => hex(bytes),
        },
        Kind::Ipv6 => match bytes.first_chunk::<16>() {
            Some(octets) => Ipv6Addr::from(*octets).to_string(),
            None => hex(bytes),
        },
        Kind::Bytes | Kind::Uint | Kind::Bool => hex(bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("0x");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Bytes of a payload: as text if they are such, short if they repeat.
pub(super) fn data_text(bytes: &[u8]) -> String {
    let printable =
        |byte: &u8| (b' '..=b'~').contains(byte) || matches!(byte, b'\r' | b'\n' | b'\t');
    match bytes {
        [first, rest @ ..] if rest.len() >= 8 && rest.iter().all(|byte| byte == first) => {
            format!("0x{first:02x}*{}", bytes.len())
        }
        [_, ..] if bytes.iter().all(printable) => {
            let mut text = String::from("\"");
            for byte in bytes {
                let _ = write!(text, "{}", byte.escape_ascii());
            }
            text.push('"');
            text
        }
        _ => hex(bytes),
    }
}

fn parse_number(field: &Field, text: &str) -> Result<u64, String> {
    let number = if field.format == Format::Flags {
        text.split('|').try_fold(0, |set, flag| {
            Ok::<u64, String>(set | one_number(field, flag.trim())?)
        })?
    } else {
        one_number(field, text)?
    };
    if number > field.max() {
        return Err(format!(
            "{number} is too large for '{}', which has {} bits: {} at most",
            field.name,
            field.width_bits,
            field.max()
        ));
    }
    Ok(number)
}

fn one_number(field: &Field, text: &str) -> Result<u64, String> {
    if let Some(named) = field.values.iter().find(|named| named.name == text) {
        return Ok(named.value);
    }
    if let Some(number) = digits(text) {
        return Ok(number);
    }
    let mut message = format!("'{text}' is no value of '{}'", field.name);
    if field.values.is_empty() {
        message.push_str(": it is a number, such as 7 or 0x1f");
    } else {
        message.push_str(": a number, or ");
        for (n, named) in field.values.iter().enumerate() {
            message.push_str(if n == 0 { "" } else { ", " });
            message.push_str(named.name);
        }
    }
    Err(message)
}

/// A number: `7`, `0x1f`, `0b101`, `1_000`.
fn digits(text: &str) -> Option<u64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x', ..] => (text.get(2..)?, 16),
        [b'0', b'b', ..] => (text.get(2..)?, 2),
        _ => (text, 10),
    };
    // The standard parser takes a sign.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    u64::from_str_radix(&digits, radix).ok()
}

fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let mac: Result<MacAddr, _> = text.parse();
    mac.map(|mac| mac.0)
        .map_err(|_| format!("'{text}' is no Ethernet address, such as 02:00:00:00:00:01"))
}

/// The most bytes that a repetition makes: more than any packet has.
const MOST: usize = 1 << 18;

/// Bytes: `0x…` or `"…"`, maybe repeated: `0x00*46`.
pub(super) fn parse_bytes(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    let (literal, times) = match text.rsplit_once('*') {
        // A star within quotes is one of the bytes.
        Some((literal, times)) if !times.contains('"') => {
            let times = digits(times.trim())
                .ok_or_else(|| format!("'{times}' is no number of repetitions"))?;
            (literal.trim(), usize::try_from(times).unwrap_or(usize::MAX))
        }
        _ => (text, 1),
    };
    let bytes = if let Some(digits) = literal.strip_prefix("0x") {
        parse_hex(digits)?
    } else if let Some(inner) = literal
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        unescape(inner)?
    } else {
        return Err(format!(
            "'{text}' is not bytes, such as 0xdeadbeef or \"text\" or 0x00*46"
        ));
    };
    if bytes.len().saturating_mul(times) > MOST {
        return Err(format!("'{text}' is longer than {MOST} bytes"));
    }
    Ok(bytes.repeat(times))
}

fn parse_hex(digits: &str) -> Result<Vec<u8>, String> {
    let nibbles: Option<Vec<u8>> = digits
        .chars()
        .filter(|c| *c != '_')
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect();
    let nibbles =
        nibbles.ok_or_else(|| format!("'0x{digits}' has other characters than 0-9 and a-f"))?;
    let (pairs, odd) = nibbles.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(format!("'0x{digits}' has an odd number of digits"));
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            let mut utf8 = [0; 4];
            bytes.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
            continue;
        }
        bytes.push(match chars.next() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('\\') => b'\\',
            Some('"') => b'"',
            Some('\'') => b'\'',
            Some('x') => {
                let digit = |c: Option<char>| c.and_then(|c| c.to_digit(16));
                let (Some(high), Some(low)) = (digit(chars.next()), digit(chars.next())) else {
                    return Err("\\x is followed by two digits, 0-9 and a-f".into());
                };
                (high << 4 | low) as u8
            }
            _ => return Err("after \\ comes one of n r t \\ \" ' x".into()),
        });
    }
    Ok(bytes)
}

/// Sixteen bytes to a line, with what of it is text.
pub(super) fn hex_dump(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for (n, line) in bytes.chunks(16).enumerate() {
        write!(f, "  {:04x} ", n * 16)?;
        for byte in line {
            write!(f, " {byte:02x}")?;
        }
        write!(f, "{:width$}  ", "", width = (16 - line.len()) * 3)?;
        for byte in line {
            let shown = if (b' '..=b'~').contains(byte) {
                *byte
            } else {
                b'.'
            };
            f.write_char(shown.into())?;
        }
        f.write_char('\n')?;
    }
    Ok(())
}
