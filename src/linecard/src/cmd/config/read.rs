//! From the text of a file to values with their places. Whatever is wrong is noted, and the rest is
//! read all the same, so that one look shows all of it.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::Given;
use super::keys::{KEYS, SECTIONS, Settings, names, unknown, written};
use super::ports::{At, PairEntry, PortEntry};
use super::problem::{Lines, Place, Problem, Refusal, nearest};
use super::protocols::{self, ProtocolEntry};

/// What a file says, as far as it could be read.
#[derive(Debug)]
pub struct Draft {
    /// The scalars; defaults where nothing is said.
    pub settings: Settings,
    /// By key of [`KEYS`]: where its value is from.
    pub origins: Vec<Place>,
    /// The ports in order.
    pub ports: Vec<PortEntry>,
    /// The pairs in order.
    pub pairs: Vec<PairEntry>,
    /// The protocols in order.
    pub protocols: Vec<ProtocolEntry>,
    /// What is wrong so far.
    pub problems: Vec<Problem>,
    /// Whether there may be ports that were not read, so that none is to be called missing.
    pub ports_unread: bool,
    /// Whether all ports, pairs and protocols were read. If not, what is missing may be among the rest.
    pub whole: bool,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            origins: vec![Place::Default; KEYS.len()],
            ports: Vec::new(),
            pairs: Vec::new(),
            protocols: Vec::new(),
            problems: Vec::new(),
            ports_unread: false,
            whole: true,
        }
    }
}

impl Draft {
    /// Reads a file's text.
    pub fn read(text: &str) -> Self {
        let lines = Lines::new(text);
        let (document, errors) = DeTable::parse_recoverable(text);
        let parsed = errors.is_empty();
        let mut draft = Self {
            ports_unread: !parsed,
            whole: parsed,
            ..Self::default()
        };
        for error in &errors {
            let span = error.span();
            let place = span.as_ref().map_or(Place::File, |span| lines.place(span));
            let at = span.and_then(|span| text.get(span)).unwrap_or_default();
            draft
                .problems
                .push(syntax(error.message(), at).at(place, ""));
        }
        if parsed {
            Reader {
                lines: &lines,
                draft: &mut draft,
            }
            .document(document.get_ref());
        }
        draft
    }

    /// Takes a value for `KEYS[index]`.
    pub fn set(&mut self, index: usize, given: Given<'_>, place: Place) {
        let Some(key) = KEYS.get(index) else { return };
        match (key.set)(&mut self.settings, given) {
            Ok(()) => self.origins[index] = place,
            Err(refusal) => self.problems.push(refusal.at(place, key.path())),
        }
    }

    /// Where the value of a key is from.
    pub fn origin(&self, section: &str, name: &str) -> &Place {
        KEYS.iter()
            .zip(&self.origins)
            .find(|(key, _)| key.section == section && key.name == name)
            .map_or(&Place::File, |(_, place)| place)
    }
}

/// What the parser has to say about a piece of text, with what usually helps.
fn syntax(message: &str, at: &str) -> Refusal {
    let message = message.trim().replace('\n', ", ");
    let word: String = at
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '-')
        .collect();
    if message.contains("duplicate key") {
        let remedy =
            "write each key and section once; only [[port]] and [[protocol]] may be repeated";
        Refusal::new(format!("{message} {word}"), remedy)
    } else if word.starts_with(char::is_alphabetic) && !message.contains("key") {
        // The parser takes `io` for the beginning of `inf`, and says so.
        let what = format!("{word} is not a value");
        Refusal::new(what, format!("text stands in double quotes: \"{word}\""))
    } else {
        let remedy = "see `linecard config example` for how it is written";
        Refusal::new(message, remedy)
    }
}

type Entry<'a> = Spanned<DeValue<'a>>;

struct Reader<'d> {
    lines: &'d Lines,
    draft: &'d mut Draft,
}

