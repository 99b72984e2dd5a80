//! `icmp-echo`: answers so that an ordinary host can ping the port.

use linecard_engine::{DropReason, Stage, Verdict};
use linecard_hal::Mbuf;
use linecard_wire::{EchoRefusal, MacAddr, arp_reply, echo_reply};

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
        let answered = match arp_reply(data, mac, |_| true) {
            Ok(true) => Ok(()),
            Ok(false) => echo(data),
            Err(_) => Err(DropReason::Malformed),
        };
        match answered {
            Ok(()) => Verdict::Reply,
            Err(reason) => Verdict::Drop(reason),
        }
    }
}

fn echo(frame: &mut [u8]) -> Result<(), DropReason> {
    echo_reply(frame)
        .map(|_| ())
        .map_err(|refusal| match refusal {
            EchoRefusal::NotEchoRequest => DropReason::NotForUs,
            _ => DropReason::Malformed,
        })
}
