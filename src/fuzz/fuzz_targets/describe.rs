//! Any packet printed as text reads as the same bytes.

pub(crate) use crate::wire_harness::describe as fuzz;
