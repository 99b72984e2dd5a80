//! A host of its own on any port: answers ARP and neighbour discovery, ping and traceroute, IPv4 and IPv6, also
//! in fragments.
//!
//! ```text
//! cargo run --release --example host -- xdp:eth1 192.0.2.9/24 2001:db8::9/64
//! ```

use std::error::Error;

use linecard::stack::{InterfaceConfig, IpHost, Secret, Stack, StackConfig};
use linecard::wire::MacAddr;
use linecard::{Engine, EngineConfig, Protocols};

/// Answers at a port, for these addresses, until Enter is pressed.
pub(crate) fn run(
    name: &str,
    addresses: impl Iterator<Item = String>,
) -> Result<(), Box<dyn Error>> {
    let port = linecard::open(name)?;
    let mac = MacAddr(port.info().mac.unwrap_or([2, 0, 0, 0, 0, 9]));
    let mut interface = InterfaceConfig::new(0, mac);
    for address in addresses {
        interface = interface.address(address.parse()?);
    }
    let config = StackConfig {
        interfaces: vec![interface],
        ..StackConfig::default()
    };
    let stack = Stack::new(config, Secret::random(), 0)?;
    let config = EngineConfig {
        kept: u32::try_from(stack.most_mbufs())?,
        ..EngineConfig::default()
    };
    let mut host = Some(IpHost::new(stack));
    // Protocols of your own stand beside it: .with(|_worker| MyProtocol::new())
    let protocols = Protocols::new().with(move |_worker| host.take().expect("there is one worker"));
    let running = Engine::new(vec![port], config)?.start_protocols(protocols)?;
    println!("answering on {name}; press Enter to stop");
    std::io::stdin().read_line(&mut String::new())?;
    let report = running.finish();
    println!("{:#?}", report.account);
    if !report.is_clean() {
        return Err("a worker failed, or frames or mbufs are missing".into());
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments
        .next()
        .ok_or("name a port and addresses: xdp:eth1 192.0.2.9/24")?;
    run(&name, arguments)
}
