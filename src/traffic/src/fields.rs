//! Fields that change from frame to frame, and the checksums that follow them.
//!
//! | as text | what the field is |
//! | --- | --- |
//! | `udp.sport=1024..2047` | each of these in turn, again and again |
//! | `ipv4.dst=10.0.0.0..10.0.255.0 step 256` | every 256th |
//! | `udp.dport=[53, 80, 443]` | each of these in turn |
//! | `ipv4.src=random(10.0.0.0..10.0.255.255)` | any of these |
//! | `ipv4.src=10.0.0.1..10.0.0.9 & udp.sport=2001..2009` | both step together |
//! | `udp.sport=1..100 then ipv4.src=10.0.0.1..10.0.0.9` | the second steps when the first begins again |
//!
//! The second header of a name is `ipv4#2`. Of an IPv6 address, the lower eight bytes change.
//!
//! Checksums are not summed again for each frame, but follow from what changed (RFC 1624). Which checksums a field
//! is in, and with what factor, is not known here: a template's expression is asked what they are with one value and
//! with another. All of that is linear, so it is right for headers in headers, too.

use std::fmt;
use std::str::FromStr;

use linecard_wire::describe::{Expression, Field, Headers, Kind, Order, Value};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;
use serde::{Deserialize, Serialize};

/// Fields that step together, and others that step when these begin again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Vary {
    /// Each step's fields.
    steps: Vec<Vec<Varied>>,
    /// After how many frames all begins again, if not by itself.
    cycle: Option<u64>,
}

/// A field and its values, as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Varied {
    field: String,
    values: Values,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Values {
    Range { from: String, to: String, step: u64 },
    List(Vec<String>),
    Random { from: String, to: String },
}

/// What cannot be read as fields that change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} says no field that changes; that is written udp.sport=1024..2047, with 'step 2' behind it, udp.dport=[53, 80] or ipv4.src=random(10.0.0.1..10.0.0.9), several with & or then between them"
)]
pub struct NoVary(String);

impl Vary {
    /// So many values of a field from the first on, and of another when those are through; then all begins again.
    pub(crate) fn flows(
        first: (String, u64, u64),
        then: Option<(String, String, String)>,
        cycle: u64,
    ) -> Self {
        let (field, from, to) = first;
        let range = |field, from, to| {
            vec![Varied {
                field,
                values: Values::Range { from, to, step: 1 },
            }]
        };
        let mut steps = vec![range(field, from.to_string(), to.to_string())];
        steps.extend(then.map(|(field, from, to)| range(field, from, to)));
        let cycle = Some(cycle);
        Self { steps, cycle }
    }

    /// A range of one field.
    pub(crate) fn range(field: String, from: String, to: String) -> Self {
        let values = Values::Range { from, to, step: 1 };
        Self {
            steps: vec![vec![Varied { field, values }]],
            cycle: None,
        }
    }
}

impl FromStr for Vary {
    type Err = NoVary;

    fn from_str(text: &str) -> Result<Self, NoVary> {
        let field = |text: &str| -> Option<Varied> {
            let (field, values) = text.split_once('=')?;
            let (header, name) = field.trim().split_once('.')?;
            let values = Values::parse(values.trim())?;
            (!header.is_empty() && !name.is_empty()).then(|| Varied {
                field: field.trim().to_owned(),
                values,
            })
        };
        let step = |text: &str| text.split('&').map(field).collect::<Option<Vec<_>>>();
        let steps: Option<Vec<_>> = text.split(" then ").map(step).collect();
        let cycle = None;
        steps
            .map(|steps| Self { steps, cycle })
            .ok_or_else(|| NoVary(text.to_owned()))
    }
}

impl Values {
    fn parse(text: &str) -> Option<Self> {
        let range = |text: &str| {
            let (from, to) = text.split_once("..")?;
            let (from, to) = (from.trim().to_owned(), to.trim().to_owned());
            (!from.is_empty() && !to.is_empty()).then_some((from, to))
        };
        let within = |open, close| text.strip_prefix(open)?.strip_suffix(close);
        if let Some(list) = within("[", "]") {
            let list: Vec<_> = list.split(',').map(|v| v.trim().to_owned()).collect();
            return Some(Self::List(list));
        }
        if let Some(inner) = within("random(", ")") {
            let (from, to) = range(inner)?;
            return Some(Self::Random { from, to });
        }
        let (text, step) = match text.split_once(" step ") {
            Some((text, step)) => (text, step.trim().parse().ok().filter(|s| *s > 0)?),
            None => (text, 1),
        };
        let (from, to) = range(text)?;
        Some(Self::Range { from, to, step })
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { from, to, step: 1 } => write!(f, "{from}..{to}"),
            Self::Range { from, to, step } => write!(f, "{from}..{to} step {step}"),
            Self::List(list) => write!(f, "[{}]", list.join(", ")),
            Self::Random { from, to } => write!(f, "random({from}..{to})"),
        }
    }
}

impl fmt::Display for Vary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.steps.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { " then " })?;
            for (n, varied) in step.iter().enumerate() {
                let and = if n == 0 { "" } else { " & " };
                write!(f, "{and}{}={}", varied.field, varied.values)?;
            }
        }
        Ok(())
    }
}

impl From<Vary> for String {
    fn from(vary: Vary) -> Self {
        vary.to_string()
    }
}

impl TryFrom<String> for Vary {
    type Error = NoVary;

