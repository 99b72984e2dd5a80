//! Under construction.

pub mod pin;
pub mod placement;
pub mod topology;
