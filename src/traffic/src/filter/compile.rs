//! From an expression to a list of checks, and a frame's way through it.

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Check(Check),
    Not(Box<Tree>),
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
}

impl Tree {
    pub(super) fn and(self, other: Self) -> Self {
        Self::And(Box::new(self), Box::new(other))
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self::Or(Box::new(self), Box::new(other))
    }

    pub(super) fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }
}

/// One look at a frame. Offsets are from its beginning.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Check {
    Byte {
        at: u32,
        mask: u8,
        value: u8,
    },
    Half {
        at: u32,
        mask: u16,
        value: u16,
    },
    Word {
        at: u32,
        mask: u32,
        value: u32,
    },
    Long {
        at: u32,
        mask: u128,
        value: u128,
    },
    Mac {
        at: u32,
        value: [u8; 6],
    },
    /// A number of 16 bits within bounds.
    Within {
        place: Place,
        low: u16,
        high: u16,
    },
    Relation {
        sign: Sign,
        left: Value,
        right: Value,
    },
}

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    At(u32),
    /// So far behind the IPv4 header that begins at `ip`.
    BehindIp {
        ip: u32,
        offset: u32,
    },
}

impl Place {
    #[inline(always)]
    fn find(self, frame: &[u8]) -> Option<u32> {
        match self {
            Self::At(at) => Some(at),
            Self::BehindIp { ip, offset } => {
                let header = frame.get(ip as usize)? & 0x0f;
                Some(ip + 4 * u32::from(header) + offset)
            }
        }
    }
}

/// How two values compare, without sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value of 32 bits.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(u32),
    Length,
    Load {
        base: Place,
        at: Box<Value>,
        bytes: u8,
    },
    Negative(Box<Value>),
    Binary(Operator, Box<Value>, Box<Value>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    And,
    Or,
    Xor,
    Left,
    Right,
}

/// A check, and where it goes on.
#[derive(Debug, Clone)]
struct Step {
    check: Check,
    yes: u32,
    no: u32,
}

/// Behind the steps.
const ACCEPT: u32 = u32::MAX;
const REJECT: u32 = u32::MAX - 1;

/// A list of checks. Each names one with a smaller number as the next, so that every way through it ends.
#[derive(Debug, Clone)]
pub(super) struct Program {
    steps: Vec<Step>,
    first: u32,
}

impl Program {
    pub(super) fn new(tree: Option<&Tree>) -> Self {
        let mut program = Self {
            steps: Vec::new(),
            first: ACCEPT,
        };
        if let Some(tree) = tree {
            program.first = program.emit(tree, ACCEPT, REJECT);
        }
        program
    }

    /// Adds what decides between `yes` and `no`; returns where it begins.
    fn emit(&mut self, tree: &Tree, yes: u32, no: u32) -> u32 {
        match tree {
            Tree::Check(check) => {
                let check = check.clone();
                self.steps.push(Step { check, yes, no });
                self.steps.len() as u32 - 1
            }
            Tree::Not(inner) => self.emit(inner, no, yes),
            Tree::And(first, second) => {
                let second = self.emit(second, yes, no);
                self.emit(first, second, no)
            }
            Tree::Or(first, second) => {
                let second = self.emit(second, yes, no);
                self.emit(first, yes, second)
            }
        }
    }

    /// `None` if the frame ends before a byte that has to be looked at, or something is divided by nothing.
    #[inline]
    pub(super) fn run(&self, frame: &[u8], len: u32) -> Option<bool> {
        let mut at = self.first;
        while let Some(step) = self.steps.get(at as usize) {
            at = if step.check.holds(frame, len)? {
                step.yes
            } else {
                step.no
            };
        }
        Some(at == ACCEPT)
    }
}

#[inline(always)]
fn load<const N: usize>(frame: &[u8], at: u32) -> Option<[u8; N]> {
    frame.get(at as usize..)?.first_chunk().copied()
}

impl Check {
    #[inline(always)]
    fn holds(&self, frame: &[u8], len: u32) -> Option<bool> {
        Some(match *self {
            Self::Byte { at, mask, value } => load::<1>(frame, at)?[0] & mask == value,
            Self::Half { at, mask, value } => u16::from_be_bytes(load(frame, at)?) & mask == value,
            Self::Word { at, mask, value } => u32::from_be_bytes(load(frame, at)?) & mask == value,
            Self::Long { at, mask, value } => u128::from_be_bytes(load(frame, at)?) & mask == value,
            Self::Mac { at, value } => load::<6>(frame, at)? == value,
            Self::Within { place, low, high } => {
                let number = u16::from_be_bytes(load(frame, place.find(frame)?)?);
                (low..=high).contains(&number)
            }
            Self::Relation {
                sign,
                ref left,
                ref right,
            } => {
                let (left, right) = (left.of(frame, len)?, right.of(frame, len)?);
                match sign {
                    Sign::Equal => left == right,
                    Sign::NotEqual => left != right,
                    Sign::Less => left < right,
                    Sign::LessOrEqual => left <= right,
                    Sign::Greater => left > right,
                    Sign::GreaterOrEqual => left >= right,
                }
            }
        })
    }
}

impl Value {
    fn of(&self, frame: &[u8], len: u32) -> Option<u32> {
        Some(match self {
            Self::Number(number) => *number,
            Self::Length => len,
            Self::Load { base, at, bytes } => {
                let at = base.find(frame)?.checked_add(at.of(frame, len)?)?;
                match bytes {
                    1 => u32::from(load::<1>(frame, at)?[0]),
                    2 => u32::from(u16::from_be_bytes(load(frame, at)?)),
                    _ => u32::from_be_bytes(load(frame, at)?),
                }
            }
            Self::Negative(value) => value.of(frame, len)?.wrapping_neg(),
            Self::Binary(operator, left, right) => {
                operator.apply(left.of(frame, len)?, right.of(frame, len)?)?
            }
        })
    }
}

impl Operator {
    /// As the machine of the BSD packet filter does.
    pub(super) fn apply(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(b),
            Self::Subtract => a.wrapping_sub(b),
            Self::Multiply => a.wrapping_mul(b),
            Self::Divide => a.checked_div(b)?,
            Self::Remainder => a.checked_rem(b)?,
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
            Self::Left => a.checked_shl(b).unwrap_or(0),
            Self::Right => a.checked_shr(b).unwrap_or(0),
        })
    }
}
