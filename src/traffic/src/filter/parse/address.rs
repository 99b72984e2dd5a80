//! Addresses, nets, ports and protocols by number, with what was said of them.

use super::{Kind, Parsed, Parser, Qualifiers};
use crate::filter::compile::Tree;
use crate::filter::lex::Token;
use crate::filter::meaning::ethernet_host;
use crate::filter::words::{Family, Proto, SCTP, TCP, UDP};

impl Parser {
    /// An address or a number, with what was said of it.
    pub(super) fn id(&mut self, said: Qualifiers) -> Parsed<Tree> {
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
pub(super) fn proto_number(name: &str) -> Option<(Option<u32>, Option<u32>)> {
    match Proto::of(name)? {
        Proto::Link => None,
        Proto::Over(number, _) => Some((None, Some(u32::from(number)))),
        other => Some((other.ethertype().map(u32::from), None)),
    }
}
