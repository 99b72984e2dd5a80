//! A request becomes a valid reply, or the frame is untouched.

pub(crate) use crate::wire_harness::reply as fuzz;
