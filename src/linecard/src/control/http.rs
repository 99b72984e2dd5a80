//! As much of HTTP/1.1 (RFC 9112) as a reader of metrics needs: one GET, one answer, the end.

use super::metrics::Format;

/// What somebody asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// `/metrics`, and in which format; without the content for HEAD.
    Metrics { format: Format, head: bool },
    /// Something else: the status line's number and reason, and a hint.
    Wrong(&'static str, &'static str),
}

/// Takes the head of a request as soon as it is whole. `full` says that it can get no longer.
pub(super) fn parse(input: &mut Vec<u8>, full: bool) -> Option<Request> {
    let end = input.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else {
        let why = "the head of the request is too long";
        return full.then_some(Request::Wrong("431 Request Header Fields Too Large", why));
    };
    let head: Vec<u8> = input.drain(..end + 4).collect();
    Some(match std::str::from_utf8(&head) {
        Ok(head) => understand(head),
        Err(_) => Request::Wrong("400 Bad Request", "the head is not text"),
    })
}

fn understand(head: &str) -> Request {
    let mut lines = head.split("\r\n");
    let words: Vec<_> = lines.next().unwrap_or("").split(' ').collect();
    let [method, target, version] = words[..] else {
        return Request::Wrong("400 Bad Request", "not a request line");
    };
    if !version.starts_with("HTTP/1.") {
        return Request::Wrong("505 HTTP Version Not Supported", "this is HTTP/1.1");
    }
    if !matches!(method, "GET" | "HEAD") {
        return Request::Wrong("405 Method Not Allowed", "GET /metrics");
    }
    let path = target.split('?').next().unwrap_or("");
    if path != "/metrics" {
        return Request::Wrong("404 Not Found", "the metrics are at /metrics");
    }
    let accepts = lines.filter_map(|line| line.split_once(':'));
    let accepts = accepts.filter(|(name, _)| name.eq_ignore_ascii_case("accept"));
    let open = accepts
        .flat_map(|(_, value)| value.split(','))
        .any(takes_open);
    Request::Metrics {
        format: if open { Format::Open } else { Format::Text },
        head: method == "HEAD",
    }
}

/// Whether one range of an Accept field means OpenMetrics. Whoever only says `*/*` may not know it.
fn takes_open(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next().unwrap_or("");
    let weight = parts.find_map(|p| p.strip_prefix("q=")).unwrap_or("1");
    kind.eq_ignore_ascii_case("application/openmetrics-text")
        && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
}

/// The whole answer.
pub(super) fn respond(request: &Request, metrics: impl FnOnce(Format) -> String) -> Vec<u8> {
    let (status, kind, body, head) = match request {
        Request::Metrics { format, head } => {
            ("200 OK", format.content_type(), metrics(*format), *head)
        }
        Request::Wrong(status, hint) => {
            let kind = "text/plain; charset=utf-8";
            (*status, kind, format!("{hint}\n"), false)
        }
    };
    let allow = if status.starts_with("405") {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    let length = body.len();
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    );
    if !head {
        response += &body;
    }
    response.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Request> {
        parse(&mut text.as_bytes().to_vec(), false)
    }

    #[test]
    fn the_format_follows_what_is_accepted() {
        let of = |accept: &str| {
            let head = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{accept}\r\n");
            match parsed(&head) {
                Some(Request::Metrics {
                    format,
                    head: false,
                }) => format,
                other => panic!("{other:?}"),
            }
        };
        let prometheus = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1\r\n";
        assert_eq!(of(prometheus), Format::Open);
        assert_eq!(
            of("accept: text/plain,application/openmetrics-text\r\n"),
            Format::Open
        );
        assert_eq!(
            of("Accept: application/openmetrics-text;q=0\r\n"),
            Format::Text
        );
        assert_eq!(of("Accept: */*\r\n"), Format::Text);
        assert_eq!(of(""), Format::Text);
    }

    #[test]
    fn anything_else_is_answered_as_what_it_is() {
        for (head, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("GET /metrics HTTP/2.0\r\n\r\n", "505"),
            ("GET /metrics\r\n\r\n", "400"),
            ("\r\n\r\n", "400"),
        ] {
            let Some(Request::Wrong(got, _)) = parsed(head) else {
                panic!("{head:?}");
            };
            assert!(got.starts_with(status), "{head:?}: {got}");
        }
        assert_eq!(parsed("GET /metrics HTTP/1.1\r\nHost:"), None);
        let Some(Request::Wrong(got, _)) = parse(&mut vec![0xff; 100], true) else {
            panic!("too long");
        };
        assert!(got.starts_with("431"));
        assert!(parse(&mut b"\xff\r\n\r\n".to_vec(), false).is_some());
    }

    #[test]
    fn head_has_the_length_and_nothing_else() {
        let request = Request::Metrics {
            format: Format::Text,
            head: true,
        };
        let response = respond(&request, |_| "12345".into());
        let text = String::from_utf8(response).unwrap();
        assert!(text.contains("Content-Length: 5\r\n") && text.ends_with("\r\n\r\n"));
    }
}
