//! What a worker does with frames: a stage, or protocols.

use std::sync::Arc;
use std::time::Duration;

use linecard_hal::{Burst, Mbuf};

use crate::bell::{Bell, Wake};
use crate::context::Context;
use crate::protocol::{Host, Nest};
use crate::stage::{PortIndex, Stage};

/// The one or the other. Asked once a burst, and always answered alike.
pub(crate) enum Work {
    Stage(Box<dyn Stage>),
    Protocols(Box<Host>),
}

impl Work {
    /// Called once, on the worker, before the first frame.
    pub(crate) fn attach(&mut self, bell: &Arc<Bell>, cx: &mut Context) {
        match self {
            Self::Stage(stage) => stage.attach(&Wake::new(bell)),
            Self::Protocols(host) => host.attach(bell, cx),
        }
    }

    /// Where frames of `port` go without being processed.
    pub(crate) fn route(&self, port: PortIndex) -> Option<PortIndex> {
        match self {
            Self::Stage(stage) => stage.route(port),
            Self::Protocols(_) => None,
        }
    }

    #[inline(always)]
    pub(crate) fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        match self {
            Self::Stage(stage) => stage.process(burst, cx),
            Self::Protocols(host) => host.process(burst, cx),
        }
    }

    /// A frame from another worker.
    pub(crate) fn handed(&mut self, mut mbuf: Mbuf, nest: Nest, cx: &mut Context) {
        match self {
            Self::Stage(stage) => {
                let verdict = stage.frame(&mut mbuf);
                cx.settle(mbuf, verdict);
            }
            Self::Protocols(host) => host.handed(mbuf, nest),
        }
    }

    /// That was all that other workers had.
    pub(crate) fn mail_opened(&mut self, cx: &mut Context) {
        if let Self::Protocols(host) = self {
            host.mail_opened(cx);
        }
    }

    /// Whether [`generate`](Self::generate) is to be called in this turn.
    #[inline(always)]
    pub(crate) fn is_source(&self, cx: &Context) -> bool {
        match self {
            Self::Stage(stage) => stage.is_source(),
            Self::Protocols(host) => host.is_due(cx),
        }
    }

    /// Whether it has nothing of its own to do, as far as that is cheap to say. What protocols are to do changes with every frame.
    #[inline(always)]
    pub(crate) fn is_only_answering(&self) -> bool {
        match self {
            Self::Stage(stage) => !stage.is_source(),
            Self::Protocols(_) => false,
        }
    }

    #[inline(always)]
    pub(crate) fn generate(&mut self, cx: &mut Context) {
        match self {
            Self::Stage(stage) => stage.generate(cx),
            Self::Protocols(host) => host.expire(cx),
        }
    }

    /// When it has something to do though nothing arrives; `None` for never.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        match self {
            Self::Stage(stage) if !stage.is_source() => None,
            Self::Stage(stage) => match stage.next_ns() {
                Some(u64::MAX) => None,
                due => due.or(Some(0)),
            },
            Self::Protocols(host) => host.deadline(),
        }
    }

    /// Whether it has something to do now though nothing arrives. Asked before it sleeps.
    pub(crate) fn is_due(&self, cx: &Context) -> bool {
        match self {
            Self::Stage(_) => self.deadline_ns().is_some_and(|due| due <= cx.now_ns()),
            Self::Protocols(host) => host.is_due(cx),
        }
    }

    /// How long it has nothing to do unless something arrives or its bell rings; `None` for ever.
    pub(crate) fn idle_for(&self, cx: &Context) -> Option<Duration> {
        match self {
            Self::Stage(_) => {
                let left = self.deadline_ns()?.saturating_sub(cx.now_ns());
                Some(Duration::from_nanos(left))
            }
            Self::Protocols(host) => host.idle_for(),
        }
    }
}
