//! Texts with names in them.

use std::collections::BTreeMap;

use linecard_wire::describe::Headers;

use super::parse::is_name;

/// What names stand for.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, String>);

/// A name without a value, as the value of a field: what the packet has there is what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capture {
    pub(super) name: String,
    /// Which header of the expression, from 0.
    pub(super) layer: usize,
    pub(super) field: String,
}

impl Names {
    /// From here on the name stands for this, also in the texts that other names stand for.
    pub(super) fn set(&mut self, name: &str, text: String) {
        let this = Self(BTreeMap::from([(name.to_owned(), text.clone())]));
        for other in self.0.values_mut() {
            if let Ok(filled) = this.fill_some(other) {
                *other = filled;
            }
        }
        self.0.insert(name.to_owned(), text);
    }

    /// The text with what its names stand for; what stands for nothing yet stays.
    pub(super) fn fill_some(&self, text: &str) -> Result<String, String> {
        self.fill_known(text, |name| Ok(format!("${name}")))
    }

    /// The text with what its names stand for. Each has to stand for something.
    pub(super) fn fill(&self, text: &str) -> Result<String, String> {
        self.fill_known(text, |name| Err(format!("${name} stands for nothing yet")))
    }

    /// The text with what its names stand for; what stands for nothing stays.
    fn fill_known(
        &self,
        text: &str,
        unknown: impl Fn(&str) -> Result<String, String>,
    ) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = dollar(rest) {
            let (before, from) = rest.split_at(at);
            let end = from[1..]
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .map_or(from.len(), |n| n + 1);
            let (name, after) = (&from[1..end], &from[end..]);
            if !is_name(name) {
                return Err(format!("behind the $ of {from:?} is no name"));
            }
            filled.push_str(before);
            match self.0.get(name) {
                Some(text) => filled.push_str(text),
                None => filled.push_str(&unknown(name)?),
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// The text of an expectation: what is known is filled in, and the fields whose names stand for nothing yet are
    /// taken out of it.
    pub(super) fn expect(&self, text: &str) -> Result<(String, Vec<Capture>), String> {
        // A text that a name stands for may have names itself that nobody has given a value yet.
        let text = self.fill_some(text)?;
        let (mut filled, mut captures) = (String::new(), Vec::new());
        for (layer, header) in cut(&text, '/').into_iter().enumerate() {
            if layer > 0 {
                filled.push('/');
            }
            if dollar(header).is_none() {
                filled.push_str(header);
                continue;
            }
            let open = header
                .split_once('(')
                .and_then(|(name, fields)| Some((name, fields.trim_end().strip_suffix(')')?)));
            let (name, fields) = open.ok_or_else(|| unknown(header))?;
            let mut kept = Vec::new();
            for field in cut(fields, ',') {
                match field
                    .split_once('=')
                    .map(|(key, value)| (key.trim(), value.trim()))
                {
                    Some((key, value)) if dollar(value).is_some() => {
                        let name = value.strip_prefix('$').filter(|name| is_name(name));
                        captures.push(Capture {
                            name: name.ok_or_else(|| unknown(value))?.to_owned(),
                            layer,
                            field: key.to_owned(),
                        });
                    }
                    _ if dollar(field).is_some() => return Err(unknown(field)),
                    _ => kept.push(field),
                }
            }
            filled.push_str(name);
            if !kept.is_empty() {
                filled.push_str(&format!("({})", kept.join(",")));
            }
        }
        Ok((filled, captures))
    }

    /// Takes from a packet what was to be taken.
    pub(super) fn capture(
        &mut self,
        captures: &[Capture],
        headers: &Headers,
        first: &str,
        packet: &[u8],
    ) -> Result<(), String> {
        let found = headers.dissect(first, packet);
        for Capture { name, layer, field } in captures {
            let missing = || {
                format!(
                    "the packet has no field {field} in its header {}",
                    layer + 1
                )
            };
            let of = found.layers().get(*layer).ok_or_else(missing)?;
            let mut values = found.values(of);
            let (description, value) = values
                .find(|(description, _)| description.name == field)
                .ok_or_else(missing)?;
            self.set(name, value.text(description));
        }
        Ok(())
    }
}

fn unknown(text: &str) -> String {
    format!("{text:?}: a name that stands for nothing yet can only be the whole value of a field")
}

/// Whether an expression says what follows its last header.
pub(super) fn says_data(text: &str) -> bool {
    let last = cut(text, '/').last().copied().unwrap_or_default().trim();
    last.starts_with("data(") || last.starts_with("pad(")
}

/// Where a name begins, outside of strings.
fn dollar(text: &str) -> Option<usize> {
    outside(text).find(|(_, c)| *c == '$').map(|(at, _)| at)
}

/// The characters that are in no string, with their places.
fn outside(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut inside, mut escaped) = (false, false);
    text.char_indices().filter(move |(_, c)| {
        let was = inside;
        match c {
            '"' if !escaped => inside = !inside,
            _ => {}
        }
        escaped = inside && *c == '\\' && !escaped;
        !was && !inside
    })
}

/// The pieces between the separators that are in no string and no parentheses.
fn cut(text: &str, separator: char) -> Vec<&str> {
    let (mut pieces, mut from, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in outside(text) {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if c == separator && depth == 0 => {
                pieces.push(&text[from..at]);
                from = at + c.len_utf8();
            }
            _ => {}
        }
    }
    pieces.push(&text[from..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        names.set("eth", "eth(src=02:00:00:00:00:01)".into());
        names.set("port", "7".into());
        names
    }

    #[test]
    fn names_are_filled_in_but_not_in_strings() {
        let filled = names().fill("$eth/udp(dport=$port)/data(\"$port, \\\"$eth\")");
        let wanted = "eth(src=02:00:00:00:00:01)/udp(dport=7)/data(\"$port, \\\"$eth\")";
        assert_eq!(filled.as_deref(), Ok(wanted));
        assert!(
            names()
                .fill("udp(dport=$other)")
                .unwrap_err()
                .contains("$other")
        );
        assert!(names().fill("udp(dport=$)").is_err());
        assert!(names().fill("udp(dport=$é)").is_err());
    }

    #[test]
    fn fields_without_a_value_are_taken_out() {
        let (text, captures) = names()
            .expect("$eth/ipv4(id=$id, ttl=64)/udp(dport=$port, sport=$from)/data(\"a/b,$c\")")
            .unwrap();
        assert_eq!(
            text,
            "eth(src=02:00:00:00:00:01)/ipv4( ttl=64)/udp(dport=7)/data(\"a/b,$c\")"
        );
        let place = |c: &Capture| (c.name.clone(), c.layer, c.field.clone());
        let captures: Vec<_> = captures.iter().map(place).collect();
        assert_eq!(
            captures,
            [
                ("id".into(), 1, "id".into()),
                ("from".into(), 2, "sport".into())
            ]
        );
        for wrong in ["$unknown/udp", "udp(dport=$a+1)", "udp($a)", "udp(dport=$a"] {
            assert!(names().expect(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_in_the_text_of_another_stands_for_one_thing() {
        let mut names = names();
        let text = names.fill_some("$eth/ipv4(ident=$id)").unwrap();
        names.set("question", text);
        let (_, captures) = names.expect("$question/udp").unwrap();
        assert_eq!(captures.len(), 1);
        names.set("id", "77".into());
        let (text, captures) = names.expect("$question/udp").unwrap();
        assert!(captures.is_empty(), "it has a value now");
        assert_eq!(text, "eth(src=02:00:00:00:00:01)/ipv4(ident=77)/udp");
        assert_eq!(names.fill("$question"), names.fill("$eth/ipv4(ident=$id)"));
    }

    #[test]
    fn what_a_packet_has_is_what_a_name_stands_for() {
        let headers = Headers::standard();
        let packet = headers
            .expression("eth/ipv4(ident=77, src=10.0.0.9)/udp(sport=4000)")
            .unwrap();
        let packet = packet.to_bytes().unwrap();
        let mut names = Names::default();
        let (_, captures) = names
            .expect("eth/ipv4(ident=$id, src=$who)/udp(sport=$port)")
            .unwrap();
        names.capture(&captures, &headers, "eth", &packet).unwrap();
        assert_eq!(
            names.fill("$id $who $port").as_deref(),
            Ok("77 10.0.0.9 4000")
        );
        let (_, captures) = Names::default().expect("eth/ipv4(x=$x)").unwrap();
        assert!(names.capture(&captures, &headers, "eth", &packet).is_err());
    }
}
