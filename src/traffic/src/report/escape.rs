//! Text from elsewhere (names of hosts and ports, reasons, commands) on its way into a page or a CSV file.

use std::fmt;

/// Text for HTML and SVG, as content or as the value of an attribute in double quotes.
///
/// What browsers do not show, or show as something else (control characters, marks that turn the direction of
/// writing), is replaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            '\n' | '\t' => f.write_char(c),
            _ if is_unseen(c) => f.write_char(char::REPLACEMENT_CHARACTER),
            _ => f.write_char(c),
        })
    }
}

/// Characters without a picture, and those that turn the direction of what follows (CVE-2021-42574).
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A field of a CSV file (RFC 4180), quoted where it has to be. What a spreadsheet would take for a formula gets an
/// apostrophe in front, unless it is a number.
pub(super) fn csv_field(text: &str) -> String {
    let is_formula =
        text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    let text = if is_formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

/// An argument as a shell takes it.
pub(super) fn shell(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,%+@".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a browser makes of it.
    fn shown(html: &str) -> String {
        html.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&amp;", "&")
    }

    /// What a reader of CSV makes of one field.
    fn read_field(field: &str) -> String {
        match field.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').unwrap().replace("\"\"", "\""),
            None => field.to_owned(),
        }
    }

    proptest! {
        #[test]
        fn no_text_becomes_a_tag_or_ends_an_attribute(text in ".*") {
            let html = Escaped(&text).to_string();
            prop_assert!(!html.contains(['<', '>', '"', '\'']), "{html}");
            let visible: String = text.chars().map(|c| if is_unseen(c) && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect();
            prop_assert_eq!(shown(&html), visible);
        }

        #[test]
        fn csv_comes_back(text in "(?s)[=+@,\"\n\r a-z0-9-]{0,12}") {
            let read = read_field(&csv_field(&text));
            prop_assert!(read == text || read.strip_prefix('\'') == Some(&text), "{read:?}");
            prop_assert!(!read.starts_with(['=', '@']), "{read:?}");
        }
    }

    #[test]
    fn numbers_are_no_formulas() {
        assert_eq!(csv_field("-1.5"), "-1.5");
        assert_eq!(csv_field("-1+cmd"), "'-1+cmd");
        assert_eq!(csv_field("a,\"b\""), "\"a,\"\"b\"\"\"");
    }

    #[test]
    fn arguments_can_be_pasted() {
        assert_eq!(shell("--port"), "--port");
        assert_eq!(shell("a b'c"), r"'a b'\''c'");
        assert_eq!(shell(""), "''");
        assert_eq!(shell("xdp:eth1?queues=2"), "'xdp:eth1?queues=2'");
    }
}
