//! How much memory a buffer may have.
//!
//! The blocks of a buffer are touched when they are made, so that no worker meets a page fault; one that is too large would be
//! met by the system's out-of-memory killer, not by an error.

/// Of a buffer, if nobody says how much memory there is. Its blocks are far fewer than a ring has slots.
const MOST: u64 = 1 << 40;

/// A buffer would take more than half of the memory that is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a buffer of {} MB for each of {workers} worker(s) is too large: {} MB in all is half of the memory available",
    .bytes / 1_000_000, .limit / 1_000_000
)]
pub struct TooMuch {
    /// For each worker.
    pub bytes: u64,
    /// How many there are.
    pub workers: usize,
    /// What all of them may have.
    pub limit: u64,
}

/// Whether each of so many workers can have a buffer of so many bytes.
pub(crate) fn check(bytes: usize, workers: usize) -> Result<(), TooMuch> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    check_against(limit(&meminfo), bytes as u64, workers)
}

fn check_against(limit: u64, bytes: u64, workers: usize) -> Result<(), TooMuch> {
    if bytes.saturating_mul(workers as u64) > limit {
        return Err(TooMuch {
            bytes,
            workers,
            limit,
        });
    }
    Ok(())
}

/// Half of what is available (proc_meminfo(5)).
fn limit(meminfo: &str) -> u64 {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(MOST, |kib: u64| kib.saturating_mul(512).min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_is_available_is_for_all_workers() {
        let limit = limit("MemTotal:  9 kB\nMemAvailable:    8000000 kB\nBuffers: 1 kB\n");
        assert_eq!(limit, 4_096_000_000);
        assert_eq!(check_against(limit, 2_000_000_000, 2), Ok(()));
        let refused = check_against(limit, 3_000_000_000_000, 1).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("3000000 MB") && text.contains("4096 MB"),
            "{text}"
        );
        assert!(check_against(limit, u64::MAX, 2).is_err());
        assert_eq!(super::limit(""), MOST);
    }
}
