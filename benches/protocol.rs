//! The protocol trait beside a bare loop: what hosting protocols costs.
//!
//! All contenders do the same for every packet: find its headers, see that it is UDP to a port that is theirs, exchange
//! source and destination on all layers, send it back. A `null:` port receives and sends, with bursts of 32.
//!
//! - *bare*: a loop of its own around the port's queues; no engine, nothing counted.
//! - *stage*: the same as a stage of an engine.
//! - *protocol*: a protocol of that engine, found by its claims.
//! - *eight*: the same beside seven other protocols.
//!
//! Contenders take turns. A figure is the median of time stamp counter cycles a packet over the rounds; a ratio is
//! *bare* divided by the contender within a round, the median of those: its share of the bare loop's packets.

use std::hint::black_box;
use std::time::Instant;

use linecard::wire::{FlowKey, L4, parse_layers, swap_flow};
use linecard::{
    Burst, Claim, DropReason, Engine, EngineConfig, Idle, Mbuf, Mempool, MempoolConfig, Outbox,
    Packet, PortConfig, Protocol, Protocols, Report, Running, Verdict,
};

const BURST: usize = 32;

/// The ports of a null port's frames; echoing exchanges them.
const PORTS: [u16; 2] = [9, 1024];

struct Echo;

impl Protocol for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn claims(&self) -> Vec<Claim> {
        PORTS.map(Claim::udp).into()
    }

    #[inline]
    fn packet(&mut self, _now_ns: u64, mut packet: Packet<'_>, _out: &mut Outbox) -> Verdict {
        packet.turn_round()
    }
}

struct Other(String, u16);

impl Protocol for Other {
    fn name(&self) -> &str {
        &self.0
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(self.1), Claim::tcp(self.1)]
    }

    fn packet(&mut self, _now_ns: u64, packet: Packet<'_>, _out: &mut Outbox) -> Verdict {
        black_box(packet.flow());
        Verdict::Consume
    }
}

/// What the echo protocol does, by hand. `false` for a frame that is not its own.
#[inline(always)]
fn echo(frame: &mut [u8]) -> bool {
    let layers = parse_layers(frame);
    let port = layers.l4_offset() + 2;
    let to = frame.get(port..).and_then(|bytes| bytes.first_chunk());
    let mine = layers.l4 == L4::Udp
        && !layers.malformed
        && to.is_some_and(|port| PORTS.contains(&u16::from_be_bytes(*port)));
    mine && swap_flow(frame, &layers).is_ok()
}

/// Cycles a packet of a loop with nothing around it.
fn bare(packets: u64) -> f64 {
    let mut port = linecard::open("null:0").expect("a null port");
    let config = PortConfig {
        burst: BURST,
        ..PortConfig::default()
    };
    port.configure(&config).expect("configured");
    // As many mbufs as the engine's pool has.
    let pool = Mempool::new(MempoolConfig::new("bare", 2048)).expect("memory for a pool");
    let mut queues = port.start(&[pool]).expect("started");
    let mut queue = queues.remove(0);
    let mut burst = Burst::with_capacity(BURST);
    let (mut sent, start) = (0, cycles());
    while sent < packets {
        sent += queue.rx.receive(&mut burst) as u64;
        let mine = burst.change_data(echo);
        assert_eq!(mine, burst.len(), "every frame is its own");
        queue.tx.transmit(&mut burst);
    }
    (cycles() - start) as f64 / sent as f64
}

/// Cycles a packet of an engine on a null port.
fn engine(packets: u64, start: impl FnOnce(Engine) -> Running) -> f64 {
    let config = EngineConfig {
        burst: BURST,
        idle: Idle::Spin,
        lcores: Some(vec![CPU as u32]),
        ..EngineConfig::default()
    };
    let port = linecard::open(&format!("null:0?count={packets}")).expect("a null port");
    let running = start(Engine::new(vec![port], config).expect("an engine"));
    while !running.is_finished() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let report: Report = running.finish();
    assert_eq!(report.account.tx, packets, "{report:#?}");
    report.workers[0].cycles_per_packet
}

fn stage(packets: u64) -> f64 {
    engine(packets, |engine| {
        let stage = |mbuf: &mut Mbuf| match mbuf.data_mut().map(echo) {
            Some(true) => Verdict::Reply,
            _ => Verdict::Drop(DropReason::NotForUs),
        };
        engine.start(|_| Box::new(stage)).expect("started")
    })
}

fn protocol(packets: u64, others: u16) -> f64 {
    let all = (0..others).fold(Protocols::new().with(|_| Echo), |all, n| {
        all.with(move |_| Other(format!("other{n}"), 5000 + n))
    });
    engine(packets, |engine| {
        engine.start_protocols(all).expect("started")
    })
}

/// The time stamp counter, as the engine counts it.
#[allow(unsafe_code)]
fn cycles() -> u64 {
    // SAFETY: every x86-64 CPU has it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    compile_error!("this benchmark compares x86-64 time stamp counter cycles")
}

/// The cpu that all contenders run on.
const CPU: usize = 1;

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let number = |name: &str| {
        let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
        args.next().and_then(|value| value.parse::<u64>().ok())
    };
    let rounds = number("--rounds").unwrap_or(7);
    let packets = number("--packets").unwrap_or(10_000_000);
    assert!(FlowKey::parse(&[]).is_none());
    let names = ["bare", "stage", "protocol", "eight"];
    let mut figures = vec![Vec::new(); names.len()];
    let began = Instant::now();
    for round in 0..rounds {
        let mut order = [0, 1, 2, 3];
        if round % 2 == 1 {
            order.reverse();
        }
        for contender in order {
            let figure = match contender {
                0 => std::thread::spawn(move || {
                    linecard::engine::pin::pin_current_thread(CPU as u32).expect("pinned");
                    let _lcore = linecard::hal::lcore::register();
                    bare(packets)
                })
                .join()
                .expect("no panic"),
                1 => stage(packets),
                2 => protocol(packets, 0),
                _ => protocol(packets, 7),
            };
            figures[contender].push(figure);
        }
    }
    println!(
        "# {rounds} rounds of {packets} packets, {:.0?}",
        began.elapsed()
    );
    println!(
        "{:<10} {:>14} {:>14}",
        "contender", "cycles/packet", "of bare"
    );
    for (name, mine) in names.iter().zip(&figures) {
        let ratios = figures[0].iter().zip(mine).map(|(bare, mine)| bare / mine);
        let ratio = median(ratios.collect());
        println!("{name:<10} {:>14.2} {ratio:>14.3}", median(mine.clone()));
    }
}
