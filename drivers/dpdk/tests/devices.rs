//! Virtual devices, one process, no hugepages: frames in place, pools whole afterwards.
#![cfg(feature = "dpdk")]
#![allow(
    unsafe_code,
    reason = "external buffers are attached by an unsafe function"
)]

use std::ffi::c_void;
use std::path::Path;
use std::ptr::NonNull;

use linecard_dpdk::{EalConfig, Pages};
use linecard_hal::mbuf::ExtShared;
use linecard_hal::region::RegionRequest;
use linecard_hal::{
    Burst, Mbuf, Mempool, MempoolConfig, Port, PortConfig, PortError, PortErrorKind, QueuePair,
    lcore,
};

/// Opens a port; DPDK starts with the first one.
fn open(name: &str) -> Result<Box<dyn Port>, PortError> {
    linecard_dpdk::configure(EalConfig {
        pages: Pages::Normal,
        memory_mib: 128,
        ..EalConfig::default()
    });
    linecard_dpdk::open(name.parse()?)
}

fn pool(name: &str) -> Mempool {
    Mempool::new(MempoolConfig::new(name, 4096)).unwrap()
}

fn start(port: &mut Box<dyn Port>, pool: &Mempool) -> QueuePair {
    let config = PortConfig {
        index: 7,
        rx_descriptors: 256,
        tx_descriptors: 256,
        ..PortConfig::default()
    };
    port.configure(&config).unwrap();
    let mut queues = port.start(std::slice::from_ref(pool)).unwrap();
    queues.pop().unwrap()
}

/// Runs as a worker does: an lcore of its own, queues attached and dropped there, caches flushed.
fn as_worker(
    pools: &[&Mempool],
    mut queues: Vec<QueuePair>,
    body: impl FnOnce(&mut [QueuePair]) + Send,
) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _lcore = lcore::register();
            for pair in &mut queues {
                pair.rx.attach().unwrap();
                pair.tx.attach().unwrap();
            }
            body(&mut queues);
            drop(queues);
            for pool in pools {
                pool.flush_cache();
            }
        });
    });
}

fn whole(pool: &Mempool) {
    assert_eq!(pool.leaks(), []);
    let ledger = pool.ledger();
    assert_eq!((ledger.in_use, ledger.allocated), (0, ledger.freed));
}

fn filled(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut mbuf = pool.alloc().unwrap();
    mbuf.append(bytes.len()).unwrap().copy_from_slice(bytes);
    mbuf
}

fn bytes(mbuf: &Mbuf) -> Vec<u8> {
    mbuf.segments().flatten().copied().collect()
}

#[test]
fn a_pool_is_whole_after_every_start_and_stop() {
    let pool = pool("cycles");
    let mut port = open("dpdk:net_null0?size=60").unwrap();
    for _ in 0..3 {
        let pair = start(&mut port, &pool);
        assert!(port.stop().is_err(), "its queues are out");
        as_worker(&[&pool], vec![pair], |queues| {
            let mut burst = Burst::with_capacity(32);
            for _ in 0..1000 {
                assert_eq!(queues[0].rx.receive(&mut burst), 32);
                assert!(burst.iter().all(|m| m.port() == 7 && m.frame_len() == 60));
                assert_eq!(queues[0].tx.transmit(&mut burst), 32);
            }
            let (rx, tx) = (queues[0].rx.stats(), queues[0].tx.stats());
            assert_eq!((rx.packets, rx.bytes), (32_000, 1_920_000));
            assert_eq!((tx.packets, tx.bytes), (rx.packets, rx.bytes));
        });
        port.stop().unwrap();
        whole(&pool);
    }
    drop(port);
    drop(pool.alloc());
    whole(&pool);
}

#[test]
fn queues_may_be_dropped_without_ever_being_attached() {
    let pool = pool("unattached");
    let mut port = open("dpdk:net_null1").unwrap();
    let mut pair = start(&mut port, &pool);
    let mut burst = Burst::with_capacity(8);
    assert_eq!(pair.rx.receive(&mut burst), 8);
    drop((pair, burst));
    drop(port);
    whole(&pool);
}

