//! A server in front of a real engine, and clients that are not always kind.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use linecard_engine::{Engine, EngineConfig, Idle, Running, Verdict};
use linecard_hal::Mbuf;

use super::*;

/// An engine that has nothing to do, its server, and where that is.
struct Rig {
    // The server goes first.
    server: Server,
    running: Running,
    /// Its only port's.
    name: String,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        // Tests run side by side, and a link has two ends.
        static RIGS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("sim:control{}", RIGS.fetch_add(1, Ordering::Relaxed));
        let port = crate::open(&name).unwrap();
        let config = EngineConfig {
            idle: Idle::Sleep,
            pin: false,
            pool_size: Some(512),
            ..EngineConfig::default()
        };
        let running = Engine::new(vec![port], config)
            .unwrap()
            .start(|_| Box::new(|_: &mut Mbuf| Verdict::Consume))
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let socket = Socket::bind(&Place::Path(path.clone())).unwrap();
        let config = Config::new("test")
            .socket(socket)
            .metrics(TcpListener::bind("127.0.0.1:0").unwrap());
        let server = Server::start(config, Box::new(running.remote())).unwrap();
        Self {
            server,
            running,
            name,
            path,
            _dir: dir,
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.path).unwrap()
    }

    /// A connection that says what it likes.
    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).unwrap();
        stream
    }

    fn scrape(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.server.metrics().unwrap()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        // As `printf … | nc` does.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

/// The next line.
fn line(stream: &mut UnixStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn status_and_what_is_refused() {
    let rig = Rig::new();
    let mut client = rig.client();
    assert_eq!(
        (client.hello.command.as_str(), client.hello.name.as_str()),
        ("test", "a")
    );
    let status = client.status().unwrap();
    assert_eq!(status.report.ports[0].name, rig.name);
    assert_eq!(status.clients.connected, 1);
    for (request, says) in [
        (
            Request::Rate {
                rate: "1kpps".into(),
            },
            "no rate to set",
        ),
        (
            Request::Log {
                filter: "debug".into(),
            },
            "cannot be changed",
        ),
        (
            Request::AddRule {
                rule: "0: => drop".into(),
            },
            "takes no flow rules",
        ),
        (
            Request::AddRule {
                rule: "proto=udp => drop".into(),
            },
            "begin with a port's number",
        ),
        (
            Request::RemoveRule { rule: 4 },
            "there is no rule 4; there are none at all",
        ),
        (Request::Capture, "there is no capture"),
        (Request::CaptureStop, "there is no capture"),
    ] {
        match client.ask(request.clone()) {
            Err(ClientError::Refused(why)) => assert!(why.contains(says), "{request:?}: {why}"),
            other => panic!("{request:?}: {other:?}"),
        }
    }
    assert!(matches!(client.ask(Request::Rules), Ok(Reply::Rules(rules)) if rules.is_empty()));
    assert!(matches!(client.ask(Request::Stop), Ok(Reply::Done(_))));
    while !rig.running.is_finished() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn lines_come_in_pieces_or_many_at_once() {
    let rig = Rig::new();
    let mut stream = rig.raw();
    assert!(line(&mut stream).contains("\"protocol\":1"));
    for piece in ["{\"id\":1,", "\"do\":", "\"rules\"}", "\n"] {
        stream.write_all(piece.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(line(&mut stream), r#"{"id":1,"rules":[]}"#);
    let many: String = (0..300)
        .map(|id| format!("{{\"id\":{id},\"do\":\"rules\"}}\n\n"))
        .collect();
    let mut writer = stream.try_clone().unwrap();
    let thread = std::thread::spawn(move || writer.write_all(many.as_bytes()).unwrap());
    for id in 0..300 {
        assert_eq!(line(&mut stream), format!("{{\"id\":{id},\"rules\":[]}}"));
    }
    thread.join().unwrap();
    // Half a request, and then only a listener.
    stream.write_all(b"{\"do\":\"rules\"}\n{\"do\"").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "{\"rules\":[]}\n");
}

#[test]
fn garbage_is_answered_and_too_much_of_it_is_not() {
    let rig = Rig::new();
    let mut stream = rig.raw();
    line(&mut stream);
    stream
        .write_all(b"\xff\xfe\x00 what?\n{\"do\":\"rules\"}\n")
        .unwrap();
    assert!(line(&mut stream).contains("not a request"));
    assert_eq!(line(&mut stream), r#"{"rules":[]}"#);
    // It may be gone before all is written.
    let _: std::io::Result<()> = stream.write_all(&vec![b'x'; 1 << 20]);
    let mut text = Vec::new();
    let _: std::io::Result<usize> = stream.read_to_end(&mut text);
    assert_eq!(rig.client().status().unwrap().clients.dropped, 1);
}

#[test]
fn who_does_not_read_is_sent_away_and_others_are_served() {
    let rig = Rig::new();
    let mut deaf = rig.raw();
    deaf.write_all(b"{\"do\":\"watch\",\"interval_ms\":1}\n")
        .unwrap();
    let mut shouting = rig.raw();
    shouting.set_nonblocking(true).unwrap();
    let mut client = rig.client();
    let start = Instant::now();
    loop {
        // Fills every buffer on the way, if it can.
        let _: std::io::Result<usize> = shouting.write(&b"{\"do\":\"status\"}\n".repeat(100));
        let clients = client.status().unwrap().clients;
        if clients.dropped == 2 {
            assert!(clients.skipped > 0, "{clients:?}");
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{clients:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_watch_goes_on_until_the_engine_ends() {
    let rig = Rig::new();
    let mut snapshots = rig.client().watch(Duration::from_millis(100)).unwrap();
    let seen: Vec<f64> = snapshots
        .by_ref()
        .take(3)
        .map(|s| s.unwrap().report.duration_s)
        .collect();
    assert!(seen.is_sorted() && seen[0] < seen[2], "{seen:?}");
    let path = rig.path.clone();
    drop(rig);
    assert!(snapshots.find(Result::is_err).is_some());
    assert!(!path.exists(), "its name is gone with it");
}

#[test]
fn there_are_only_so_many_clients() {
    let rig = Rig::new();
    let clients: Vec<_> = (0..16).map(|_| rig.client()).collect();
    let refused = Client::connect(&rig.path).unwrap_err().to_string();
    assert!(refused.contains("16 clients already"), "{refused}");
    drop(clients);
    // They are gone as soon as the server has looked.
    while Client::connect(&rig.path).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn metrics_in_both_formats() {
    let rig = Rig::new();
    let open = rig.scrape("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n");
    let (head, body) = open.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    check::open_metrics(body);
    let counter = format!(
        "linecard_port_rx_packets_total{{port=\"{}\"}} 0\n",
        rig.name
    );
    assert!(body.contains(&counter), "{body}");
    let text = rig.scrape("GET /metrics HTTP/1.1\r\n\r\n");
    assert!(text.contains("text/plain; version=0.0.4"), "{text}");
    assert!(
        text.contains("# TYPE linecard_port_rx_packets_total counter\n"),
        "{text}"
    );
    assert!(!text.contains("# EOF"));
    assert!(
        rig.scrape("GET / HTTP/1.1\r\n\r\n")
            .starts_with("HTTP/1.1 404")
    );
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(1 << 16));
    let mut stream = TcpStream::connect(rig.server.metrics().unwrap()).unwrap();
    let _: std::io::Result<()> = stream.write_all(long.as_bytes());
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}

#[test]
fn streams_of_one_name_are_two_series() {
    let mut status = Rig::new().client().status().unwrap();
    let stream = |index, sent, unsent| StreamStatus {
        name: "a".into(),
        index,
        rate: "max".into(),
        sent,
        unsent,
        late: 0,
        received: Some(1),
        lost: Some(1),
    };
    status.streams = vec![
        stream(Some(3), 5, 7),
        stream(Some(7), 6, 0),
        stream(None, 8, 0),
    ];
    status.capture = Some(CaptureStatus {
        drops: 3,
        ..CaptureStatus::default()
    });
    let text = render_metrics(&status, Format::Open);
    check::open_metrics(&text);
    for line in [
        "linecard_stream_sent_packets_total{stream=\"a\",index=\"7\"} 6\n",
        "linecard_stream_sent_packets_total{stream=\"a\"} 8\n",
        "# TYPE linecard_stream_lost_packets gauge\n",
        "linecard_stream_lost_packets{stream=\"a\",index=\"3\"} 1\n",
        // Of a sink as well.
        "# HELP linecard_stream_received_packets Frames received.\n",
        "linecard_generator_unsent_packets_total 7\n",
        "linecard_capture_dropped_packets_total 3\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn causes_are_told_once() {
    let missing = Client::connect(std::path::Path::new("/nowhere/a.sock")).unwrap_err();
    let Refused(text) = Refused::chain(&missing);
    assert!(
        text.starts_with("no answer from /nowhere/a.sock: "),
        "{text}"
    );
    assert_eq!(text.matches("No such file").count(), 1, "{text}");
}

#[test]
fn readers_that_hang_do_not_keep_others_out() {
    let rig = Rig::new();
    let hanging: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(rig.server.metrics().unwrap()).unwrap();
            stream.write_all(b"GET /metr").unwrap();
            stream
        })
        .collect();
    assert!(rig.client().status().is_ok());
    assert!(
        rig.scrape("GET /metrics HTTP/1.1\r\n\r\n")
            .contains("linecard_uptime_seconds")
    );
    drop(hanging);
}

/// A strict reader of OpenMetrics 1.0, as far as it is used here.
mod check {
    use std::collections::BTreeSet;

    pub(super) fn open_metrics(text: &str) {
        let body = text.strip_suffix("# EOF\n").expect("the end");
        let (mut family, mut kind) = (String::new(), String::new());
        let (mut families, mut samples) = (BTreeSet::new(), BTreeSet::new());
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, of) = rest.split_once(' ').expect(line);
                assert!(families.insert(name.to_owned()), "twice: {line}");
                (family, kind) = (name.to_owned(), of.to_owned());
                assert!(["counter", "gauge", "info"].contains(&of), "{line}");
                assert!(
                    !name.ends_with("_total") && !name.ends_with("_info"),
                    "{line}"
                );
            } else if let Some(rest) = line.strip_prefix("# UNIT ") {
                let (name, unit) = rest.split_once(' ').expect(line);
                assert!(
                    name == family && name.ends_with(&format!("_{unit}")),
                    "{line}"
                );
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                assert!(rest.starts_with(&format!("{family} ")), "{line}");
            } else {
                sample(line, &family, &kind);
                let (series, _) = line.rsplit_once(' ').unwrap();
                assert!(samples.insert(series.to_owned()), "twice: {line}");
            }
        }
        assert!(samples.len() > 20, "{text}");
    }

    fn sample(line: &str, family: &str, kind: &str) {
        let (series, value) = line.rsplit_once(' ').expect(line);
        let value: f64 = value.parse().expect(line);
        assert!(
            value.is_finite() && (kind != "counter" || value >= 0.0),
            "{line}"
        );
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        assert_eq!(name, format!("{family}{suffix}"), "{line}");
        assert!(
            name.starts_with("linecard_")
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
            "{line}"
        );
        let labels = labels.strip_suffix('}').expect(line);
        let mut rest = labels;
        while !rest.is_empty() {
            let (label, value) = rest.split_once("=\"").expect(line);
            assert!(
                label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{line}"
            );
            let end = closing_quote(value).expect(line);
            rest = value[end + 1..]
                .strip_prefix(',')
                .unwrap_or(&value[end + 1..]);
        }
    }

    fn closing_quote(text: &str) -> Option<usize> {
        let mut escaped = false;
        text.bytes().position(|byte| {
            let found = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            found
        })
    }
}
