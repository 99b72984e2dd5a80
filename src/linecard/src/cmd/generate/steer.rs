//! What `linecard top` and `linecard ctl` see of a generator, and may change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linecard::control::{Controlled, Refused, StreamStatus};
use linecard::engine::Remote;
use linecard_traffic::generator::Handle;
use linecard_traffic::rate::Rate;
use linecard_traffic::receiver;

/// A generator that is watched.
pub(super) struct Steered {
    pub(super) remote: Remote,
    pub(super) handle: Handle,
    pub(super) figures: Option<receiver::Handle>,
    pub(super) names: Vec<String>,
    pub(super) rates: Vec<String>,
    /// Whether somebody asked for the end.
    pub(super) asked: Arc<AtomicBool>,
}

impl Controlled for Steered {
    fn engine(&self) -> &Remote {
        &self.remote
    }

    /// Each stream; what is unsent or late is known of all together, and stands with the first.
    fn streams(&mut self) -> Vec<StreamStatus> {
        let sent = self.handle.sent();
        let snapshot = self.figures.as_ref().map(receiver::Handle::snapshot);
        let mut streams: Vec<_> = (0..)
            .zip(&self.names)
            .zip(&self.rates)
            .map(|((index, name), rate)| StreamStatus {
                name: name.clone(),
                index: Some(index),
                rate: rate.clone(),
                sent: 0,
                unsent: 0,
                late: 0,
                received: snapshot.as_ref().map(|_| 0),
                lost: None,
            })
            .collect();
        for lane in &sent.lanes {
            let Some(stream) = streams.get_mut(lane.stream) else {
                continue;
            };
            stream.sent += lane.next - lane.first;
            let back = snapshot.as_ref().and_then(|s| s.lanes.get(&lane.lane));
            if let (Some(sum), Some(back)) = (&mut stream.received, back) {
                *sum += back.received;
                *stream.lost.get_or_insert(0) += back.lost();
            }
        }
        if let Some(first) = streams.first_mut() {
            (first.unsent, first.late) = (sent.unsent, sent.pacing.late_frames);
        }
        streams
    }

    fn set_rate(&mut self, rate: &str) -> Result<String, Refused> {
        let rate: Rate = rate.parse().map_err(Refused::because)?;
        self.handle.set_rate(rate).map_err(Refused::because)?;
        if let Some(first) = self.rates.first_mut() {
            *first = rate.to_string();
        }
        Ok(rate.to_string())
    }

    fn stop(&mut self) {
        self.asked.store(true, Ordering::Relaxed);
    }
}
