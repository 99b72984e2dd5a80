//! Packet scripts: what a host is sent, and what it has to answer, on virtual time.
//!
//! ```text
//! # An echo server turns round what it is sent, at once.
//! run echo { port = 7 }
//!
//! let there = eth(src=02:00:00:00:00:01, dst=02:00:00:00:00:02)/ipv4(src=10.0.0.1, dst=10.0.0.2)
//! let back  = eth(src=02:00:00:00:00:02, dst=02:00:00:00:00:01)/ipv4(src=10.0.0.2, dst=10.0.0.1)
//!
//! < $there/udp(sport=4000, dport=7)/data("hello")
//! > $back/udp(sport=7, dport=4000)/data("hello")
//!
//! # Nothing is sent of its own accord, nor to what is not for it.
//! +5ms < $there/udp(sport=4000, dport=8)/data("hello")
//! +1s silence
//! ```
//!
//! # Lines
//!
//! | line | what it does |
//! | --- | --- |
//! | `# …` | nothing |
//! | `run KIND { KEY = VALUE, … }` | runs a protocol on the host: of the [kinds](crate::Kinds) of scenarios |
//! | `ports N` | gives the host so many ports, numbered from 0; 1 if nothing is said |
//! | `let NAME = TEXT` | `$NAME` is this text from here on |
//! | `ignore PACKET` | packets of the host's that match this are never looked at |
//! | `[TIME] < PACKET` | the host is sent this packet |
//! | `[TIME] > PACKET` | the next packet that the host sends is this one, at that time |
//! | `[TIME] silence` | until then the host sends nothing |
//!
//! `1<` and `1>` are packets of port 1. A long line goes on behind a `\` at its end.
//!
//! **Packets** are [expressions](linecard_wire::describe#the-language). What a `<` does not say is filled in; what a `>`
//! does not say does not matter, neither fields nor, if it ends with a header, what follows that: `data("")` says that
//! nothing does. `$NAME` as the value of a field that nobody has given a value yet takes the one that
//! the packet has: `> eth/ipv4(ident=$first)/udp`; from there on it stands for that.
//!
//! **Times** are counted from the line before: `+10ms` is exactly then, and for a `>` there is `+0..5ms`, at any
//! time between the two. Without a time it is at once, while no time passes.
//!
//! **Every packet counts**: one that the host sends and no line expects is a failure, and so is one that is missing.
//! A failure shows both packets, and where they differ, field by field.

mod parse;
mod play;
mod text;

use std::path::Path;

use crate::error::SimError;
use crate::scenario::Kinds;
use parse::Line;

pub use play::{Failure, Play};

/// A packet script. It can be played many times.
#[derive(Debug, Clone)]
pub struct Script {
    name: String,
    lines: Vec<Line>,
}

impl Script {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, SimError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| SimError::scenario(&name, error.to_string()))?;
        Self::parse(&name, &text)
    }

    /// Reads a text; `name` is for errors. Packets are read when their line is played, as they may have values
    /// that come from packets before.
    pub fn parse(name: &str, text: &str) -> Result<Self, SimError> {
        let lines = parse::lines(text)
            .map_err(|(line, what)| SimError::scenario(&format!("{name}:{line}"), what))?;
        Ok(Self {
            name: name.to_owned(),
            lines,
        })
    }

    /// Plays it. `record` is a pcapng file for all packets.
    ///
    /// # Errors
    /// The script itself makes no sense: a kind or header that is not known, a value that nobody has given. That a
    /// packet is not as expected is a [`Failure`] in the [`Play`].
    pub fn play(&self, kinds: &Kinds, record: Option<&Path>) -> Result<Play, SimError> {
        play::play(&self.name, &self.lines, kinds, record)
    }
}
