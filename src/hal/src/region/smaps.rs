//! What the kernel made of a mapping: `/proc/self/smaps` (proc(5)).

/// Whether the mappings that hold the addresses from `start` to `end` consist of merged pages only. `false` also if
/// that is not said of each byte.
pub(super) fn all_merged(smaps: &str, start: usize, end: usize) -> bool {
    let (mut known, mut inside) = (start, false);
    let mut size = None;
    for line in smaps.lines() {
        if let Some((from, to)) = range(line) {
            if known >= end {
                break;
            }
            // Mappings are listed by address.
            inside = from <= known && known < to;
            if inside {
                known = to;
            }
            size = None;
        } else if inside {
            if let Some(kib) = field(line, "Size:") {
                size = Some(kib);
            } else if let Some(merged) = field(line, "AnonHugePages:")
                && size != Some(merged)
            {
                return false;
            }
        }
    }
    known >= end
}

/// The line that begins a mapping: `7f0000000000-7f0000200000 rw-p …`.
fn range(line: &str) -> Option<(usize, usize)> {
    let (from, to) = line.split_whitespace().next()?.split_once('-')?;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    Some((address(from)?, address(to)?))
}

fn field(line: &str, name: &str) -> Option<u64> {
    let value = line.strip_prefix(name)?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d000000000-55d000001000 r-xp 00000000 08:01 42    /usr/bin/any-thing
Size:                  4 kB
AnonHugePages:         0 kB
7f0000000000-7f0000200000 rw-p 00000000 00:00 0
Size:               2048 kB
KernelPageSize:        4 kB
AnonHugePages:      2048 kB
VmFlags: rd wr mr mw me ac hg
7f0000200000-7f0000600000 rw-p 00000000 00:00 0
Size:               4096 kB
AnonHugePages:      2048 kB
7f0000800000-7f0000a00000 rw-p 00000000 00:00 0
Size:               2048 kB
AnonHugePages:      2048 kB
";

    #[test]
    fn every_byte_has_to_be_merged() {
        let merged = |start, end| all_merged(SMAPS, start, end);
        assert!(merged(0x7f00_0000_0000, 0x7f00_0020_0000));
        assert!(merged(0x7f00_0010_0000, 0x7f00_0010_1000));
        assert!(merged(0x7f00_0080_0000, 0x7f00_00a0_0000));
        assert!(
            !merged(0x7f00_0020_0000, 0x7f00_0060_0000),
            "half of it is not"
        );
        assert!(
            !merged(0x7f00_0000_0000, 0x7f00_0040_0000),
            "its second mapping is not"
        );
        assert!(
            !merged(0x7f00_0080_0000, 0x7f00_00c0_0000),
            "nothing is known of the end"
        );
        assert!(!merged(0x7f00_0060_0000, 0x7f00_0080_0000), "a gap");
        assert!(!merged(0x55d0_0000_0000, 0x55d0_0000_1000), "small pages");
    }
}
