//! End-to-end tests: the built command, real kernels at the other end of the cables, and faults.
//!
//! Nothing here asserts times or rates; what is counted has to be exact. Needs what `scripts/setup`
//! installs, and root or user namespaces.

#![allow(
    unreachable_pub,
    reason = "a test has no interface; pub is what its modules share"
)]

mod lab;
mod report;
mod wire;
mod xdp_lab;

mod frames;

mod auto;
mod bind;
mod calls;
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
mod idle;
mod modes;
#[cfg(feature = "dpdk")]
mod peers;
mod protocols;
mod script;
mod seccomp;
mod sim;
#[cfg(feature = "dpdk")]
mod testpmd;
mod tutorial;
mod xdp;
mod xdp_refusals;
