//! A network namespace for each test, ports in it, and frames that carry a number.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::os::fd::BorrowedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use linecard_hal::{
    Burst, Mbuf, Mempool, MempoolConfig, Port, PortConfig, PortName, QueuePair, RxQueue, TxQueue,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};

/// Runs `body` on a thread in a network namespace of its own. Without root the test starts itself once
/// more in a user namespace.
pub fn in_namespace(test: &str, body: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        let exe = std::env::current_exe().expect("the test's own path");
        let status = Command::new("unshare")
            .arg("-Urn")
            .arg(exe)
            .args(["--exact", test, "--nocapture"])
            .status()
            .expect("`unshare` (util-linux) runs");
        assert!(status.success(), "in a user namespace: {status}");
        return;
    }
    let thread = std::thread::Builder::new().name(test.to_owned()).spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("a network namespace: needs root, or user namespaces (sysctl kernel.unprivileged_userns_clone=1)");
        ip("link set lo up");
        body();
    });
    if let Err(panic) = thread.expect("a thread").join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip`.
pub fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("`ip` (iproute2) runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
}

/// Two interfaces and the wire between them, silent by themselves.
pub fn veth(a: &str, b: &str) {
    ip(&format!("link add {a} type veth peer name {b}"));
    for name in [a, b] {
        ip(&format!("link set {name} addrgenmode none"));
        ip(&format!("link set {name} up"));
    }
}

pub fn open(name: &str) -> Box<dyn Port> {
    let name: PortName = name.parse().expect("a name");
    let port = if name.driver() == "tap" {
        linecard_io_uring::open_tap(name)
    } else {
        linecard_io_uring::open(name)
    };
    port.unwrap_or_else(|e| panic!("{e}"))
}

/// A started port.
pub struct Running {
    pub port: Box<dyn Port>,
    pub pairs: Vec<QueuePair>,
    pub pool: Mempool,
}

impl Running {
    pub fn new(name: &str, index: u16) -> Self {
        Self::with(name, index, 2048, 1)
    }

    pub fn with(name: &str, index: u16, mbufs: usize, queues: u16) -> Self {
        let mut port = open(name);
        port.configure(&PortConfig {
            index,
            queues,
            offloads: linecard_hal::Offloads::all(),
            ..PortConfig::default()
        })
        .expect("configured");
        let data_room = port.info().data_room;
        let pool = Mempool::new(MempoolConfig {
            data_room,
            cache: 0,
            ..MempoolConfig::new(name, mbufs)
        });
        let pool = pool.expect("a pool");
        let pools = vec![pool.clone(); usize::from(queues)];
        let mut pairs = port.start(&pools).unwrap_or_else(|e| panic!("{e}"));
        for pair in &mut pairs {
            pair.rx.attach().expect("attached");
            pair.tx.attach().expect("attached");
        }
        Self { port, pairs, pool }
    }

    pub fn rx(&mut self) -> &mut dyn RxQueue {
        &mut *self.pairs[0].rx
    }

    pub fn tx(&mut self) -> &mut dyn TxQueue {
        &mut *self.pairs[0].tx
    }

    /// An mbuf with these bytes.
    pub fn mbuf(&self, bytes: &[u8]) -> Mbuf {
        let mut mbuf = self.pool.alloc().expect("an mbuf");
        mbuf.append(bytes.len())
            .expect("room")
            .copy_from_slice(bytes);
        mbuf
    }

    /// Sends all of them; panics when the kernel takes none for long.
    pub fn send(&mut self, mbufs: Vec<Mbuf>) {
        let mut burst = Burst::with_capacity(32);
        let mut waiting = mbufs.into_iter().peekable();
        let end = deadline();
        while waiting.peek().is_some() || !burst.is_empty() {
            while burst.room() > 0 && waiting.peek().is_some() {
                let _ = burst.push(waiting.next().expect("peeked"));
            }
            self.tx().transmit(&mut burst);
            assert!(Instant::now() < end, "the kernel takes no frames");
        }
    }

    /// Receives until there are `n` frames of ours.
    pub fn receive(&mut self, n: usize) -> Vec<Mbuf> {
        receive(self.rx(), n)
    }

    /// Everything at rest: no mbuf is out, apart from `held`.
    pub fn finish(mut self, held: usize) {
        self.pairs.clear();
        self.port.stop().expect("stopped");
        assert_eq!(
            self.pool.in_use(),
            held,
            "mbufs left behind: {:?}",
            self.pool.leaks()
        );
    }
}

pub fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Receives until there are `n` frames of ours; others are dropped.
pub fn receive(rx: &mut dyn RxQueue, n: usize) -> Vec<Mbuf> {
    let (mut got, end) = (Vec::new(), deadline());
    let mut burst = Burst::with_capacity(32);
    while got.len() < n {
        if rx.receive(&mut burst) == 0 {
            assert!(
                Instant::now() < end,
                "{} of {n} frames came; {:?}",
                got.len(),
                rx.stats()
            );
            std::thread::sleep(Duration::from_micros(200));
        }
        got.extend(burst.drain().filter(is_ours));
    }
    got
}

/// Whatever comes within a moment.
pub fn receive_rest(rx: &mut dyn RxQueue) -> usize {
    let mut burst = Burst::with_capacity(32);
    let mut got = 0;
    for _ in 0..20 {
        rx.receive(&mut burst);
        got += burst.drain().filter(is_ours).count();
        std::thread::sleep(Duration::from_millis(1));
    }
    got
}

pub const MARK: [u8; 6] = [0x02, 0x4c, 0x43, 0, 0, 1];

/// A frame of ours has our source address.
pub fn is_ours(mbuf: &Mbuf) -> bool {
    mbuf.data().get(6..12) == Some(&MARK[..])
}

/// An Ethernet header to nobody in particular.
pub fn ethernet(kind: u16) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 9];
    frame.extend_from_slice(&MARK);
    frame.extend_from_slice(&kind.to_be_bytes());
    frame
}

/// The `i`-th frame of a test: of many lengths, and recognisable to the last byte.
pub fn numbered(i: u32) -> Vec<u8> {
    let mut frame = ethernet(0x88b5);
    frame.extend_from_slice(&i.to_be_bytes());
    let len = 60 + (i as usize * 37) % 1400;
    frame.resize_with(len, || i as u8);
    frame
}

/// A TCP or UDP packet in a frame, with the pseudo-header's sum in its checksum field, as a host leaves
/// it to its NIC.
pub fn transport(
    tcp: bool,
    ports: (u16, u16),
    addresses: ([u8; 4], [u8; 4]),
    payload: usize,
) -> Vec<u8> {
    let mut frame = ethernet(0x0800);
    let l4 = if tcp { 20 } else { 8 };
    let total = (20 + l4 + payload).min(65_535) as u16;
    let protocol = if tcp { 6 } else { 17 };
    let mut header = vec![0x45, 0];
    header.extend_from_slice(&total.to_be_bytes());
    header.extend_from_slice(&[0, 1, 0x40, 0, 64, protocol, 0, 0]);
    header.extend_from_slice(&addresses.0);
    header.extend_from_slice(&addresses.1);
    let sum = !ones_sum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&header);
    let mut pseudo = header[12..20].to_vec();
    pseudo.extend_from_slice(&[0, protocol]);
    pseudo.extend_from_slice(&(total - 20).to_be_bytes());
    let sum = ones_sum(&pseudo).to_be_bytes();
    frame.extend_from_slice(&ports.0.to_be_bytes());
    frame.extend_from_slice(&ports.1.to_be_bytes());
    if tcp {
        frame.extend_from_slice(&[
            0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, sum[0], sum[1], 0, 0,
        ]);
    } else {
        frame.extend_from_slice(&(total - 20).to_be_bytes());
        frame.extend_from_slice(&sum);
    }
    frame.extend((0..payload).map(|i| (i * 7) as u8));
    frame
}

pub fn ones_sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// All bytes of a frame.
pub fn bytes(mbuf: &Mbuf) -> Vec<u8> {
    mbuf.segments().collect::<Vec<_>>().concat()
}

/// Waits until it is readable.
pub fn wait(fd: BorrowedFd<'_>, ms: u16) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(ms)).expect("poll") > 0
}

/// Sleeps as a worker does, until there is a frame of ours.
pub fn sleep_until_frame(rx: &mut dyn RxQueue) {
    let mut burst = Burst::with_capacity(8);
    let end = deadline();
    loop {
        assert!(Instant::now() < end, "no frame woke the sleeper");
        let woken = wait(rx.wait_fd().expect("can be waited on"), 5000);
        assert!(woken, "not woken");
        while rx.receive(&mut burst) > 0 {
            if burst.drain().any(|m| is_ours(&m)) {
                return;
            }
        }
    }
}
