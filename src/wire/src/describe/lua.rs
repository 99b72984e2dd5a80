//! Dissectors for Wireshark, in Lua.
//!
//! What is written is the description as a Lua table, and a program that is the same for all headers
//! (`dissector.lua`). It shows every field with its names, checks constants, lengths and checksums, hands on what
//! follows to the dissector that is announced, and cuts messages out of a TCP stream.
//!
//! ```
//! use linecard_wire::describe::{lua, standard};
//!
//! let lua = lua::Dissector::of(&standard::UDP).filter("linecard_udp").to_string();
//! assert!(lua.contains("name = \"dport\", at = 16, bits = 16"));
//! ```

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{
    Algorithm, Cover, Description, Field, Format, Kind, Measure, Named, Order, Payload, Role,
    Under, Value,
};

/// The part that is the same for all headers.
const PROGRAM: &str = include_str!("dissector.lua");

/// A dissector, which prints as its Lua source.
#[derive(Clone, Debug)]
pub struct Dissector {
    header: &'static Description,
    filter: String,
    under: Vec<Under>,
}

impl Dissector {
    /// That of a header, which hooks in where its description says.
    pub fn of(header: &'static Description) -> Self {
        Self {
            header,
            filter: header.name.into(),
            under: header.under.to_vec(),
        }
    }

    /// Its name in Wireshark's filters, if it is not to be the header's: no two may have the same.
    pub fn filter(mut self, name: &str) -> Self {
        self.filter = name.into();
        self
    }

    /// By which numbers it is announced, if not by those of the description.
    pub fn under(mut self, under: Vec<Under>) -> Self {
        self.under = under;
        self
    }
}

/// The Lua source.
impl fmt::Display for Dissector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.header;
        writeln!(
            f,
            "-- A dissector of '{}' for Wireshark and tshark, written by Linecard.",
            header.name
        )?;
        writeln!(
            f,
            "-- Try it: tshark -X lua_script:THIS_FILE -V -r trace.pcap"
        )?;
        writeln!(
            f,
            "-- Keep it: copy it to the folder that Wireshark shows as \"Personal Lua Plugins\".\n"
        )?;
        // Wireshark has titles once, too.
        let title = if self.filter == header.name {
            header.title().into()
        } else {
            alloc::format!("{} ({})", header.title(), self.filter)
        };
        writeln!(f, "local header = {{")?;
        writeln!(
            f,
            "  name = {}, filter = {},",
            quoted(header.name),
            quoted(&self.filter)
        )?;
        writeln!(
            f,
            "  title = {}, fixed_len = {},",
            quoted(&title),
            header.fixed_len()
        )?;
        let always = match header.payload {
            Payload::Selected => String::new(),
            Payload::SelectedIfZero(field) => alloc::format!("if_zero = {}, ", quoted(field)),
            Payload::Always(next) => alloc::format!("always = {}, ", quoted(wireshark_name(next))),
            Payload::None => "nothing = true, ".into(),
        };
        writeln!(f, "  payload = {{ {always}}},")?;
        writeln!(f, "  under = {{")?;
        for under in &self.under {
            writeln!(
                f,
                "    {{ table = {}, value = {} }},",
                quoted(table(under.space)),
                under.value
            )?;
        }
        writeln!(f, "  }},\n  fields = {{")?;
        for field in header.fields {
            self.field(f, field)?;
        }
        write!(f, "  }},\n}}\n\n{PROGRAM}")
    }
}

impl Dissector {
    fn field(&self, f: &mut fmt::Formatter<'_>, field: &Field) -> fmt::Result {
        write!(f, "    {{ name = {}, ", quoted(field.name))?;
        match field.role {
            Role::Tail => write!(f, "tail = true, ")?,
            _ => write!(
                f,
                "at = {}, bits = {}, ",
                field.offset_bits, field.width_bits
            )?,
        }
        let kind = match field.kind {
            Kind::Uint => "uint",
            Kind::Bool => "bool",
            Kind::Mac => "ether",
            Kind::Ipv4 => "ipv4",
            Kind::Ipv6 => "ipv6",
            Kind::Bytes => "bytes",
        };
        write!(f, "kind = \"{kind}\", ")?;
        if field.order == Order::Little {
            write!(f, "little = true, ")?;
        }
        if field.format != Format::Decimal {
            write!(f, "hex = true, ")?;
        }
        if !field.selects.is_empty() {
            let own = field.selects.contains('.');
            write!(
                f,
                "selects = {}, own = {own}, ",
                quoted(table(field.selects))
            )?;
        }
        role(f, field)?;
        values(f, field)?;
        writeln!(f, "docs = {} }},", quoted(field.docs))
    }
}

