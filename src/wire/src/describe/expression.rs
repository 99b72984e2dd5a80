//! Packets from text.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::dissection::{Layer, Stack};
use super::value::parse_bytes;
use super::{Description, Diff, Dissection, Field, Headers, Measure, Role, TextError, Value, bits};

/// A packet as text says it: headers, and those of their fields that are named.
#[derive(Clone, Debug)]
pub struct Expression {
    pub(super) layers: Vec<Said>,
    pub(super) data: Option<Vec<u8>>,
    pub(super) pad: Option<Vec<u8>>,
}

/// A header, and what is said of it.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) header: &'static Description,
    pub(super) values: Vec<(&'static Field, Value)>,
    /// Where in the text it is named.
    pub(super) at: usize,
}

impl Headers {
    /// Reads a packet expression; [the module](super) has the language.
    ///
    /// # Errors
    /// What is wrong with it, where, and what would be right.
    ///
    /// ```
    /// use linecard_wire::describe::Headers;
    ///
    /// let error = Headers::standard().expression("eth/ipv4(dest=10.0.0.2)").unwrap_err();
    /// assert!(error.to_string().starts_with("at character 10: 'ipv4' has no field 'dest'; it has version, ihl,"));
    /// ```
    pub fn expression(&self, text: &str) -> Result<Expression, TextError> {
        let mut reader = Reader { text, at: 0 };
        let mut expression = Expression {
            layers: Vec::new(),
            data: None,
            pad: None,
        };
        loop {
            self.layer(&mut reader, &mut expression)?;
            if reader.take('/') {
                continue;
            }
            if reader.rest().is_empty() {
                return Ok(expression);
            }
            return Err(reader.error("the next header, behind '/', or the end is expected here"));
        }
    }

    fn layer(&self, reader: &mut Reader<'_>, expression: &mut Expression) -> Result<(), TextError> {
        reader.skip();
        let at = reader.at;
        let name = reader
            .word()
            .ok_or_else(|| reader.error("the name of a header is expected here"))?;
        let ended = |what: &str| {
            Err(TextError::new(
                at,
                format!("nothing but pad() comes after {what}"),
            ))
        };
        match (name, &expression.data, &expression.pad) {
            (_, _, Some(_)) => return Err(TextError::new(at, "pad() is the end")),
            ("pad", ..) => expression.pad = Some(reader.literal()?),
            (_, Some(_), _) => return ended("data()"),
            ("data", ..) => expression.data = Some(reader.literal()?),
            _ => {
                let header = self.find(name).ok_or_else(|| self.unknown(at, name))?;
                let values = reader.fields(header)?;
                expression.layers.push(Said { header, values, at });
            }
        }
        Ok(())
    }

    fn unknown(&self, at: usize, name: &str) -> TextError {
        let mut what = format!("there is no header '{name}'; there are");
        for header in self.iter() {
            what.push(' ');
            what.push_str(header.name);
        }
        what.push_str(", and data and pad for bytes");
        TextError::new(at, what)
    }
}

