//! Where two packets differ, field by field.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::print::Shown;
use super::value::data_text;
use super::{Dissection, Expression};

/// Where two packets differ.
///
/// ```
/// use linecard_wire::describe::{Diff, Headers};
///
/// let headers = Headers::standard();
/// let [a, b] = ["ipv4(ttl=64)/udp(dport=53)", "ipv4(ttl=63)/udp(dport=53)/data(\"x\")"]
///     .map(|text| headers.expression(text).and_then(|packet| packet.to_bytes()));
/// let (a, b) = (a?, b?);
/// let diff = Diff::between(&headers.dissect("ipv4", &a), &headers.dissect("ipv4", &b));
/// assert_eq!(diff.get("ipv4.ttl").map(|ttl| (&*ttl.left, &*ttl.right)), Some(("64", "63")));
/// println!("{diff}");
/// # Ok::<(), linecard_wire::describe::TextError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// The differences, from the front of the packets.
    pub list: Vec<Difference>,
}

/// A field, or something else, in which two packets differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `ipv4.ttl`; the second header of a name is `ipv4#2.ttl`. `data` and `pad` stand for themselves.
    pub what: String,
    /// What the first packet has.
    pub left: String,
    /// What the second has.
    pub right: String,
}

impl Diff {
    /// Where these packets differ. From the first header on that is another one, both are shown whole.
    pub fn between(left: &Dissection<'_>, right: &Dissection<'_>) -> Self {
        let mut diff = Self::default();
        for (index, (a, b)) in left.layers().iter().zip(right.layers()).enumerate() {
            if a.header != b.header {
                diff.rest(left, right, index);
                return diff;
            }
            let name = name(left, index);
            for ((field, a), (_, b)) in left.values(a).zip(right.values(b)) {
                if a != b {
                    diff.add(
                        format!("{name}.{}", field.name),
                        a.long_text(field),
                        b.long_text(field),
                    );
                }
            }
        }
        if left.layers().len() != right.layers().len() {
            diff.rest(left, right, left.layers().len().min(right.layers().len()));
            return diff;
        }
        for (what, a, b) in [
            ("data", left.data(), right.data()),
            ("pad", left.pad(), right.pad()),
        ] {
            if a != b {
                diff.add(what.into(), text_or_nothing(a), text_or_nothing(b));
            }
        }
        diff
    }

    /// Those differences that an expression has something to say about: fields that it names, headers, and data.
    pub(super) fn said_by(mut self, expression: &Expression) -> Self {
        self.list
            .retain(|difference| expression.says(&difference.what));
        self
    }

    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The difference in this field.
    pub fn get(&self, what: &str) -> Option<&Difference> {
        self.list.iter().find(|difference| difference.what == what)
    }

    fn add(&mut self, what: String, left: String, right: String) {
        self.list.push(Difference { what, left, right });
    }

    /// Both packets from a layer on.
    fn rest(&mut self, left: &Dissection<'_>, right: &Dissection<'_>, first: usize) {
        let text = |packet: &Dissection<'_>| {
            Shown(|f: &mut fmt::Formatter<'_>| packet.fmt_from(f, first)).to_string()
        };
        let what = match first.checked_sub(1) {
            Some(last) => format!("after {}", name(left, last)),
            None => "packet".into(),
        };
        self.add(what, text(left), text(right));
    }
}

fn text_or_nothing(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "nothing".into()
    } else {
        data_text(bytes)
    }
}

/// The name of a layer: with a number if it is not the first of that name.
fn name(packet: &Dissection<'_>, index: usize) -> String {
    let name = |layer: &super::Layer| layer.header.name;
    let Some(this) = packet.layers().get(index).map(name) else {
        return String::new();
    };
    let before = packet
        .layers()
        .iter()
        .take(index)
        .filter(|layer| name(layer) == this);
    match before.count() {
        0 => this.into(),
        n => format!("{this}#{}", n + 1),
    }
}

/// A line for each difference, in columns.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            |of: fn(&Difference) -> &String| self.list.iter().map(|d| of(d).chars().count()).max();
        let what = width(|d| &d.what).unwrap_or(0);
        // A long value does not push all others away.
        let left = width(|d| &d.left).unwrap_or(0).min(40);
        for difference in &self.list {
            writeln!(
                f,
                "  {:what$}  {:left$}  {}",
                difference.what, difference.left, difference.right
            )?;
        }
        Ok(())
    }
}
