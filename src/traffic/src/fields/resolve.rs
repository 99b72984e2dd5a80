//! Fields that change, found in a packet.

use linecard_wire::describe::{Expression, Field, Headers, Kind, Order, Value};

use super::{Values, Varied, Vary};

/// A field of a packet whose values are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// The number of its header in the expression.
    pub(crate) layer: usize,
    pub(crate) field: &'static Field,
}

impl Found {
    /// Finds `ipv4#2.src`.
    fn find(expression: &Expression, name: &str) -> Result<Self, String> {
        let (header, field) = name.split_once('.').unwrap_or((name, ""));
        let (header, nth) = header.split_once('#').unwrap_or((header, "1"));
        let nth: usize = nth
            .parse()
            .map_err(|_| format!("'{name}' has no number behind '#'"))?;
        let mut same = expression
            .headers()
            .enumerate()
            .filter(|(_, known)| known.name == header);
        let Some((layer, header)) = same.nth(nth.wrapping_sub(1)) else {
            let all: Vec<_> = expression.headers().map(|h| h.name).collect();
            return Err(format!(
                "'{name}' is not in the packet, which is {}",
                all.join("/")
            ));
        };
        let Some(field) = header.field(field) else {
            let all: Vec<_> = header.fields.iter().map(|f| f.name).collect();
            return Err(format!(
                "'{}' has no field '{field}'; it has {}",
                header.name,
                all.join(", ")
            ));
        };
        let width = field.width_bits;
        let fits = width > 0
            && (field.is_number() || matches!(field.kind, Kind::Mac | Kind::Ipv4 | Kind::Ipv6))
            && field.order == Order::Big;
        if !fits {
            return Err(format!(
                "'{name}' cannot change: it is neither a number nor an address"
            ));
        }
        Ok(Self { layer, field })
    }

    /// The number that a value is: of an IPv6 address the lower half, with the upper one beside it.
    fn number(
        self,
        headers: &Headers,
        expression: &Expression,
        text: &str,
    ) -> Result<(u64, u64), String> {
        let header = expression.headers().nth(self.layer).map_or("", |h| h.name);
        let said = headers
            .expression(&format!("{header}({}={text})", self.field.name))
            .map_err(|error| error.what)?;
        match said.value(0, self.field.name) {
            Some(Value::Number(number)) => Ok((*number, 0)),
            Some(Value::Bytes(bytes)) => {
                let wide = bytes.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
                Ok((wide as u64, (wide >> 64) as u64))
            }
            None => Err(format!("'{text}' is no value")),
        }
    }

    /// A number as a value of the field.
    pub(crate) fn value(self, number: u64, upper: u64) -> Value {
        if self.field.is_number() {
            return Value::Number(number);
        }
        let wide = u128::from(upper) << 64 | u128::from(number);
        let bytes = self.field.width_bits as usize / 8;
        Value::Bytes(wide.to_be_bytes()[16 - bytes.min(16)..].to_vec())
    }

    /// The largest number.
    pub(crate) fn max(self) -> u64 {
        self.field.max()
    }
}

/// Where the numbers of a field come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Range { from: u64, step: u64 },
    List(Box<[u64]>),
    Random { from: u64, span: u64 },
}

/// A field that changes, in one step of a [`Program`].
#[derive(Debug, Clone)]
pub(crate) struct Changing {
    pub(crate) found: Found,
    /// The upper half of an IPv6 address.
    pub(crate) upper: u64,
    pub(super) source: Source,
}

/// What a [`Vary`] comes to in a packet.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
    pub(super) cycle: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) fields: Vec<Changing>,
    /// After how many values the fields begin again.
    pub(super) len: u64,
}

impl Vary {
    pub(crate) fn resolve(
        &self,
        headers: &Headers,
        expression: &Expression,
    ) -> Result<Program, String> {
        let steps: Result<Vec<_>, String> = self
            .steps
            .iter()
            .map(|step| Step::resolve(step, headers, expression))
            .collect();
        let steps = steps?;
        let all = steps
            .iter()
            .fold(1u64, |all, step| all.saturating_mul(step.len));
        Ok(Program {
            cycle: self.cycle.unwrap_or(all).clamp(1, all),
            steps,
        })
    }
}

impl Step {
    fn resolve(
        step: &[Varied],
        headers: &Headers,
        expression: &Expression,
    ) -> Result<Self, String> {
        let mut fields = Vec::new();
        let mut len = None;
        for Varied { field, values } in step {
            let found = Found::find(expression, field)?;
            let number = |text: &str| found.number(headers, expression, text);
            let between = |from: &str, to: &str| {
                let ((first, upper), (last, other)) = (number(from)?, number(to)?);
                if upper != other || last < first {
                    return Err(format!(
                        "'{field}' cannot go from {from} to {to}: it counts up, and of an IPv6 address within the lower half"
                    ));
                }
                Ok((first, last - first, upper))
            };
            let (source, upper, values) = match values {
                Values::Range { from, to, step } => {
                    let (from, span, upper) = between(from, to)?;
                    let source = Source::Range { from, step: *step };
                    (source, upper, Some((span / step).saturating_add(1)))
                }
                Values::List(list) => {
                    let list: Result<Vec<_>, String> = list.iter().map(|v| number(v)).collect();
                    let list = list?;
                    let upper = list.first().map_or(0, |v| v.1);
                    if list.iter().any(|v| v.1 != upper) {
                        return Err(format!("the upper halves of '{field}' differ"));
                    }
                    let values = list.len() as u64;
                    let list = list.into_iter().map(|v| v.0).collect();
                    (Source::List(list), upper, Some(values))
                }
                Values::Random { from, to } => {
                    let (from, span, upper) = between(from, to)?;
                    (Source::Random { from, span }, upper, None)
                }
            };
            if let (Some(len), Some(values)) = (len, values)
                && len != values
            {
                return Err(format!(
                    "'{field}' has {values} values and is to step together with a field of {len}"
                ));
            }
            len = len.or(values);
            fields.push(Changing {
                found,
                upper,
                source,
            });
        }
        let len = len.unwrap_or(1);
        Ok(Self { fields, len })
    }
}
