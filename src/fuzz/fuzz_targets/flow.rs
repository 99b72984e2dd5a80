//! What is found in one go is what the views find.

pub(crate) use crate::wire_harness::flow as fuzz;
