//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::ops::Range;

use serde::{Serialize, Serializer};

/// Where a value or a problem is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nobody said anything: the default.
    Default,
    /// The file as a whole.
    File,
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::Line(line) => write!(f, "line {line}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One thing to change before this configuration can run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// The key, such as `engine.burst`; empty if it is not about one.
    pub key: String,
    /// What is wrong, with the value.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// A value that cannot be taken, before it is known where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, with the value.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Refusal {
    /// A refusal in two sentences.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// The problem that it is at a place.
    pub fn at(self, place: Place, key: impl Into<String>) -> Problem {
        Problem {
            place,
            key: key.into(),
            what: self.what,
            remedy: self.remedy,
        }
    }
}

/// Everything that is wrong with a configuration, in the order of the file, variables last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The file as it was named.
    pub file: String,
    /// At least one.
    #[serde(rename = "problems")]
    pub list: Vec<Problem>,
}

impl Problems {
    /// In order.
    pub fn new(file: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by(|a, b| a.place.cmp(&b.place));
        Self {
            file: file.to_owned(),
            list,
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        let s = if count == 1 { "" } else { "s" };
        write!(f, "{}: {count} problem{s}", self.file)?;
        for problem in &self.list {
            write!(f, "\n  ")?;
            match &problem.place {
                Place::Default | Place::File => write!(f, "{}: ", self.file)?,
                Place::Line(line) => write!(f, "{}:{line}: ", self.file)?,
                Place::Variable(name) => write!(f, "{name}: ")?,
            }
            // A variable's name says which key it sets.
            if !problem.key.is_empty() && !matches!(problem.place, Place::Variable(_)) {
                write!(f, "{}: ", problem.key)?;
            }
            write!(f, "{}; {}", problem.what, problem.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Finds the line of a byte.
#[derive(Debug)]
pub struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    /// The lines of a text.
    pub fn new(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            starts: std::iter::once(0).chain(ends).collect(),
        }
    }

    /// The line on which a span begins.
    pub fn place(&self, span: &Range<usize>) -> Place {
        Place::Line(self.starts.partition_point(|start| *start <= span.start))
    }
}

/// The known word that was probably meant, if any is near enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nothing that we know is nearly this long, and the table is as large as both words.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| {
            let plain = candidate.to_lowercase().replace('-', "_");
            (distance(&word, &plain), candidate)
        })
        // A word of one letter is not a misspelling of any other.
        .filter(|(far, candidate)| *far <= (candidate.len() / 3).max(1) && *far < candidate.len())
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// How many letters to insert, remove, replace or exchange with their neighbour (the restricted
/// Damerau-Levenshtein distance).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let differ = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + differ);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_from_one() {
        let lines = Lines::new("a\nbc\n\nd");
        for (at, line) in [(0, 1), (1, 1), (2, 2), (4, 2), (5, 3), (6, 4), (99, 4)] {
            assert_eq!(lines.place(&(at..at)), Place::Line(line), "byte {at}");
        }
        assert_eq!(Lines::new("").place(&(0..0)), Place::Line(1));
    }

    #[test]
    fn slips_of_the_finger_are_near_and_other_words_are_not() {
        let known = ["burst", "workers", "frame_size", "idle"];
        for (word, meant) in [
            ("brust", Some("burst")),
            ("worker", Some("workers")),
            ("frame-size", Some("frame_size")),
            ("Idle", Some("idle")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
        assert_eq!(nearest("c", ["a", "b"]), None);
        assert_eq!(nearest(&"b".repeat(1 << 20), known), None);
    }

    #[test]
    fn problems_come_in_the_order_of_the_file() {
        let problem = |place| Refusal::new("it is wrong", "mend it").at(place, "engine.burst");
        let all = Problems::new(
            "f.toml",
            vec![
                problem(Place::Variable("LINECARD_ENGINE_BURST".into())),
                problem(Place::Line(12)),
                problem(Place::Line(3)),
                problem(Place::File),
            ],
        );
        assert_eq!(
            all.to_string(),
            "f.toml: 4 problems\n  \
             f.toml: engine.burst: it is wrong; mend it\n  \
             f.toml:3: engine.burst: it is wrong; mend it\n  \
             f.toml:12: engine.burst: it is wrong; mend it\n  \
             LINECARD_ENGINE_BURST: it is wrong; mend it"
        );
    }
}
