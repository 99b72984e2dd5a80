//! Whole screens, as they are seen.

use linecard::control::StreamStatus;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyEvent;
use serde_json::{Value, json};

use super::*;
use crate::cmd::table::Paint;

/// A forwarder of two ports `seconds` after its start, which forwards a million frames of 64 bytes (60 without FCS)
/// each way each second, for 250 cycles each.
fn status(seconds: u64) -> Status {
    let frames = 1_000_000 * seconds;
    let port = |name: &str, link: &str, lost: u64| {
        json!({
            "name": name, "driver": "xdp", "link": link,
            "rx": frames, "rx_bytes": frames * 60, "rx_misses": lost, "rx_errors": 0,
            "tx": frames, "tx_bytes": frames * 60, "tx_copies": 0,
            "drops": { "policy": lost, "tx_full": 7 },
            "flows": [{ "id": lost, "rule": "proto=udp => drop", "packets": lost, "bytes": 0 }],
        })
    };
    let worker = json!({
        "worker": 0, "lcore": 1, "node": 0, "rx": 2 * frames, "tx": 2 * frames,
        "generated": 0, "counted_s": seconds, "busy_cycles": 500 * frames,
        "busy_s": seconds as f64 * 0.25, "awake_s": seconds as f64 * 0.5, "bursts": frames / 8,
        "waiting": 3, "mailbox": 0, "cycles_per_packet": 0.0, "burst_avg": 0.0, "polls": 0,
        "empty_polls": 0, "empty_share": 0.0, "sleeps": 100 * seconds, "handed_out": 0,
        "handed_in": 0, "software_offloads": 0, "failure": Value::Null,
        "queues": [
            { "port": 0, "queue": 0, "rx": frames, "rx_misses": 0, "tx": frames },
            { "port": 1, "queue": 0, "rx": frames, "rx_misses": 0, "tx": frames },
        ],
    });
    let status = json!({
        "hello": { "linecard": "0", "protocol": 1, "pid": 42, "command": "fwd", "name": "edge" },
        "report": {
            "duration_s": seconds,
            "ports": [port("xdp:eth1", "up", 0), port("xdp:eth2", "down", 10 * seconds)],
            "workers": [worker],
            "pools": [{
                "name": "node0", "node": 0, "size": 4096, "in_use": 96, "allocated": 0,
                "freed": 0, "exhausted": 0, "page_bytes": 4096, "page": "4 KiB",
                "peak_in_use": 4000, "leaked": 0, "leaks": [],
            }],
            "account": {
                "rx": 0, "generated": 0, "segmented": 0, "tx": 0, "delivered": 0, "consumed": 0,
                "drops": 0, "in_flight": 0, "unaccounted": 0,
            },
        },
        "clients": { "connected": 1, "dropped": 0, "skipped": 0 },
    });
    serde_json::from_value(status).expect("a status")
}

fn screen() -> Screen {
    let mut screen = Screen::default();
    for seconds in 3723..=3726 {
        screen.update(status(seconds));
    }
    screen
}

