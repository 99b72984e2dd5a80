//! A value as somebody wrote it, and what it can be read as.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use linecard::engine::topology::parse_cpu_list;
use toml::de::{DeInteger, DeValue};

use super::problem::{Refusal, nearest};

/// A value from the file or from the environment, where everything is text.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// From the file.
    Value(&'a DeValue<'a>),
    /// From a variable.
    Variable(&'a str),
}

impl Given<'_> {
    /// A whole number within a range; `usual` is the remedy if it is not.
    pub fn number(self, range: RangeInclusive<u64>, usual: &str) -> Result<u64, Refusal> {
        let number = match self {
            Self::Value(DeValue::Integer(integer)) => integer_of(integer),
            Self::Variable(text) => text.trim().replace('_', "").parse().ok(),
            Self::Value(_) => None,
        };
        let (least, most) = (range.start(), range.end());
        match number {
            Some(number) if u64::try_from(number).is_ok_and(|n| range.contains(&n)) => {
                Ok(number as u64)
            }
            Some(_) => {
                let bounds = if *most == u64::MAX || *most == i64::MAX as u64 {
                    format!("{least} or more")
                } else {
                    format!("between {least} and {most}")
                };
                Err(Refusal::new(format!("{self} is not {bounds}"), usual))
            }
            None => Err(Refusal::new(
                format!("{self} is not a whole number"),
                format!("write digits without quotes; {usual}"),
            )),
        }
    }

    /// Yes or no.
    pub fn flag(self) -> Result<bool, Refusal> {
        match self {
            Self::Value(DeValue::Boolean(flag)) => Ok(*flag),
            Self::Variable("true" | "1") => Ok(true),
            Self::Variable("false" | "0") => Ok(false),
            _ => Err(Refusal::new(
                format!("{self} is neither true nor false"),
                "write true or false, without quotes",
            )),
        }
    }

    /// A time with its unit.
    pub fn duration(self) -> Result<Duration, Refusal> {
        let remedy = "write a number with its unit, such as \"10s\" or \"2min\"";
        match self.text() {
            Some(text) => humantime::parse_duration(text).map_err(|error| {
                Refusal::new(format!("{self} is not a duration ({error})"), remedy)
            }),
            None => Err(Refusal::new(format!("{self} is not a duration"), remedy)),
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy + fmt::Display>(self, all: &[T]) -> Result<T, Refusal> {
        let names: Vec<String> = all.iter().map(T::to_string).collect();
        let text = self.text().unwrap_or_default();
        let found = names.iter().position(|name| name == text);
        found.and_then(|at| all.get(at).copied()).ok_or_else(|| {
            let known = names.join(", ");
            let remedy = match nearest(text, names.iter().map(String::as_str)) {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => format!("write one of {known}"),
            };
            Refusal::new(format!("{self} is not one of {known}"), remedy)
        })
    }

    /// Cpus: `[2, 4, 5]` or `"2,4-5"`.
    pub fn lcores(self) -> Result<Vec<u32>, Refusal> {
        let list = match self {
            Self::Value(DeValue::Array(items)) => {
                let numbers: Option<Vec<String>> = items
                    .iter()
                    .map(|item| match item.get_ref() {
                        DeValue::Integer(integer) => integer_of(integer).map(|n| n.to_string()),
                        _ => None,
                    })
                    .collect();
                numbers.map(|numbers| numbers.join(","))
            }
            _ => self.text().map(str::to_owned),
        };
        let remedy = "write a list such as [2, 4, 5] or \"2,4-5\"";
        let Some(list) = list else {
            return Err(Refusal::new(
                format!("{self} is not a list of cpus"),
                remedy,
            ));
        };
        match parse_cpu_list(&list) {
            Ok(cpus) if cpus.is_empty() => Err(Refusal::new(
                "an empty list leaves no cpu for any worker",
                "name at least one, or leave the key out to let Linecard choose",
            )),
            Ok(cpus) => Ok(cpus),
            Err(error) => Err(Refusal::new(error.to_string(), remedy)),
        }
    }

    /// Words: `["--a", "--b=c"]`, or in a variable with blanks between them.
    pub fn words(self) -> Result<Vec<String>, Refusal> {
        let words = match self {
            Self::Value(DeValue::Array(items)) => items
                .iter()
                .map(|item| Some(item.get_ref().as_str()?.to_owned()))
                .collect(),
            Self::Value(_) => None,
            Self::Variable(text) => Some(
                text.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>(),
            ),
        };
        words.ok_or_else(|| {
            Refusal::new(
                format!("{self} is not a list of texts"),
                "write a list such as [\"--a\", \"--b=c\"]",
            )
        })
    }

    /// Any text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Value(DeValue::String(text)) => Some(text),
            Self::Value(_) => None,
            Self::Variable(text) => Some(text),
        }
    }
}

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(text) => write!(f, "{:?}", brief(text)),
            Self::Value(value) => match value {
                DeValue::String(text) => write!(f, "{:?}", brief(text)),
                DeValue::Integer(integer) => write!(f, "{}", brief(&integer.to_string())),
                DeValue::Float(float) => write!(f, "{}", brief(float.as_str())),
                DeValue::Boolean(flag) => write!(f, "{flag}"),
                DeValue::Datetime(time) => write!(f, "{time}"),
                DeValue::Array(_) => f.write_str("a list"),
                DeValue::Table(_) => f.write_str("a section"),
            },
        }
    }
}

