//! Every parser and every accessor on arbitrary bytes.

pub(crate) use crate::wire_harness::parse as fuzz;
