//! What the kernel says beside a frame, carried into the mbuf.

use linecard_hal::{Mbuf, MbufFlags, Offloads};

use crate::frame::{finish_checksum, insert_tag};
use crate::vnet::{F_DATA_VALID, VnetHdr, Wanted};

/// TPID of a service tag.
const TPID_8021AD: u16 = 0x88a8;
const TPID_8021Q: u16 = 0x8100;

/// What came beside a frame.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RxMeta {
    /// The virtio-net header; all zeros where there is none.
    pub(crate) vnet: VnetHdr,
    /// `TP_STATUS_*`.
    pub(crate) status: u32,
    /// Valid with `TP_STATUS_VLAN_VALID`.
    pub(crate) vlan_tci: u16,
    /// Valid with `TP_STATUS_VLAN_TPID_VALID`.
    pub(crate) vlan_tpid: u16,
    /// Receive time, or 0.
    pub(crate) timestamp_ns: u64,
}

/// What the port's configuration says about received frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RxPolicy {
    port: u16,
    strip: bool,
    timestamps: bool,
    checksums: bool,
    super_frames: bool,
}

impl RxPolicy {
    pub(crate) fn new(port: u16, on: Offloads) -> Self {
        Self {
            port,
            strip: on.contains(Offloads::RX_VLAN_STRIP),
            timestamps: on.contains(Offloads::RX_TIMESTAMP),
            checksums: on.contains(Offloads::RX_CKSUM),
            super_frames: on.contains(Offloads::RX_SUPER_FRAMES),
        }
    }

    /// Whether anybody wants to know when a frame came.
    pub(crate) fn timestamps(&self) -> bool {
        self.timestamps
    }

    /// Sets port, flags, tag and time of a received frame. `false` if it cannot be given out: its
    /// state cannot be expressed.
    #[inline(always)]
    pub(crate) fn apply(&self, mbuf: &mut Mbuf, meta: &RxMeta) -> bool {
        mbuf.set_port(self.port);
        let mut flags = MbufFlags::empty();
        let valid =
            meta.status & libc::TP_STATUS_CSUM_VALID != 0 || meta.vnet.flags & F_DATA_VALID != 0;
        if valid && self.checksums {
            flags |= MbufFlags::RX_L4_CKSUM_GOOD;
        }
        let tagged = meta.status & libc::TP_STATUS_VLAN_VALID != 0;
        if (tagged || !meta.vnet.is_plain()) && !self.unusual(mbuf, meta, tagged, &mut flags) {
            return false;
        }
        mbuf.set_flags(flags);
        if self.timestamps && meta.timestamp_ns != 0 {
            mbuf.set_timestamp_ns(meta.timestamp_ns);
        }
        true
    }

    fn unusual(&self, mbuf: &mut Mbuf, meta: &RxMeta, tagged: bool, flags: &mut MbufFlags) -> bool {
        if !self.unfinished(mbuf, meta, flags) {
            return false;
        }
        if tagged {
            let has_tpid = meta.status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let tpid = if has_tpid { meta.vlan_tpid } else { TPID_8021Q };
            if tpid == TPID_8021AD {
                *flags |= MbufFlags::VLAN_8021AD;
            }
            mbuf.set_vlan_tci(meta.vlan_tci);
            *flags |= MbufFlags::RX_VLAN;
            if self.strip {
                *flags |= MbufFlags::RX_VLAN_STRIPPED | MbufFlags::TX_VLAN;
            } else {
                if mbuf.prepend(4).is_none() {
                    return false;
                }
                if !mbuf
                    .data_mut()
                    .is_some_and(|data| insert_tag(data, tpid, meta.vlan_tci))
                {
                    return false;
                }
                let mut lengths = mbuf.tx_offload();
                lengths.l2_len += 4;
                mbuf.set_tx_offload(lengths);
            }
        }
        true
    }

    /// Checksums that the sender left, and super-frames.
    fn unfinished(&self, mbuf: &mut Mbuf, meta: &RxMeta, flags: &mut MbufFlags) -> bool {
        let wanted = meta.vnet.requests(mbuf.data());
        match wanted {
            Wanted::Nothing => true,
            Wanted::Requests(requests, lengths) if self.super_frames => {
                *flags |= requests | MbufFlags::RX_L4_CKSUM_NONE;
                if requests.intersects(MbufFlags::TX_TCP_SEG | MbufFlags::TX_UDP_SEG) {
                    *flags |= MbufFlags::RX_LRO;
                }
                mbuf.set_tx_offload(lengths);
                true
            }
            Wanted::Requests(requests, _)
                if requests.intersects(MbufFlags::TX_TCP_SEG | MbufFlags::TX_UDP_SEG) =>
            {
                false
            }
            Wanted::Requests(..) | Wanted::FinishNow => {
                *flags |= MbufFlags::RX_L4_CKSUM_GOOD;
                let (start, offset) = (
                    usize::from(meta.vnet.csum_start),
                    usize::from(meta.vnet.csum_offset),
                );
                mbuf.segment_count() == 1
                    && mbuf
                        .data_mut()
                        .is_some_and(|data| finish_checksum(data, start, offset))
            }
            Wanted::Unknown => false,
        }
    }
}

/// The TPID that a request to insert a tag means.
#[inline]
pub(crate) fn tpid_of(flags: MbufFlags) -> u16 {
    if flags.contains(MbufFlags::VLAN_8021AD) {
        TPID_8021AD
    } else {
        TPID_8021Q
    }
}
