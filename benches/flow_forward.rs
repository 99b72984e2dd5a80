//! A forwarder that knows its flows: between null ports, with the engine around it, and one flow or many.
//!
//! `benches/flows` runs this. See `benches/README.md` for the method.

use std::time::Duration;

use linecard::engine::flow_table::{FlowId, FlowTable};
use linecard::wire::{FlowKey, IpProtocol, parse_layers};
use linecard::{Burst, Context, Engine, EngineConfig, Idle, Mbuf, Stage};

/// How long each is measured in a round.
const LENGTH: Duration = Duration::from_millis(100);
const ROUNDS: usize = 7;

/// Flows; none is a forwarder that parses and makes keys, but has no table.
const SIZES: [u32; 6] = [0, 1, 100, 10_000, 100_000, 1_000_000];

/// What is known of a flow.
#[derive(Default)]
struct Seen {
    packets: u64,
    bytes: u64,
}

struct Forward {
    flows: u32,
    random: u64,
    table: FlowTable<FlowKey, Seen>,
    keys: Vec<FlowKey>,
    found: Vec<Option<FlowId>>,
}

impl Forward {
    fn new(flows: u32) -> Self {
        let mut table = FlowTable::with_capacity(flows as usize);
        for flow in 0..flows {
            // All that will come are there, as after a while they would be.
            let (src, dst) = (flow.into(), [198, 18, 0, 2].into());
            let key = FlowKey::v4(src, dst, IpProtocol::UDP, 1024, 9);
            let _ = table.find_or_insert(&key, 0, Seen::default);
        }
        Self {
            flows,
            random: 1,
            table,
            keys: Vec::new(),
            found: Vec::new(),
        }
    }

    /// A null port receives one flow only. This makes it any of them, with the same work for one as for many.
    fn of_some_flow(&mut self, frame: &mut [u8]) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let flow = ((self.random >> 32) * u64::from(self.flows.max(1))) >> 32;
        if let Some(src) = frame.get_mut(26..30) {
            src.copy_from_slice(&(flow as u32).to_be_bytes());
        }
    }

    fn count(&mut self, i: usize, mbuf: &Mbuf) {
        let found = self.found[i].or_else(|| {
            let new = self.table.find_or_insert(&self.keys[i], 0, Seen::default);
            new.ok()
        });
        if let Some(flow) = found {
            self.table[flow].packets += 1;
            self.table[flow].bytes += mbuf.data().len() as u64;
        }
    }
}

impl Stage for Forward {
    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        self.keys.clear();
        for mbuf in burst.as_mut_slice() {
            if let Some(frame) = mbuf.data_mut() {
                self.of_some_flow(frame);
            }
            let frame = mbuf.data();
            let key = FlowKey::from_layers(frame, &parse_layers(frame));
            self.keys.push(key.unwrap_or(FlowKey::v4(
                [0; 4].into(),
                [0; 4].into(),
                IpProtocol::UDP,
                0,
                0,
            )));
        }
        self.found.resize(self.keys.len(), None);
        if self.flows > 0 {
            self.table.find_burst(&self.keys, 0, &mut self.found);
        }
        for (i, mbuf) in burst.drain().enumerate() {
            if self.flows > 0 {
                self.count(i, &mbuf);
            }
            cx.forward(1 - cx.port(), mbuf);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut figures = SIZES.map(|flows| (flows, Vec::new()));
    for round in 0..ROUNDS {
        let order: &mut dyn Iterator<Item = _> = match round % 2 {
            0 => &mut figures.iter_mut(),
            _ => &mut figures.iter_mut().rev(),
        };
        for (flows, figures) in order {
            figures.push(cycles_a_packet(*flows)?);
        }
    }
    for (flows, mut figures) in figures {
        figures.sort_unstable_by(f64::total_cmp);
        println!(
            "forward  {flows:>7} linecard     {:>8.2}",
            figures[ROUNDS / 2]
        );
    }
    Ok(())
}

fn cycles_a_packet(flows: u32) -> Result<f64, Box<dyn std::error::Error>> {
    let ports = linecard::open_all(["null:0", "null:1"])?;
    let config = EngineConfig {
        idle: Idle::Spin,
        ..EngineConfig::default()
    };
    let running = Engine::new(ports, config)?.start(|_| Box::new(Forward::new(flows)))?;
    std::thread::sleep(LENGTH);
    Ok(running.finish().workers[0].cycles_per_packet)
}
