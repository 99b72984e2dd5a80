//! What a struct says, before any code is made of it.

use proc_macro2::Span;
use syn::ext::IdentExt as _;
use syn::{Ident, Lifetime, Path, Type, Visibility};

/// A header.
pub(crate) struct Model {
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    /// The struct's own, which its bytes of varying length need.
    pub(crate) lifetime: Option<Lifetime>,
    /// Where `linecard-wire` is.
    pub(crate) wire: Path,
    pub(crate) name: String,
    pub(crate) docs: String,
    /// Spaces and numbers.
    pub(crate) under: Vec<(String, u64)>,
    pub(crate) payload: Payload,
    /// First those of fixed length, then the others.
    pub(crate) fields: Vec<Field>,
    /// Length of the fixed part, in bytes.
    pub(crate) fixed_len: usize,
}

pub(crate) enum Payload {
    Selected,
    Always(String),
    None,
}

pub(crate) struct Field {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    /// As in packet expressions.
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) kind: Kind,
    /// Where it begins, and how many bits it has; a tail has none.
    pub(crate) offset: u32,
    pub(crate) bits: u32,
    pub(crate) little: bool,
    pub(crate) role: Role,
    pub(crate) hex: bool,
    pub(crate) flags: bool,
    pub(crate) values: Vec<(Ident, u64)>,
    pub(crate) default: u64,
    pub(crate) selects: Option<String>,
    pub(crate) key: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number whose type has so many bits.
    Uint(u32),
    Bool,
    Mac,
    Ipv4,
    Ipv6,
    Bytes,
    Tail,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Role {
    Plain,
    Constant(u64),
    Length { of: Measure, unit: u32 },
    Checksum(Checksum),
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Measure {
    Tail(String),
    Header,
    Payload,
    All,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checksum {
    /// `crc32`, `crc32c`, or the Internet checksum.
    pub(crate) crc: Option<&'static str>,
    /// The header and what follows, not the header alone.
    pub(crate) all: bool,
    pub(crate) pseudo: Option<u8>,
}

impl Model {
    pub(crate) fn fixed(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !field.is_tail())
    }

    pub(crate) fn tails(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.is_tail())
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.key)
    }

    /// The length that counts this.
    pub(crate) fn length_of(&self, wanted: &Measure) -> Option<(&Field, u32)> {
        self.fixed().find_map(|field| match &field.role {
            Role::Length { of, unit } if of == wanted => Some((field, *unit)),
            _ => None,
        })
    }

    pub(crate) fn checksum(&self) -> Option<(&Field, Checksum)> {
        self.fixed().find_map(|field| match field.role {
            Role::Checksum(checksum) => Some((field, checksum)),
            _ => None,
        })
    }

    /// Where in the table of fields this one is.
    pub(crate) fn index(&self, field: &Field) -> usize {
        self.fields
            .iter()
            .take_while(|other| other.ident != field.ident)
            .count()
    }
}

impl Field {
    /// What is written above everything that is made of it.
    pub(crate) fn documentation(&self) -> String {
        if self.docs.is_empty() {
            format!("The field `{}`.", self.ident.unraw())
        } else {
            self.docs.clone()
        }
    }

    pub(crate) fn is_tail(&self) -> bool {
        self.kind == Kind::Tail
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self.kind, Kind::Uint(_) | Kind::Bool)
    }

    pub(crate) fn span(&self) -> Span {
        self.ident.span()
    }

    /// The bytes that it touches.
    pub(crate) fn bytes(&self) -> std::ops::Range<usize> {
        self.offset as usize / 8..(self.offset + self.bits).div_ceil(8) as usize
    }

    /// Whether it is whole bytes.
    pub(crate) fn is_whole(&self) -> bool {
        self.offset.is_multiple_of(8) && self.bits.is_multiple_of(8)
    }

    /// The largest number that it can hold.
    pub(crate) fn max(&self) -> u64 {
        if self.bits >= 64 {
            u64::MAX
        } else {
            (1 << self.bits) - 1
        }
    }

    /// How many bits its type has in memory.
    pub(crate) fn ty_bits(&self) -> u32 {
        match self.kind {
            Kind::Uint(bits) => bits,
            Kind::Bool => 8,
            _ => self.bits,
        }
    }
}
