//! Modes that change addresses on the way through.

use std::cmp::Ordering;

use linecard_engine::{Context, DropReason, PortIndex, Stage, Verdict};
use linecard_hal::{Burst, Mbuf};
use linecard_wire::{EthernetMut, MacAddr, ParseError, parse_layers, swap_flow, swap_macs};

use super::{ModeConfig, partner};

/// Lets `change` work on the first segment, where the headers are.
#[inline(always)]
fn rewrite<E>(
    mbuf: &mut Mbuf,
    to: PortIndex,
    change: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Verdict {
    // Nobody shares the bytes of a frame that was just received.
    match mbuf.data_mut().map(change) {
        Some(Ok(())) => Verdict::Forward(to),
        _ => Verdict::Drop(DropReason::Malformed),
    }
}

/// Changes a whole burst, all of which leaves by one port, and sends it on in one piece. A frame that
/// cannot be changed is dropped on its own, and those before it have left by then.
#[inline(always)]
pub(super) fn rewrite_burst<E>(
    burst: &mut Burst,
    cx: &mut Context,
    to: PortIndex,
    change: impl Fn(&mut [u8]) -> Result<(), E>,
) {
    // A tight loop over the bytes: nothing of the frame's port or verdict is looked at.
    let bad = burst.change_data(|data| change(data).is_ok());
    if bad == burst.len() {
        return cx.forward_burst(to, burst);
    }
    // The frames before the bad one are changed already; this one and those behind are not.
    for (i, mut mbuf) in burst.drain().enumerate() {
        let verdict = match i.cmp(&bad) {
            Ordering::Less => Verdict::Forward(to),
            Ordering::Equal => Verdict::Drop(DropReason::Malformed),
            Ordering::Greater => rewrite(&mut mbuf, to, &change),
        };
        cx.settle(mbuf, verdict);
    }
}

pub(super) struct MacSwap {
    pub(super) partners: Vec<PortIndex>,
}

impl Stage for MacSwap {
    #[inline(always)]
    fn frame(&mut self, mbuf: &mut Mbuf) -> Verdict {
        rewrite(mbuf, partner(&self.partners, mbuf.port()), swap_macs)
    }

    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        let to = partner(&self.partners, cx.port());
        rewrite_burst(burst, cx, to, swap_macs);
    }
}

pub(super) struct MacRewrite {
    partners: Vec<PortIndex>,
    /// By leaving port: destination and source.
    addresses: Vec<(MacAddr, MacAddr)>,
}

impl MacRewrite {
    pub(super) fn new(config: ModeConfig) -> Self {
        let addresses = config.peers.into_iter().zip(config.macs).collect();
        Self {
            partners: config.partners,
            addresses,
        }
    }
}

impl Stage for MacRewrite {
    #[inline(always)]
    fn frame(&mut self, mbuf: &mut Mbuf) -> Verdict {
        let to = partner(&self.partners, mbuf.port());
        match self.addresses.get(to as usize) {
            Some(addresses) => rewrite(mbuf, to, |data| set_macs(data, addresses)),
            None => Verdict::Drop(DropReason::NoSuchPort),
        }
    }

    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        let to = partner(&self.partners, cx.port());
        match self.addresses.get(to as usize) {
            Some(addresses) => rewrite_burst(burst, cx, to, |data| set_macs(data, addresses)),
            None => cx.drop_burst(DropReason::NoSuchPort, burst),
        }
    }
}

#[inline(always)]
fn set_macs(frame: &mut [u8], &(dst, src): &(MacAddr, MacAddr)) -> Result<(), ParseError> {
    EthernetMut::parse(frame).map(|mut ethernet| {
        ethernet.set_dst(dst);
        ethernet.set_src(src);
    })
}

#[inline(always)]
pub(super) fn swap_all(frame: &mut [u8]) -> Result<(), ParseError> {
    let layers = parse_layers(frame);
    swap_flow(frame, &layers).map(|_| ())
}

pub(super) struct FiveTupleSwap {
    pub(super) partners: Vec<PortIndex>,
}

impl Stage for FiveTupleSwap {
    #[inline(always)]
    fn frame(&mut self, mbuf: &mut Mbuf) -> Verdict {
        rewrite(mbuf, partner(&self.partners, mbuf.port()), swap_all)
    }

    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        let to = partner(&self.partners, cx.port());
        rewrite_burst(burst, cx, to, swap_all);
    }
}
