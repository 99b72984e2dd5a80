//! Frames of our own: as fast as the ports take them (`tx-only`), or a few to begin with.

use std::net::Ipv4Addr;

use linecard_engine::{Context, DropReason, PortIndex, Stage, Verdict};
use linecard_hal::{Burst, Mbuf};
use linecard_wire::{
    EmitError, EtherType, EthernetHeader, EthernetMut, IpProtocol, Ipv4Header, Ipv4Mut, UdpHeader,
    UdpMut,
};

use super::ModeConfig;

/// Makes frames, a burst for each port at a time.
struct Source {
    /// By port.
    templates: Vec<Vec<u8>>,
    burst: Burst,
}

impl Source {
    fn new(config: &ModeConfig) -> Self {
        let templates = config.macs.iter().zip(&config.peers).map(|(&src, &dst)| {
            let mut frame = vec![0; config.frame_len.max(60)];
            let done = template(&mut frame, &EthernetHeader::new(src, dst, EtherType::IPV4));
            debug_assert!(done.is_ok(), "{done:?}");
            frame
        });
        Self {
            templates: templates.collect(),
            burst: Burst::with_capacity(0),
        }
    }

    /// A burst out of each port; at most as many frames as `room` says of it, if there are as many mbufs.
    fn emit(&mut self, cx: &mut Context, room: impl Fn(&Context, PortIndex) -> usize) {
        let burst_size = cx.burst_size();
        if self.burst.capacity() != burst_size {
            // Of the outputs' own size, so that a whole burst changes hands instead of its mbufs.
            self.burst = Burst::with_capacity(burst_size);
        }
        for (port, template) in (0..).zip(&self.templates) {
            let n = room(cx, port);
            // None, if they do not fit into an mbuf, as ones of 2¹⁶ bytes never do.
            let len = u16::try_from(template.len()).unwrap_or(u16::MAX);
            cx.pool().alloc_frames(&mut self.burst, n, len);
            let written = self.burst.write_data(template);
            debug_assert_eq!(written, self.burst.len());
            cx.emit_burst(port, &mut self.burst);
        }
    }
}

pub(super) struct TxOnly {
    source: Source,
}

impl TxOnly {
    pub(super) fn new(config: &ModeConfig) -> Self {
        let source = Source::new(config);
        Self { source }
    }
}

impl Stage for TxOnly {
    fn frame(&mut self, _: &mut Mbuf) -> Verdict {
        Verdict::Drop(DropReason::Mode)
    }

    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        cx.drop_burst(DropReason::Mode, burst);
    }

    fn is_source(&self) -> bool {
        true
    }

    fn generate(&mut self, cx: &mut Context) {
        // What a port did not take last time has to leave first.
        let room = |cx: &Context, port| cx.burst_size().saturating_sub(cx.waiting(port));
        self.source.emit(cx, room);
    }
}

/// A mode that is given something to do: bursts of our own first, which go round in a closed loop for ever.
pub(super) struct TxFirst<S> {
    inner: S,
    source: Source,
    left: u32,
}

impl<S: Stage> TxFirst<S> {
    pub(super) fn new(inner: S, config: &ModeConfig) -> Self {
        Self {
            inner,
            source: Source::new(config),
            left: config.tx_first,
        }
    }
}

impl<S: Stage> Stage for TxFirst<S> {
    fn frame(&mut self, mbuf: &mut Mbuf) -> Verdict {
        self.inner.frame(mbuf)
    }

    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        self.inner.process(burst, cx);
    }

    fn route(&self, port: PortIndex) -> Option<PortIndex> {
        self.inner.route(port)
    }

    fn is_source(&self) -> bool {
        self.left > 0
    }

    fn generate(&mut self, cx: &mut Context) {
        self.left -= 1;
        // Beside what is on its way round already; what a port does not take is dropped and counted.
        self.source.emit(cx, |cx, _| cx.burst_size());
    }
}

/// UDP to the discard port, within the addresses that RFC 2544 sets aside for benchmarks.
fn template(frame: &mut [u8], ethernet: &EthernetHeader) -> Result<(), EmitError> {
    let mut ethernet = EthernetMut::emit(frame, ethernet)?;
    let packet = ethernet.payload_mut();
    let len = packet.len();
    let (src, dst) = (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 19, 0, 1));
    let header = Ipv4Header::new(src, dst, IpProtocol::UDP);
    let mut ip = Ipv4Mut::emit(packet, &header, &[], len - 20)?;
    let pseudo = ip.pseudo();
    let mut udp = UdpMut::emit(ip.payload_mut(), &UdpHeader::new(1024, 9), len - 28)?;
    udp.fill_checksum(pseudo);
    Ok(())
}
