//! What a port does for a frame, checked against the reference code.

use linecard_hal::{Mbuf, MbufFlags, Offloads, PortConfig, TxOffload};
use linecard_wire::offload::{ChecksumState, insert_tag, verify_checksums};
use linecard_wire::vlan::{TAG_LEN, VlanTag};
use linecard_wire::{EtherType, parse_layers};

use crate::bench::{Bench, usual};
use crate::frame::{Packet, l4_len, numbered, packet, unfinished};
use crate::rig::{Need, Source};
use crate::{Stand, Step, Stop, ensure, wire};

const TCI: u16 = 0x2064;

fn tagged(mut frame: Vec<u8>, tpid: EtherType, tci: u16) -> Step<Vec<u8>> {
    frame.splice(0..0, [0; TAG_LEN]);
    insert_tag(&mut frame, VlanTag { tpid, tci })?;
    Ok(frame)
}

fn made(frame: Option<Vec<u8>>) -> Step<Vec<u8>> {
    frame.ok_or_else(|| Stop::Failed("a packet could not be made".into()))
}

fn a_packet(tcp: bool, number: u32, payload: usize) -> Packet {
    Packet {
        tcp,
        number,
        flow: 4000,
        reply: false,
        payload,
    }
}

/// An mbuf that asks for something.
fn asks(bench: &Bench<'_>, frame: &[u8], tcp: bool, flags: MbufFlags, mss: u16) -> Step<Mbuf> {
    let mut mbuf = bench.mbuf(frame)?;
    mbuf.set_flags(flags | MbufFlags::TX_IPV4);
    mbuf.set_vlan_tci(TCI);
    mbuf.set_tx_offload(TxOffload {
        l2_len: 14,
        l3_len: 20,
        l4_len: l4_len(tcp) as u16,
        tso_segsz: mss,
    });
    Ok(mbuf)
}

pub(super) fn requests(stand: &mut Stand) -> Step {
    stand.need(Need::Collect)?;
    let mut bench = Bench::usual(stand)?;
    let offloads = bench.info()?.offloads;
    let accepted = offloads.accepted_requests();
    if accepted.is_empty() {
        return Err(Stop::NotApplicable(
            "takes no requests: the engine carries them out".into(),
        ));
    }
    bench.slack.not_one_to_one = true;
    if accepted.contains(MbufFlags::TX_L4_MASK) {
        for (n, payload) in (0..).zip([0, 1, 2, 63, 500, 1001]) {
            for tcp in [true, false] {
                let p = a_packet(tcp, n, payload);
                let flag = l4_flag(tcp);
                let mbuf = asks(&bench, &made(unfinished(p))?, tcp, flag, 0)?;
                bench.transmit(0, vec![mbuf])?;
                bench.expect_sent(&[made(packet(p))?])?;
            }
        }
    }
    if accepted.contains(MbufFlags::TX_IP_CKSUM) {
        let frame = made(packet(a_packet(true, 70, 100)))?;
        let mut without = frame.clone();
        without[24..26].fill(0);
        let mbuf = asks(&bench, &without, true, MbufFlags::TX_IP_CKSUM, 0)?;
        bench.transmit(0, vec![mbuf])?;
        bench.expect_sent(&[frame])?;
    }
    if accepted.contains(MbufFlags::TX_VLAN) {
        tags(&mut bench, accepted)?;
    }
    for (tcp, flag) in [
        (true, MbufFlags::TX_TCP_SEG),
        (false, MbufFlags::TX_UDP_SEG),
    ] {
        if accepted.contains(flag) {
            for (payload, mss) in [(8000, 1000), (7999, 1448), (500, 1000)] {
                segments(&mut bench, tcp, flag, payload, mss)?;
            }
        }
    }
    bench.stand.remark(format!("takes: {}", short(offloads)));
    bench.finish()
}

fn l4_flag(tcp: bool) -> MbufFlags {
    if tcp {
        MbufFlags::TX_TCP_CKSUM
    } else {
        MbufFlags::TX_UDP_CKSUM
    }
}

fn short(offloads: Offloads) -> String {
    let requests = Offloads::TX_IPV4_CKSUM
        | Offloads::TX_UDP_CKSUM
        | Offloads::TX_TCP_CKSUM
        | Offloads::TX_TCP_SEG
        | Offloads::TX_UDP_SEG
        | Offloads::TX_VLAN_INSERT;
    let names: Vec<_> = (offloads & requests)
        .names()
        .into_iter()
        .map(|name| name.trim_start_matches("TX_"))
        .collect();
    names.join(" ")
}

fn tags(bench: &mut Bench<'_>, accepted: MbufFlags) -> Step {
    let frame = numbered(80, 200);
    let mbuf = asks(bench, &frame, true, MbufFlags::TX_VLAN, 0)?;
    bench.transmit(0, vec![mbuf])?;
    bench.expect_sent(&[tagged(frame, EtherType::VLAN, TCI)?])?;
    if accepted.contains(MbufFlags::TX_L4_MASK) {
        let p = a_packet(true, 81, 300);
        let both = MbufFlags::TX_VLAN | MbufFlags::TX_TCP_CKSUM;
        let mbuf = asks(bench, &made(unfinished(p))?, true, both, 0)?;
        bench.transmit(0, vec![mbuf])?;
        bench.expect_sent(&[tagged(made(packet(p))?, EtherType::VLAN, TCI)?])?;
    }
    Ok(())
}

