//! A fuzzer's bytes, read as choices. When they are used up every choice is the first one, so that any bytes mean
//! something, and a few bytes more or less change little.

pub(super) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// One of `count`; nothing is read if there is no choice.
    pub(super) fn below(&mut self, count: usize) -> usize {
        match count {
            0 | 1 => 0,
            2..=256 => usize::from(self.byte()) % count,
            _ => self.number(16) as usize % count,
        }
    }

    /// A number of so many bits.
    pub(super) fn number(&mut self, bits: u32) -> u64 {
        let bytes = bits.min(64).div_ceil(8);
        let number = (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()));
        number & u64::MAX >> (64 - bits.clamp(1, 64))
    }

    /// So many bytes; zeros where there are none left.
    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        let mut bytes = taken.to_vec();
        bytes.resize(len, 0);
        bytes
    }
}
