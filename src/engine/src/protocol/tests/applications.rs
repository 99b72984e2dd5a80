//! Applications: what they send reaches a protocol at once, what a protocol sends reaches them, and the end is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use linecard_hal::{Mbuf, SimClock};

use super::super::{Packets, Wake};
use super::frames::Spec;
use super::*;
use crate::Idle;
use crate::channel::{
    AppReceiver, AppSender, RecvError, WorkerReceiver, WorkerSender, to_application, to_worker,
};
use crate::publish::{Reader, publish};

/// Longer than any test takes, so that a wait that ends by it has lost a wake-up.
const LONG: Duration = Duration::from_secs(60);

/// Gives the application what arrives, and sends what the application gives it. It has no deadline.
struct Raw {
    frames: WorkerSender<Mbuf>,
    orders: WorkerReceiver<Mbuf>,
}

impl Protocol for Raw {
    fn name(&self) -> &str {
        "raw"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::rest()]
    }

    fn attach(&mut self, wake: &Wake) {
        self.frames.attach(wake);
        self.orders.attach(wake);
    }

    fn packet(&mut self, _: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        match self.frames.put(packet.take()) {
            Ok(()) => Verdict::Deliver,
            Err(_) => out.drop("the_application_is_slow"),
        }
    }

    fn burst(&mut self, now_ns: u64, packets: &mut Packets<'_>, out: &mut Outbox) {
        packets.answer_each(|packet| self.packet(now_ns, packet, out));
        self.frames.flush();
    }

    fn is_ready(&self) -> bool {
        self.orders.is_ready() || self.frames.is_ready()
    }

    fn expire(&mut self, _: u64, out: &mut Outbox) {
        assert!(self.is_ready(), "called for nothing");
        self.frames.flush();
        while out.room() > 0
            && let Some(frame) = self.orders.pop()
        {
            out.send(0, frame);
        }
    }
}

fn raw() -> (Raw, AppReceiver<Mbuf>, AppSender<Mbuf>) {
    let (frames, from_raw) = to_application(8, 4);
    let (to_raw, orders) = to_worker(8);
    (Raw { frames, orders }, from_raw, to_raw)
}

/// Factories of one instance each.
fn once<P: Protocol + 'static>(protocol: P) -> Protocols {
    let mut protocol = Some(protocol);
    Protocols::new().with(move |_| protocol.take().expect("one worker"))
}

fn datagrams(n: usize) -> Vec<Vec<u8>> {
    vec![Spec::udp(7).make().bytes; n]
}

#[test]
fn an_application_echoes_all_frames() {
    let port = TestPort::new("a", 1, datagrams(500));
    port.wire.lock().unwrap().ends = false;
    let (raw, mut frames, mut orders) = raw();
    let config = EngineConfig {
        idle: Idle::Sleep,
        pool_size: Some(2048),
        ..config()
    };
    let running = engine(std::slice::from_ref(&port), config)
        .start_protocols(once(raw))
        .unwrap();
    // What finds the application slow is dropped: so a few at a time.
    let (mut echoed, mut slow) = (0, 0);
    while echoed + slow < 500 {
        match frames.recv_timeout(Duration::from_millis(20)) {
            Ok(frame) => {
                orders.send_timeout(frame, LONG).unwrap();
                echoed += 1;
            }
            Err(RecvError::Empty) => {
                let drops = &running.protocols()[0].drops;
                slow = drops.get("the_application_is_slow").copied().unwrap_or(0) as usize;
            }
            Err(RecvError::Closed) => panic!("the engine has ended"),
        }
    }
    while running.protocols()[0].sent < echoed as u64 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let report = running.finish();
    assert_eq!(port.sent().len(), echoed);
    assert_eq!(report.account.delivered, echoed as u64);
    assert!(report.is_clean(), "{report:#?}");
    assert!(matches!(frames.recv_timeout(LONG), Err(RecvError::Closed)));
    assert!(orders.is_closed());
}

/// Adds one to what the application sends, and has neither packets nor deadlines.
struct Adder {
    numbers: WorkerReceiver<u64>,
    sums: WorkerSender<u64>,
    calls: Arc<AtomicU64>,
    fails: bool,
    hopeless: bool,
}

