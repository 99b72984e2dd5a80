//! The smallest protocol there is.

linecard_simnet::fuzz_protocol!(|_| linecard_simnet::players::Echo::new(7));
