//! CRC32C (Castagnoli), as iSCSI and SCTP have it (RFC 9260, appendix A): for descriptions of headers and scripts. A byte at a time,
//! so not for where every packet passes: there are instructions for this, and crates that use them.

/// The polynomial, its lowest power first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    // Evaluated by the compiler, and `n` is below 256.
    #[allow(clippy::indexing_slicing)]
    while n < table.len() {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
};

/// The CRC32C of pieces, one after the other.
///
/// ```
/// assert_eq!(linecard_wire::crc32c(&[b"1234", b"56789"]), 0xe306_9283);
/// ```
pub fn crc32c(pieces: &[&[u8]]) -> u32 {
    let bytes = pieces.iter().copied().flatten();
    !bytes.fold(!0, |crc, byte| {
        let at = usize::from(crc as u8 ^ byte);
        TABLE.get(at).copied().unwrap_or_default() ^ (crc >> 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, where they are written with the least significant byte first.
    #[test]
    fn the_vectors_of_iscsi() {
        let up: [u8; 32] = core::array::from_fn(|n| n as u8);
        let down: [u8; 32] = core::array::from_fn(|n| 31 - n as u8);
        for (bytes, crc) in [
            ([0; 32], 0x8a91_36aa),
            ([0xff; 32], 0x62a8_ab43),
            (up, 0x46dd_794e),
            (down, 0x113f_db5c),
        ] {
            assert_eq!(crc32c(&[&bytes]), crc);
        }
    }
}
