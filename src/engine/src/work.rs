//! What a worker does with frames: a stage, or protocols.

use std::sync::Arc;
use std::time::Duration;

use linecard_hal::{Burst, Mbuf};

use crate::bell::Bell;
use crate::context::Context;
use crate::protocol::{Host, Nest};
use crate::stage::Stage;

/// The one or the other. Asked once a burst, and always answered alike.
pub(crate) enum Work {
    Stage(Box<dyn Stage>),
    Protocols(Box<Host>),
}

impl Work {
    /// Called once, on the worker, before the first frame.
    pub(crate) fn attach(&mut self, bell: &Arc<Bell>, cx: &mut Context) {
        if let Self::Protocols(host) = self {
            host.attach(bell, cx);
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

    /// Whether it has something to do though nothing arrives.
    #[inline(always)]
    pub(crate) fn is_source(&self, cx: &Context) -> bool {
        match self {
            Self::Stage(stage) => stage.is_source(),
            Self::Protocols(host) => host.is_due(cx),
        }
    }

    #[inline(always)]
    pub(crate) fn generate(&mut self, cx: &mut Context) {
        match self {
            Self::Stage(stage) => stage.generate(cx),
            Self::Protocols(host) => host.expire(cx),
        }
    }

    /// When it has something to do though nothing arrives; `None` for never, and for stages, who never say.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        match self {
            Self::Stage(_) => None,
            Self::Protocols(host) => host.deadline(),
        }
    }

    /// How long it has nothing to do unless something arrives or its bell rings; `None` for ever.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        match self {
            Self::Stage(_) => None,
            Self::Protocols(host) => host.idle_for(),
        }
    }
}
