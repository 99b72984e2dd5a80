//! Calls on any port: a server with a host beside it, and a client over a socket of the kernel's.
//!
//! ```text
//! cargo run --release --example calls -- serve uring:eth1 10.0.0.2/24
//! cargo run --release --example calls -- call 10.0.0.2 echo hello
//! cargo run --release --example calls -- call 10.0.0.2 sum 1 2 39
//! ```

use std::error::Error;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use linecard::stack::{InterfaceConfig, IpHost, Secret, Stack, StackConfig};
use linecard::wire::MacAddr;
use linecard::{Claim, Engine, EngineConfig, Protocols};
use linecard_calls::{
    Call, Client, ClientConfig, MOST_BYTES, Outcome, PORT, Server, demonstration,
};

const USAGE: &str =
    "serve PORT ADDRESS/PREFIX…, call ADDRESS echo TEXT, or call ADDRESS sum NUMBER…";

/// Serves at a port, for these addresses, until Enter is pressed.
fn serve(name: &str, addresses: &[String]) -> Result<(), Box<dyn Error>> {
    let port = linecard::open(name)?;
    let mac = MacAddr(port.info().mac.unwrap_or([2, 0, 0, 0, 0, 9]));
    let mut interface = InterfaceConfig::new(0, mac);
    let mut claims = Vec::new();
    for address in addresses {
        interface = interface.address(address.parse()?);
        // What is for others that share the wire is not answered.
        let host: IpAddr = address.split('/').next().unwrap_or_default().parse()?;
        claims.push(Claim::udp(PORT).dst(host.into()));
    }
    let config = StackConfig {
        interfaces: vec![interface],
        ..StackConfig::default()
    };
    let stack = Stack::new(config, Secret::random(), 0)?;
    let config = EngineConfig {
        kept: stack.most_mbufs() as u32,
        ..EngineConfig::default()
    };
    let mut host = Some(IpHost::new(stack));
    let protocols = Protocols::new()
        .with(move |_worker| Server::new(demonstration(1, 2), claims.clone()))
        .with(move |_worker| host.take().expect("there is one worker"));
    let engine = Engine::new(vec![port], config)?;
    let running = engine.start_protocols(protocols)?;
    println!("serving on {name}; press Enter to stop");
    std::io::stdin().read_line(&mut String::new())?;
    let report = running.finish();
    println!("{:#?}\n{:#?}", report.protocols, report.account);
    if !report.is_clean() {
        return Err("a worker failed, or frames or mbufs are missing".into());
    }
    Ok(())
}

/// Calls a server and says what it answers.
fn call(server: IpAddr, kind: u8, body: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let socket = UdpSocket::bind(match server {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    })?;
    socket.connect((server, PORT))?;
    let start = Instant::now();
    let now_ns = |start: Instant| start.elapsed().as_nanos() as u64;
    // Another one each time.
    let first_id = std::process::id() ^ std::time::UNIX_EPOCH.elapsed()?.subsec_nanos();
    let mut client = Client::new(ClientConfig::default(), first_id);
    client.call(0, kind, body, 4).ok_or("too long")?;
    let mut became = None;
    let mut datagram = [0; MOST_BYTES];
    while client.deadline().is_some() {
        let done = |_: u32, outcome: Outcome<'_>| became = Some(told(outcome));
        client.give_up(now_ns(start), done);
        while let Some(datagram) = client.transmit(now_ns(start)) {
            // That a port is closed is not the end, and a full queue is as good as a loss: it calls again.
            let _ = socket.send(datagram);
        }
        let deadline = client.deadline().unwrap_or(0);
        let wait_ns = deadline.saturating_sub(now_ns(start)).max(1_000_000);
        socket.set_read_timeout(Some(Duration::from_nanos(wait_ns)))?;
        if let Ok(len) = socket.recv(&mut datagram) {
            let done = |_: u32, outcome: Outcome<'_>| became = Some(told(outcome));
            let _ = client.receive(&datagram[..len], done);
        }
    }
    Ok(became.ok_or("no call was made")??)
}

fn told(outcome: Outcome<'_>) -> Result<Vec<u8>, String> {
    match outcome {
        Outcome::Answer(body) => Ok(body.to_vec()),
        Outcome::Refused(status, body) => Err(format!("refused: status {status}, {body:?}")),
        Outcome::NoAnswer => Err("nobody answers".into()),
    }
}

/// Does what is asked for in these words.
pub(crate) fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", port, _, ..] => serve(port, &arguments[2..]),
        ["call", server, "echo", text] => {
            let answer = call(server.parse()?, Call::KIND_ECHO, text.as_bytes())?;
            println!("{}", String::from_utf8_lossy(&answer));
            Ok(())
        }
        ["call", server, "sum", ..] => {
            let numbers: Result<Vec<u32>, _> = words[3..].iter().map(|word| word.parse()).collect();
            let body: Vec<u8> = numbers?.iter().flat_map(|n| n.to_be_bytes()).collect();
            let answer = call(server.parse()?, Call::KIND_SUM, &body)?;
            let sum = answer.first_chunk().ok_or("the answer is too short")?;
            println!("{}", u32::from_be_bytes(*sum));
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

#[allow(dead_code, reason = "a test that compiles this in calls `run`")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    run(&arguments)
}
