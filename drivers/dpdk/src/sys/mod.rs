//! Everything unsafe of this crate: DPDK behind functions that are safe to call.
#![allow(unsafe_code)]

pub(crate) mod eal;
pub(crate) mod events;
pub(crate) mod flow;
pub(crate) mod frames;
pub(crate) mod memory;
mod path;
pub(crate) mod pool;
pub(crate) mod port;
pub(crate) mod queue;
pub(crate) mod recovery;

use std::io;

use libc::c_int;

/// A shim function's answer: a negative errno is an error.
pub(crate) fn answer(result: c_int) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
