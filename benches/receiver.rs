//! The receiver: what it costs to know frames again, beside dropping them.
//!
//! A `null:` port receives frames of 60 bytes in bursts of 32. A stage writes a stamp into each, and then
//!
//! - *drop*: frees them: what everything here costs but the receiver, and what is subtracted in the last column.
//! - *one*: gives them to a receiver; all are of one lane.
//! - *bursts*: of 64 lanes, a burst of each in turn.
//! - *mixed*: of 64 lanes, one frame of each in turn: no two neighbours are of one lane.
//! - *many*: of 1,024 lanes, one frame of each in turn.
//!
//! Contenders take turns. A figure is the median of time stamp counter cycles a packet over the rounds.

use linecard_engine::{Context, Engine, EngineConfig, Idle, Stage};
use linecard_hal::Burst;
use linecard_traffic::receiver::{Config, receivers};
use linecard_traffic::sink::Sink;
use linecard_traffic::stamp::Stamp;

/// The cpu that all contenders run on.
const CPU: u32 = 1;

/// Stamps frames as a generator would have, and passes them on.
struct Stamping {
    sink: Option<Sink>,
    /// By lane: the next sequence number.
    next: Vec<u32>,
    lane: usize,
    /// Whether the frames of a burst are of one lane.
    by_burst: bool,
}

impl Stage for Stamping {
    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        let sent_ns = cx.now_ns();
        burst.change_data(|frame| {
            let stamp = Stamp {
                lane: self.lane as u16,
                sequence: self.next[self.lane],
                sent_ns,
            };
            self.next[self.lane] = stamp.sequence.wrapping_add(1);
            if !self.by_burst {
                self.lane = (self.lane + 1) % self.next.len();
            }
            stamp.put_at_end_of(frame)
        });
        if self.by_burst {
            self.lane = (self.lane + 1) % self.next.len();
        }
        match &mut self.sink {
            Some(sink) => sink.take(burst, cx),
            None => cx.consume_burst(burst),
        }
    }
}

/// Cycles a packet.
fn measure(packets: u64, receives: bool, lanes: usize, by_burst: bool) -> f64 {
    let config = EngineConfig {
        burst: 32,
        idle: Idle::Spin,
        lcores: Some(vec![CPU]),
        ..EngineConfig::default()
    };
    let name = format!("null:0?count={packets}");
    let port = linecard_sim::open(name.parse().expect("a name")).expect("a null port");
    let engine = Engine::new(vec![port], config).expect("an engine");
    let (handle, mut parts) = receivers(Config::default(), 1);
    handle.begin(&vec![0; lanes]);
    let running = engine.start(|_| {
        let receiver = parts.pop().filter(|_| receives);
        Box::new(Stamping {
            sink: receiver.map(|receiver| Sink::new(receiver, Vec::new())),
            next: vec![0; lanes],
            lane: 0,
            by_burst,
        })
    });
    let running = running.expect("started");
    while !running.is_finished() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let report = running.finish();
    assert_eq!(report.account.consumed, packets, "{report:#?}");
    if receives {
        let counts = handle.snapshot().counts(None);
        assert_eq!((counts.received, counts.lost), (packets, 0));
        assert_eq!(handle.times().count(), packets);
    }
    report.workers[0].cycles_per_packet
}

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
    let contenders = [
        ("drop", false, 1, false),
        ("one", true, 1, false),
        ("bursts", true, 64, true),
        ("mixed", true, 64, false),
        ("many", true, 1024, false),
    ];
    let mut figures = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for (figures, (_, receives, lanes, by_burst)) in figures.iter_mut().zip(contenders) {
            figures.push(measure(packets, receives, lanes, by_burst));
        }
    }
    println!("# {rounds} rounds of {packets} packets");
    println!(
        "{:<10} {:>14} {:>14}",
        "contender", "cycles/packet", "receiver"
    );
    let alone = median(figures[0].clone());
    for ((name, ..), figures) in contenders.iter().zip(figures) {
        let mine = median(figures);
        println!("{name:<10} {mine:>14.2} {:>14.2}", mine - alone);
    }
}
