//! An endpoint behind a UDP socket of the kernel's: all that it takes is a loop of transmit, wait, receive, expire.

use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Result};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use linecard_ferry::transport::Application;
use linecard_ferry::{Config, Endpoint, Secret};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::port::Outcome;
use super::progress::Progress;
use super::watch::Watch;

/// So many datagrams are received before anything is sent again: an acknowledgement is not to wait for ever.
const BURST: usize = 64;
/// The longest wait: Ctrl-C is looked for as often.
const TICK: Duration = Duration::from_millis(50);

struct Socket<A> {
    endpoint: Endpoint,
    application: A,
    socket: UdpSocket,
    began: Instant,
    buffer: Vec<u8>,
}

/// Runs an application at this address until all is done, or somebody wants it to end.
pub(super) fn run(
    at: SocketAddr,
    config: Config,
    listens: bool,
    application: impl Application,
    progress: &Arc<Progress>,
    watch: &mut Watch,
) -> Result<Outcome> {
    let socket = UdpSocket::bind(at)?;
    socket.set_nonblocking(true)?;
    let mut socket = Socket {
        endpoint: Endpoint::new(config, Secret::new(random_key(), 0), listens),
        application,
        socket,
        began: Instant::now(),
        buffer: vec![0; 65_536],
    };
    let (mut shown, mut lingers) = (Instant::now(), None);
    loop {
        socket.turn(progress)?;
        if shown.elapsed() > TICK {
            (shown, _) = (Instant::now(), watch.show(progress));
        }
        // The other side may not know yet that it is over: should it ask, it is told.
        if progress.is_over() && lingers.get_or_insert_with(Instant::now).elapsed() > super::LINGER
            || watch.stopped()
        {
            break;
        }
    }
    Ok(Outcome {
        counters: socket.endpoint.counters(),
        datagram_len: config.datagram_len,
        driver: "a UDP socket of the kernel's".into(),
        report: None,
    })
}

impl<A: Application> Socket<A> {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// One turn: sends what there is, waits for a datagram, a file's thread or the deadline, and gives what has come to
    /// the endpoint.
    fn turn(&mut self, progress: &Progress) -> Result<()> {
        self.application.work(self.now_ns(), &mut self.endpoint);
        while let Some((to, len)) = self.endpoint.transmit(self.now_ns(), &mut self.buffer) {
            match self.socket.send_to(&self.buffer[..len], to) {
                // Refused is what an ICMP message said of an earlier one. Whatever it is, a datagram that is not sent is
                // a datagram lost, and the protocol knows what to do about that.
                Ok(_) | Err(_) => {}
            }
        }
        self.wait(progress)?;
        for _ in 0..BURST {
            match self.socket.recv_from(&mut self.buffer) {
                Ok((len, from)) => {
                    let now_ns = self.now_ns();
                    // Whatever was wrong with it has been counted.
                    self.endpoint.receive(now_ns, from, &self.buffer[..len]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
        self.endpoint.expire(self.now_ns());
        Ok(())
    }

    fn wait(&self, progress: &Progress) -> Result<()> {
        let deadlines = [self.endpoint.deadline(), self.application.deadline()];
        let next_ns = deadlines.into_iter().flatten().min();
        let left_ns = next_ns.map(|at_ns| at_ns.saturating_sub(self.now_ns()));
        let wait = left_ns.map_or(TICK, |ns| TICK.min(Duration::from_nanos(ns)));
        let mut fds =
            [self.socket.as_fd(), progress.bell()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match ppoll(&mut fds, Some(TimeSpec::from_duration(wait)), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if fds[1].any() == Some(true) {
            progress.silence();
        }
        Ok(())
    }
}

/// The standard library seeds its hash tables with random bytes of the system's.
pub(super) fn random_key() -> [u8; 16] {
    let half = || u128::from(RandomState::new().hash_one(0u8));
    (half() << 64 | half()).to_be_bytes()
}
