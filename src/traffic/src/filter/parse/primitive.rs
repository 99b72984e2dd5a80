//! Primitives: the words before an address or a number, and those that need none.

use super::address::proto_number;
use super::{Kind, MOST_TERMS, Parsed, Parser, Qualifiers};
use crate::filter::compile::{Check, Sign, Tree, Value};
use crate::filter::lex::Token;
use crate::filter::meaning::{Side, ethernet_host};
use crate::filter::words::Proto;

impl Parser {
    pub(super) fn primitive(&mut self) -> Parsed<Tree> {
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
}