impl Adder {
    fn new(calls: &Arc<AtomicU64>) -> (Self, AppSender<u64>, AppReceiver<u64>) {
        let (to_adder, numbers) = to_worker(4);
        let (sums, from_adder) = to_application(4, 4);
        let adder = Self {
            numbers,
            sums,
            calls: calls.clone(),
            fails: false,
            hopeless: false,
        };
        (adder, to_adder, from_adder)
    }
}

impl Protocol for Adder {
    fn name(&self) -> &str {
        "adder"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(7)]
    }

    fn attach(&mut self, wake: &Wake) {
        self.numbers.attach(wake);
        self.sums.attach(wake);
    }

    fn packet(&mut self, _: u64, _: Packet<'_>, _: &mut Outbox) -> Verdict {
        Verdict::Consume
    }

    fn is_ready(&self) -> bool {
        assert!(!self.fails || self.numbers.len() != 1, "one too few");
        self.numbers.is_ready() || self.sums.is_ready()
    }

    fn expire(&mut self, _: u64, _: &mut Outbox) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(number) = self.numbers.pop() {
            assert!(number > 0, "nothing to add to");
            self.sums.put(number + 1).expect("one at a time");
        }
        self.sums.flush();
    }

    fn recover(&mut self, _: u64, _: Option<&FlowKey>, _: &mut Outbox) {
        assert!(!self.hopeless, "and once more");
        self.fails = false;
    }
}

/// Its worker would sleep for a tenth of a second at a time, which a few hundred turns show.
#[test]
fn an_application_wakes_a_worker_that_sleeps() {
    for idle in [Idle::Sleep, Idle::Adaptive, Idle::Spin] {
        let mut port = TestPort::new("a", 1, vec![]);
        port.silent = true;
        port.wire.lock().unwrap().ends = false;
        let calls = Arc::default();
        let (adder, mut numbers, mut sums) = Adder::new(&calls);
        let running = engine(&[port], EngineConfig { idle, ..config() })
            .start_protocols(once(adder))
            .unwrap();
        for n in 1..500 {
            numbers.send_timeout(n, LONG).unwrap();
            assert_eq!(sums.recv_timeout(LONG), Ok(n + 1));
        }
        assert!(calls.load(Ordering::Relaxed) <= 499, "called for nothing");
        drop(numbers);
        let report = running.finish();
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!(sums.recv_timeout(LONG), Err(RecvError::Closed));
    }
}

#[test]
fn who_waits_is_told_when_a_protocol_cannot_start() {
    let calls = Arc::default();
    let (first, _, mut sums) = Adder::new(&calls);
    let (second, _, _) = Adder::new(&calls);
    let mut second = Some(second);
    let twice = once(first).with(move |_| second.take().expect("one worker"));
    let error = refusal(&[TestPort::new("a", 1, vec![])], 1, twice);
    assert!(error.contains("there twice"), "{error}");
    assert_eq!(sums.recv_timeout(LONG), Err(RecvError::Closed));
}

/// Panics of `is_ready` and of `expire` are counted, and the channels go on.
#[test]
fn a_panic_for_an_application_is_contained() {
    let mut port = TestPort::new("a", 1, vec![]);
    port.silent = true;
    port.wire.lock().unwrap().ends = false;
    let calls = Arc::default();
    let (mut adder, mut numbers, mut sums) = Adder::new(&calls);
    adder.fails = true;
    let config = EngineConfig {
        idle: Idle::Sleep,
        ..config()
    };
    let running = engine(&[port], config)
        .start_protocols(once(adder))
        .unwrap();
    for n in [1, 0, 2] {
        numbers.send_timeout(n, LONG).unwrap();
        if n > 0 {
            assert_eq!(sums.recv_timeout(LONG), Ok(n + 1));
        }
    }
    let report = running.finish();
    let protocol = &report.protocols[0];
    assert_eq!(protocol.faults, 2);
    assert!(protocol.fault.as_ref().unwrap().contains("one too few"));
    assert!(report.is_clean(), "{report:#?}");
}

