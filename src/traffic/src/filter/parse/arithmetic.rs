//! Comparisons of values: numbers, lengths, bytes of the frame, and what is calculated from them.

use super::{MOST_TERMS, Parsed, Parser};
use crate::filter::compile::{Check, Operator, Place, Sign, Tree, Value};
use crate::filter::lex::Token;
use crate::filter::words::{Proto, constant};

impl Parser {
    /// A comparison of values, if one begins here.
    pub(super) fn relation(&mut self) -> Parsed<Option<Tree>> {
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
