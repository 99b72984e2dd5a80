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

use serde::{Deserialize, Serialize};

mod columns;
mod resolve;
mod wheel;

pub(crate) use columns::{BLOCK, Columns, Placed};
pub(crate) use resolve::{Changing, Program};
pub(crate) use wheel::{MOST_CHECKSUMS, Place, Sum, Sums, fold};

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