    fn try_from(text: String) -> Result<Self, NoVary> {
        text.parse()
    }
}

// --- found in a packet ------------------------------------------------------------------------

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
enum Source {
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
    source: Source,
}

/// What a [`Vary`] comes to in a packet.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
    cycle: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) fields: Vec<Changing>,
    /// After how many values the fields begin again.
    len: u64,
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

// --- at work ----------------------------------------------------------------------------------

/// Checksums that one template can have to be changed.
pub(crate) const MOST_CHECKSUMS: usize = 8;

/// Sums in the making: congruent to the sums of 16-bit words that the checksums are over.
pub(crate) type Sums = [u64; MOST_CHECKSUMS];

/// Where a number lies in a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// Whole bytes, so many from there.
    Bytes(u16, u8),
    /// Bits of a header that begins there.
    Bits(u16, &'static Field),
}

impl Place {
    pub(crate) fn of(start: usize, field: &'static Field) -> Self {
        let range = field.byte_range();
        let at = (start + range.end).saturating_sub(8.min(range.len())) as u16;
        let whole = field.offset_bits.is_multiple_of(8) && field.width_bits.is_multiple_of(8);
        match range.len().min(8) as u8 {
            len @ (1 | 2 | 4 | 6 | 8) if whole => Self::Bytes(at, len),
            _ => Self::Bits(start as u16, field),
        }
    }

    #[inline(always)]
    fn write(self, frame: &mut [u8], number: u64) {
        match self {
            Self::Bytes(at, len) => {
                let at = at as usize;
                let bytes = number.to_be_bytes();
                match len {
                    2 => put::<2>(frame, at, bytes),
                    4 => put::<4>(frame, at, bytes),
                    1 => put::<1>(frame, at, bytes),
                    6 => put::<6>(frame, at, bytes),
                    _ => put::<8>(frame, at, bytes),
                }
            }
            Self::Bits(start, field) => {
                if let Some(header) = frame.get_mut(start as usize..) {
                    let _ = linecard_wire::describe::bits::write(header, field, number);
                }
            }
        }
    }
}

#[inline(always)]
fn put<const N: usize>(frame: &mut [u8], at: usize, bytes: [u8; 8]) {
    if let (Some(to), Some(from)) = (frame.get_mut(at..at + N), bytes.last_chunk::<N>()) {
        to.copy_from_slice(from);
    }
}

/// A field at work: where it lies, and what it does to which checksum.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) place: Place,
    /// Numbers of checksums, and by what the number is multiplied in each.
    pub(crate) factors: Box<[(u8, u16)]>,
}

impl Writer {
    #[inline(always)]
    fn write(&self, frame: &mut [u8], number: u64, sums: &mut Sums) {
        self.place.write(frame, number);
        let folded = fold(number);
        for &(checksum, factor) in &self.factors {
            sums[checksum as usize % MOST_CHECKSUMS] += folded * u64::from(factor);
        }
    }
}

/// Congruent modulo 2^16 − 1, and below 2^18.
#[inline(always)]
pub(crate) fn fold(number: u64) -> u64 {
    (number >> 48) + (number >> 32 & 0xffff) + (number >> 16 & 0xffff) + (number & 0xffff)
}

/// A [`Program`] at work for one worker.
#[derive(Debug, Clone)]
pub(crate) struct Wheel {
    steps: Box<[Cog]>,
    cycle: u64,
    /// Values are taken every so many: other workers have those between.
    stride: u64,
    at: u64,
}

#[derive(Debug, Clone)]
struct Cog {
    fields: Box<[(Source, Writer)]>,
    len: u64,
    at: u64,
}

impl Wheel {
    pub(crate) fn new(program: &Program, writers: &[Writer], worker: u64, workers: u64) -> Self {
        let mut writers = writers.iter();
        let steps = program.steps.iter().map(|step| Cog {
            fields: step
                .fields
                .iter()
                .zip(&mut writers)
                .map(|(field, writer)| (field.source.clone(), writer.clone()))
                .collect(),
            len: step.len,
            at: 0,
        });
        let mut wheel = Self {
            steps: steps.collect(),
            cycle: program.cycle,
            stride: workers,
            at: worker,
        };
        wheel.set();
        wheel
    }

    /// Writes the values of this frame and goes on to those of the next.
    #[inline(always)]
    pub(crate) fn write(&mut self, frame: &mut [u8], sums: &mut Sums, dice: &mut Pcg64) {
        for cog in &self.steps {
            for (source, writer) in &cog.fields {
                let number = match source {
                    Source::Range { from, step } => from.wrapping_add(cog.at.wrapping_mul(*step)),
                    Source::List(list) => list.get(cog.at as usize).copied().unwrap_or(0),
                    Source::Random { from, span } => {
                        let wide = u128::from(dice.next_u64()) * (u128::from(*span) + 1);
                        from.wrapping_add((wide >> 64) as u64)
                    }
                };
                writer.write(frame, number, sums);
            }
        }
        self.at += self.stride;
        match self.steps.first_mut() {
            Some(first) if self.at < self.cycle && first.at + self.stride < first.len => {
                first.at += self.stride;
            }
            _ => self.set(),
        }
    }

    /// Where each step is, from where all is.
    #[cold]
    fn set(&mut self) {
        self.at %= self.cycle;
        let mut left = self.at;
        for cog in &mut self.steps {
            cog.at = left % cog.len;
            left /= cog.len;
        }
    }
}
