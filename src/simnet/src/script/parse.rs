//! The lines of a script.

use std::time::Duration;

/// A line that does something.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Its number in the file, from 1.
    pub(super) number: usize,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Run {
        kind: String,
        settings: toml::Table,
    },
    Ports(u16),
    Let {
        name: String,
        text: String,
    },
    Ignore {
        packet: String,
    },
    Send {
        at: Duration,
        port: u16,
        packet: String,
    },
    Expect {
        from: Duration,
        to: Duration,
        port: u16,
        packet: String,
    },
    Silence {
        until: Duration,
    },
}

/// The lines of a text, or the number of one that makes no sense and why not.
pub(super) fn lines(text: &str) -> Result<Vec<Line>, (usize, String)> {
    let mut lines = Vec::new();
    let mut begun: Option<(usize, String)> = None;
    for (number, raw) in (1..).zip(text.lines()) {
        let (first, so_far) = begun.take().unwrap_or((number, String::new()));
        let raw = raw.trim();
        if let Some(head) = raw.strip_suffix('\\') {
            begun = Some((first, so_far + head));
            continue;
        }
        let whole = so_far + raw;
        if whole.is_empty() || whole.starts_with('#') {
            continue;
        }
        let what = line(&whole).map_err(|what| (first, what))?;
        lines.push(Line {
            number: first,
            what,
        });
    }
    match begun {
        Some((number, _)) => Err((number, "the text ends behind a \\".into())),
        None => Ok(lines),
    }
}

fn line(text: &str) -> Result<What, String> {
    let (word, rest) = split(text);
    match word {
        "run" => run(rest),
        "ports" => match rest.parse() {
            Ok(n @ 1..=16) => Ok(What::Ports(n)),
            _ => Err(format!("{rest:?} is not a number of ports, 1 to 16")),
        },
        "let" => bind(rest),
        "ignore" if !rest.is_empty() => Ok(What::Ignore {
            packet: rest.to_owned(),
        }),
        _ => timed(text),
    }
}

