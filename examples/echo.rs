//! A host made of one function: answers ping on a port, and nothing else.
//!
//! ```text
//! cargo run --release --example echo -- uring:eth1
//! ```

use linecard::wire::{EchoRefusal, echo_reply};
use linecard::{DropReason, Engine, EngineConfig, Mbuf, Verdict};

/// Turns an echo request into its reply, in place.
fn answer(mbuf: &mut Mbuf) -> Verdict {
    let Some(frame) = mbuf.data_mut() else {
        return Verdict::Drop(DropReason::Malformed);
    };
    match echo_reply(frame) {
        Ok(_) => Verdict::Reply,
        Err(EchoRefusal::NotEchoRequest) => Verdict::Drop(DropReason::NotForUs),
        Err(_) => Verdict::Drop(DropReason::Malformed),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args()
        .nth(1)
        .ok_or("name a port, for example: uring:eth1")?;
    let engine = Engine::new(vec![linecard::open(&name)?], EngineConfig::default())?;
    let running = engine.start(|_worker| Box::new(answer))?;
    println!("answering on {name}; press Enter to stop");
    std::io::stdin().read_line(&mut String::new())?;
    println!("{:#?}", running.finish().ports);
    Ok(())
}
