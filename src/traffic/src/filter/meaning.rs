//! What primitives mean, as libpcap has it (`gencode.c`), on Ethernet.

use super::compile::{Check, Place, Tree};
use super::words::{Family, Proto, SCTP, TCP, UDP};

/// Which side of a frame is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
    #[default]
    Either,
    Both,
}

impl Side {
    fn of(self, source: Tree, destination: Tree) -> Tree {
        match self {
            Self::Source => source,
            Self::Destination => destination,
            Self::Either => source.or(destination),
            Self::Both => source.and(destination),
        }
    }
}

/// Where the headers are: so many bytes further than without tags.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Layout {
    pub(super) tags: u32,
}

fn byte(at: u32, value: u8) -> Tree {
    let mask = 0xff;
    Tree::Check(Check::Byte { at, mask, value })
}

impl Layout {
    /// Where the link's payload begins.
    pub(super) fn payload(self) -> u32 {
        14 + self.tags
    }

    pub(super) fn ethertype(self, value: u16) -> Tree {
        let (at, mask) = (12 + self.tags, 0xffff);
        Tree::Check(Check::Half { at, mask, value })
    }

    /// A tag stands here; what follows is behind it.
    pub(super) fn tag(&mut self, id: Option<u16>) -> Tree {
        let tagged = self
            .ethertype(0x8100)
            .or(self.ethertype(0x88a8))
            .or(self.ethertype(0x9100));
        let at = self.payload();
        self.tags += 4;
        match id {
            None => tagged,
            Some(value) => tagged.and(Tree::Check(Check::Half {
                at,
                mask: 0x0fff,
                value,
            })),
        }
    }

    /// The protocol by its name alone.
    pub(super) fn protocol(self, proto: Proto) -> Option<Tree> {
        match proto {
            Proto::Over(number, family) => Some(self.number(number, family)),
            other => other.ethertype().map(|value| self.ethertype(value)),
        }
    }

    /// A protocol by its number.
    pub(super) fn number(self, number: u8, family: Family) -> Tree {
        let ip = self.payload();
        let v4 = self.ethertype(0x0800).and(byte(ip + 9, number));
        // Also behind a fragment header, if that is the first.
        let fragment = byte(ip + 6, 44).and(byte(ip + 40, number));
        let next = byte(ip + 6, number).or(fragment);
        let v6 = self.ethertype(0x86dd).and(next);
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
            Family::Both => v4.or(v6),
        }
    }

    /// An IPv4 address of IP, ARP or RARP.
    fn address_in(self, proto: Proto, side: Side, value: u32, mask: u32) -> Tree {
        let (source, destination) = if proto == Proto::Ip {
            (12, 16)
        } else {
            (14, 24)
        };
        let at = |offset| {
            let at = self.payload() + offset;
            Tree::Check(Check::Word { at, mask, value })
        };
        let ethertype = proto.ethertype().unwrap_or_default();
        self.ethertype(ethertype)
            .and(side.of(at(source), at(destination)))
    }

    /// `None` if the protocol has no such addresses.
    pub(super) fn host4(
        self,
        proto: Option<Proto>,
        side: Side,
        value: u32,
        mask: u32,
    ) -> Option<Tree> {
        match proto {
            None => {
                let [ip, arp, rarp] = [Proto::Ip, Proto::Arp, Proto::Rarp]
                    .map(|proto| self.address_in(proto, side, value, mask));
                Some(ip.or(arp).or(rarp))
            }
            Some(proto @ (Proto::Ip | Proto::Arp | Proto::Rarp)) => {
                Some(self.address_in(proto, side, value, mask))
            }
            Some(_) => None,
        }
    }

    pub(super) fn host6(self, side: Side, value: u128, mask: u128) -> Tree {
        let at = |offset| {
            let at = self.payload() + offset;
            Tree::Check(Check::Long { at, mask, value })
        };
        self.ethertype(0x86dd).and(side.of(at(8), at(24)))
    }

    /// A port of TCP, UDP or SCTP, or of one of them.
    pub(super) fn ports(self, number: Option<u8>, side: Side, (low, high): (u16, u16)) -> Tree {
        let ip = self.payload();
        let any_of = |of: &dyn Fn(u8) -> Tree| match number {
            Some(number) => of(number),
            None => of(TCP).or(of(UDP)).or(of(SCTP)),
        };
        let within = |place| Tree::Check(Check::Within { place, low, high });
        let six = side.of(within(Place::At(ip + 40)), within(Place::At(ip + 42)));
        let six = any_of(&|number| byte(ip + 6, number)).and(six);
        let behind = |offset| within(Place::BehindIp { ip, offset });
        let four = self
            .not_a_later_fragment()
            .and(side.of(behind(0), behind(2)));
        let four = any_of(&|number| byte(ip + 9, number)).and(four);
        let six = self.ethertype(0x86dd).and(six);
        six.or(self.ethertype(0x0800).and(four))
    }

    pub(super) fn not_a_later_fragment(self) -> Tree {
        Tree::Check(Check::Half {
            at: self.payload() + 6,
            mask: 0x1fff,
            value: 0,
        })
    }

    /// What has to be so for the bytes of a protocol to be looked at, and where they begin. `None` if it has none.
    pub(super) fn bytes_of(self, proto: Proto) -> (Option<Tree>, Place) {
        let ip = self.payload();
        match proto {
            Proto::Link => (None, Place::At(0)),
            Proto::Over(number, Family::V6) => {
                let is = self.ethertype(0x86dd).and(byte(ip + 6, number));
                (Some(is), Place::At(ip + 40))
            }
            Proto::Over(number, _) => {
                let is = self.number(number, Family::V4);
                let offset = 0;
                let place = Place::BehindIp { ip, offset };
                (Some(is.and(self.not_a_later_fragment())), place)
            }
            other => (self.protocol(other), Place::At(ip)),
        }
    }

    /// `None` if the protocol has no such thing.
    pub(super) fn multicast(self, proto: Option<Proto>) -> Option<Tree> {
        let ip = self.payload();
        match proto {
            None | Some(Proto::Link) => Some(Tree::Check(Check::Byte {
                at: 0,
                mask: 1,
                value: 1,
            })),
            // 224.0.0.0 and above.
            Some(Proto::Ip) => Some(self.ethertype(0x0800).and(Tree::Check(Check::Byte {
                at: ip + 16,
                mask: 0xe0,
                value: 0xe0,
            }))),
            Some(Proto::Ip6) => Some(self.ethertype(0x86dd).and(byte(ip + 24, 0xff))),
            Some(_) => None,
        }
    }
}

pub(super) fn ethernet_host(side: Side, value: [u8; 6]) -> Tree {
    let at = |at| Tree::Check(Check::Mac { at, value });
    side.of(at(6), at(0))
}
