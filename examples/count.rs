//! Counts frames by protocol, for a capture file or any port.
//!
//! ```text
//! cargo run --release --example count -- pcap:trace.pcap
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linecard::wire::parse_layers;
use linecard::{Engine, EngineConfig, Mbuf, Stage, Verdict};

type Counts = BTreeMap<String, u64>;

/// Counts in a map of its own, which nobody shares; adds it to the total when the worker ends.
struct Count {
    mine: Counts,
    total: Arc<Mutex<Counts>>,
}

impl Stage for Count {
    fn frame(&mut self, mbuf: &mut Mbuf) -> Verdict {
        let layers = parse_layers(mbuf.data());
        *self
            .mine
            .entry(format!("{:?}/{:?}", layers.l3, layers.l4))
            .or_default() += 1;
        Verdict::Consume
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let mut total = self.total.lock().unwrap();
        for (kind, n) in &self.mine {
            *total.entry(kind.clone()).or_default() += n;
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args()
        .nth(1)
        .ok_or("name a port, for example: pcap:trace.pcap")?;
    let total = Arc::new(Mutex::new(Counts::new()));
    let engine = Engine::new(vec![linecard::open(&name)?], EngineConfig::default())?;
    let running = engine.start(|_worker| {
        Box::new(Count {
            mine: Counts::new(),
            total: total.clone(),
        })
    })?;
    // Until the end of the file; a live port is counted for ten seconds.
    while !running.is_finished() && running.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let report = running.finish();
    for (kind, n) in total.lock().unwrap().iter() {
        println!("{n:>12}  {kind}");
    }
    println!(
        "{:>12}  in all, {} missed",
        report.account.rx, report.ports[0].rx_misses
    );
    Ok(())
}