#[test]
fn what_goes_into_a_ring_comes_out_in_place() {
    let pool = pool("ring");
    let mut port = open("dpdk:net_ring0").unwrap();
    let pair = start(&mut port, &pool);
    as_worker(&[&pool], vec![pair], |queues| {
        let mut burst = Burst::with_capacity(16);
        let plain = filled(&pool, &[1; 60]);
        let mut chain = filled(&pool, &[2; 1000]);
        chain.chain(filled(&pool, &[3; 500])).unwrap();
        let mut shared = filled(&pool, &[4; 64]);
        let clone = shared.share(&pool).unwrap();
        let place = plain.data_ptr();
        let sent: Vec<_> = [plain, chain, shared, clone]
            .into_iter()
            .map(|mbuf| {
                let copy = bytes(&mbuf);
                burst.push(mbuf).unwrap();
                copy
            })
            .collect();
        assert_eq!(queues[0].tx.transmit(&mut burst), 4);
        assert_eq!(queues[0].rx.receive(&mut burst), 4);
        let received: Vec<_> = burst.iter().map(bytes).collect();
        assert_eq!(received, sent);
        assert_eq!(burst.as_slice()[0].data_ptr(), place, "no copy");
        assert_eq!(queues[0].tx.stats().copies, 0);
        assert!(burst.iter().all(|m| m.port() == 7));
        // These stay in the ring until the port is stopped.
        assert_eq!(queues[0].tx.transmit(&mut burst), 4);
    });
    port.stop().unwrap();
    whole(&pool);
}

#[test]
fn a_frame_of_a_foreign_pool_is_copied() {
    let (mine, foreign) = (pool("mine"), pool("foreign"));
    let mut port = open("dpdk:net_ring1").unwrap();
    let pair = start(&mut port, &mine);
    as_worker(&[&mine, &foreign], vec![pair], |queues| {
        let mut burst = Burst::with_capacity(16);
        for n in 0..8 {
            let from = if n % 3 == 1 { &foreign } else { &mine };
            burst.push(filled(from, &[n; 80])).unwrap();
        }
        let mut origin = filled(&foreign, &[8; 80]);
        burst.push(origin.share(&mine).unwrap()).unwrap();
        let mut head = filled(&mine, &[9; 40]);
        head.chain(filled(&foreign, &[9; 40])).unwrap();
        burst.push(head).unwrap();
        assert_eq!(queues[0].tx.transmit(&mut burst), 10);
        drop(origin);
        assert_eq!(foreign.in_use(), 0, "only copies are in the ring");
        // Three plain ones, a clone and a chain.
        let stats = queues[0].tx.stats();
        assert_eq!((stats.copies, stats.copies_external), (5, 0));
        assert_eq!(queues[0].rx.receive(&mut burst), 10);
        for (n, mbuf) in burst.iter().enumerate() {
            assert_eq!(bytes(mbuf), [n as u8; 80]);
        }
    });
    port.stop().unwrap();
    whole(&mine);
    whole(&foreign);
}

/// Counts what was given back.
unsafe extern "C" fn given_back(_: *mut c_void, opaque: *mut c_void) {
    // SAFETY: the counter of the test below, which outlives every mbuf.
    unsafe { opaque.cast::<u32>().write(opaque.cast::<u32>().read() + 1) };
}

#[test]
fn external_buffers_are_given_back_once_by_the_driver() {
    let pool = pool("external");
    let mut port = open("dpdk:net_null2").unwrap();
    let pair = start(&mut port, &pool);
    let mut block = vec![0u8; 4096];
    let mut count = 0u32;
    let (block, counter) = (block.as_mut_ptr() as usize, (&raw mut count) as usize);
    // SAFETY: the callback only counts.
    let shared = unsafe { ExtShared::new(given_back, counter as *mut c_void) };
    let address = (&raw const shared) as usize;
    as_worker(&[&pool], vec![pair], |queues| {
        let mut burst = Burst::with_capacity(16);
        // SAFETY: the owner above, which outlives this thread.
        let shared = unsafe { &*(address as *const ExtShared) };
        // SAFETY: sixteen frames side by side in the block, which outlives them.
        unsafe {
            shared.arm(16);
            for n in 0..16 {
                let mut mbuf = pool.alloc().unwrap();
                let buffer = NonNull::new((block as *mut u8).add(n * 256)).unwrap();
                assert!(mbuf.attach_external(buffer, 256, 64, 60, NonNull::from(shared)));
                burst.push(mbuf).unwrap();
            }
        }
        assert_eq!(queues[0].tx.transmit(&mut burst), 16);
        assert_eq!(shared.count(), 0);
        // The headers can be used again, with their own buffers.
        assert_eq!(queues[0].rx.receive(&mut burst), 16);
        for mbuf in burst.iter_mut() {
            assert_eq!(mbuf.buffer_len(), 128 + 2048);
            mbuf.data_mut().unwrap().fill(7);
        }
    });
    assert_eq!(count, 1);
    port.stop().unwrap();
    whole(&pool);
}

#[test]
fn two_ports_share_a_pool_and_stop_one_after_the_other() {
    let pool = pool("shared");
    let mut ports = [
        open("dpdk:net_null3").unwrap(),
        open("dpdk:net_null4").unwrap(),
    ];
    let pairs: Vec<_> = ports.iter_mut().map(|port| start(port, &pool)).collect();
    as_worker(&[&pool], pairs, |queues| {
        let mut burst = Burst::with_capacity(32);
        for round in 0..100 {
            queues[round % 2].rx.receive(&mut burst);
            queues[(round + 1) % 2].tx.transmit(&mut burst);
        }
    });
    ports[0].stop().unwrap();
    drop(pool.alloc());
    ports[1].stop().unwrap();
    whole(&pool);
}

