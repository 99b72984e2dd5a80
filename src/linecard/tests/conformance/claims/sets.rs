//! Sets of protocols, packets for them, and where each packet belongs.

use std::collections::BTreeMap;

use linecard::engine::protocol::{Home, MOST_LEVELS};

use super::packets::{DAMAGES, Dice, ETHERIP, IP6IP, IPIP, Level, Made, Spec};
use super::wanted::{Wanted, miss, wrap};

/// What a protocol does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It keeps it.
    Take,
    /// It passes on what has an odd number.
    Pass,
    /// It unwraps it.
    Unwrap,
}

/// A protocol of a set.
#[derive(Debug, Clone)]
pub struct Party {
    pub name: String,
    pub claims: Vec<Wanted>,
    pub manner: Manner,
    pub home: Home,
}

/// Protocols that can run together, and packets.
#[derive(Debug, Clone)]
pub struct Set {
    pub parties: Vec<Party>,
    pub packets: Vec<Made>,
}

/// Where a packet ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// With this protocol, at this level of tunnels.
    With(usize, usize),
    /// Dropped, for this reason.
    Dropped(&'static str),
}

/// What is to become of all packets.
#[derive(Debug)]
pub struct Expected {
    /// How many are to be dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Those that each protocol is to have.
    pub taken: Vec<Vec<u32>>,
}

/// Fewer than any rig has room for.
const MOST_PACKETS: usize = 200;

impl Set {
    /// The set of a seed, for so many workers.
    pub fn new(seed: u64, workers: u16) -> Self {
        let mut dice = Dice(seed);
        let parties = parties(&mut dice, workers);
        let packets = packets(&parties, &mut dice);
        Self { parties, packets }
    }

    /// The same with one protocol more, which wants some packet that another one wants as well; who that is.
    pub fn with_a_rival(&self, dice: &mut Dice) -> (Self, String) {
        let mut set = self.clone();
        let of = dice.below(set.parties.len());
        let mut claim = dice.pick(&set.parties[of].claims);
        // As it is, wider, or narrower.
        match dice.below(3) {
            0 => {}
            1 => claim.bytes.clear(),
            _ if claim.rest => {}
            _ => claim.vlan = claim.vlan.or(Some(100)),
        }
        set.parties.push(Party {
            name: "rival".into(),
            claims: vec![claim],
            manner: Manner::Take,
            home: Home::Anywhere,
        });
        (set, self.parties[of].name.clone())
    }

    /// Whose a packet is at one level: each may be one's at most.
    fn owner(&self, made: &Made, level: &Level) -> Result<Option<usize>, String> {
        let means = |party: &Party| party.claims.iter().any(|claim| claim.means(made, level));
        let owners: Vec<usize> = (0..self.parties.len())
            .filter(|i| means(&self.parties[*i]))
            .collect();
        match owners[..] {
            [] => Ok(self.rest()),
            [one] => Ok(Some(one)),
            _ => Err(format!(
                "two protocols want a packet and were not refused: {:?}",
                self.parties
            )),
        }
    }

    fn rest(&self) -> Option<usize> {
        let rest = |party: &Party| party.claims.iter().any(|claim| claim.rest);
        self.parties.iter().position(rest)
    }

    /// The packet of this number.
    pub fn packet(&self, number: u32) -> Option<&Made> {
        self.packets.iter().find(|made| made.number == number)
    }

    /// Where a packet ends.
    pub fn end(&self, made: &Made) -> Result<End, String> {
        let number = made.number;
        for (depth, level) in made.levels.iter().enumerate() {
            if level.malformed {
                return Ok(End::Dropped("malformed"));
            }
            let nobody = if level.fragment {
                "fragment"
            } else {
                "unclaimed"
            };
            let Some(owner) = self.owner(made, level)? else {
                return Ok(End::Dropped(nobody));
            };
            match self.parties[owner].manner {
                Manner::Unwrap if depth == MOST_LEVELS => {
                    return Ok(End::Dropped("nested_too_deep"));
                }
                Manner::Unwrap => {}
                Manner::Pass if number % 2 == 1 => {
                    return Ok(match self.rest() {
                        Some(rest) if rest != owner => End::With(rest, depth),
                        _ => End::Dropped("unclaimed"),
                    });
                }
                _ => return Ok(End::With(owner, depth)),
            }
        }
        Err(format!("packet {number} is all headers of tunnels"))
    }