/// The first word, and the rest.
fn split(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

fn run(text: &str) -> Result<What, String> {
    let (kind, settings) = split(text);
    if kind.is_empty() {
        return Err("run what? run KIND { KEY = VALUE, … }".into());
    }
    let settings = if settings.is_empty() { "{}" } else { settings };
    let table: toml::Table = toml::from_str(&format!("settings = {settings}"))
        .map_err(|error| format!("run {kind}: {}", error.message()))?;
    match table.get("settings") {
        Some(toml::Value::Table(settings)) => Ok(What::Run {
            kind: kind.to_owned(),
            settings: settings.clone(),
        }),
        _ => Err(format!(
            "run {kind}: its settings are not {{ KEY = VALUE, … }}"
        )),
    }
}

fn bind(text: &str) -> Result<What, String> {
    let (name, text) = text
        .split_once('=')
        .ok_or("let what be what? let NAME = TEXT")?;
    let (name, text) = (name.trim(), text.trim());
    if !is_name(name) {
        return Err(format!(
            "{name:?} is no name: letters, digits and _, a letter first"
        ));
    }
    Ok(What::Let {
        name: name.to_owned(),
        text: text.to_owned(),
    })
}

pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `[TIME] [PORT]< PACKET`, `[TIME] [PORT]> PACKET`, `[TIME] silence`.
fn timed(text: &str) -> Result<What, String> {
    let (time, rest) = match text.starts_with('+') {
        true => split(text),
        false => ("+0s", text),
    };
    let (from, to) = window(time)?;
    let exact = |what: &str| match from == to {
        true => Ok(from),
        false => Err(format!(
            "{time} is a span of time, and {what} is at a point in time"
        )),
    };
    let (word, packet) = split(rest);
    if word == "silence" {
        let until = exact("the end of a silence")?;
        return match until.is_zero() || !packet.is_empty() {
            true => Err("how long is it silent? +1s silence".into()),
            false => Ok(What::Silence { until }),
        };
    }
    let unknown = || {
        format!(
            "{word:?}: neither run, ports, let, ignore, silence, nor a packet, which begins with < or >, or the port before it"
        )
    };
    let (port, arrow) = word
        .split_at_checked(word.len().saturating_sub(1))
        .ok_or_else(unknown)?;
    let port = if port.is_empty() {
        0
    } else {
        port.parse().map_err(|_| unknown())?
    };
    let packet = packet.to_owned();
    match arrow {
        "<" | ">" if packet.is_empty() => {
            Err("which packet? eth/ipv4(dst=10.0.0.2)/udp(dport=7)".into())
        }
        "<" => Ok(What::Send {
            at: exact("what the host is sent")?,
            port,
            packet,
        }),
        ">" => Ok(What::Expect {
            from,
            to,
            port,
            packet,
        }),
        _ => Err(unknown()),
    }
}

/// `+10ms`, or `+0..5ms`.
fn window(text: &str) -> Result<(Duration, Duration), String> {
    let text = text.trim_start_matches('+');
    let time = |text: &str| {
        if text == "0" {
            return Ok(Duration::ZERO);
        }
        humantime::parse_duration(text)
            .map_err(|error| format!("{text:?} is no time: {error}; write +10ms, or +0..5ms"))
    };
    let Some((from, to)) = text.split_once("..") else {
        return time(text).map(|at| (at, at));
    };
    let (from, to) = (time(from)?, time(to)?);
    if from > to {
        return Err(format!("+{text} ends before it begins"));
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> What {
        lines(text).unwrap().remove(0).what
    }

    #[test]
    fn lines_have_times_ports_and_packets() {
        let ms = Duration::from_millis;
        let packet = "eth/data(\"a b\")".to_owned();
        assert_eq!(
            one("+5ms 3< eth/data(\"a b\")"),
            What::Send {
                at: ms(5),
                port: 3,
                packet: packet.clone()
            }
        );
        assert_eq!(
            one("> eth/data(\"a b\")"),
            What::Expect {
                from: ms(0),
                to: ms(0),
                port: 0,
                packet: packet.clone()
            }
        );
        assert_eq!(
            one("+0..1s 12> eth/data(\"a b\")"),
            What::Expect {
                from: ms(0),
                to: ms(1000),
                port: 12,
                packet
            }
        );
        assert_eq!(one("+2s silence"), What::Silence { until: ms(2000) });
        assert_eq!(one("ports 2"), What::Ports(2));
        let What::Run { kind, settings } = one("run probe { count = 3, interval = \"1ms\" }")
        else {
            panic!("not run");
        };
        assert_eq!(
            (kind.as_str(), settings["count"].as_integer()),
            ("probe", Some(3))
        );
    }

    #[test]
    fn comments_and_long_lines_keep_their_numbers() {
        let text = "# one\n\nlet a = eth/\\\n  ipv4\n< $a\n";
        let lines = lines(text).unwrap();
        assert_eq!(lines[0].number, 3);
        assert_eq!(
            lines[0].what,
            What::Let {
                name: "a".into(),
                text: "eth/ipv4".into()
            }
        );
        assert_eq!(lines[1].number, 5);
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_line() {
        for (text, number, said) in [
            ("\nrun", 2, "run what"),
            ("run echo { port = }", 1, "run echo"),
            ("run echo 7", 1, "not { KEY = VALUE"),
            ("ports 0", 1, "1 to 16"),
            ("let 7x = eth", 1, "is no name"),
            ("let x", 1, "let NAME = TEXT"),
            ("+1 < eth", 1, "is no time"),
            ("+5ms..1ms > eth", 1, "ends before it begins"),
            ("+0..1s < eth", 1, "a span of time"),
            ("<", 1, "which packet"),
            ("silence", 1, "how long"),
            ("eth/ipv4", 1, "neither run"),
            ("x> eth", 1, "neither run"),
            ("é", 1, "neither run"),
            ("< eth/\\", 1, "ends behind"),
        ] {
            let (at, what) = lines(text).unwrap_err();
            assert_eq!(at, number, "{text:?}");
            assert!(what.contains(said), "{text:?}: {what}");
        }
    }
}
