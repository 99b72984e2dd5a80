//! From tokens to an expression.

use super::FilterError;
use super::compile::{Check, Operator, Place, Sign, Tree, Value};
use super::lex::{Token, tokens};
use super::meaning::{Layout, Side, ethernet_host};
use super::words::{ABSENT, Family, Proto, SCTP, TCP, UDP, constant};

/// Deeper than anybody nests, and far from the end of a thread's stack.
const MOST_NESTED: u32 = 100;

/// The same for what stands side by side.
const MOST_TERMS: u32 = 1000;

/// The expression; `None` for all frames.
pub(super) fn parse(text: &str) -> Result<Option<Tree>, FilterError> {
    let wrong = |(at, what): Wrong| FilterError {
        text: text.to_owned(),
        at,
        what,
    };
    let tokens = tokens(text).map_err(wrong)?;
    if tokens.is_empty() {
        return Ok(None);
    }
    let mut parser = Parser {
        tokens,
        at: 0,
        end: text.trim_end().len(),
        layout: Layout::default(),
        last: Qualifiers::default(),
        nested: 0,
        terms: 0,
    };
    let tree = parser.expression().map_err(wrong)?;
    match parser.peek() {
        None => Ok(Some(tree)),
        Some(_) => Err(wrong(parser.unexpected("\"and\", \"or\" or the end"))),
    }
}

/// Where, and what is wrong.
type Wrong = (usize, String);

type Parsed<T> = Result<T, Wrong>;

/// What an address or a number is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Unsaid,
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

/// What stands before an address or a number.
#[derive(Debug, Clone, Copy, Default)]
struct Qualifiers {
    proto: Option<Proto>,
    side: Option<Side>,
    kind: Kind,
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    /// Bytes of the text.
    end: usize,
    layout: Layout,
    /// Those of the last address, which one without any takes over.
    last: Qualifiers,
    nested: u32,
    terms: u32,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn peek_second(&self) -> Option<&Token> {
        self.tokens.get(self.at + 1).map(|(_, token)| token)
    }

