//! What is wrong with a packet expression.

use alloc::string::String;
use core::fmt;

/// What is wrong with a packet expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    /// Where in the text, counted in bytes.
    pub at: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl TextError {
    pub(super) fn new(at: usize, what: impl Into<String>) -> Self {
        Self {
            at,
            what: what.into(),
        }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.at + 1, self.what)
    }
}

impl core::error::Error for TextError {}
