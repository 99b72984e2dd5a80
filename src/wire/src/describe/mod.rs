//! Headers described as data: what each field is called, where it lies and what it means.
//!
//! A [`Description`] is a static table of [`Field`]s. Whatever is to be known of a header in general comes from
//! the table and not from code of that header: packets as text, both ways ([`Headers::expression`] and
//! [`Dissection`]), the printer for people ([`Dissection::pretty`]), the comparison of two packets field by field
//! ([`Diff`]), and a dissector for Wireshark ([`lua`]). The headers of this crate are in
//! [`standard::ALL`]; the derive macro of `linecard-derive` describes yours.
//!
//! ```
//! use linecard_wire::describe::Headers;
//!
//! let headers = Headers::standard();
//! let ping = headers.expression("eth/ipv4(dst=10.0.0.2, ttl=3)/udp(dport=53)/data(\"ping\")")?;
//! let frame = ping.to_bytes()?;
//! // Types, lengths and checksums were filled in.
//! assert_eq!(&frame[12..18], [0x08, 0x00, 0x45, 0x00, 0x00, 32]);
//!
//! // And back: what would be filled in anyway is left out.
//! let text = headers.dissect("eth", &frame).to_string();
//! assert_eq!(text, "eth/ipv4(ttl=3, dst=10.0.0.2)/udp(dport=53)/data(\"ping\")");
//! # Ok::<(), linecard_wire::describe::TextError>(())
//! ```
//!
//! # The language
//!
//! A packet is its headers from the outside in, between slashes: `eth/ipv4(dst=10.0.0.2)/udp(dport=53)`. What is
//! in parentheses is written as said, right or wrong; everything else gets
//!
//! | field | what it gets |
//! | --- | --- |
//! | a constant, such as a version | its value |
//! | what says which header follows, such as the EtherType | the number of that header |
//! | a length | the length |
//! | a checksum | the checksum, over what stands there then |
//! | any other | its default: mostly zero, 64 for a TTL |
//!
//! | kind of value | examples |
//! | --- | --- |
//! | number | `7`, `0x1f`, `0b101`, `1_000_000`, or one of the field's names: `type=echo_reply` |
//! | set of flags | `syn\|ack`, `0x12`, `0` |
//! | address | `02:00:00:00:00:01`, `10.0.0.1`, `2001:db8::1` |
//! | bytes | `0xdeadbeef`, `"text\r\n\x00"`, either repeated: `0x00*46` |
//!
//! `data(BYTES)` is a payload that is no header, and `pad(BYTES)` at the end is what no length counts, as the zeros
//! that fill an Ethernet frame.
//!
//! For any bytes whatever, printing and reading gives the same bytes again. All of this is for the control
//! plane: it allocates, and it is the one part of this crate that does.

mod automatic;
pub mod bits;
#[doc(hidden)]
pub mod derived;
mod diff;
mod dissection;
mod edit;
mod error;
mod expression;
mod field;
mod headers;
pub mod lua;
mod print;
pub mod standard;
#[cfg(test)]
mod tests;
mod value;

pub use diff::{Diff, Difference};
pub use dissection::{Dissection, Layer, MAX_LAYERS};
pub use error::TextError;
pub use expression::Expression;
pub use field::{
    Algorithm, Checksum, Cover, Field, Format, Kind, Measure, Named, Order, Role, layout,
};
pub use headers::Headers;
pub use value::Value;

/// A header that has a description. Derived: see `linecard-derive`.
pub trait Header {
    /// The description.
    const DESCRIPTION: &'static Description;
}

/// What there is to know of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// What packet expressions call it: `ipv4`.
    pub name: &'static str,
    /// What people call it, and more: the first line is a title.
    pub docs: &'static str,
    /// The fields as they follow one another: first those of fixed length, made by [`layout`], then those whose
    /// length varies.
    pub fields: &'static [Field],
    /// By which numbers other headers announce it. The first of each space is what is filled in.
    pub under: &'static [Under],
    /// What comes after it.
    pub payload: Payload,
}

/// A number by which a header is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Under {
    /// In which numbers: [`ETHERTYPE`], [`IP_PROTOCOL`], [`UDP_PORT`], [`TCP_PORT`], or `header.field` of another
    /// header. It is what [`Field::selects`] says.
    pub space: &'static str,
    /// The number.
    pub value: u64,
}

/// The space of EtherTypes.
pub const ETHERTYPE: &str = "ethertype";
/// The space of IP protocol numbers.
pub const IP_PROTOCOL: &str = "ip_protocol";
/// The space of UDP ports.
pub const UDP_PORT: &str = "udp_port";
/// The space of TCP ports.
pub const TCP_PORT: &str = "tcp_port";

/// What comes after a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// What the fields say that select it; data, if none does.
    Selected,
    /// As `Selected`, if this field is zero (a fragment offset); else a piece of something, which is data.
    SelectedIfZero(&'static str),
    /// Always the header of this name.
    Always(&'static str),
    /// Nothing; bytes that stand there are padding.
    None,
}

impl Description {
    /// The first line of the documentation, without a full stop; the name if there is none.
    pub fn title(&self) -> &'static str {
        match self.docs.lines().next() {
            Some(line) if !line.trim().is_empty() => line.trim().trim_end_matches('.'),
            _ => self.name,
        }
    }

    /// The length of the fields of fixed length, in bytes.
    pub fn fixed_len(&self) -> usize {
        let bits: u32 = self.fields.iter().map(|field| field.width_bits).sum();
        bits.div_ceil(8) as usize
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The fields of fixed length.
    pub fn fixed(&self) -> impl Iterator<Item = &'static Field> + use<> {
        self.fields.iter().filter(|field| field.role != Role::Tail)
    }

    /// The fields of varying length, in order.
    pub fn tails(&self) -> impl Iterator<Item = &'static Field> + use<> {
        self.fields.iter().filter(|field| field.role == Role::Tail)
    }

    /// The fields that say what follows. The last comes first: of two ports that is the destination's.
    pub(crate) fn selecting(&self) -> impl Iterator<Item = &'static Field> + use<> {
        self.fields
            .iter()
            .rev()
            .filter(|field| !field.selects.is_empty())
    }

    /// The first number of this space by which it is announced.
    pub fn number_in(&self, space: &str) -> Option<u64> {
        let under = self.under.iter().find(|under| under.space == space)?;
        Some(under.value)
    }
}