    /// Where the next token begins in the text.
    fn place(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(at, _)| *at)
    }

    fn error<T>(&self, what: impl Into<String>) -> Parsed<T> {
        Err((self.place(), what.into()))
    }

    fn unexpected(&self, wanted: &str) -> Wrong {
        let found = match self.peek() {
            Some(Token::Word(word)) if ABSENT.contains(&word.as_str()) => {
                return (self.place(), format!("{word:?} is not supported"));
            }
            Some(token) => token.describe(),
            None => "the end".to_owned(),
        };
        (self.place(), format!("expected {wanted}, not {found}"))
    }

    fn take_sign(&mut self, signs: &[&str]) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(sign)) if signs.contains(sign));
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w == word);
        self.at += usize::from(found);
        found
    }

    fn need_sign(&mut self, sign: &'static str) -> Parsed<()> {
        if self.take_sign(&[sign]) {
            return Ok(());
        }
        Err(self.unexpected(&format!("{sign:?}")))
    }

    /// Runs something one level deeper.
    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nested == MOST_NESTED {
            return self.error(format!("nested more than {MOST_NESTED} times"));
        }
        self.nested += 1;
        let result = run(self);
        self.nested -= 1;
        result
    }

    /// Terms with `and` and `or`, which bind alike.
    fn expression(&mut self) -> Parsed<Tree> {
        let mut tree = self.term()?;
        loop {
            if self.take_word("and") || self.take_sign(&["&&"]) {
                tree = tree.and(self.term()?);
            } else if self.take_word("or") || self.take_sign(&["||"]) {
                tree = tree.or(self.term()?);
            } else {
                return Ok(tree);
            }
        }
    }

    fn term(&mut self) -> Parsed<Tree> {
        self.terms += 1;
        if self.terms > MOST_TERMS {
            return self.error(format!("more than {MOST_TERMS} terms"));
        }
        if self.take_word("not") || self.take_sign(&["!"]) {
            return self.deeper(|p| Ok(p.term()?.negated()));
        }
        if let Some(found) = self.relation()? {
            return Ok(found);
        }
        if self.take_sign(&["("]) {
            let tree = self.deeper(Self::expression)?;
            self.need_sign(")")?;
            return Ok(tree);
        }
        self.primitive()
    }

    // --- primitives -----------------------------------------------------------------------------

    fn primitive(&mut self) -> Parsed<Tree> {
        if let Some(simple) = self.simple()? {
            return Ok(simple);
        }
        let start = self.at;
        let proto = match self.peek() {
            Some(Token::Word(word)) => Proto::of(word),
            _ => None,
        };
        self.at += usize::from(proto.is_some());
        for (word, group) in [("broadcast", false), ("multicast", true)] {
            let here = self.at;
            if self.take_word(word) {
                return self.group(proto, group).ok_or_else(|| {
                    let what = format!("there is no {word} of this protocol to look for");
                    (self.tokens[here].0, what)
                });
            }
        }
        let side = self.side()?;
        let kind = self.kind();
        let qualified = side.is_some() || kind != Kind::Unsaid;
        if self.begins_id() {
            if proto.is_some() || qualified {
                self.last = Qualifiers { proto, side, kind };
            }
            return self.id(self.last);
        }
        // Several, in parentheses, of the same kind.
        if (proto.is_some() || qualified) && self.take_sign(&["("]) {
            self.last = Qualifiers { proto, side, kind };
            let tree = self.deeper(|p| p.ids(p.last))?;
            self.need_sign(")")?;
            return Ok(tree);
        }
        match proto {
            Some(proto) if !qualified => match self.layout.protocol(proto) {
                Some(tree) => Ok(tree),
                None => Err(self.unexpected("host, src, dst, proto, broadcast or multicast")),
            },
            _ if self.at == start => {
                Err(self.unexpected("a primitive, such as \"udp\" or \"host 10.0.0.1\""))
            }
            _ => Err(self.unexpected("an address or a number")),
        }
    }

    /// Those that qualify nothing.
    fn simple(&mut self) -> Parsed<Option<Tree>> {
        if self.take_word("vlan") {
            let id = match self.peek() {
                Some(&Token::Number(n)) => Some(n),
                _ => None,
            };
            if id.is_some_and(|id| id > 0x0fff) {
                return self.error("a VLAN has a number from 0 to 4095");
            }
            self.at += usize::from(id.is_some());
            return Ok(Some(self.layout.tag(id.map(|id| id as u16))));
        }
        for (word, sign) in [
            ("less", Sign::LessOrEqual),
            ("greater", Sign::GreaterOrEqual),
        ] {
            if self.take_word(word) {
                let Some(&Token::Number(n)) = self.peek() else {
                    return Err(self.unexpected("a length in bytes"));
                };
                self.at += 1;
                let (left, right) = (Value::Length, Value::Number(n));
                return Ok(Some(Tree::Check(Check::Relation { sign, left, right })));
            }
        }
        Ok(None)
    }

    fn group(&self, proto: Option<Proto>, multicast: bool) -> Option<Tree> {
        match proto {
            _ if multicast => self.layout.multicast(proto),
            None | Some(Proto::Link) => Some(ethernet_host(Side::Destination, [0xff; 6])),
            Some(_) => None,
        }
    }

    fn side(&mut self) -> Parsed<Option<Side>> {
        let one = |p: &mut Self| {
            if p.take_word("src") {
                Some(Side::Source)
            } else if p.take_word("dst") {
                Some(Side::Destination)
            } else {
                None
            }
        };
        let Some(first) = one(self) else {
            return Ok(None);
        };
        // "src or dst", but not "src or host …".
        let joined = match self.peek() {
            Some(Token::Word(word)) if word == "or" => Some(Side::Either),
            Some(Token::Word(word)) if word == "and" => Some(Side::Both),
            Some(Token::Sign("||")) => Some(Side::Either),
            Some(Token::Sign("&&")) => Some(Side::Both),
            _ => None,
        };
        let Some(joined) = joined else {
            return Ok(Some(first));
        };
        self.at += 1;
        match one(self) {
            Some(second) if second != first => Ok(Some(joined)),
            _ => Err(self.unexpected("\"src or dst\" or \"src and dst\"")),
        }
    }

    fn kind(&mut self) -> Kind {
        let kinds = [
            ("host", Kind::Host),
            ("net", Kind::Net),
            ("port", Kind::Port),
            ("portrange", Kind::PortRange),
            ("proto", Kind::Proto),
        ];
        for (word, kind) in kinds {
            if self.take_word(word) {
                return kind;
            }
        }
        Kind::Unsaid
    }

    fn begins_id(&self) -> bool {
        match self.peek() {
            Some(Token::Sign(_)) | None => false,
            Some(Token::Word(word)) => {
                // After `proto`, a name; elsewhere a word is the next keyword, or nothing.
                let before = self.at.checked_sub(1).map(|at| &self.tokens[at].1);
                matches!(before, Some(Token::Word(w)) if w == "proto")
                    && proto_number(word).is_some()
            }
            Some(_) => true,
        }
    }

    /// Addresses or numbers with `and`, `or` and `not` between them.
    fn ids(&mut self, as_said: Qualifiers) -> Parsed<Tree> {
        let mut tree = self.one_of(as_said)?;
        loop {
            if self.take_word("and") || self.take_sign(&["&&"]) {
                tree = tree.and(self.one_of(as_said)?);
            } else if self.take_word("or") || self.take_sign(&["||"]) {
                tree = tree.or(self.one_of(as_said)?);
            } else {
                return Ok(tree);
            }
        }
    }

    fn one_of(&mut self, as_said: Qualifiers) -> Parsed<Tree> {
        self.terms += 1;
        if self.terms > MOST_TERMS {
            return self.error(format!("more than {MOST_TERMS} terms"));
        }
        if self.take_word("not") || self.take_sign(&["!"]) {
            return self.deeper(|p| Ok(p.one_of(as_said)?.negated()));
        }
        if self.take_sign(&["("]) {
            let tree = self.deeper(|p| p.ids(as_said))?;
            self.need_sign(")")?;
            return Ok(tree);
        }
        if matches!(self.peek(), None | Some(Token::Sign(_) | Token::Word(_))) {
            return Err(self.unexpected("an address or a number"));
        }
        self.id(as_said)
    }

    /// An address or a number, with what was said of it.
    fn id(&mut self, said: Qualifiers) -> Parsed<Tree> {
        let start = self.at;
        let token = self.peek().cloned();
        self.at += 1;
        let side = said.side.unwrap_or_default();
        let result = match (said.kind, token) {
            (Kind::Port, Some(Token::Number(port))) => self.ports(said, port, port),
            (Kind::PortRange, Some(Token::Number(low))) => {
                let high = match (self.take_sign(&["-"]), self.peek()) {
                    (true, Some(&Token::Number(high))) => high,
                    _ => return Err(self.unexpected("a range, such as 1000-2000")),
                };
                self.at += 1;
                self.ports(said, low.min(high), low.max(high))
            }
            (Kind::Port | Kind::PortRange, _) => Err("a port is a number here".to_owned()),
            (Kind::Proto, Some(Token::Number(number))) => self.numbered(said, number),
            (Kind::Proto, Some(Token::Word(name) | Token::Name(name))) => match proto_number(&name)
            {
                Some((ethertype, number)) => {
                    let wanted = if said.proto == Some(Proto::Link) {
                        ethertype
                    } else {
                        number
                    };
                    match wanted {
                        Some(number) => self.numbered(said, number),
                        None => Err(format!("{name:?} is not a protocol on this layer")),
                    }
                }
                None => Err(format!(
                    "{name:?} is no protocol known here; give its number"
                )),
            },
            (Kind::Unsaid | Kind::Host, Some(Token::Mac(mac))) => match said.proto {
                Some(Proto::Link) => Ok(ethernet_host(side, mac)),
                _ => Err("a MAC address needs \"ether\" in front: ether host …".to_owned()),
            },
            (_, Some(Token::V6(address))) => return self.host6(said, address.to_bits(), start),
            (_, Some(Token::Number(number))) => {
                return self.host4(said, number, number_parts(said, number), start);
            }
            (_, Some(Token::Dotted(value, parts))) => return self.host4(said, value, parts, start),
            (_, Some(Token::Name(name))) => Err(format!("names are not looked up: {name:?}")),
            _ => Err("expected an address".to_owned()),
        };
        result.map_err(|what| (self.tokens[start].0, what))
    }

    fn ports(&self, said: Qualifiers, low: u32, high: u32) -> Result<Tree, String> {
        let number = match said.proto {
            None => None,
            Some(Proto::Over(number @ (TCP | UDP | SCTP), _)) => Some(number),
            Some(_) => return Err("only tcp, udp and sctp have ports".to_owned()),
        };
        match (u16::try_from(low), u16::try_from(high)) {
            (Ok(low), Ok(high)) => {
                Ok(self
                    .layout
                    .ports(number, said.side.unwrap_or_default(), (low, high)))
            }
            _ => Err(format!("there is no port {high}")),
        }
    }

    /// A protocol by its number.
    fn numbered(&self, said: Qualifiers, number: u32) -> Result<Tree, String> {
        if said.side.is_some() {
            return Err("a protocol has no src or dst".to_owned());
        }
        if said.proto == Some(Proto::Link) {
            return match u16::try_from(number) {
                Ok(number @ 1501..) => Ok(self.layout.ethertype(number)),
                Ok(_) => Err("LLC, with numbers up to 1500, is not supported".to_owned()),
                Err(_) => Err(format!("there is no EtherType {number}")),
            };
        }
        let family = match said.proto {
            None => Family::Both,
            Some(Proto::Ip) => Family::V4,
            Some(Proto::Ip6) => Family::V6,
            Some(_) => return Err("only ether, ip and ip6 have protocols by number".to_owned()),
        };
        match u8::try_from(number) {
            Ok(number) => Ok(self.layout.number(number, family)),
            Err(_) => Err(format!("there is no IP protocol {number}")),
        }
    }

    fn host4(&mut self, said: Qualifiers, value: u32, parts: u8, start: usize) -> Parsed<Tree> {
        let place = self.tokens[start].0;
        let wrong = |what: &str| Err((place, what.to_owned()));
        let missing = 8 * (4 - u32::from(parts.clamp(1, 4)));
        let (value, mut mask) = (value << missing, u32::MAX << missing);
        if said.kind == Kind::Proto {
            return wrong("a protocol is a number, not an address");
        }
        if let Some(given) = self.mask()? {
            if said.kind != Kind::Net {
                return wrong("only a net has a mask: net 10.0.0.0/8");
            }
            mask = match given {
                Mask::Bits(bits @ 0..=32) => u32::MAX.checked_shl(32 - bits).unwrap_or(0),
                Mask::Bits(_) => return wrong("an IPv4 prefix has at most 32 bits"),
                Mask::Value(mask) => mask,
            };
            if value & !mask != 0 {
                return wrong("there are bits set that are not of the net");
            }
        }
        let side = said.side.unwrap_or_default();
        match self.layout.host4(said.proto, side, value, mask) {
            Some(tree) => Ok(tree),
            None => wrong("an IPv4 address is of ip, arp or rarp only"),
        }
    }

    fn host6(&mut self, said: Qualifiers, value: u128, start: usize) -> Parsed<Tree> {
        let place = self.tokens[start].0;
        let wrong = |what: &str| Err((place, what.to_owned()));
        if said.kind == Kind::Proto {
            return wrong("a protocol is a number, not an address");
        }
        let mut mask = u128::MAX;
        if let Some(given) = self.mask()? {
            if said.kind != Kind::Net {
                return wrong("only a net has a mask: net fd00::/8");
            }
            mask = match given {
                Mask::Bits(bits @ 0..=128) => u128::MAX.checked_shl(128 - bits).unwrap_or(0),
                _ => return wrong("an IPv6 prefix is a number of at most 128 bits"),
            };
            if value & !mask != 0 {
                return wrong("there are bits set that are not of the net");
            }
        }
        match said.proto {
            None | Some(Proto::Ip6) => {
                let side = said.side.unwrap_or_default();
                Ok(self.layout.host6(side, value, mask))
            }
            Some(_) => wrong("an IPv6 address is of ip6 only"),
        }
    }

    /// `/8`, or `mask 255.0.0.0`.
    fn mask(&mut self) -> Parsed<Option<Mask>> {
        let slash = self.take_sign(&["/"]);
        if !slash && !self.take_word("mask") {
            return Ok(None);
        }
        let mask = match self.peek() {
            Some(&Token::Number(bits)) if slash => Mask::Bits(bits),
            Some(&Token::Dotted(value, 4)) if !slash => Mask::Value(value),
            _ => return Err(self.unexpected(if slash { "a number of bits" } else { "a mask" })),
        };
        self.at += 1;
        Ok(Some(mask))
    }

    // --- arithmetic -----------------------------------------------------------------------------

    /// A comparison of values, if one begins here.
    fn relation(&mut self) -> Parsed<Option<Tree>> {
        let start = self.at;
        let certain = self.is_value_for_certain();
        if !certain && self.peek() != Some(&Token::Sign("(")) {
            return Ok(None);
        }
        let mut guards = Vec::new();
        match self.comparison(&mut guards) {
            Ok(relation) => {
                // What has to be so for the bytes to be there comes first.
                let all = guards.into_iter().chain([relation]);
                Ok(all.reduce(Tree::and))
            }
            Err(wrong) if certain => Err(wrong),
            // An expression in parentheses.
            Err(_) => {
                self.at = start;
                Ok(None)
            }
        }
    }

    fn is_value_for_certain(&self) -> bool {
        let second = self.peek_second();
        match self.peek() {
            Some(Token::Word(word)) => {
                word == "len"
                    || constant(word).is_some()
                    || (Proto::of(word).is_some() && second == Some(&Token::Sign("[")))
            }
            Some(Token::Sign("-")) => true,
            Some(Token::Number(_)) => {
                matches!(second, Some(Token::Sign(sign)) if !["(", ")", "&&", "||", "!"].contains(sign))
            }
            _ => false,
        }
    }

    fn comparison(&mut self, guards: &mut Vec<Tree>) -> Parsed<Tree> {
        let left = self.value(guards, 0)?;
        let sign = match self.peek() {
            Some(Token::Sign("=" | "==")) => Sign::Equal,
            Some(Token::Sign("!=")) => Sign::NotEqual,
            Some(Token::Sign("<")) => Sign::Less,
            Some(Token::Sign("<=")) => Sign::LessOrEqual,
            Some(Token::Sign(">")) => Sign::Greater,
            Some(Token::Sign(">=")) => Sign::GreaterOrEqual,
            _ => return Err(self.unexpected("a comparison")),
        };
        self.at += 1;
        let right = self.value(guards, 0)?;
        Ok(Tree::Check(Check::Relation { sign, left, right }))
    }

    /// Values with operators that bind at least so tightly.
    fn value(&mut self, guards: &mut Vec<Tree>, least: u8) -> Parsed<Value> {
        let mut left = self.deeper(|p| p.operand(guards))?;
        while let Some((operator, binds)) = self.operator().filter(|(_, binds)| *binds >= least) {
            self.terms += 1;
            if self.terms > MOST_TERMS {
                return self.error(format!("more than {MOST_TERMS} terms"));
            }
            self.at += 1;
            let place = self.place();
            let right = self.deeper(|p| p.value(guards, binds + 1))?;
            let divides = matches!(operator, Operator::Divide | Operator::Remainder);
            if divides && right == Value::Number(0) {
                return Err((place, "division by zero".to_owned()));
            }
            left = Value::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        let Some(Token::Sign(sign)) = self.peek() else {
            return None;
        };
        Some(match *sign {
            "|" => (Operator::Or, 0),
            "^" => (Operator::Xor, 0),
            "&" => (Operator::And, 1),
            "<<" => (Operator::Left, 2),
            ">>" => (Operator::Right, 2),
            "+" => (Operator::Add, 3),
            "-" => (Operator::Subtract, 3),
            "*" => (Operator::Multiply, 4),
            "/" => (Operator::Divide, 4),
            "%" => (Operator::Remainder, 4),
            _ => return None,
        })
    }

    fn operand(&mut self, guards: &mut Vec<Tree>) -> Parsed<Value> {
        if self.take_sign(&["-"]) {
            let value = self.deeper(|p| p.operand(guards))?;
            return Ok(Value::Negative(Box::new(value)));
        }
        if self.take_sign(&["("]) {
            let value = self.value(guards, 0)?;
            self.need_sign(")")?;
            return Ok(value);
        }
        let found = match self.peek() {
            Some(Token::Number(number)) => Value::Number(*number),
            Some(Token::Word(word)) if word == "len" => Value::Length,
            Some(Token::Word(word)) => match (constant(word), Proto::of(word)) {
                (Some(number), _) => Value::Number(number),
                (None, Some(proto)) if self.peek_second() == Some(&Token::Sign("[")) => {
                    self.at += 2;
                    return self.load(proto, guards);
                }
                _ => return Err(self.unexpected("a value")),
            },
            _ => return Err(self.unexpected("a value")),
        };
        self.at += 1;
        Ok(found)
    }

    /// Behind `proto[`.
    fn load(&mut self, proto: Proto, guards: &mut Vec<Tree>) -> Parsed<Value> {
        let (guard, base): (Option<Tree>, Place) = self.layout.bytes_of(proto);
        let at = Box::new(self.value(guards, 0)?);
        guards.extend(guard);
        let mut bytes = 1;
        if self.take_sign(&[":"]) {
            bytes = match self.peek() {
                Some(&Token::Number(n @ (1 | 2 | 4))) => n as u8,
                _ => return Err(self.unexpected("1, 2 or 4 bytes")),
            };
            self.at += 1;
        }
        self.need_sign("]")?;
        Ok(Value::Load { base, at, bytes })
    }
}

enum Mask {
    Bits(u32),
    Value(u32),
}

/// How many bytes of an address a plain number stands for: `net 10` is 10.0.0.0/8, `host 167772161` is 10.0.0.1.
fn number_parts(said: Qualifiers, number: u32) -> u8 {
    if said.kind == Kind::Net {
        4 - (number.leading_zeros() / 8).min(3) as u8
    } else {
        4
    }
}

/// By a protocol's name: its EtherType and its IP protocol number, as far as it has one.
fn proto_number(name: &str) -> Option<(Option<u32>, Option<u32>)> {
    match Proto::of(name)? {
        Proto::Link => None,
        Proto::Over(number, _) => Some((None, Some(u32::from(number)))),
        other => Some((other.ethertype().map(u32::from), None)),
    }
}