/// A super-frame comes in segments that are right by themselves and add up.
fn segments(bench: &mut Bench<'_>, tcp: bool, flag: MbufFlags, payload: usize, mss: u16) -> Step {
    let p = a_packet(tcp, 90, payload);
    let whole = made(unfinished(p))?;
    let mbuf = asks(bench, &whole, tcp, flag | l4_flag(tcp), mss)?;
    bench.transmit(0, vec![mbuf])?;
    let headers = 34 + l4_len(tcp);
    let came = bench.collect(payload.div_ceil(usize::from(mss)))?;
    let mut together = Vec::new();
    for frame in &came {
        let report = verify_checksums(frame, &parse_layers(frame))?;
        ensure!(
            report.ip == ChecksumState::Good && report.l4 == ChecksumState::Good,
            "a segment's checksums: {report:?}"
        );
        ensure!(
            frame.len() <= headers + usize::from(mss),
            "a segment of {} bytes",
            frame.len()
        );
        together.extend_from_slice(&frame[headers..]);
    }
    ensure!(
        together == whole[headers..],
        "{} segments do not add up to the payload of {payload} bytes",
        came.len()
    );
    Ok(())
}

pub(super) fn receive(stand: &mut Stand) -> Step {
    stand.need(Need::Inject)?;
    let plain = made(packet(a_packet(false, 1, 300)))?;
    let mut wrong = made(packet(a_packet(true, 2, 300)))?;
    wrong[50] ^= 0xff;
    let mut wrong_ip = made(packet(a_packet(true, 3, 300)))?;
    wrong_ip[24] ^= 0xff;
    let one = tagged(made(packet(a_packet(true, 4, 300)))?, EtherType::VLAN, TCI)?;
    let service = tagged(numbered(5, 100), EtherType::QINQ, 5)?;
    let two = tagged(
        tagged(numbered(6, 100), EtherType::VLAN, 6)?,
        EtherType::QINQ,
        7,
    )?;
    let priority = tagged(numbered(7, 100), EtherType::VLAN, 0xe000)?;
    let mut frames = vec![plain, wrong, wrong_ip, one, priority];
    match stand.rig.lacks(Need::ServiceTags) {
        Some(reason) => stand.remark(reason),
        None => frames.extend([service, two]),
    }
    let mut bench = Bench::usual_with(stand, &frames)?;
    bench.slack.not_one_to_one = true;
    let offloads = bench.info()?.offloads;
    bench.offer(&frames)?;
    let got = bench.receive(frames.len())?;
    for (at, (_, mbuf)) in got.iter().enumerate() {
        checked(at, mbuf, offloads)?;
    }
    bench.same(&frames, got)?;
    if bench.source() != Source::Recorded {
        bench.stop()?;
        hashes(&mut bench)?;
        without(&mut bench, &frames)?;
    } else {
        bench.stop()?;
    }
    bench.close()
}

fn checked(at: usize, mbuf: &Mbuf, offloads: Offloads) -> Step {
    let flags = mbuf.flags();
    let says_good = |good, both: MbufFlags| flags & both == good;
    if at == 1 {
        ensure!(
            !says_good(MbufFlags::RX_L4_CKSUM_GOOD, MbufFlags::RX_L4_CKSUM_NONE),
            "a wrong checksum is said to be right"
        );
    }
    if at == 2 {
        ensure!(
            !flags.contains(MbufFlags::RX_IP_CKSUM_GOOD),
            "a wrong IP checksum is said to be right"
        );
    }
    if at == 3 && offloads.contains(Offloads::RX_VLAN_STRIP) {
        let stripped = MbufFlags::RX_VLAN_STRIPPED | MbufFlags::TX_VLAN;
        ensure!(
            flags.contains(stripped) && mbuf.vlan_tci() == TCI,
            "a tag was to be stripped: {flags:?}, {:#06x}",
            mbuf.vlan_tci()
        );
    }
    if offloads.contains(Offloads::RX_TIMESTAMP) {
        ensure!(mbuf.timestamp_ns().is_some(), "a frame has no time");
    }
    Ok(())
}

/// With several queues each frame has its flow's hash, the same both ways.
fn hashes(bench: &mut Bench<'_>) -> Step {
    let queues = bench.info()?.max_queues.min(2);
    bench.start(PortConfig { queues, ..usual() })?;
    bench.slack.not_one_to_one = true;
    if queues > 1 && bench.info()?.offloads.contains(Offloads::RX_RSS_HASH) {
        let there = a_packet(true, 1, 60);
        let back = Packet {
            reply: true,
            ..there
        };
        bench.offer(&[made(packet(there))?, made(packet(back))?])?;
        let got = bench.receive(2)?;
        let hashes: Vec<_> = got.iter().map(|(_, m)| m.rss_hash()).collect();
        ensure!(
            hashes[0].is_some() && hashes[0] == hashes[1],
            "the hashes of a flow's two directions are {hashes:?}"
        );
    }
    bench.stop()
}

/// With everything switched off each mbuf is the frame as it was on the wire, unless the port cannot do without.
fn without(bench: &mut Bench<'_>, frames: &[Vec<u8>]) -> Step {
    let config = PortConfig {
        offloads: Offloads::empty(),
        ..usual()
    };
    if bench.port()?.configure(&config).is_err() {
        return Ok(());
    }
    bench.start(config)?;
    bench.slack.not_one_to_one = true;
    bench.offer(frames)?;
    let got = bench.receive(frames.len())?;
    for ((_, mbuf), frame) in got.iter().zip(frames) {
        ensure!(
            wire::bytes(mbuf) == *frame && !mbuf.flags().intersects(MbufFlags::TX_REQUESTS),
            "with no offload an mbuf of {} bytes with {:?} stands for a frame of {}",
            mbuf.frame_len(),
            mbuf.flags(),
            frame.len()
        );
    }
    drop(got);
    bench.stop()
}
