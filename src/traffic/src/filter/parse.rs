//! From tokens to an expression: terms with `and`, `or` and `not` here, and what they are made of in the modules below.

mod address;
mod arithmetic;
mod primitive;

use super::FilterError;
use super::compile::Tree;
use super::lex::{Token, tokens};
use super::meaning::{Layout, Side};
use super::words::{ABSENT, Proto};

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
}
