//! Fields, and the few words in which a table of them is written.

/// One field of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// What packet expressions call it.
    pub name: &'static str,
    /// What it means.
    pub docs: &'static str,
    /// Where it begins, in bits from the front of the header; the first bit is the most significant one of the
    /// first byte. Of no meaning for a [`Role::Tail`].
    pub offset_bits: u32,
    /// How many bits it has; zero for a [`Role::Tail`].
    pub width_bits: u32,
    /// What its bits are.
    pub kind: Kind,
    /// In which order its bytes lie.
    pub order: Order,
    /// What it is for.
    pub role: Role,
    /// How a number prints.
    pub format: Format,
    /// Names of values, or of single bits with [`Format::Flags`].
    pub values: &'static [Named],
    /// What a number is if nobody says.
    pub default: u64,
    /// In which numbers it says what follows the header; empty if it does not. See [`Under`](super::Under).
    pub selects: &'static str,
    /// Whether it is part of the flow key.
    pub key: bool,
}

/// What the bits of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A number of up to 64 bits.
    Uint,
    /// One bit.
    Bool,
    /// An Ethernet address.
    Mac,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// Bytes.
    Bytes,
}

/// In which order the bytes of a number lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The most significant byte first: network byte order.
    Big,
    /// The least significant byte first. The field is whole bytes.
    Little,
}

/// What a field is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It says what its user wants it to say.
    Plain,
    /// It always has this value, else the header is not what it seems.
    Constant(u64),
    /// It says how long something is.
    Length {
        /// What.
        of: Measure,
        /// In pieces of how many bytes.
        unit: u32,
    },
    /// It protects the header and maybe what follows.
    Checksum(Checksum),
    /// Bytes after the fixed part, as many as a length says.
    Tail,
}

/// What a length field counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// The field of this name, one of varying length.
    Tail(&'static str),
    /// The header: the fixed part and all that varies.
    Header,
    /// What follows the header.
    Payload,
    /// The header and what follows.
    All,
}

/// How a checksum is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Checksum {
    /// By which rule.
    pub algorithm: Algorithm,
    /// Over what. The field itself counts as zero.
    pub covers: Cover,
    /// The pseudo header of IP comes first, with this protocol number.
    pub pseudo: Option<u8>,
    /// Zero says that there is none (UDP).
    pub zero_is_none: bool,
}

/// The rule of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RFC 1071, 16 bits.
    Internet,
    /// The CRC of Ethernet and zlib, 32 bits.
    Crc32,
    /// Castagnoli's, which iSCSI and SCTP have, 32 bits.
    Crc32c,
}

/// What a checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cover {
    /// The header.
    Header,
    /// The header and what follows.
    All,
}

/// How a number prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// To the base of ten.
    Decimal,
    /// To the base of sixteen.
    Hex,
    /// As names of bits: `syn|ack`.
    Flags,
}

/// A value, or a bit, that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// The value; of a flag, the number with only its bit set.
    pub value: u64,
}

/// The fields of a header, laid out one after the other without gaps.
///
/// ```
/// use linecard_wire::describe::{Field, layout};
///
/// static FIELDS: [Field; 3] = layout([
///     Field::uint("version", 4).constant(1),
///     Field::uint("kind", 4).docs("What this is."),
///     Field::uint("seq", 32),
/// ]);
/// assert_eq!(FIELDS[2].offset_bits, 8);
/// ```
pub const fn layout<const N: usize>(fields: [Field; N]) -> [Field; N] {
    let mut laid = fields;
    let mut at = 0;
    let mut i = 0;
    // Not `for`: this is evaluated by the compiler. `i` is below N.
    #[allow(clippy::indexing_slicing)]
    while i < N {
        laid[i].offset_bits = at;
        at += laid[i].width_bits;
        i += 1;
    }
    laid
}

impl Field {
    const fn new(name: &'static str, kind: Kind, width_bits: u32) -> Self {
        Self {
            name,
            docs: "",
            offset_bits: 0,
            width_bits,
            kind,
            order: Order::Big,
            role: Role::Plain,
            format: Format::Decimal,
            values: &[],
            default: 0,
            selects: "",
            key: false,
        }
    }

    /// A number of up to 64 bits.
    pub const fn uint(name: &'static str, width_bits: u32) -> Self {
        Self::new(name, Kind::Uint, width_bits)
    }

