//! The echo service (RFC 862) over UDP: a protocol of one method, and what an engine needs to run it.
//!
//! ```text
//! cargo run --release --example udp_echo -- uring:eth1
//! ```
//!
//! From the other side of `eth1`: `echo hello | nc -u -w1 192.0.2.1 7`, with an ARP entry for that address.

use linecard::{Claim, Engine, EngineConfig, Outbox, Packet, Protocol, Protocols, Verdict};

/// Sends back what it gets, and counts it.
#[derive(Default)]
pub(crate) struct Echo {
    answered: u64,
}

impl Protocol for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(7)]
    }

    fn packet(&mut self, _now_ns: u64, mut packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        // Between two servers that answer everything a packet would go back and forth for ever.
        if packet.flow().is_none_or(|flow| flow.src_port() < 1024) {
            return out.drop("from_a_service");
        }
        self.answered += 1;
        packet.turn_round()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args()
        .nth(1)
        .ok_or("name a port, for example: uring:eth1")?;
    let engine = Engine::new(vec![linecard::open(&name)?], EngineConfig::default())?;
    let running = engine.start_protocols(Protocols::new().with(|_worker| Echo::default()))?;
    for claim in running.protocols().iter().flat_map(|echo| &echo.claims) {
        println!("{claim}");
    }
    println!("echoing; press Enter to stop");
    std::io::stdin().read_line(&mut String::new())?;
    let report = running.finish();
    println!("{:#?}\n{:#?}", report.protocols, report.account);
    Ok(())
}