/// The text, and how far it was read.
struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, what: impl Into<String>) -> TextError {
        TextError::new(self.at, what)
    }

    fn skip(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Takes this character, and blanks on both sides of it.
    fn take(&mut self, wanted: char) -> bool {
        self.skip();
        let there = self.rest().starts_with(wanted);
        if there {
            self.at += wanted.len_utf8();
            self.skip();
        }
        there
    }

    fn word(&mut self) -> Option<&'t str> {
        let rest = self.rest();
        let len = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).filter(|word| !word.is_empty())
    }

    /// What is up to the next comma or closing parenthesis that is not within quotes.
    fn value(&mut self) -> &'t str {
        let rest = self.rest();
        let (mut quoted, mut escaped) = (false, false);
        let end = rest.find(|c: char| {
            let ends = !quoted && matches!(c, ',' | ')');
            quoted ^= c == '"' && !escaped;
            escaped = quoted && c == '\\' && !escaped;
            ends
        });
        let len = end.unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default().trim_end()
    }

    /// `(BYTES)`.
    fn literal(&mut self) -> Result<Vec<u8>, TextError> {
        if !self.take('(') {
            return Err(self.error(
                "bytes in parentheses are expected here, such as (0xdeadbeef) or (\"text\")",
            ));
        }
        let at = self.at;
        let text = self.value();
        let bytes = parse_bytes(text).map_err(|what| TextError::new(at, what))?;
        if self.take(')') {
            Ok(bytes)
        } else {
            Err(self.error("')' is expected here"))
        }
    }

    /// `(field=value, …)`, or nothing.
    fn fields(
        &mut self,
        header: &'static Description,
    ) -> Result<Vec<(&'static Field, Value)>, TextError> {
        let mut values: Vec<(&'static Field, Value)> = Vec::new();
        if !self.take('(') || self.take(')') {
            return Ok(values);
        }
        loop {
            let at = self.at;
            let name = self
                .word()
                .ok_or_else(|| self.error("the name of a field is expected here"))?;
            let field = header
                .field(name)
                .ok_or_else(|| no_field(at, header, name))?;
            if values.iter().any(|(said, _)| *said == field) {
                return Err(TextError::new(at, format!("'{name}' is said twice")));
            }
            if !self.take('=') {
                return Err(self.error(format!("'{name}' is followed by '=' and its value")));
            }
            let at = self.at;
            let value =
                Value::parse(field, self.value()).map_err(|what| TextError::new(at, what))?;
            values.push((field, value));
            if self.take(')') {
                return Ok(values);
            }
            if !self.take(',') {
                return Err(self.error("',' and the next field, or ')' is expected here"));
            }
        }
    }
}

fn no_field(at: usize, header: &Description, name: &str) -> TextError {
    let mut what = format!("'{}' has no field '{name}'; it has", header.name);
    for (n, field) in header.fields.iter().enumerate() {
        what.push_str(if n == 0 { " " } else { ", " });
        what.push_str(field.name);
    }
    TextError::new(at, what)
}

