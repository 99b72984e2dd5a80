//! From text to tokens.

use std::net::Ipv6Addr;

/// A piece of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Word(String),
    /// A word behind a backslash: a name, not a keyword.
    Name(String),
    Number(u32),
    /// An IPv4 address, or its first bytes: value, how many.
    Dotted(u32, u8),
    V6(Ipv6Addr),
    Mac([u8; 6]),
    Sign(&'static str),
}

impl Token {
    /// As it is named in errors.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("{word:?}"),
            Self::Name(name) => format!("\"\\{name}\""),
            Self::Number(n) => format!("the number {n}"),
            Self::Dotted(..) | Self::V6(_) => "an address".to_owned(),
            Self::Mac(_) => "a MAC address".to_owned(),
            Self::Sign(sign) => format!("{sign:?}"),
        }
    }
}

/// Longer ones first.
const SIGNS: [&str; 27] = [
    "&&", "||", "<<", ">>", "<=", ">=", "==", "!=", "=", "<", ">", "!", "(", ")", "[", "]", ":",
    "+", "-", "*", "/", "%", "&", "|", "^", "~", ",",
];

/// All tokens, with the bytes at which each begins and ends; or where there is none, and why.
#[allow(clippy::type_complexity)]
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, (usize, String)> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (token, len) = next(&text[at..]).map_err(|what| (at, what))?;
        tokens.push((at, token));
        at += len;
    }
    Ok(tokens)
}

fn next(rest: &str) -> Result<(Token, usize), String> {
    if let Some(found) = address(rest)? {
        return Ok(found);
    }
    let c = rest.chars().next().unwrap_or(' ');
    if c.is_ascii_digit() {
        return number(rest);
    }
    if c.is_ascii_alphabetic() {
        let word = word(rest);
        return Ok((Token::Word(word.to_owned()), word.len()));
    }
    if let Some(name) = rest.strip_prefix('\\').map(word).filter(|n| !n.is_empty()) {
        return Ok((Token::Name(name.to_owned()), 1 + name.len()));
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) => Ok((Token::Sign(sign), sign.len())),
        None => Err(format!("{c:?} means nothing here")),
    }
}

/// The longest beginning of which all characters are such.
fn span(text: &str, of: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c: char| !of(c)).unwrap_or(text.len());
    &text[..end]
}

fn word(rest: &str) -> &str {
    span(rest, |c| c.is_ascii_alphanumeric() || "-_.".contains(c)).trim_end_matches(['-', '.'])
}

/// What has the form of an address, whole or, for IPv4, in part.
fn address(rest: &str) -> Result<Option<(Token, usize)>, String> {
    let colons = span(rest, |c| c.is_ascii_hexdigit() || c == ':' || c == '.');
    if let Some(mac) = mac(colons) {
        return Ok(Some((Token::Mac(mac), colons.len())));
    }
    if colons.matches(':').count() >= 2
        && let Ok(v6) = colons.parse()
    {
        return Ok(Some((Token::V6(v6), colons.len())));
    }
    let dotted = span(rest, |c| c.is_ascii_digit() || c == '.');
    let parts: Vec<_> = dotted.split('.').collect();
    if parts.len() < 2 {
        return Ok(None);
    }
    let bytes: Result<Vec<u8>, _> = parts.iter().map(|part| part.parse()).collect();
    let after = rest[dotted.len()..].chars().next();
    match bytes {
        Ok(bytes) if bytes.len() <= 4 && !after.is_some_and(|c| c.is_ascii_alphanumeric()) => {
            let value = bytes.iter().fold(0, |v, b| v << 8 | u32::from(*b));
            let token = Token::Dotted(value, bytes.len() as u8);
            Ok(Some((token, dotted.len())))
        }
        _ => Err(format!("{:?} is no IPv4 address", word(rest))),
    }
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| (1..=2).contains(&part.len()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Decimal, hexadecimal behind `0x`, octal behind `0`.
fn number(rest: &str) -> Result<(Token, usize), String> {
    let text = span(rest, |c| c.is_ascii_alphanumeric());
    let lower = text.to_ascii_lowercase();
    let value = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(hex), _) => u32::from_str_radix(hex, 16),
        (None, Some(octal)) if !octal.is_empty() => u32::from_str_radix(octal, 8),
        _ => lower.parse(),
    };
    match value {
        Ok(value) => Ok((Token::Number(value), text.len())),
        Err(_) => Err(format!("{text:?} is no number of 32 bits")),
    }
}
