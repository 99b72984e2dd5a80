//! Tests of pcap ports as a whole.

use super::*;
use linecard_hal::{Burst, MempoolConfig, QueueState};

fn pool(size: usize, data_room: u16) -> Mempool {
    let config = MempoolConfig {
        data_room,
        cache: 0,
        ..MempoolConfig::new("pcap", size)
    };
    Mempool::new(config).unwrap()
}

/// A file of frames of these lengths, a microsecond apart; every byte is the frame's number.
fn file(dir: &Path, name: &str, lengths: &[usize]) -> PathBuf {
    let path = dir.join(name);
    let mut writer = Writer::create(&path, "test").unwrap();
    for (i, len) in lengths.iter().enumerate() {
        writer.stage_bytes(
            &vec![i as u8; *len],
            (0, linecard_hal::Way::Unknown),
            i as u64 * 1000,
        );
        assert!(writer.commit(1));
    }
    path
}

fn open(name: &str) -> Result<PcapPort, PortError> {
    PcapPort::open(name.parse()?)
}

fn start(port: &mut PcapPort, pool: &Mempool) -> QueuePair {
    port.configure(&PortConfig {
        index: 3,
        ..PortConfig::default()
    })
    .unwrap();
    port.start(std::slice::from_ref(pool)).unwrap().remove(0)
}

#[test]
fn a_file_goes_through_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let lengths: Vec<usize> = (14..400).step_by(7).chain([1514, 9014]).collect();
    for (from, to) in [("a.pcap", "b.pcapng"), ("a.pcapng", "b.pcap")] {
        let rx = file(dir.path(), from, &lengths);
        let tx = dir.path().join(to);
        let pool = pool(256, 256);
        let mut input = open(&format!("pcap:{}", rx.display())).unwrap();
        let mut output = open(&format!("pcap:?tx={}", tx.display())).unwrap();
        let (mut source, mut sink) = (start(&mut input, &pool), start(&mut output, &pool));
        assert!(sink.rx.finished() && !source.rx.finished());
        let mut burst = Burst::with_capacity(32);
        while !source.rx.finished() {
            source.rx.receive(&mut burst);
            assert!(
                burst
                    .iter()
                    .all(|m| m.port() == 3 && m.timestamp_ns().is_some())
            );
            sink.tx.transmit(&mut burst);
        }
        assert_eq!(source.rx.maintain(), QueueState::Finished);
        let (received, sent) = (source.rx.stats(), sink.tx.stats());
        assert_eq!(received.packets, lengths.len() as u64);
        assert_eq!(
            (sent.packets, sent.bytes),
            (received.packets, received.bytes)
        );
        drop((source, sink));
        input.stop().unwrap();
        output.stop().unwrap();
        assert_eq!(pool.in_use(), 0);
        let same = file(dir.path(), &format!("expected-{to}"), &lengths);
        if to.ends_with("pcap") {
            assert_eq!(std::fs::read(&tx).unwrap(), std::fs::read(&same).unwrap());
        }
        // Read back through the port as well: restarting begins again.
        let mut again = open(&format!("pcap:{}", tx.display())).unwrap();
        for _ in 0..2 {
            let mut queue = start(&mut again, &pool);
            let mut n = 0;
            while !queue.rx.finished() {
                queue.rx.receive(&mut burst);
                for mbuf in burst.drain() {
                    assert_eq!(
                        (mbuf.frame_len(), mbuf.timestamp_ns()),
                        (lengths[n], Some(n as u64 * 1000))
                    );
                    assert!(mbuf.segments().flatten().all(|b| *b == n as u8));
                    n += 1;
                }
            }
            assert_eq!(n, lengths.len());
            drop(queue);
            again.stop().unwrap();
        }
    }
}

#[test]
fn an_empty_pool_delays_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "a.pcap", &[60, 500, 60, 3000, 60, 100_000, 60]);
    // Eight mbufs of 128 + 128 bytes: the frame of 3000 never fits at once with anything else.
    let pool = pool(16, 128);
    let mut port = open(&format!("pcap:{}", path.display())).unwrap();
    let mut queue = start(&mut port, &pool);
    let (mut burst, mut lengths) = (Burst::with_capacity(32), Vec::new());
    let mut rounds = 0;
    while !queue.rx.finished() {
        queue.rx.receive(&mut burst);
        lengths.extend(burst.drain().map(|m| m.frame_len()));
        rounds += 1;
        assert!(rounds < 100);
    }
    assert_eq!(lengths, [60, 500, 60, 3000, 60, 60]);
    assert_eq!(
        queue.rx.stats().errors,
        1,
        "the one that the whole pool cannot hold"
    );
    drop(queue);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn passes() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "a.pcap", &[60, 70]);
    let pool = pool(64, 128);
    let mut port = open(&format!("pcap:{}?loop=3", path.display())).unwrap();
    let mut queue = start(&mut port, &pool);
    let mut burst = Burst::with_capacity(32);
    assert_eq!(queue.rx.receive(&mut burst), 6);
    assert!(queue.rx.finished());
    let mut port = open(&format!("pcap:?rx={}&infinite=1", path.display())).unwrap();
    let mut queue = start(&mut port, &pool);
    burst.clear();
    assert_eq!(queue.rx.receive(&mut burst), 32);
    assert!(!queue.rx.finished());
}

