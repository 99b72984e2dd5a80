//! `icmp-echo`: answers so that an ordinary host can ping the port.

use linecard_engine::{DropReason, Stage, Verdict};
use linecard_hal::Mbuf;
use linecard_wire::{
    ArpOperation, ArpPacket, EchoRefusal, EtherType, EthernetMut, MacAddr, echo_reply,
};

/// Answers for every address that is asked for: it is a test peer, not a host.
pub(super) struct IcmpEcho {
    pub(super) macs: Vec<MacAddr>,
}

impl Stage for IcmpEcho {
    fn frame(&mut self, mbuf: &mut Mbuf) -> Verdict {
        let mac = self
            .macs
            .get(mbuf.port() as usize)
            .copied()
            .unwrap_or_default();
        let Some(data) = mbuf.data_mut() else {
            return Verdict::Drop(DropReason::Malformed);
        };
        let answered = if is_arp(data) {
            arp_reply(data, mac)
        } else {
            echo(data)
        };
        match answered {
            Ok(()) => Verdict::Reply,
            Err(reason) => Verdict::Drop(reason),
        }
    }
}

fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&EtherType::ARP.0.to_be_bytes())
}

/// RFC 826: the target's hardware address is filled in and the packet goes back.
fn arp_reply(frame: &mut [u8], mac: MacAddr) -> Result<(), DropReason> {
    let mut ethernet = EthernetMut::parse(frame).map_err(|_| DropReason::Malformed)?;
    let arp = ArpPacket::parse_mut(ethernet.payload_mut()).map_err(|_| DropReason::Malformed)?;
    if arp.operation() != ArpOperation::REQUEST
        || arp.is_gratuitous()
        || arp.sender_mac().is_multicast()
    {
        return Err(DropReason::NotForUs);
    }
    let asker = arp.sender_mac();
    *arp = arp.reply(mac);
    ethernet.set_dst(asker);
    ethernet.set_src(mac);
    Ok(())
}

fn echo(frame: &mut [u8]) -> Result<(), DropReason> {
    echo_reply(frame)
        .map(|_| ())
        .map_err(|refusal| match refusal {
            EchoRefusal::NotEchoRequest => DropReason::NotForUs,
            _ => DropReason::Malformed,
        })
}