/// The beginning of what may be very long.
fn brief(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain(['…']).collect()
}

/// Wide enough that no number of the file is cut off before its range is checked.
fn integer_of(integer: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use linecard::Idle;
    use linecard::modes::Mode;

    fn with<T>(value: &str, read: impl Fn(Given<'_>) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let value = DeValue::parse(value).expect("TOML");
        read(Given::Value(value.get_ref()))
    }

    fn number(given: Given<'_>) -> Result<u64, Refusal> {
        given.number(1..=512, "32 is usual")
    }

    #[test]
    fn numbers_have_bounds_and_no_quotes() {
        assert_eq!(with("0x40", number), Ok(64));
        assert_eq!(with("5_1_2", number), Ok(512));
        assert_eq!(number(Given::Variable("64")), Ok(64));
        for (value, what) in [
            ("0", "0 is not between 1 and 512"),
            ("-3", "-3 is not between"),
            ("99999999999999999999999", "not between"),
            ("1.5", "1.5 is not a whole number"),
            ("\"32\"", "\"32\" is not a whole number"),
            ("true", "true is not a whole number"),
        ] {
            let refusal = with(value, number).expect_err(value);
            assert!(refusal.what.contains(what), "{refusal:?}");
            assert!(refusal.remedy.contains("32 is usual"), "{refusal:?}");
        }
        assert!(number(Given::Variable("")).is_err());
        let limit = Given::Variable("0").number(1..=u64::MAX, "leave it out");
        assert_eq!(limit.expect_err("zero").what, "\"0\" is not 1 or more");
    }

    #[test]
    fn flags_durations_and_lists() {
        assert_eq!(with("true", |g| g.flag()), Ok(true));
        assert_eq!(Given::Variable("0").flag(), Ok(false));
        assert!(with("\"yes\"", |g| g.flag()).is_err());
        assert_eq!(
            with("\"2min\"", |g| g.duration()),
            Ok(Duration::from_secs(120))
        );
        for value in ["10", "\"10\"", "\"\"", "\"9999999999999y\""] {
            let refusal = with(value, |g| g.duration()).expect_err(value);
            assert!(refusal.remedy.contains("\"10s\""), "{refusal:?}");
        }
        assert_eq!(with("[2, 4]", |g| g.lcores()), Ok(vec![2, 4]));
        assert_eq!(with("\"2,4-6\"", |g| g.lcores()), Ok(vec![2, 4, 5, 6]));
        for (value, what) in [
            ("[]", "empty list"),
            ("\"6-4\"", "4-6"),
            ("[-1]", "'-1'"),
            ("[\"a\"]", "a list is not a list of cpus"),
            ("7", "7 is not a list of cpus"),
        ] {
            let refusal = with(value, |g| g.lcores()).expect_err(value);
            assert!(refusal.what.contains(what), "{refusal:?}");
        }
    }

    #[test]
    fn words_are_a_list_or_separated_by_blanks() {
        let both = vec!["--a".to_owned(), "--b=c".to_owned()];
        assert_eq!(
            with("[\"--a\", \"--b=c\"]", |g| g.words()),
            Ok(both.clone())
        );
        assert_eq!(Given::Variable(" --a  --b=c").words(), Ok(both));
        assert_eq!(Given::Variable("").words(), Ok(vec![]));
        for value in ["\"--a\"", "[1]", "7"] {
            let refusal = with(value, |g| g.words()).expect_err(value);
            assert!(refusal.remedy.contains("[\"--a\""), "{refusal:?}");
        }
    }

    #[test]
    fn choices_are_listed_and_the_nearest_is_offered() {
        let mode = |given: Given<'_>| given.choice(&Mode::ALL);
        assert_eq!(with("\"macswap\"", mode), Ok(Mode::MacSwap));
        let refusal = with("\"mac-swap\"", mode).expect_err("no such mode");
        assert!(refusal.what.contains("io, mac, macswap"), "{refusal:?}");
        assert!(
            refusal.remedy.contains("did you mean \"macswap\"?"),
            "{refusal:?}"
        );
        let idle = Given::Variable("never").choice(&[Idle::Spin, Idle::Sleep]);
        assert_eq!(
            idle.expect_err("no such policy").remedy,
            "write one of spin, sleep"
        );
    }

    #[test]
    fn long_values_are_cut() {
        let text = "ä".repeat(1000);
        assert!(Given::Variable(&text).to_string().len() < 200);
    }
}
