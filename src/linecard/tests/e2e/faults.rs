//! Faults: a clear error or a counted drop, nothing lost without a counter, nothing left behind.

