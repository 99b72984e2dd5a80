//! What happened in a run, as a packet script.

use std::fmt::Write as _;

use linecard_wire::describe::Headers;

/// Something that happened.
#[derive(Debug)]
pub(super) enum What {
    /// The host was sent this.
    In(Vec<u8>),
    /// It sent this.
    Out(Vec<u8>),
    /// Its pool was left with so many mbufs.
    Starved(usize),
    /// It has all of its mbufs again.
    Fed,
    /// Time passed, and this was the end of it.
    Until,
}

/// Events, each with its time.
#[derive(Debug, Default)]
pub(super) struct Trace {
    events: Vec<(u64, What)>,
    /// Tells each as it happens: for what ends a run at once, such as an abort or an endless loop.
    aloud: bool,
}

/// Set, every event of a run is told when it happens.
const ALOUD: &str = "LINECARD_FUZZ_TRACE";

impl Trace {
    pub(super) fn new() -> Self {
        Self {
            events: Vec::new(),
            aloud: std::env::var_os(ALOUD).is_some(),
        }
    }

    pub(super) fn add(&mut self, now_ns: u64, what: What, headers: &Headers) {
        if self.aloud {
            let before = self.events.last().map_or(0, |(at, _)| *at);
            eprint!("{}", line(before, now_ns, &what, headers));
        }
        self.events.push((now_ns, what));
    }

    /// All of it.
    pub(super) fn script(&self, headers: &Headers) -> String {
        let mut text = String::new();
        let mut before = 0;
        for (at, what) in &self.events {
            text += &line(before, *at, what, headers);
            before = *at;
        }
        text
    }
}

fn line(before: u64, now: u64, what: &What, headers: &Headers) -> String {
    let mut text = String::new();
    let show = |packet| headers.dissect(super::FIRST, packet);
    let since = now - before;
    // A String takes everything.
    let _ = match what {
        What::In(packet) => writeln!(text, "+{since}ns < {}", show(packet)),
        What::Out(packet) => writeln!(text, "+{since}ns > {}", show(packet)),
        What::Starved(left) => writeln!(text, "# {left} mbufs are left in the host's pool"),
        What::Fed => writeln!(text, "# all mbufs are back in the host's pool"),
        What::Until if since == 0 => Ok(()),
        What::Until => writeln!(text, "+{since}ns silence"),
    };
    text
}