#[test]
fn who_waits_for_an_instance_that_is_retired_is_told() {
    let mut port = TestPort::new("a", 1, vec![]);
    port.wire.lock().unwrap().ends = false;
    port.silent = true;
    let calls = Arc::default();
    let (mut adder, mut numbers, mut sums) = Adder::new(&calls);
    adder.hopeless = true;
    let running = engine(&[port], config())
        .start_protocols(once(adder))
        .unwrap();
    numbers.try_send(0).unwrap();
    assert_eq!(sums.recv_timeout(LONG), Err(RecvError::Closed));
    assert_eq!(running.protocols()[0].faults, 2);
    assert!(running.finish().is_clean());
}

#[test]
fn a_stepped_engine_calls_who_is_ready() {
    let clock = SimClock::new();
    let calls = Arc::default();
    let (adder, mut numbers, mut sums) = Adder::new(&calls);
    let port = TestPort::new("a", 1, vec![]);
    let mut stepped = engine(&[port], config())
        .step_protocols(once(adder), clock.clone())
        .unwrap();
    stepped.turn();
    assert_eq!(
        (stepped.deadline_ns(), calls.load(Ordering::Relaxed)),
        (None, 0)
    );
    clock.advance_to_ns(1_000);
    for n in 1..=4 {
        numbers.try_send(n).unwrap();
    }
    for n in 1..=4 {
        assert_eq!(
            stepped.deadline_ns(),
            Some(1_000),
            "there is something to do"
        );
        stepped.turn();
        assert_eq!(sums.try_recv(), Ok(n + 1));
    }
    assert_eq!(
        (stepped.deadline_ns(), calls.load(Ordering::Relaxed)),
        (None, 4)
    );
    // A panic, and then a millisecond of peace.
    numbers.try_send(0).unwrap();
    stepped.turn();
    numbers.try_send(1).unwrap();
    assert_eq!(stepped.deadline_ns(), Some(1_001_000));
    stepped.turn();
    assert_eq!(sums.try_recv(), Err(RecvError::Empty));
    clock.advance_to_ns(1_001_000);
    stepped.turn();
    assert_eq!(sums.try_recv(), Ok(2));
    let report = stepped.stop().report();
    assert_eq!(report.protocols[0].faults, 1);
    assert_eq!(sums.try_recv(), Err(RecvError::Closed));
}

/// Follows what is published, whether or not anything arrives.
struct Follower {
    newest: Reader<u64>,
    seen: Arc<AtomicU64>,
}

impl Protocol for Follower {
    fn name(&self) -> &str {
        "follower"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(7)]
    }

    fn attach(&mut self, wake: &Wake) {
        self.newest.attach(wake);
    }

    fn packet(&mut self, _: u64, _: Packet<'_>, _: &mut Outbox) -> Verdict {
        Verdict::Consume
    }

    fn is_ready(&self) -> bool {
        self.newest.is_ready()
    }

    fn expire(&mut self, _: u64, _: &mut Outbox) {
        self.newest.refresh();
        self.seen.store(*self.newest, Ordering::Release);
    }
}

#[test]
fn workers_that_sleep_follow_what_is_published() {
    let mut port = TestPort::new("a", 2, vec![]);
    port.silent = true;
    port.wire.lock().unwrap().ends = false;
    let (mut publisher, newest) = publish(0);
    let seen: [Arc<AtomicU64>; 2] = Default::default();
    let theirs = seen.clone();
    let protocols = Protocols::new().with(move |worker| Follower {
        newest: newest.clone(),
        seen: theirs[usize::from(worker)].clone(),
    });
    let config = EngineConfig {
        idle: Idle::Sleep,
        workers: Some(2),
        ..config()
    };
    let running = engine(&[port], config).start_protocols(protocols).unwrap();
    for version in 1..300 {
        publisher.publish(version);
        let start = std::time::Instant::now();
        while seen
            .iter()
            .any(|seen| seen.load(Ordering::Acquire) < version)
        {
            assert!(start.elapsed() < LONG, "version {version}");
            std::thread::yield_now();
        }
    }
    assert_eq!(publisher.reclaim(), 0, "no instance has an old version");
    assert!(running.finish().is_clean());
}
