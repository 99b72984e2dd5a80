//! A made-up protocol of sensors over UDP: one header, written down once.
//!
//! `linecard dissector sensor` knows it too.

use linecard::Header;
use linecard::wire::MacAddr;

/// Readings of sensors.
/// A made-up protocol, for a look at what is derived from a header.
#[derive(Header, Clone, Debug)]
#[header(udp_port = 4919)]
pub(crate) struct Sensor<'a> {
    #[field(constant = 0x5e05, hex)]
    pub(crate) magic: u16,
    #[field(bits = 4, constant = 1)]
    pub(crate) version: u8,
    /// What this packet is for.
    #[field(bits = 4, values(request = 1, reading = 2, refused = 3), default = 1)]
    pub(crate) kind: u8,
    #[field(bits = 3, flags(battery_low = 1, calibrated = 2, last = 4))]
    pub(crate) state: u8,
    /// Length of the labels, in words of four bytes.
    #[field(bits = 5, len = "labels", unit = 4)]
    pub(crate) labels_len: u8,
    /// Which sensor: a flow is all packets of one.
    #[field(key)]
    pub(crate) id: u32,
    /// Counts requests; a reading has that of its request.
    #[field(bits = 24, little)]
    pub(crate) seq: u32,
    #[field(len = "payload")]
    pub(crate) len: u8,
    /// The radio of the sensor.
    pub(crate) radio: MacAddr,
    /// Over header and payload.
    #[field(checksum = "crc32")]
    pub(crate) checksum: u32,
    /// Text that was glued to the sensor.
    pub(crate) labels: &'a [u8],
}