impl Expression {
    /// The headers, from the outside in.
    pub fn headers(&self) -> impl Iterator<Item = &'static Description> {
        self.layers.iter().map(|said| said.header)
    }

    /// What the expression says of a field of its header `index`.
    pub fn value(&self, index: usize, field: &str) -> Option<&Value> {
        self.layers.get(index)?.value(field)
    }

    /// The packet, with everything filled in that is not said.
    ///
    /// # Errors
    /// A length is more than its field can say.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TextError> {
        self.build().map(|(packet, _)| packet)
    }

    /// Where the headers lie in the packet that [`to_bytes`](Self::to_bytes) makes.
    pub fn layout(&self) -> Vec<Layer> {
        self.lay_out().1.layers
    }

    fn build(&self) -> Result<(Vec<u8>, Stack), TextError> {
        let (mut packet, mut stack) = self.lay_out();
        stack.end = packet.len();
        packet.extend(self.pad.iter().flatten());
        // Lengths and numbers of headers first, as checksums cover them; checksums from the inside out, as outer
        // ones cover inner ones.
        for index in 0..self.layers.len() {
            self.fill(&mut packet, &stack, index, |role| {
                !matches!(role, Role::Checksum(_))
            })?;
        }
        for index in (0..self.layers.len()).rev() {
            self.fill(&mut packet, &stack, index, |role| {
                matches!(role, Role::Checksum(_))
            })?;
        }
        Ok((packet, stack))
    }

    /// Where a packet is not as the expression says; what the expression is silent about does not matter. On the
    /// left is what was wanted, on the right what the packet has.
    ///
    /// # Errors
    /// As [`Expression::to_bytes`].
    pub fn mismatches(&self, headers: &Headers, packet: &[u8]) -> Result<Diff, TextError> {
        let along: Vec<_> = self.headers().collect();
        let (bytes, stack) = self.build()?;
        let wanted = Dissection {
            bytes: &bytes,
            stack,
        };
        Ok(Diff::between(&wanted, &headers.dissect_along(&along, packet)).said_by(self))
    }

    /// Whether the expression says something about this part of a packet, named as in [`Diff`](super::Diff).
    pub(super) fn says(&self, what: &str) -> bool {
        let Some((header, field)) = what.rsplit_once('.') else {
            return match what {
                "data" => self.data.is_some(),
                "pad" => self.pad.is_some(),
                // Another header than the one that is named.
                _ => true,
            };
        };
        let (name, nth) = match header.split_once('#') {
            Some((name, nth)) => (name, nth.parse().unwrap_or(1)),
            None => (header, 1_usize),
        };
        let mut same = self.layers.iter().filter(|said| said.header.name == name);
        same.nth(nth.saturating_sub(1))
            .is_some_and(|said| said.value(field).is_some())
    }

    /// The headers with what is said of them, one after the other, and the data.
    fn lay_out(&self) -> (Vec<u8>, Stack) {
        let mut packet = Vec::new();
        let mut layers = Vec::new();
        for said in &self.layers {
            let start = packet.len();
            packet.resize(start + said.header.fixed_len(), 0);
            let header = packet.get_mut(start..).unwrap_or_default();
            for (field, value) in &said.values {
                value.write(header, field);
            }
            let mut tails = Vec::new();
            for tail in said.header.tails() {
                let from = packet.len();
                if let Some(Value::Bytes(bytes)) = said.value(tail.name) {
                    packet.extend(bytes);
                }
                let len = packet.len()
                    - if said.measures_alone(tail) {
                        from
                    } else {
                        start
                    };
                let fill = len.next_multiple_of(said.unit_of(tail)) - len;
                packet.resize(packet.len() + fill, 0);
                tails.push(packet.len() - from);
            }
            let (header, len) = (said.header, packet.len() - start);
            layers.push(Layer {
                header,
                start,
                len,
                tails,
            });
        }
        packet.extend(self.data.iter().flatten());
        (packet, Stack { layers, end: 0 })
    }

    /// Fills in the fields of these roles that nothing is said about.
    fn fill(
        &self,
        packet: &mut [u8],
        stack: &Stack,
        index: usize,
        wanted: fn(Role) -> bool,
    ) -> Result<(), TextError> {
        let (Some(said), Some(layer)) = (self.layers.get(index), stack.layers.get(index)) else {
            return Ok(());
        };
        let silent = |field: &&Field| {
            wanted(field.role) && field.is_number() && said.value(field.name).is_none()
        };
        for field in said.header.fixed().filter(silent) {
            let value = stack.automatic(packet, index, field).ok_or_else(|| {
                let what = format!(
                    "'{}.{}' cannot say how long this is",
                    said.header.name, field.name
                );
                TextError::new(said.at, what)
            })?;
            if let Some(header) = packet.get_mut(layer.range()) {
                bits::write(header, field, value);
            }
        }
        Ok(())
    }
}

impl Said {
    fn value(&self, field: &str) -> Option<&Value> {
        self.values
            .iter()
            .find(|(said, _)| said.name == field)
            .map(|(_, value)| value)
    }

    fn measures_alone(&self, tail: &Field) -> bool {
        self.length_of(Measure::Tail(tail.name)).is_some()
    }

    fn length_of(&self, wanted: Measure) -> Option<(&'static Field, u32)> {
        self.header.fixed().find_map(|field| match field.role {
            Role::Length { of, unit } if of == wanted => Some((field, unit)),
            _ => None,
        })
    }

    /// In pieces of how many bytes a length speaks of a tail, which is filled up with zeros to whole ones; unless
    /// the length itself is said, right or wrong.
    fn unit_of(&self, tail: &Field) -> usize {
        let own = self.length_of(Measure::Tail(tail.name));
        match own.or_else(|| self.length_of(Measure::Header)) {
            Some((field, unit)) if self.value(field.name).is_none() => unit.max(1) as usize,
            _ => 1,
        }
    }
}