fn captured(file: &Path) -> Vec<Vec<u8>> {
    let data = std::fs::read(file).unwrap();
    let (mut at, mut frames) = (24, Vec::new());
    while at < data.len() {
        let len = u32::from_ne_bytes(data[at + 8..at + 12].try_into().unwrap()) as usize;
        frames.push(data[at + 16..at + 16 + len].to_vec());
        at += 16 + len;
    }
    frames
}

#[test]
fn capture_files_are_written_and_read_by_the_driver() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.pcap");
    let (pool, text) = (pool("files"), file.to_str().unwrap());
    let frames: Vec<Vec<u8>> = (60..1500).step_by(97).map(|n| vec![n as u8; n]).collect();
    let mut port = open(&format!("dpdk:net_pcap0?tx_pcap={text}")).unwrap();
    let pair = start(&mut port, &pool);
    as_worker(&[&pool], vec![pair], |queues| {
        let mut burst = Burst::with_capacity(32);
        for frame in &frames {
            burst.push(filled(&pool, frame)).unwrap();
        }
        assert_eq!(queues[0].tx.transmit(&mut burst), frames.len());
    });
    port.stop().unwrap();
    drop(port);
    assert_eq!(captured(&file), frames);
    let mut port = open(&format!("dpdk:net_pcap1?rx_pcap={text}")).unwrap();
    let pair = start(&mut port, &pool);
    as_worker(&[&pool], vec![pair], |queues| {
        let mut burst = Burst::with_capacity(32);
        assert_eq!(queues[0].rx.receive(&mut burst), frames.len());
        assert_eq!(burst.iter().map(bytes).collect::<Vec<_>>(), frames);
    });
    port.stop().unwrap();
    whole(&pool);
}

#[test]
fn a_pool_that_a_back_end_could_not_map_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    // A front end that is the server would wait until a back end comes.
    let usual = pool("usual");
    let mut back = open(&format!("dpdk:net_vhost30?iface={}", socket.display())).unwrap();
    let back_queues = start(&mut back, &usual);
    let name = format!("dpdk:net_virtio_user30?path={}", socket.display());
    let mut port = open(&name).unwrap();
    port.configure(&PortConfig::default()).unwrap();
    let Err(error) = port.start(std::slice::from_ref(&usual)) else {
        panic!("it started");
    };
    assert_eq!(error.kind, PortErrorKind::Pool, "{error}");
    assert!(error.to_string().contains("Port::memory"), "{error}");
    // What it lends is DPDK's, and goes back there.
    for _ in 0..4 {
        let config = MempoolConfig::new("lent", 20_000);
        let request = RegionRequest {
            len_bytes: config.len_bytes(),
            node: None,
        };
        let region = port.memory(&request).unwrap().unwrap();
        let lent = Mempool::within(config, region).unwrap();
        assert!(lent.region().is_lent());
        drop(filled(&lent, &[7; 60]));
        // Nor can it be mapped beside a pool that cannot.
        let Err(error) = port.start(std::slice::from_ref(&lent)) else {
            panic!("it started");
        };
        assert_eq!(error.kind, PortErrorKind::Busy, "{error}");
        assert!(error.to_string().contains("stop that engine"), "{error}");
    }
    drop(port);
    drop(back_queues);
    back.stop().unwrap();
    whole(&usual);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let wrong = [
        ("dpdk:net_null9?colour=red", PortErrorKind::Config, "colour"),
        (
            "dpdk:net_warp0",
            PortErrorKind::NotFound,
            "librte_net_warp.so",
        ),
        ("dpdk:ffff:ff:1f.7", PortErrorKind::NotFound, "ffff:ff:1f.7"),
        (
            "dpdk:net_af_packet0?iface=nothere",
            PortErrorKind::Config,
            "nothere",
        ),
        ("dpdk:eth0", PortErrorKind::Name, "net_null0"),
    ];
    for (name, kind, says) in wrong {
        let error = open(name).err().unwrap();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let first = open("dpdk:net_null8").unwrap();
    let error = open("dpdk:net_null8").err().unwrap();
    assert_eq!(error.kind, PortErrorKind::Busy, "{error}");
    drop(first);
    let mut port = open("dpdk:net_null8").unwrap();
    let error = port
        .configure(&PortConfig {
            queues: 500,
            ..PortConfig::default()
        })
        .unwrap_err();
    assert!(error.to_string().contains("500 queues"), "{error}");
    assert!(port.start(&[pool("unconfigured")]).is_err());
}