impl Reader<'_> {
    fn document(&mut self, document: &DeTable<'_>) {
        for (name, value) in document {
            let place = self.lines.place(&name.span());
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("port", DeValue::Array(ports)) => {
                    for port in ports.iter() {
                        self.port(port);
                    }
                }
                ("port", _) => {
                    let remedy = "write [[port]], with two brackets on each side, once for each";
                    self.refuse(place, "port", Refusal::new("ports are a list", remedy));
                    self.draft.ports_unread = true;
                }
                ("protocol", DeValue::Array(protocols)) => {
                    for protocol in protocols.iter() {
                        self.protocol(protocol);
                    }
                }
                ("protocol", _) => {
                    let remedy =
                        "write [[protocol]], with two brackets on each side, once for each";
                    let refusal = Refusal::new("protocols are a list", remedy);
                    self.refuse(place, "protocol", refusal);
                    self.draft.whole = false;
                }
                (section, DeValue::Table(table)) if SECTIONS.contains(&section) => {
                    self.section(section, table);
                }
                (section, _) if SECTIONS.contains(&section) => self.refuse(
                    place,
                    section,
                    Refusal::new(
                        "this is a section",
                        format!("write [{section}] on a line of its own"),
                    ),
                ),
                (other, value) => {
                    self.refuse(place, other, unknown_section(other, value));
                    // It may be the ports under another name.
                    self.draft.ports_unread |= nearest(other, ["port"]).is_some();
                }
            }
        }
    }

    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let place = self.lines.place(&name.span());
            let found = KEYS
                .iter()
                .position(|key| key.section == section && key.name == name.get_ref().as_ref());
            match found {
                Some(index) => self.draft.set(index, Given::Value(value.get_ref()), place),
                None if section == "forward" && name.get_ref() == "pairs" => self.pairs(value),
                None => {
                    let key = format!("{section}.{}", name.get_ref());
                    self.refuse(place, &key, unknown(section, name.get_ref()));
                }
            }
        }
    }

    fn port(&mut self, entry: &Entry<'_>) {
        let place = self.lines.place(&entry.span());
        let mut port = PortEntry {
            place: place.clone(),
            name: None,
            open: None,
            peer: None,
            faulty: false,
        };
        let DeValue::Table(table) = entry.get_ref() else {
            let refusal = Refusal::new(
                format!("{} is not a port", Given::Value(entry.get_ref())),
                "write [[port]], and name and open on the lines below it",
            );
            self.draft.ports_unread = true;
            return self.refuse(place, "port", refusal);
        };
        for (name, value) in table {
            let place = self.lines.place(&name.span());
            let key = format!("port.{}", name.get_ref());
            let slot = match name.get_ref().as_ref() {
                "name" => &mut port.name,
                "open" => &mut port.open,
                "peer" => &mut port.peer,
                other => {
                    self.refuse(place, &key, unknown("port", other));
                    port.faulty = true;
                    continue;
                }
            };
            let given = Given::Value(value.get_ref());
            match given.text() {
                Some(text) => {
                    *slot = Some(At {
                        value: text.to_owned(),
                        place,
                    })
                }
                None => {
                    let what = format!("{given} is not text");
                    self.refuse(place, &key, Refusal::new(what, "write it in double quotes"));
                    port.faulty = true;
                }
            }
        }
        self.draft.whole &= !port.faulty;
        self.draft.ports.push(port);
    }

    fn protocol(&mut self, entry: &Entry<'_>) {
        let place = self.lines.place(&entry.span());
        match protocols::read(entry) {
            Ok(value) => self.draft.protocols.push(At { value, place }),
            Err(refusal) => {
                self.draft.whole = false;
                self.refuse(place, "protocol", refusal);
            }
        }
    }

    fn pairs(&mut self, value: &Entry<'_>) {
        let place = self.lines.place(&value.span());
        let usual = "write pairs = [[\"a\", \"b\"]], with the names of ports";
        let DeValue::Array(pairs) = value.get_ref() else {
            let what = format!("{} is not a list of pairs", Given::Value(value.get_ref()));
            self.draft.whole = false;
            return self.refuse(place, "forward.pairs", Refusal::new(what, usual));
        };
        for pair in pairs.iter() {
            let place = self.lines.place(&pair.span());
            match two_names(pair.get_ref()) {
                Some(value) => self.draft.pairs.push(At { value, place }),
                None => {
                    let what = match pair.get_ref() {
                        DeValue::Array(items) => {
                            format!("a list of {} is not a pair of names", items.len())
                        }
                        other => format!("{} is not a pair of names", Given::Value(other)),
                    };
                    self.draft.whole = false;
                    self.refuse(place, "forward.pairs", Refusal::new(what, usual));
                }
            }
        }
    }

    fn refuse(&mut self, place: Place, key: &str, refusal: Refusal) {
        self.draft.problems.push(refusal.at(place, key));
    }
}

fn two_names(value: &DeValue<'_>) -> Option<[String; 2]> {
    match value.as_array()?.get(..)? {
        [a, b] => Some([
            a.get_ref().as_str()?.to_owned(),
            b.get_ref().as_str()?.to_owned(),
        ]),
        _ => None,
    }
}

fn unknown_section(name: &str, value: &DeValue<'_>) -> Refusal {
    let all: Vec<String> = SECTIONS.iter().map(|section| written(section)).collect();
    let what = "there is no such section";
    if !value.is_table() && !value.is_array() {
        // A key above the first section, or without one.
        if let Some(section) = SECTIONS
            .iter()
            .find(|section| names(section).contains(&name))
        {
            let remedy = format!("{name} belongs below {}", written(section));
            return Refusal::new("this key is in no section", remedy);
        }
    }
    match nearest(name, SECTIONS.iter().copied()) {
        Some(meant) => Refusal::new(what, format!("did you mean {}?", written(meant))),
        None => Refusal::new(what, format!("there are: {}", all.join(", "))),
    }
}
