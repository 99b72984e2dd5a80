//! Who is to be called though no packet arrives?

use std::sync::Arc;
use std::time::Duration;

use super::Host;
use super::resident::NEVER;
use crate::bell::Bell;
use crate::context::Context;
use crate::protocol::demux::ProtocolIndex;

impl Host {
    /// Lets the protocols attach what is to wake this worker. Called once, on the worker, before the first packet.
    pub(crate) fn attach(&mut self, bell: &Arc<Bell>, cx: &mut Context) {
        let now_ns = self.clock.at(cx.cycles);
        for owner in 0..self.residents.list.len() {
            self.residents.list[owner].attach(now_ns, bell);
            self.residents.after_call(owner as ProtocolIndex, cx);
        }
        self.listens = self.residents.list.iter().any(|r| r.listens);
    }

    /// Whether a protocol is to be called: its deadline has come, or it is ready.
    #[inline(always)]
    pub(crate) fn is_due(&self, cx: &Context) -> bool {
        let deadline = self.residents.deadline;
        (deadline != NEVER && deadline <= self.clock.at(cx.cycles))
            || (self.listens && self.is_ready())
    }

    fn is_ready(&self) -> bool {
        let mut ready = self.residents.list.iter().map(|r| r.is_ready(&self.clock));
        // A panic is met, and counted, by the call that follows.
        ready.any(|ready| ready.unwrap_or(true))
    }

    /// When a protocol is to be called, as things are now; `None` if never.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let calls = self.residents.list.iter().map(|r| r.next_call(&self.clock));
        calls.min().filter(|deadline| *deadline != NEVER)
    }

    /// How long none is to be called; `None` if for ever.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let left = self.deadline()?.saturating_sub(self.clock.now());
        Some(Duration::from_nanos(left))
    }

    /// Calls the protocols whose deadline has come, and those that are ready.
    pub(crate) fn expire(&mut self, cx: &mut Context) {
        let now_ns = self.clock.at(cx.cycles);
        for owner in 0..self.residents.list.len() {
            if self.residents.list[owner].expire(now_ns, &self.clock) {
                self.residents.after_call(owner as ProtocolIndex, cx);
            }
        }
    }
}
