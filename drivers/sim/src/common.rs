//! What the ports of this crate have in common.

use linecard_hal::{Burst, MbufFlags, Mempool, PortConfig, PortError, PortErrorKind};

/// The address of a port that has no hardware: locally administered, the same each time for a name.
pub(crate) fn mac_of(name: &str) -> [u8; 6] {
    // FNV-1a: only has to tell names apart.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let h = hash.to_be_bytes();
    [0x02, h[0] ^ h[5], h[1] ^ h[6], h[2] ^ h[7], h[3], h[4]]
}

/// Checks what every port checks of its configuration.
pub(crate) fn check_config(
    port: &str,
    config: &PortConfig,
    max_queues: u16,
) -> Result<(), PortError> {
    let wrong = |what: String, remedy: String| {
        Err(PortError::new(port, PortErrorKind::Config, what).remedy(remedy))
    };
    if config.queues == 0 || config.queues > max_queues {
        return wrong(
            format!(
                "{} queues, but the port has 1 to {max_queues}",
                config.queues
            ),
            format!("use {max_queues} or fewer workers for it"),
        );
    }
    if config.burst == 0 {
        return wrong(
            "a burst of 0 frames".into(),
            "use a burst of 1 to 512 frames".into(),
        );
    }
    Ok(())
}

/// Checks that there is one pool for each queue.
pub(crate) fn check_pools(
    port: &str,
    config: &PortConfig,
    pools: &[Mempool],
) -> Result<(), PortError> {
    if pools.len() == usize::from(config.queues) {
        return Ok(());
    }
    let what = format!("{} pools for {} queues", pools.len(), config.queues);
    Err(PortError::new(port, PortErrorKind::Pool, what).remedy("pass one pool for each queue"))
}

/// The error of starting a port that was not configured.
pub(crate) fn not_configured(port: &str) -> PortError {
    PortError::new(
        port,
        PortErrorKind::Config,
        "started before it was configured",
    )
    .remedy("call configure first")
}

/// A port that runs is neither configured nor started.
pub(crate) fn check_stopped(port: &str, running: bool) -> Result<(), PortError> {
    if running {
        Err(still_running(port))
    } else {
        Ok(())
    }
}

/// The error of configuring or starting a port whose queues are still out.
pub(crate) fn still_running(port: &str) -> PortError {
    PortError::new(port, PortErrorKind::Busy, "its queues are still in use")
        .remedy("drop the queues and stop the port first")
}

/// Bytes of the frames in `burst`.
#[inline(always)]
pub(crate) fn bytes_of(burst: &Burst) -> u64 {
    burst.iter().map(|mbuf| mbuf.frame_len() as u64).sum()
}

/// Takes the mbufs from `start` on for which `keep` is false out of `burst` and frees them; the others
/// keep their order. Returns how many were freed. In place: it is used between two bursts.
pub(crate) fn retain_from(
    burst: &mut Burst,
    start: usize,
    mut keep: impl FnMut(&mut linecard_hal::Mbuf) -> bool,
) -> usize {
    let mbufs = &mut burst.as_mut_slice()[start..];
    let mut kept = 0;
    for i in 0..mbufs.len() {
        if keep(&mut mbufs[i]) {
            mbufs.swap(kept, i);
            kept += 1;
        }
    }
    let refused = mbufs.len() - kept;
    for _ in 0..refused {
        drop(burst.pop());
    }
    refused
}

/// Whether the frame is finished but for requests in `accepted`, and of a length that can be sent.
#[inline(always)]
pub(crate) fn sendable(
    mbuf: &linecard_hal::Mbuf,
    accepted: MbufFlags,
    max_frame_len: usize,
) -> bool {
    let flags = mbuf.flags();
    let len = mbuf.frame_len();
    let segmented = flags.intersects(MbufFlags::TX_TCP_SEG | MbufFlags::TX_UDP_SEG);
    (flags & (MbufFlags::TX_REQUESTS - accepted)).is_empty()
        && len >= MIN_FRAME_LEN
        && (len <= max_frame_len || segmented)
}

/// An Ethernet header.
pub(crate) const MIN_FRAME_LEN: usize = 14;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use linecard_hal::MempoolConfig;

    #[test]
    fn macs_are_local_unicast_and_differ() {
        let (a, b) = (mac_of("sim:a"), mac_of("sim:b"));
        assert_ne!(a, b);
        assert_eq!(a[0], 0x02);
        assert_eq!(a, mac_of("sim:a"));
    }

    #[test]
    fn retain_keeps_order_and_frees_the_rest() {
        let pool = Mempool::new(MempoolConfig::new("retain", 16)).unwrap();
        let mut burst = Burst::with_capacity(8);
        pool.alloc_burst(&mut burst, 8);
        for (i, mbuf) in burst.iter_mut().enumerate() {
            mbuf.set_port(i as u16);
        }
        let freed = retain_from(&mut burst, 2, |m| m.port() % 3 == 0);
        assert_eq!(freed, 4);
        assert_eq!(
            burst.iter().map(|m| m.port()).collect::<Vec<_>>(),
            [0, 1, 3, 6]
        );
        assert_eq!(pool.in_use(), 4);
    }
}
