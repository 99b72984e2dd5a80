//! An endpoint behind a UDP socket of the kernel's: all that it takes is a loop of transmit, wait, receive, expire.

use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Result};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use linecard_ferry::{Config, Endpoint, Secret};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// So many datagrams are received before anything is sent again: an acknowledgement is not to wait for ever.
const BURST: usize = 64;

/// The endpoint, its socket, and the time.
pub(super) struct Socket {
    pub(super) endpoint: Endpoint,
    socket: UdpSocket,
    began: Instant,
    buffer: Vec<u8>,
}

impl Socket {
    pub(super) fn open(at: SocketAddr, config: Config, listens: bool) -> Result<Self> {
        let socket = UdpSocket::bind(at)?;
        socket.set_nonblocking(true)?;
        let endpoint = Endpoint::new(config, Secret::new(random_key(), 0), listens);
        Ok(Self {
            endpoint,
            socket,
            began: Instant::now(),
            buffer: vec![0; 65_536],
        })
    }

    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// One turn: sends what there is, waits for a datagram or the deadline, and gives it to the endpoint.
    pub(super) fn turn(&mut self) -> Result<()> {
        self.turn_for(Duration::MAX)
    }

    /// As [`Socket::turn`], waiting no longer than this.
    pub(super) fn turn_for(&mut self, longest: Duration) -> Result<()> {
        while let Some((to, len)) = self.endpoint.transmit(self.now_ns(), &mut self.buffer) {
            match self.socket.send_to(&self.buffer[..len], to) {
                // Refused is what an ICMP message said of an earlier one. Whatever it is, a datagram that is not sent is
                // a datagram lost, and the protocol knows what to do about that.
                Ok(_) | Err(_) => {}
            }
        }
        self.wait(longest)?;
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

    fn wait(&self, longest: Duration) -> Result<()> {
        let left_ns = self
            .endpoint
            .deadline()
            .map(|at_ns| at_ns.saturating_sub(self.now_ns()));
        let wait = left_ns.map_or(longest, |ns| longest.min(Duration::from_nanos(ns)));
        let timeout = (wait < Duration::MAX).then(|| TimeSpec::from_duration(wait));
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut fds, timeout, None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The standard library seeds its hash tables with random bytes of the system's.
fn random_key() -> [u8; 16] {
    let half = || u128::from(RandomState::new().hash_one(0u8));
    (half() << 64 | half()).to_be_bytes()
}
