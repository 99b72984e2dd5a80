//! The running kernel's release.

/// Frames in several pieces (`XDP_USE_SG`).
pub(crate) fn has_pieces() -> bool {
    at_least(6, 6)
}

fn at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    parse(&release) >= (major, minor)
}

fn parse(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(parse("6.18.5-cloud"), (6, 18));
        assert_eq!(parse("5.4"), (5, 4));
        assert_eq!(parse(""), (0, 0));
        assert!(parse("6.10.1") > parse("6.6.9"));
    }
}
