//! Numbers of any width at any bit.

use super::{Field, Order};

/// The number that `field` has in `header`; `None` if it is not whole there, or is no number.
pub fn read(header: &[u8], field: &Field) -> Option<u64> {
    if !field.is_number() || field.width_bits > 64 {
        return None;
    }
    let touched = header.get(field.byte_range())?;
    if field.order == Order::Little {
        return Some(
            touched
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        );
    }
    // Nine bytes at most: 64 bits that begin within a byte.
    let wide = touched
        .iter()
        .fold(0, |wide, byte| wide << 8 | u128::from(*byte));
    Some((wide >> below(field)) as u64 & field.max())
}

/// Writes a number; only its low bits count. `None`, with nothing written, if `header` is too short for the field,
/// or that is no number.
pub fn write(header: &mut [u8], field: &Field, value: u64) -> Option<()> {
    if !field.is_number() || field.width_bits > 64 {
        return None;
    }
    let touched = header.get_mut(field.byte_range())?;
    let value = value & field.max();
    if field.order == Order::Little {
        for (byte, new) in touched.iter_mut().zip(value.to_le_bytes()) {
            *byte = new;
        }
        return Some(());
    }
    let mut mask = u128::from(field.max()) << below(field);
    let mut wide = u128::from(value) << below(field);
    for byte in touched.iter_mut().rev() {
        *byte = *byte & !(mask as u8) | wide as u8;
        mask >>= 8;
        wide >>= 8;
    }
    Some(())
}

/// How many bits of the last byte that it touches are not the field's.
fn below(field: &Field) -> u32 {
    let end = field.offset_bits + field.width_bits;
    end.next_multiple_of(8) - end
}
