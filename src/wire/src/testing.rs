//! Independent, deliberately plain code that tests compare with.

use std::vec::Vec;

/// The one's complement sum, word by word, as RFC 1071 section 4.1 writes it.
pub(crate) fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    let mut i = 0;
    while i < bytes.len() {
        let low = if i + 1 < bytes.len() { bytes[i + 1] } else { 0 };
        sum += u32::from(bytes[i]) * 256 + u32::from(low);
        sum = (sum & 0xffff) + (sum >> 16);
        i += 2;
    }
    sum as u16
}

/// The complement of [`naive_sum`].
pub(crate) fn naive_checksum(bytes: &[u8]) -> u16 {
    !naive_sum(bytes)
}

/// Bytes from a string of hexadecimal digits; white space is ignored.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}
