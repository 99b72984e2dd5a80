//! IPv6 extension headers and options, as far as a host minds them (RFC 8200 section 4).

use linecard_wire::icmpv6::parameter::{HEADER_FIELD, NEXT_HEADER, OPTION};
use linecard_wire::ipv6::ext::Extension;
use linecard_wire::{IpProtocol, Ipv6, ipv6};

use crate::icmp::Problem;

const NEXT_HEADER_AT: usize = 6;
const PAD1: u8 = 0;
const PADN: u8 = 1;
const ROUTER_ALERT: u8 = 5;

/// Looks at the headers up to a Fragment header, whose rest is looked at when the packet is whole.
///
/// An error is why the packet is refused: what to report, if anything.
pub(crate) fn check(packet: &[u8]) -> Result<(), Option<Problem>> {
    let ip = Ipv6::parse_partial(packet).map_err(|_| None)?;
    let problem = |code, pointer: usize| {
        Some(Problem::Parameter {
            code,
            pointer: pointer as u16,
        })
    };
    let (mut named_at, mut at) = (NEXT_HEADER_AT, ipv6::HEADER_LEN);
    for extension in ip.extensions() {
        // What is cut short is malformed, and found out elsewhere.
        let Ok(extension) = extension else {
            return Ok(());
        };
        match extension.kind() {
            IpProtocol::FRAGMENT => return Ok(()),
            // It comes first or not at all.
            IpProtocol::HOP_BY_HOP if at != ipv6::HEADER_LEN => {
                return Err(problem(NEXT_HEADER, named_at));
            }
            IpProtocol::HOP_BY_HOP | IpProtocol::DESTINATION => {
                check_options(&extension, at, ip.dst().is_multicast())?;
            }
            // We route for nobody (RFC 8200 section 4.4, RFC 5095).
            IpProtocol::ROUTING if extension.segments_left() > 0 => {
                return Err(problem(HEADER_FIELD, at + 2));
            }
            _ => {}
        }
        (named_at, at) = (at, at + extension.wire_len());
    }
    Ok(())
}

/// The two highest bits of an unknown option say what is to be done (RFC 8200 section 4.2).
fn check_options(extension: &Extension<'_>, at: usize, group: bool) -> Result<(), Option<Problem>> {
    let (mut rest, mut pointer) = (extension.body(), at + 2);
    while let [kind, after @ ..] = rest {
        let len = match (*kind, after) {
            (PAD1, _) => 1,
            (_, [len, ..]) => usize::from(*len) + 2,
            _ => return Err(None),
        };
        let Some(next) = rest.get(len..) else {
            return Err(None);
        };
        let report = Some(Problem::Parameter {
            code: OPTION,
            pointer: pointer as u16,
        });
        match kind >> 6 {
            _ if matches!(*kind, PAD1 | PADN | ROUTER_ALERT) => {}
            0 => {}
            1 => return Err(None),
            2 => return Err(report),
            _ => return Err(report.filter(|_| !group)),
        }
        (rest, pointer) = (next, pointer + len);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use linecard_wire::{Ipv6Header, Ipv6Mut};
    use proptest::prelude::*;

    fn packet(next: IpProtocol, dst: u8, body: &[u8]) -> Vec<u8> {
        let header = Ipv6Header::new([1; 16].into(), [dst; 16].into(), next);
        let mut buf = vec![0; 40 + body.len()];
        let mut ip = Ipv6Mut::emit(&mut buf, &header, body.len()).unwrap();
        ip.payload_mut().copy_from_slice(body);
        buf
    }

    fn parameter(code: u8, pointer: u16) -> Result<(), Option<Problem>> {
        Err(Some(Problem::Parameter { code, pointer }))
    }

    #[test]
    fn an_unknown_option_says_what_is_to_be_done() {
        let options = |kind| [59, 0, 5, 2, 0, 0, kind, 0];
        for (kind, host, group) in [
            (0x1e, Ok(()), Ok(())),
            (0x5e, Err(None), Err(None)),
            (0x9e, parameter(OPTION, 46), parameter(OPTION, 46)),
            (0xde, parameter(OPTION, 46), Err(None)),
        ] {
            let found = check(&packet(IpProtocol::HOP_BY_HOP, 2, &options(kind)));
            assert_eq!(found, host, "{kind:#x}");
            let found = check(&packet(IpProtocol::DESTINATION, 0xff, &options(kind)));
            assert_eq!(found, group, "{kind:#x}");
        }
        // An option that runs over the end.
        let bytes = [59, 0, 5, 2, 0, 0, 0x1e, 9];
        assert_eq!(check(&packet(IpProtocol::HOP_BY_HOP, 2, &bytes)), Err(None));
    }

    #[test]
    fn headers_have_their_place() {
        // Hop-by-hop options behind destination options.
        let body = [0, 0, 1, 4, 0, 0, 0, 0, 59, 0, 1, 4, 0, 0, 0, 0];
        let found = check(&packet(IpProtocol::DESTINATION, 2, &body));
        assert_eq!(found, parameter(NEXT_HEADER, 40));
        // A routing header of type 0 with a stop left; and with none.
        let body = |left| [59, 0, 0, left, 0, 0, 0, 0];
        let found = check(&packet(IpProtocol::ROUTING, 2, &body(1)));
        assert_eq!(found, parameter(HEADER_FIELD, 42));
        assert_eq!(check(&packet(IpProtocol::ROUTING, 2, &body(0))), Ok(()));
    }

    proptest! {
        #[test]
        fn any_headers(kind in 0usize..4, group: bool, body: Vec<u8>) {
            let next = IpProtocol([0, 43, 44, 60][kind]);
            let packet = packet(next, if group { 0xff } else { 2 }, &body);
            if let Err(Some(Problem::Parameter { pointer, .. })) = check(&packet) {
                prop_assert!(usize::from(pointer) < packet.len());
            }
        }
    }
}