/// What is seen, with a bar at the end of each line, in a terminal of this size.
fn seen(screen: &Screen, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in buffer.content().chunks(usize::from(width)) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

const SMALL: (u16, u16) = (80, 24);

fn press(screen: &mut Screen, codes: &[KeyCode]) -> Then {
    let last = codes
        .iter()
        .map(|code| screen.press(KeyEvent::from(*code)))
        .last();
    last.expect("a key")
}

#[test]
fn the_overview_at_80_by_24() {
    let seen = seen(&screen(), SMALL);
    let expected = "\
linecard fwd edge (pid 42), up 1:02:06
 1 overview  2 queues  3 drops  4 rules  5 protocols  6 streams
rx  2.00M pps                                                                ███
peak 2.00M                                                                   ███
tx  2.00M pps                                                                ███
peak 2.00M                                                                   ███
ports
port                link rx pps L1 bit L2 bit tx pps L1 bit L2 bit miss/s drop/s
xdp:eth1            up    1.00M 672.0M 512.0M  1.00M 672.0M 512.0M      0      0
xdp:eth2            down  1.00M 672.0M 512.0M  1.00M 672.0M 512.0M     10     10
workers
worker  cpu rx pps tx pps cycles  busy awake burst sleep/s cross/s  mail  wait
     0    1  2.00M  2.00M    250   25%   50%    16     100       0     0     3
pools
pool                 mbufs      used      free least free exhausted page
node0                 4096        96      4000         96         0 4 KiB
";
    let top: String = seen
        .lines()
        .take(16)
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(top, expected, "{seen}");
    assert!(seen.ends_with("q quit  tab page  s sort  r reverse  p pause  h help\n"));
}

#[test]
fn pages_and_sorting() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Tab]);
    let queues = seen(&screen, SMALL);
    assert!(
        queues.contains("xdp:eth2                 0      0    1.00M    100%    1.00M"),
        "{queues}"
    );
    press(&mut screen, &[KeyCode::Char('3')]);
    let drops = seen(&screen, SMALL);
    assert!(
        drops.contains("xdp:eth2             policy                      10"),
        "{drops}"
    );
    press(&mut screen, &[KeyCode::Right]);
    let rules = |screen: &Screen| {
        let seen = seen(screen, SMALL);
        let at = |port: &str| seen.find(port).expect("a rule");
        (at("xdp:eth1") < at("xdp:eth2"), seen)
    };
    assert!(rules(&screen).0);
    // By number, the largest first; then the other way round; then by port.
    press(&mut screen, &[KeyCode::Char('s')]);
    let (in_order, text) = rules(&screen);
    assert!(!in_order, "{text}");
    press(&mut screen, &[KeyCode::Char('r')]);
    assert!(rules(&screen).0);
    press(&mut screen, &[KeyCode::Char('s')]);
    assert!(!rules(&screen).0);
    press(
        &mut screen,
        &[
            KeyCode::BackTab,
            KeyCode::Left,
            KeyCode::Left,
            KeyCode::Left,
        ],
    );
    assert!(seen(&screen, SMALL).contains("streams: none"));
}

#[test]
fn a_pause_holds_the_figures_and_help_lies_above() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Char(' ')]);
    screen.update(status(4000));
    let paused = seen(&screen, SMALL);
    assert!(
        paused.contains("up 1:02:06") && paused.contains("PAUSED"),
        "{paused}"
    );
    press(&mut screen, &[KeyCode::Char('p'), KeyCode::Char('?')]);
    assert!(seen(&screen, SMALL).contains("keys and words"));
    assert_eq!(press(&mut screen, &[KeyCode::Esc]), Then::Stay);
    assert_eq!(press(&mut screen, &[KeyCode::Esc]), Then::Leave);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.press(control_c), Then::Leave);
    screen.end("the engine has ended".to_owned());
    assert!(seen(&screen, SMALL).contains("the engine has ended; q leaves"));
}

#[test]
fn a_lane_that_comes_later_takes_nobodys_place() {
    let lane = |lane: u32, sent: u64| StreamStatus {
        name: "lane".to_owned(),
        index: Some(lane),
        rate: lane.to_string(),
        sent,
        ..StreamStatus::default()
    };
    let (mut before, mut now) = (status(10), status(12));
    before.streams = vec![lane(5, 1000)];
    now.streams = vec![lane(3, 40), lane(5, 1200)];
    let sheets = Sheets::new(Between {
        before: Some(&before),
        now: &now,
    });
    let seen = sheets.streams.render(Paint::Never);
    let tx = |lane: &str| {
        let words = seen.lines().map(|line| line.split_whitespace());
        let mut mine = words.filter(|words| words.clone().nth(1) == Some(lane));
        mine.next().unwrap().nth(2).unwrap().to_owned()
    };
    assert_eq!((tx("3"), tx("5")), ("20".into(), "100".into()));
}

#[test]
fn any_size_will_do() {
    let mut screen = screen();
    for help in [false, true] {
        for size in [(1, 1), (7, 3), (20, 9), (80, 5), (300, 2), (250, 100)] {
            for _ in TABS {
                seen(&screen, size);
                press(&mut screen, &[KeyCode::Tab]);
            }
        }
        if !help {
            press(&mut screen, &[KeyCode::Char('h')]);
        }
    }
    seen(&Screen::default(), SMALL);
}

#[test]
fn a_minute_is_remembered_and_no_more() {
    let mut screen = Screen::default();
    for seconds in 1..=200 {
        screen.update(status(seconds));
    }
    assert_eq!(screen.history.len(), 61);
    assert!(screen.minute(30, |h| h.1).iter().all(|bar| *bar > 0.0));
}
