//! The streams of a job, as a table that can be read: of thousands it shows the first, those with losses before others.

use super::figures::Stream;
use crate::cmd::far::time;
use crate::cmd::table::{Cell, Paint, Table, Tone};

/// Streams that are shown; `--json` has all.
const SHOWN: usize = 20;

/// What was sent of each stream and what came back; of a single one only the latter.
pub(super) fn render(streams: &[Stream], paint: Paint) -> String {
    let returned = streams.iter().any(|s| s.back.is_some());
    if !returned && streams.len() < 2 {
        return String::new();
    }
    let mut shown: Vec<_> = streams.iter().collect();
    shown.sort_by_key(|s| !is_troubled(s));
    let table = if returned {
        came_back(shown.iter().take(SHOWN))
    } else {
        sent(shown.iter().take(SHOWN))
    };
    let mut text = format!("\n{}", table.render(paint));
    if let Some(rest) = shown.get(SHOWN..).filter(|rest| !rest.is_empty()) {
        let troubled = rest.iter().filter(|s| is_troubled(s)).count();
        let troubled = match troubled {
            0 => String::new(),
            n => format!(", {n} of them with losses, duplicates or reordering"),
        };
        text += &format!("… and {} more{troubled}; --json has all\n", rest.len());
    }
    text
}

/// Whether not all came back, once each and in order.
fn is_troubled(stream: &Stream) -> bool {
    let trouble = |back: &super::figures::Returned| {
        back.lost.unwrap_or(0) + back.duplicated + back.reordered > 0
    };
    stream.back.as_ref().is_some_and(trouble)
}

fn sent<'a>(streams: impl Iterator<Item = &'a &'a Stream>) -> Table {
    let mut table = Table::new(&["stream", ">sent", ">bytes"]);
    for s in streams {
        table.row([s.name.clone(), s.shown(), s.bytes.to_string()].map(Cell::from));
    }
    table
}

fn came_back<'a>(streams: impl Iterator<Item = &'a &'a Stream>) -> Table {
    let mut table = Table::new(&[
        "stream",
        ">sent",
        ">received",
        ">lost",
        ">duplicated",
        ">reordered",
        ">latency",
        ">least",
        ">most",
        ">jitter",
    ]);
    for s in streams {
        let Some(back) = &s.back else { continue };
        let bad = |n: u64| {
            Cell::toned(
                n.to_string(),
                if n == 0 { Tone::Plain } else { Tone::Caution },
            )
        };
        // Of nothing there is no time.
        let when = |ns: f64| match back.received {
            0 => Cell::from("-"),
            _ => Cell::from(time(ns)),
        };
        table.row([
            Cell::from(s.name.clone()),
            Cell::from(s.shown()),
            Cell::from(back.received.to_string()),
            back.lost.map_or(Cell::from("?"), bad),
            bad(back.duplicated),
            bad(back.reordered),
            when(back.mean_ns),
            when(back.min_ns as f64),
            when(back.max_ns as f64),
            when(back.jitter_ns),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::figures::Returned;
    use super::*;

    fn streams(count: usize, lost: impl Fn(usize) -> Option<u64>) -> Vec<Stream> {
        let stream = |n: usize| Stream {
            name: format!("s{n}"),
            sent: Some(10),
            given: 10,
            bytes: 640,
            back: lost(n).map(|lost| Returned {
                received: 10 - lost,
                lost: Some(lost),
                ..Returned::default()
            }),
        };
        (0..count).map(stream).collect()
    }

    #[test]
    fn thousands_of_streams_are_a_page() {
        let text = render(&streams(5000, |_| None), Paint::Never);
        assert_eq!(text.lines().count(), SHOWN + 3, "{text}");
        assert!(
            text.ends_with("… and 4980 more; --json has all\n"),
            "{text}"
        );
        assert!(text.contains("s19 ") && !text.contains("s20 "), "{text}");
        let all = render(&streams(SHOWN, |_| None), Paint::Never);
        assert_eq!(all.lines().count(), SHOWN + 2, "{all}");
    }

    #[test]
    fn those_with_losses_come_first() {
        let lossy = streams(100, |n| Some(u64::from(n >= 70)));
        let text = render(&lossy, Paint::Never);
        assert!(text.lines().nth(2).unwrap().starts_with("s70 "), "{text}");
        let rest =
            "… and 80 more, 10 of them with losses, duplicates or reordering; --json has all\n";
        assert!(text.ends_with(rest), "{text}");
    }

    #[test]
    fn one_stream_is_told_only_if_it_came_back() {
        assert_eq!(render(&streams(1, |_| None), Paint::Never), "");
        let nothing = render(&streams(1, |_| Some(10)), Paint::Never);
        assert!(!nothing.contains("0 ns"), "{nothing}");
    }
}
