//! A whole stack, fed frame by frame.

pub(crate) use crate::stack_harness::stack as fuzz;