    /// One bit.
    pub const fn bool(name: &'static str) -> Self {
        Self::new(name, Kind::Bool, 1)
    }

    /// An Ethernet address.
    pub const fn mac(name: &'static str) -> Self {
        Self::new(name, Kind::Mac, 48)
    }

    /// An IPv4 address.
    pub const fn ipv4(name: &'static str) -> Self {
        Self::new(name, Kind::Ipv4, 32)
    }

    /// An IPv6 address.
    pub const fn ipv6(name: &'static str) -> Self {
        Self::new(name, Kind::Ipv6, 128)
    }

    /// A fixed number of bytes.
    pub const fn bytes(name: &'static str, len_bytes: u32) -> Self {
        Self::new(name, Kind::Bytes, len_bytes * 8)
    }

    /// Bytes after the fixed part, as many as a length field says.
    pub const fn tail(name: &'static str) -> Self {
        let mut field = Self::new(name, Kind::Bytes, 0);
        field.role = Role::Tail;
        field
    }

    /// What it means.
    pub const fn docs(mut self, docs: &'static str) -> Self {
        self.docs = docs;
        self
    }

    /// The least significant byte comes first.
    pub const fn little(mut self) -> Self {
        self.order = Order::Little;
        self
    }

    /// It always has this value.
    pub const fn constant(mut self, value: u64) -> Self {
        self.role = Role::Constant(value);
        self.default = value;
        self
    }

    /// It says how long something is, in pieces of `unit` bytes.
    pub const fn length(mut self, of: Measure, unit: u32) -> Self {
        self.role = Role::Length { of, unit };
        self
    }

    /// It is a checksum.
    pub const fn checksum(mut self, checksum: Checksum) -> Self {
        self.role = Role::Checksum(checksum);
        self.format = Format::Hex;
        self
    }

    /// It prints to the base of sixteen.
    pub const fn hex(mut self) -> Self {
        self.format = Format::Hex;
        self
    }

    /// Some of its values have names.
    pub const fn values(mut self, values: &'static [Named]) -> Self {
        self.values = values;
        self
    }

    /// Its bits have names.
    pub const fn flags(mut self, bits: &'static [Named]) -> Self {
        self.values = bits;
        self.format = Format::Flags;
        self
    }

    /// What it is if nobody says.
    pub const fn default(mut self, value: u64) -> Self {
        self.default = value;
        self
    }

    /// It says what follows the header, in these numbers.
    pub const fn selects(mut self, space: &'static str) -> Self {
        self.selects = space;
        self
    }

    /// It is part of the flow key.
    pub const fn key(mut self) -> Self {
        self.key = true;
        self
    }

    /// The largest number that it can hold.
    pub const fn max(&self) -> u64 {
        match self.width_bits {
            64.. => u64::MAX,
            bits => (1 << bits) - 1,
        }
    }

    /// Whether it is a number, and not bytes or an address.
    pub const fn is_number(&self) -> bool {
        matches!(self.kind, Kind::Uint | Kind::Bool)
    }

    /// The bytes that it touches, counted from the front of the header.
    pub const fn byte_range(&self) -> core::ops::Range<usize> {
        let (start, end) = (self.offset_bits, self.offset_bits + self.width_bits);
        start as usize / 8..end.div_ceil(8) as usize
    }
}

impl Named {
    /// A value with its name.
    pub const fn new(name: &'static str, value: u64) -> Self {
        Self { name, value }
    }
}

impl Checksum {
    /// The Internet checksum.
    pub const fn internet(covers: Cover) -> Self {
        Self {
            algorithm: Algorithm::Internet,
            covers,
            pseudo: None,
            zero_is_none: false,
        }
    }

    /// The CRC of Ethernet and zlib.
    pub const fn crc32(covers: Cover) -> Self {
        Self {
            algorithm: Algorithm::Crc32,
            ..Self::internet(covers)
        }
    }

    /// CRC32C, Castagnoli's.
    pub const fn crc32c(covers: Cover) -> Self {
        Self {
            algorithm: Algorithm::Crc32c,
            ..Self::internet(covers)
        }
    }

    /// The pseudo header of IP comes first, with this protocol number.
    pub const fn pseudo(self, protocol: u8) -> Self {
        Self {
            pseudo: Some(protocol),
            ..self
        }
    }
}
