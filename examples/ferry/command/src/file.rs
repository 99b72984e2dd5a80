//! A file in messages: its length in the first, then its bytes.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use linecard_ferry::{Config, ConnectionId, Ending, SendError, State};

use super::socket::Socket;

const MESSAGE_LEN: usize = 64 << 10;

fn config() -> Config {
    Config {
        receive_window: 4 << 20,
        send_buffer: 4 << 20,
        keep_alive_ns: Some(5_000_000_000),
        ..Config::default()
    }
}

fn progress(len: u64) -> Result<ProgressBar> {
    let style = "{wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} to go";
    Ok(ProgressBar::new(len).with_style(ProgressStyle::with_template(style)?))
}

fn tell(len: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{len} bytes in {seconds:.2} s, {:.1} Mbit/s",
        len as f64 * 8e-6 / seconds
    );
}

/// Sends a file, and returns when all of it has arrived.
pub(super) fn send(path: &Path, to: SocketAddr) -> Result<()> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let len = file.metadata()?.len();
    let any = match to.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let mut socket = Socket::open(SocketAddr::new(any, 0), config(), false)?;
    let began = Instant::now();
    let id = socket
        .endpoint
        .connect(socket.now_ns(), to)
        .context("no place for a connection")?;
    let bar = progress(len)?;
    let mut message = len.to_be_bytes().to_vec();
    loop {
        let connection = socket
            .endpoint
            .connection(id)
            .context("the connection is gone")?;
        match connection.state() {
            State::Closed(Ending::Finished) => break,
            State::Closed(ending) => bail!("{to}: {}", explain(ending)),
            State::Opening | State::Open => {}
        }
        while !message.is_empty() {
            match connection.send(&message) {
                Ok(()) => {
                    bar.inc(message.len() as u64);
                    message.clear();
                    (&mut file)
                        .take(MESSAGE_LEN as u64)
                        .read_to_end(&mut message)?;
                }
                Err(SendError::Full) => break,
                Err(error) => bail!("{to}: {error}"),
            }
        }
        if message.is_empty() {
            connection.close();
        }
        socket.turn()?;
    }
    bar.finish_and_clear();
    tell(len, began);
    linger(&mut socket, id)
}

fn explain(ending: Ending) -> &'static str {
    match ending {
        Ending::NoHandshake => "nobody answers; start `ferry receive FILE` there first",
        Ending::Silence => "nothing was heard for 30 s",
        Ending::Finished | Ending::Aborted(_) | Ending::AbortedByPeer(_) => {
            "the connection was broken off"
        }
    }
}

/// Receives one file from whoever sends one first.
pub(super) fn receive(path: &Path, at: SocketAddr) -> Result<()> {
    let mut socket =
        Socket::open(at, config(), true).with_context(|| format!("cannot listen at {at}"))?;
    let mut file = BufWriter::new(
        File::create(path).with_context(|| format!("cannot write {}", path.display()))?,
    );
    let id = loop {
        socket.turn()?;
        if let Some(id) = socket.endpoint.changed() {
            break id;
        }
    };
    let began = Instant::now();
    let (received, announced) = receive_all(&mut socket, id, &mut file)?;
    file.flush()?;
    ensure!(
        received == announced,
        "{received} bytes have come, {announced} were announced"
    );
    tell(received, began);
    linger(&mut socket, id)
}

fn receive_all(socket: &mut Socket, id: ConnectionId, file: &mut impl Write) -> Result<(u64, u64)> {
    let (mut received, mut announced, mut message) = (0, None, Vec::new());
    loop {
        let connection = socket
            .endpoint
            .connection(id)
            .context("the connection is gone")?;
        connection.close();
        while connection.receive_message(&mut message) {
            if announced.is_none() {
                let len = message[..]
                    .try_into()
                    .context("the first message is no length")?;
                announced = Some(u64::from_be_bytes(len));
            } else {
                file.write_all(&message)?;
                received += message.len() as u64;
            }
        }
        match connection.state() {
            State::Closed(Ending::Finished) => break,
            State::Closed(ending) => bail!(explain(ending)),
            State::Opening | State::Open => {}
        }
        socket.turn()?;
    }
    Ok((received, announced.unwrap_or_default()))
}

/// The other side may not know yet that it is over: it is told, and for a second it is told again, should it ask.
fn linger(socket: &mut Socket, id: ConnectionId) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(1);
    socket.turn_for(Duration::ZERO)?;
    let now_ns = socket.now_ns();
    socket.endpoint.remove(now_ns, id);
    while Instant::now() < until {
        socket.turn_for(until.saturating_duration_since(Instant::now()))?;
    }
    Ok(())
}
