//! Expressions that a program changes: for generators and fuzzers.

use alloc::vec::Vec;

use super::expression::Said;
use super::{Description, Dissection, Expression, Field, Role, Value};

impl Dissection<'_> {
    /// The packet as an expression: it says what would not be filled in anyway. Lengths and checksums that are right
    /// stay right whatever is changed.
    ///
    /// ```
    /// use linecard_wire::describe::{Headers, Value};
    ///
    /// let headers = Headers::standard();
    /// let frame = headers.expression("eth/ipv4/udp(dport=7)/data(\"ping\")")?.to_bytes()?;
    /// let mut again = headers.dissect("eth", &frame).to_expression();
    /// assert_eq!(again.to_bytes()?, frame);
    ///
    /// again.set(2, "dport", Value::Number(8));
    /// again.set_data(b"longer");
    /// let text = headers.dissect("eth", &again.to_bytes()?).to_string();
    /// assert_eq!(text, "eth/ipv4/udp(dport=8)/data(\"longer\")");
    /// # Ok::<(), linecard_wire::describe::TextError>(())
    /// ```
    pub fn to_expression(&self) -> Expression {
        let layers = self.layers().iter().enumerate().map(|(index, layer)| {
            let said =
                |(field, value): &(&'static Field, Value)| !self.is_automatic(index, field, value);
            Said {
                header: layer.header,
                values: self.values(layer).filter(said).collect(),
                at: 0,
            }
        });
        let layers: Vec<Said> = layers.collect();
        let bytes = |bytes: &[u8]| (!bytes.is_empty()).then(|| bytes.to_vec());
        Expression {
            data: bytes(self.data()),
            pad: bytes(self.pad()),
            layers,
        }
    }
}

impl Expression {
    /// Says that a field of the header `index` has this value, whatever was said of it before. `None`, with nothing
    /// changed, if there is no such field or the value does not fit it.
    pub fn set(&mut self, index: usize, field: &str, value: Value) -> Option<()> {
        let said = self.layers.get_mut(index)?;
        let field = said.header.field(field)?;
        let fits = match &value {
            Value::Number(number) => field.is_number() && *number <= field.max(),
            Value::Bytes(_) if field.is_number() => false,
            Value::Bytes(bytes) => {
                field.role == Role::Tail || bytes.len() * 8 == field.width_bits as usize
            }
        };
        if !fits {
            return None;
        }
        said.values.retain(|(known, _)| *known != field);
        said.values.push((field, value));
        Some(())
    }

    /// Puts a header, of which nothing is said, before the header `index`, or behind the last one.
    pub fn insert(&mut self, index: usize, header: &'static Description) {
        let (index, values) = (index.min(self.layers.len()), Vec::new());
        let said = Said {
            header,
            values,
            at: 0,
        };
        self.layers.insert(index, said);
    }

    /// Takes a header out, with what is said of it.
    pub fn remove(&mut self, index: usize) {
        if index < self.layers.len() {
            self.layers.remove(index);
        }
    }

    /// What follows the last header.
    pub fn data(&self) -> &[u8] {
        self.data.as_deref().unwrap_or_default()
    }

    /// Has this follow the last header.
    pub fn set_data(&mut self, data: &[u8]) {
        self.data = Some(data.to_vec());
    }
}
