//! Packets as text: one line that can be read again, and a page for people.

use alloc::string::String;
use core::fmt;

use super::dissection::{Dissection, Layer};
use super::value::{data_text, hex_dump};
use super::{Field, Role, Value};

/// What a function prints. (`fmt::from_fn` is younger than the oldest compiler that we take.)
pub(super) struct Shown<F>(pub(super) F);

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for Shown<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0(f)
    }
}

/// As a packet expression: what would be filled in anyway is left out.
impl fmt::Display for Dissection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_from(f, 0)
    }
}

impl Dissection<'_> {
    /// The layers from `first` on, and what follows them.
    pub(super) fn fmt_from(&self, f: &mut fmt::Formatter<'_>, first: usize) -> fmt::Result {
        let mut slash = "";
        for (index, layer) in self.layers().iter().enumerate().skip(first) {
            write!(f, "{slash}{}", layer.header.name)?;
            self.fmt_fields(f, index, layer)?;
            slash = "/";
        }
        if !self.data().is_empty() || self.layers().len() <= first {
            write!(f, "{slash}data({})", data_text(self.data()))?;
            slash = "/";
        }
        if !self.pad().is_empty() {
            write!(f, "{slash}pad({})", data_text(self.pad()))?;
        }
        Ok(())
    }

    fn fmt_fields(&self, f: &mut fmt::Formatter<'_>, index: usize, layer: &Layer) -> fmt::Result {
        let mut before = "(";
        for (field, value) in self.values(layer) {
            if self.is_automatic(index, field, &value) {
                continue;
            }
            write!(f, "{before}{}={}", field.name, value.text(field))?;
            before = ", ";
        }
        f.write_str(if before == "(" { "" } else { ")" })
    }

    /// The fields of a layer, in order, with what they hold.
    pub fn values(&self, layer: &Layer) -> impl Iterator<Item = (&'static Field, Value)> {
        let bytes = self.bytes();
        let layer = layer.clone();
        layer.header.fields.iter().filter_map(move |field| {
            let value = if field.role == Role::Tail {
                Value::Bytes(bytes.get(layer.tail_range(field)?)?.into())
            } else {
                Value::read(bytes.get(layer.range())?, field)?
            };
            Some((field, value))
        })
    }

    /// Whether a field holds what it would get if nobody said.
    pub(super) fn is_automatic(&self, index: usize, field: &Field, value: &Value) -> bool {
        match value {
            Value::Number(number) => {
                self.stack.automatic(self.bytes, index, field) == Some(*number)
            }
            Value::Bytes(bytes) => {
                bytes.iter().all(|byte| *byte == 0) && field.role != Role::Tail || bytes.is_empty()
            }
        }
    }

    /// As a page for people: every field on a line of its own, and what is wrong with lengths, constants and
    /// checksums.
    pub fn pretty(&self) -> impl fmt::Display {
        Shown(|f: &mut fmt::Formatter<'_>| self.fmt_pretty(f))
    }

    fn fmt_pretty(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, layer) in self.layers().iter().enumerate() {
            writeln!(
                f,
                "{}: {}, {} bytes",
                layer.header.name,
                layer.header.title(),
                layer.len
            )?;
            let names = layer.header.fields.iter().map(|field| field.name.len());
            let width = names.max().unwrap_or(0);
            for (field, value) in self.values(layer) {
                let remark = self.remark(index, field, &value);
                writeln!(
                    f,
                    "  {:width$}  {}{remark}",
                    field.name,
                    value.long_text(field)
                )?;
            }
        }
        for (name, bytes) in [("data", self.data()), ("pad", self.pad())] {
            if !bytes.is_empty() {
                writeln!(f, "{name}: {} bytes", bytes.len())?;
                hex_dump(f, bytes)?;
            }
        }
        Ok(())
    }

    /// What is to be said of a field that can be wrong.
    fn remark(&self, index: usize, field: &Field, value: &Value) -> String {
        let checked = matches!(
            field.role,
            Role::Constant(_) | Role::Length { .. } | Role::Checksum(_)
        );
        let right = self.stack.automatic(self.bytes, index, field);
        match (field.role, value, right) {
            (Role::Checksum(sum), Value::Number(0), _) if sum.zero_is_none => "  (none)".into(),
            (_, Value::Number(number), Some(right)) if checked && *number != right => {
                alloc::format!("  (wrong: {} expected)", Value::Number(right).text(field))
            }
            (Role::Checksum(_), ..) => "  (right)".into(),
            _ => String::new(),
        }
    }
}
