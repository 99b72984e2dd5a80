//! Linecard's bindings to the DPDK that the system has, 22.11 or later.
//!
//! `shim/shim.h` is the whole of it: functions and structures of our own over DPDK's control plane and
//! its inline fast path, so that what changes from release to release is compiled against the installed
//! headers and nothing of it is seen from Rust. The shim also holds the compile-time comparison of
//! `struct rte_mbuf` and `struct rte_mempool` with `linecard_hal`'s layout: against headers that differ,
//! this does not build.
//!
//! The distribution's shared libraries are linked, as `pkg-config libdpdk` names them. Poll-mode drivers
//! are plug-ins, loaded by EAL from `lc_plugin_dir`. Nothing is compiled for the building machine's own
//! processor: `-march` is what the distribution's headers need at least.
#![allow(
    unsafe_code,
    missing_docs,
    non_camel_case_types,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated; shim.h documents it"
)]

#[cfg(feature = "dpdk")]
include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
