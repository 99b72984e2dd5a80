//! Headers turn into requests and back; an oracle builds frames whose answer is known.

use proptest::prelude::*;

use super::*;

/// A frame's first bytes and the header that Linux would give with it.
fn frame(
    ipv6: bool,
    tcp: bool,
    tagged: bool,
    options: u8,
    gso: Option<u16>,
) -> (Vec<u8>, VnetHdr, TxOffload) {
    let l2 = if tagged { 18 } else { 14 };
    let l3 = if ipv6 {
        40
    } else {
        20 + usize::from(options % 11) * 4
    };
    let l4 = if tcp {
        20 + usize::from(options % 11) * 4
    } else {
        8
    };
    let mut f = vec![0; l2 + l3 + l4 + 100];
    if tagged {
        f[12..14].copy_from_slice(&[0x81, 0]);
    }
    let kind: u16 = if ipv6 { 0x86dd } else { 0x0800 };
    f[l2 - 2..l2].copy_from_slice(&kind.to_be_bytes());
    let protocol = if tcp { 6 } else { 17 };
    if ipv6 {
        f[l2] = 0x60;
        f[l2 + 6] = protocol;
    } else {
        f[l2] = 0x40 | (l3 / 4) as u8;
        f[l2 + 9] = protocol;
    }
    if tcp {
        f[l2 + l3 + 12] = ((l4 / 4) as u8) << 4;
    }
    let lengths = TxOffload {
        l2_len: l2 as u16,
        l3_len: l3 as u16,
        l4_len: l4 as u16,
        tso_segsz: gso.unwrap_or(0),
    };
    let header = VnetHdr {
        flags: F_NEEDS_CSUM,
        gso_type: match (gso.is_some(), tcp, ipv6) {
            (false, _, _) => GSO_NONE,
            (true, true, false) => GSO_TCPV4,
            (true, true, true) => GSO_TCPV6,
            (true, false, _) => GSO_UDP_L4,
        },
        hdr_len: if gso.is_some() {
            (l2 + l3 + l4) as u16
        } else {
            0
        },
        gso_size: gso.unwrap_or(0),
        csum_start: (l2 + l3) as u16,
        csum_offset: if tcp { 16 } else { 6 },
    };
    (f, header, lengths)
}

proptest! {
    #[test]
    fn requests_and_back(ipv6: bool, tcp: bool, tagged: bool, options: u8, gso in prop::option::of(1u16..9000)) {
        let (frame, header, lengths) = frame(ipv6, tcp, tagged, options, gso);
        let wanted = header.requests(&frame);
        let Wanted::Requests(flags, got) = wanted else { panic!("{wanted:?}") };
        prop_assert_eq!(got, lengths);
        prop_assert_eq!(flags.contains(MbufFlags::TX_IPV6), ipv6);
        prop_assert_eq!(flags & MbufFlags::TX_L4_MASK,
            if tcp { MbufFlags::TX_TCP_CKSUM } else { MbufFlags::TX_UDP_CKSUM });
        prop_assert_eq!(flags.intersects(MbufFlags::TX_TCP_SEG | MbufFlags::TX_UDP_SEG), gso.is_some());
        prop_assert_eq!(VnetHdr::for_transmit(flags, got, |_| false), Some(header));
        let bytes = header.to_bytes();
        prop_assert_eq!(VnetHdr::from_bytes(bytes), header);
    }

    #[test]
    fn any_header_over_any_bytes_is_answered(bytes: [u8; VNET_LEN], frame in prop::collection::vec(any::<u8>(), 0..120)) {
        let header = VnetHdr::from_bytes(bytes);
        prop_assert_eq!(header.to_bytes(), bytes);
        match header.requests(&frame) {
            Wanted::Requests(_, lengths) => prop_assert_eq!(lengths.l2_len + lengths.l3_len, header.csum_start),
            Wanted::Nothing => prop_assert!(header.is_plain()),
            Wanted::FinishNow | Wanted::Unknown => {}
        }
    }
}

#[test]
fn what_cannot_be_asked_for_is_finished_or_refused() {
    let (frame, header, _) = frame(false, true, false, 0, None);
    // A checksum inside a tunnel, and one of another protocol.
    assert_eq!(
        VnetHdr {
            csum_start: 84,
            ..header
        }
        .requests(&frame),
        Wanted::FinishNow
    );
    assert_eq!(
        VnetHdr {
            csum_offset: 8,
            ..header
        }
        .requests(&frame),
        Wanted::FinishNow
    );
    // Super-frames of a kind that has no request, or without the sum or the size.
    for bad in [
        VnetHdr {
            gso_type: 3,
            gso_size: 1000,
            ..header
        },
        VnetHdr {
            gso_type: GSO_TCPV6,
            gso_size: 1000,
            ..header
        },
        VnetHdr {
            gso_type: GSO_TCPV4,
            gso_size: 0,
            ..header
        },
        VnetHdr {
            gso_type: GSO_TCPV4,
            gso_size: 1000,
            flags: 0,
            ..header
        },
    ] {
        assert_eq!(bad.requests(&frame), Wanted::Unknown, "{bad:?}");
    }
}

#[test]
fn cwr_marks_a_super_frame_only() {
    let lengths = TxOffload {
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        tso_segsz: 1448,
    };
    let seg = MbufFlags::TX_TCP_SEG | MbufFlags::TX_IPV4;
    let header = VnetHdr::for_transmit(seg, lengths, |at| at == 34).unwrap();
    assert_eq!(header.gso_type, GSO_TCPV4 | GSO_ECN);
    let sum = MbufFlags::TX_TCP_CKSUM | MbufFlags::TX_IPV4;
    let header = VnetHdr::for_transmit(sum, lengths, |_| panic!("not asked")).unwrap();
    assert_eq!((header.gso_type, header.csum_offset), (0, 16));
    assert_eq!(
        VnetHdr::for_transmit(
            seg,
            TxOffload {
                tso_segsz: 0,
                ..lengths
            },
            |_| false
        ),
        None
    );
    assert_eq!(
        VnetHdr::for_transmit(sum, TxOffload::default(), |_| false),
        None
    );
}
