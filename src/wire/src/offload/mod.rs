//! What a NIC may leave to software: checksums, segmentation, VLAN tags.
//!
//! - Checksums of a whole frame: [`fill_checksums`], [`verify_checksums`].
//! - Partial checksums, as virtio and most NICs define them: [`seed_checksum`] prepares one,
//!   [`complete_checksum`] completes it.
//! - TCP segmentation: [`TcpSegmenter`]; UDP segmentation: [`UdpSegmenter`].
//! - VLAN tags: [`insert_tag`] and [`remove_tag`].

mod csum;
mod segment;
mod tso;
mod uso;

pub use crate::vlan::{insert_tag, remove_tag};
pub use csum::{
    ChecksumReport, ChecksumState, PartialChecksum, complete_checksum, complete_checksum_chained,
    fill_checksums, seed_checksum, verify_checksums,
};
pub use segment::{Pieces, Segment, SegmentError, SegmentSpec};
pub use tso::TcpSegmenter;
pub use uso::UdpSegmenter;
