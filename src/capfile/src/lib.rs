//! Capture files, read and written record by record: pcap and pcapng, whatever unit of time and byte order.
//!
//! What `pcap:` ports, taps of simulations and replay have in common. A file that is broken gives the frames before and then
//! says where; what is written ends with a whole record at all times.

pub mod read;
pub mod write;
