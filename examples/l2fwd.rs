//! A layer-2 forwarder: whatever comes in by one port goes out by the other.
//!
//! ```text
//! cargo run --release --example l2fwd -- uring:eth1 uring:eth2
//! ```

use linecard::{Engine, EngineConfig, Mbuf, Verdict};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if names.len() != 2 {
        return Err(
            "name two ports, for example: null:0?count=1000000 null:1?count=1000000".into(),
        );
    }
    let ports = linecard::open_all(names.iter().map(String::as_str))?;
    let engine = Engine::new(ports, EngineConfig::default())?;
    print!("{}", engine.plan());
    let running =
        engine.start(|_worker| Box::new(|m: &mut Mbuf| Verdict::Forward(m.port() ^ 1)))?;
    println!("forwarding; press Enter to stop");
    std::io::stdin().read_line(&mut String::new())?;
    println!("{:#?}", running.finish().account);
    Ok(())
}