#[test]
fn what_was_sent_is_on_the_disk_before_the_port_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcap");
    let pool = pool(8, 128);
    let mut port = open(&format!("pcap:?tx={}", path.display())).unwrap();
    let mut queue = start(&mut port, &pool);
    let len = || std::fs::metadata(&path).unwrap().len();
    assert_eq!(len(), 24);
    let mut burst = Burst::with_capacity(4);
    let mut send = |queue: &mut QueuePair| {
        pool.alloc_burst(&mut burst, 1);
        burst.as_mut_slice()[0].append(60).unwrap().fill(0);
        assert_eq!(queue.tx.transmit(&mut burst), 1);
    };
    send(&mut queue);
    queue.tx.reclaim();
    assert_eq!(len(), 24 + 76);
    send(&mut queue);
    queue.tx.maintain();
    assert_eq!(len(), 24 + 2 * 76);
    send(&mut queue);
    drop(queue);
    assert_eq!(len(), 24 + 3 * 76);
    // A restart continues.
    port.stop().unwrap();
    let mut queue = start(&mut port, &pool);
    send(&mut queue);
    drop(queue);
    port.stop().unwrap();
    assert_eq!(len(), 24 + 4 * 76);
}

#[test]
fn a_full_disk_is_counted_and_reported() {
    let pool = pool(8, 128);
    let mut port = open("pcap:?tx=/dev/full").unwrap();
    port.configure(&PortConfig::default()).unwrap();
    let error = port.start(std::slice::from_ref(&pool)).err().unwrap();
    assert!(error.to_string().contains("/dev/full"), "{error}");
}

#[test]
fn a_broken_file_is_an_error_and_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "a.pcap", &[60, 60, 60]);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    let pool = pool(8, 128);
    let mut port = open(&format!("pcap:{}", path.display())).unwrap();
    let mut queue = start(&mut port, &pool);
    let mut burst = Burst::with_capacity(8);
    assert_eq!(queue.rx.receive(&mut burst), 2);
    assert!(queue.rx.finished());
    assert_eq!(queue.rx.stats().errors, 1);
    let notes = port.info().notes.join("\n");
    assert!(notes.contains("a.pcap is broken at byte 176"), "{notes}");
    // Kept in memory, it would have to be whole.
    let error = open(&format!("pcap:{}?loop=2", path.display()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("at byte 176"), "{error}");
}

#[test]
fn an_input_alone_transmits_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "a.pcap", &[60]);
    let pool = pool(8, 128);
    let mut port = open(&format!("pcap:{}", path.display())).unwrap();
    let mut queue = start(&mut port, &pool);
    let mut burst = Burst::with_capacity(8);
    queue.rx.receive(&mut burst);
    assert_eq!(queue.tx.transmit(&mut burst), 1);
    assert_eq!((queue.tx.stats().packets, queue.tx.stats().errors), (0, 1));
}

#[test]
fn wrong_names_say_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let good = file(dir.path(), "a.pcap", &[60]);
    let good = good.display();
    let empty = file(dir.path(), "empty.pcap", &[]);
    let empty = empty.display();
    for (name, says) in [
        ("pcap:".into(), "no file is named"),
        ("pcap:/nowhere/a.pcap".into(), "pcap:?tx=FILE"),
        (format!("pcap:{good}?rx={good}"), "two files to read"),
        (format!("pcap:{good}?tx={good}"), "same file"),
        (format!("pcap:{good}?loop=0"), "loop=0"),
        (format!("pcap:{good}?loop=x"), "loop=x"),
        (format!("pcap:{good}?loop=2&infinite=1"), "exclude"),
        (format!("pcap:{empty}?infinite=1"), "no frame"),
        (format!("pcap:{good}?speed=1"), "unknown option"),
        ("pcap:?tx=x.pcap&infinite=1".into(), "need a file to read"),
        (format!("pcap:{}", dir.path().display()), "cannot read"),
    ] {
        let error = open(&name).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(&name), "{error}");
    }
    let mut port = open("pcap:?tx=/nowhere/a.pcap").unwrap();
    assert!(port.start(&[pool(8, 128)]).is_err(), "not configured");
    port.configure(&PortConfig::default()).unwrap();
    assert_eq!(
        port.start(&[pool(8, 128)]).err().unwrap().kind,
        PortErrorKind::NotFound
    );
    assert!(
        port.configure(&PortConfig {
            queues: 2,
            ..PortConfig::default()
        })
        .is_err()
    );
}
