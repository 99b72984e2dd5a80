//! `tx-only`: frames of our own, as fast as the ports take them.

use std::net::Ipv4Addr;

use linecard_engine::{Context, DropReason, PortIndex, Stage, Verdict};
use linecard_hal::{Burst, Mbuf};
use linecard_wire::{
    EmitError, EtherType, EthernetHeader, EthernetMut, IpProtocol, Ipv4Header, Ipv4Mut, UdpHeader,
    UdpMut,
};

use super::ModeConfig;

pub(super) struct TxOnly {
    /// By port.
    templates: Vec<Vec<u8>>,
    burst: Burst,
}

impl TxOnly {
    pub(super) fn new(config: ModeConfig) -> Self {
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
        let burst_size = cx.burst_size();
        if self.burst.capacity() != burst_size {
            // Of the outputs' own size, so that a whole burst changes hands instead of its mbufs.
            self.burst = Burst::with_capacity(burst_size);
        }
        for (port, template) in (0..).zip(&self.templates) {
            let port: PortIndex = port;
            // No more than the port takes: what it did not take last time has to leave first.
            let n = burst_size.saturating_sub(cx.waiting(port));
            cx.pool().alloc_burst(&mut self.burst, n);
            for mbuf in self.burst.iter_mut() {
                if let Some(data) = mbuf.append(template.len()) {
                    data.copy_from_slice(template);
                }
            }
            cx.emit_burst(port, &mut self.burst);
        }
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
