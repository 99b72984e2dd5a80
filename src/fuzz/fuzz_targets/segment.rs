//! Super-frames are cut into segments that add up.

pub(crate) use crate::wire_harness::segment as fuzz;
