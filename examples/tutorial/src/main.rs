//! Clock: tells everybody who asks what time it is here.

use linecard::stack::{InterfaceConfig, IpHost, Secret, Stack, StackConfig};
use linecard::wire::MacAddr;
use linecard::{Claim, Engine, EngineConfig, Header, Outbox, Packet, Protocol, Protocols, Verdict};

#[derive(Header)]
#[header(udp_port = 4700)]
struct Clock {
    #[field(constant = 0xc10c, hex)]
    magic: u16,
    #[field(values(ask = 1, answer = 2), default = 1)]
    kind: u16,
    time: u64,
}

struct Server;

impl Protocol for Server {
    fn name(&self) -> &str {
        "clock"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(4700)]
    }

    fn packet(&mut self, now_ns: u64, mut packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        match ClockView::parse(packet.payload()) {
            Ok(clock) if clock.kind() == Clock::KIND_ASK && packet.checksums_ok() => {}
            _ => return out.drop("no_question"),
        }
        let (mut answer, mut bytes) = (Clock::default(), [0; 12]);
        (answer.kind, answer.time) = (Clock::KIND_ANSWER, now_ns);
        match answer.emit(&mut bytes, 0) {
            Ok(_) => packet.reply(&bytes, out),
            Err(_) => out.drop("no_room"),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).ok_or("name a port")?;
    let port = linecard::open(&name)?;
    let mac = MacAddr(port.info().mac.ok_or("no Ethernet")?);
    let interface = InterfaceConfig::new(0, mac).address("10.9.0.2/24".parse()?);
    let mut config = StackConfig::default();
    config.interfaces.push(interface);
    let mut host = Some(IpHost::new(Stack::new(config, Secret::random(), 0)?));
    let protocols = Protocols::new()
        .with(|_worker| Server)
        .with(move |_worker| host.take().expect("one worker"));
    let running = Engine::new(vec![port], EngineConfig::default())?.start_protocols(protocols)?;
    println!("press Enter to stop");
    std::io::stdin().read_line(&mut String::new())?;
    println!("{:#?}", running.finish().account);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use linecard::simnet::{Kinds, Scenario, Script, scenario::Part};
    use linecard::wire::describe::{Headers, lua::Dissector};

    #[test]
    fn it_answers() -> Result<(), Box<dyn std::error::Error>> {
        let kinds = Kinds::new()
            .with_headers(Headers::standard().with::<Clock>())
            .with("clock", |_| Ok(Part::new(Server)));
        let play = Script::load("clock.pkt".as_ref())?.play(&kinds, None)?;
        assert!(play.failure.is_none(), "{:#?}", play.failure);
        let run = Scenario::load("clock.toml".as_ref(), &kinds)?.run(1, None, &kinds, |_| true)?;
        assert!(run.holds(), "{run:#?}");
        let lua = Dissector::of(Clock::DESCRIPTION).to_string();
        std::fs::write(std::env::temp_dir().join("clock.lua"), lua)?;
        Ok(())
    }
}