    /// Where all of them end.
    pub fn expected(&self) -> Result<Expected, String> {
        let (mut drops, mut taken) = (BTreeMap::new(), vec![Vec::new(); self.parties.len()]);
        for made in &self.packets {
            match self.end(made)? {
                End::With(party, _) => taken[party].push(made.number),
                End::Dropped(reason) => *drops.entry(reason.to_owned()).or_insert(0) += 1,
            }
        }
        Ok(Expected { drops, taken })
    }
}

fn parties(dice: &mut Dice, workers: u16) -> Vec<Party> {
    let mut parties: Vec<Party> = Vec::new();
    let add = |parties: &mut Vec<Party>, name: &str, manner, home, wanted: Vec<Wanted>| {
        let free = |claim: &Wanted| {
            let claim = claim.claim();
            let others = parties.iter().flat_map(|party: &Party| &party.claims);
            others
                .into_iter()
                .all(|other| !other.claim().overlaps(&claim))
        };
        let claims: Vec<Wanted> = wanted.into_iter().filter(free).collect();
        if !claims.is_empty() {
            let name = name.to_owned();
            parties.push(Party {
                name,
                claims,
                manner,
                home,
            });
        }
    };
    let home = |dice: &mut Dice| {
        let last = Home::Worker(workers - 1);
        dice.pick(&[Home::Anywhere, Home::Flow, Home::Worker(0), last])
    };
    // Tunnels first, or nothing is left of them.
    if dice.one_in(2) {
        let tunnels = [IPIP, IP6IP, ETHERIP].map(Wanted::protocol);
        let home = home(dice);
        add(&mut parties, "tunnel", Manner::Unwrap, home, tunnels.into());
    }
    for number in 0..3 + dice.below(6) {
        let claims = (0..1 + dice.below(3))
            .map(|_| Wanted::random(dice))
            .collect();
        let manner = dice.pick(&[Manner::Take, Manner::Take, Manner::Take, Manner::Pass]);
        let home = home(dice);
        add(&mut parties, &format!("p{number}"), manner, home, claims);
    }
    if dice.one_in(2) {
        let home = home(dice);
        add(
            &mut parties,
            "fragments",
            Manner::Take,
            home,
            vec![Wanted::fragments()],
        );
    }
    if dice.one_in(2) {
        let home = home(dice);
        add(
            &mut parties,
            "rest",
            Manner::Take,
            home,
            vec![Wanted::rest()],
        );
    }
    parties
}

fn packets(parties: &[Party], dice: &mut Dice) -> Vec<Made> {
    let mut specs: Vec<Spec> = Vec::new();
    // What tunnels carry is below.
    let plain = parties
        .iter()
        .filter(|party| party.manner != Manner::Unwrap);
    for claim in plain.flat_map(|party| &party.claims) {
        for n in 0..6 {
            let mut spec = claim.aim(dice);
            if n >= 3 {
                miss(&mut spec, dice);
            }
            specs.push(spec);
        }
    }
    specs.extend((0..20).map(|_| Spec::random(dice)));
    for _ in 0..16 {
        let mut spec = dice.pick(&specs);
        let possible: Vec<_> = DAMAGES.into_iter().filter(|d| spec.can_be(*d)).collect();
        if !possible.is_empty() {
            spec.damage = Some(dice.pick(&possible));
            specs.push(spec);
        }
    }
    for levels in [1, 1, 1, 1, 1, 1, 2, 2, 3, MOST_LEVELS, MOST_LEVELS + 1] {
        let inner = dice.pick(&specs);
        specs.push(wrap(inner, levels, dice));
    }
    // Neighbours are of different sorts, and the last ones do not always miss.
    for at in (1..specs.len()).rev() {
        specs.swap(at, dice.below(at + 1));
    }
    specs.truncate(MOST_PACKETS);
    (0..)
        .zip(specs)
        .map(|(number, spec)| spec.make(number))
        .collect()
}
