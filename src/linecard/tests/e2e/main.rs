//! End-to-end tests: the built command, real kernels at the other end of the cables, and faults.
//!
//! Nothing here asserts times or rates; what is counted has to be exact. Needs what `scripts/setup`
//! installs, and root or user namespaces.

#![allow(
    unreachable_pub,
    reason = "a test has no interface; pub is what its modules share"
)]

mod browser;
mod lab;
mod report;
mod wire;
mod xdp_lab;

mod frames;

mod auto;
mod bind;
mod calls;
mod capture;
mod control;
mod dissector;
#[cfg(feature = "dpdk")]
mod dpdk;
#[cfg(feature = "dpdk")]
mod dpdk_faults;
mod faults;
mod files;
mod forward;
mod generate;
mod host;
mod html;
mod idle;
mod modes;
#[cfg(feature = "dpdk")]
mod peers;
mod ping;
mod protocols;
mod rfc2544;
mod script;
mod seccomp;
mod sim;
mod sink;
#[cfg(feature = "dpdk")]
mod testpmd;
mod traffic;
mod xdp;
mod xdp_refusals;