fn role(f: &mut fmt::Formatter<'_>, field: &Field) -> fmt::Result {
    match field.role {
        Role::Plain | Role::Tail => Ok(()),
        // As text: Lua's numbers are too short for 64 bits.
        Role::Constant(value) => {
            let text = Value::Number(value).text(field);
            write!(
                f,
                "constant = \"{value}\", constant_text = {}, ",
                quoted(&text)
            )
        }
        Role::Length { of, unit } => {
            let of = match of {
                Measure::Tail(name) => alloc::format!("tail = {}", quoted(name)),
                Measure::Header => "of = \"header\"".into(),
                Measure::Payload => "of = \"payload\"".into(),
                Measure::All => "of = \"all\"".into(),
            };
            write!(f, "length = {{ {of}, unit = {unit} }}, ")
        }
        Role::Checksum(checksum) => {
            let algorithm = match checksum.algorithm {
                Algorithm::Internet => "internet",
                Algorithm::Crc32 => "crc32",
                Algorithm::Crc32c => "crc32c",
            };
            let all = checksum.covers == Cover::All;
            write!(
                f,
                "checksum = {{ algorithm = \"{algorithm}\", all = {all}, "
            )?;
            if let Some(protocol) = checksum.pseudo {
                write!(f, "pseudo = {protocol}, ")?;
            }
            write!(f, "zero_is_none = {} }}, ", checksum.zero_is_none)
        }
    }
}

fn values(f: &mut fmt::Formatter<'_>, field: &Field) -> fmt::Result {
    if field.values.is_empty() {
        return Ok(());
    }
    let key = if field.format == Format::Flags {
        "flags"
    } else {
        "values"
    };
    write!(f, "{key} = {{ ")?;
    for Named { name, value } in field.values {
        write!(f, "[{value}] = {}, ", quoted(name))?;
    }
    f.write_str("}, ")
}

/// Wireshark's name of a table of numbers.
fn table(space: &str) -> &str {
    match space {
        super::ETHERTYPE => "ethertype",
        super::IP_PROTOCOL => "ip.proto",
        super::UDP_PORT => "udp.port",
        super::TCP_PORT => "tcp.port",
        own => own,
    }
}

/// Wireshark's name of the dissector of a header.
fn wireshark_name(header: &str) -> &str {
    match header {
        "eth" => "eth_withoutfcs",
        "ipv4" => "ip",
        other => other,
    }
}

/// A string as Lua writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push_str(&alloc::format!("\\{:03}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::standard;
    use alloc::string::ToString;

    #[test]
    fn strings_survive_lua() {
        assert_eq!(quoted("a\"b\\c\nd\u{1}"), "\"a\\\"b\\\\c\\nd\\001\"");
    }

    #[test]
    fn the_table_says_what_the_description_says() {
        let lua = Dissector::of(&standard::IPV4).filter("x").to_string();
        for part in [
            "name = \"ipv4\", filter = \"x\"",
            "title = \"Internet Protocol version 4 (x)\", fixed_len = 20",
            "payload = { if_zero = \"frag\", }",
            "{ table = \"ethertype\", value = 2048 }",
            "{ name = \"version\", at = 0, bits = 4, kind = \"uint\", constant = \"4\", constant_text = \"4\", docs = \"\" }",
            "length = { of = \"header\", unit = 4 }",
            "selects = \"ip.proto\", own = false, ",
            "checksum = { algorithm = \"internet\", all = false, zero_is_none = false }",
            "{ name = \"options\", tail = true, kind = \"bytes\", docs = \"\" }",
        ] {
            assert!(lua.contains(part), "{part}\nis not in\n{lua}");
        }
    }
}
