//! The worker loop allocates nothing: a counting allocator watches it.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use linecard::modes::{self, Mode, ModeConfig};
use linecard::protocol::Home;
use linecard::{
    Burst, Claim, Context, Engine, EngineConfig, Idle, Outbox, Packet, Protocol, Protocols, Rights,
    Stage, Verdict,
};

thread_local! {
    /// Whether this thread is a worker that has warmed up.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

fn note() {
    if WATCHED.get() {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        note();
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        // SAFETY: by the caller's contract.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A stage that begins to watch its thread after the first bursts, and stops before the thread ends.
struct Watched {
    inner: Box<dyn Stage>,
    bursts: u32,
}

impl Stage for Watched {
    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        self.bursts += 1;
        WATCHED.set(self.bursts > 100);
        self.inner.process(burst, cx);
    }

    fn is_source(&self) -> bool {
        self.inner.is_source()
    }

    fn generate(&mut self, cx: &mut Context) {
        self.bursts += 1;
        WATCHED.set(self.bursts > 100);
        self.inner.generate(cx);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        WATCHED.set(false);
    }
}

fn run(ports: [&str; 2], mode: Mode, idle: Idle, least: u64) {
    let config = EngineConfig {
        idle,
        packet_limit: Some(least),
        ..EngineConfig::default()
    };
    let engine = Engine::new(linecard::open_all(ports).unwrap(), config).unwrap();
    let modes = ModeConfig::new(&engine.ports());
    let stage = |_| -> Box<dyn Stage> {
        Box::new(Watched {
            inner: modes::stage(mode, &modes),
            bursts: 0,
        })
    };
    let running = engine.start(stage).unwrap();
    while !running.is_finished() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let report = running.finish();
    assert!(report.is_clean(), "{report:#?}");
    assert!(report.account.rx + report.account.generated >= least);
    assert_eq!(
        ALLOCATIONS.swap(0, Ordering::Relaxed),
        0,
        "{mode} on {ports:?}"
    );
}

/// Does a bit of everything, with state of its own, at the worker of each flow.
struct Busy {
    name: &'static str,
    claim: Claim,
    packets: u64,
    due_ns: u64,
}

impl Protocol for Busy {
    fn name(&self) -> &str {
        self.name
    }

    fn claims(&self) -> Vec<Claim> {
        vec![self.claim.clone()]
    }

    fn packet(&mut self, _now_ns: u64, mut packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        self.packets += 1;
        WATCHED.set(self.packets > 10_000);
        if self.packets.is_multiple_of(16)
            && let Some(mut mbuf) = out.alloc()
            && let Some(bytes) = mbuf.append(60)
        {
            bytes.fill(0);
            out.send(packet.port() ^ 1, mbuf);
        }
        match self.packets % 8 {
            0 => Verdict::Pass,
            1 => out.drop("the_ninth_of_eight"),
            2 => Verdict::InnerFrame(0),
            3 => {
                drop(packet.take());
                Verdict::Deliver
            }
            4 => Verdict::Forward(packet.port() ^ 1),
            _ => packet.turn_round(),
        }
    }

    fn home(&self) -> Home {
        Home::Flow
    }

    fn deadline(&self) -> Option<u64> {
        Some(self.due_ns)
    }

    fn expire(&mut self, now_ns: u64, _out: &mut Outbox) {
        self.due_ns = now_ns + 50_000;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        WATCHED.set(false);
    }
}

fn run_protocols() {
    let config = EngineConfig {
        workers: Some(2),
        oversubscribe: true,
        idle: Idle::Adaptive,
        packet_limit: Some(2_000_000),
        ..EngineConfig::default()
    };
    let ports = ["null:0?flows=64", "null:1?flows=64"];
    let engine = Engine::new(linecard::open_all(ports).unwrap(), config).unwrap();
    let busy = |name, claim: Claim| {
        move |_| Busy {
            name,
            claim: claim.clone(),
            packets: 0,
            due_ns: 0,
        }
    };
    let rights = Rights::default().packets_per_second(1_000_000);
    let protocols = Protocols::new()
        .with_rights(rights, busy("nine", Claim::udp(9)))
        .with(busy("low", Claim::udp_ports(1024..=1050)))
        .with(busy("rest", Claim::rest()));
    let running = engine.start_protocols(protocols).unwrap();
    while !running.is_finished() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let report = running.finish();
    assert!(report.is_clean(), "{report:#?}");
    assert!(
        report
            .protocols
            .iter()
            .all(|p| p.received > 0 && p.faults == 0)
    );
    assert_eq!(ALLOCATIONS.swap(0, Ordering::Relaxed), 0, "protocols");
}

// One test: the counter is shared by the process.
#[test]
fn nothing_is_allocated_in_the_loop() {
    run_protocols();
    for mode in Mode::ALL {
        run(["null:0", "null:1"], mode, Idle::Spin, 2_000_000);
    }
    // With frames in between that are not there, so that workers also sleep and look after queues.
    run(
        ["sim:a?peer=b", "sim:b"],
        Mode::TxOnly,
        Idle::Adaptive,
        2_000_000,
    );
}
