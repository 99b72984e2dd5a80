//! Congestion control behind a trait: how many bytes may be under way.
//!
//! A controller is told three things: bytes have arrived, packets were lost (once a round trip), the timeout went off.
//! What lies around it is the same for all and is in the connection: what counts as under way, which losses belong
//! to one round (RFC 6582's `recover`), pacing.

mod cubic;
mod new_reno;

use std::fmt;

use crate::rtt::Rtt;

pub use cubic::Cubic;
pub use new_reno::NewReno;

/// A congestion controller. Everything is in bytes.
pub trait Controller: Send + fmt::Debug {
    /// The congestion window: so much may be under way.
    fn window(&self) -> u64;

    /// Below this the window grows by what arrives: slow start (RFC 5681, section 3.1).
    fn threshold(&self) -> u64;

    /// Bytes have arrived that were sent after the last loss. `full`: the window was what held the sender back; if
    /// it was not, it must not grow (RFC 9438, section 5.8; RFC 7661).
    fn arrived(&mut self, now_ns: u64, bytes: u64, full: bool, rtt: &Rtt);

    /// Packets were lost, for the first time in a round trip. `in_flight` was under way before.
    fn lost(&mut self, now_ns: u64, in_flight: u64);

    /// The retransmission timeout went off; `again`: with nothing having arrived since the last time.
    fn timed_out(&mut self, now_ns: u64, in_flight: u64, again: bool);

    /// All that was thought lost since the last [`Controller::lost`] has arrived: nothing was (RFC 9438, section 4.9).
    fn nothing_was_lost(&mut self);
}

/// Makes a controller for datagrams of a length.
pub type MakeController = fn(datagram_len: u64) -> Box<dyn Controller>;

/// NewReno, as a [`MakeController`].
pub fn new_reno(datagram_len: u64) -> Box<dyn Controller> {
    Box::new(NewReno::new(datagram_len))
}

/// CUBIC, as a [`MakeController`].
pub fn cubic(datagram_len: u64) -> Box<dyn Controller> {
    Box::new(Cubic::new(datagram_len))
}

/// The window to begin with: RFC 6928, section 2.
fn initial_window(datagram_len: u64) -> u64 {
    (10 * datagram_len).min(14_600.max(2 * datagram_len))
}

/// Slow start: by what has arrived, but by no more than two datagrams for each acknowledgement, so that one which
/// makes up for many does not let loose a burst (RFC 5681, section 3.1; RFC 3465, section 2.3).
fn slow_start_step(bytes: u64, datagram_len: u64) -> u64 {
    bytes.min(2 * datagram_len)
}

/// The least that a loss leaves (RFC 5681, equation 4).
fn least_threshold(datagram_len: u64) -> u64 {
    2 * datagram_len
}
