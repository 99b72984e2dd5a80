//! One connection: bounded buffers around a socket that never blocks.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::Instant;

use nix::sys::socket::{Shutdown, shutdown};

/// A line or the head of a request at most.
pub(super) const MOST_INPUT: usize = 16 << 10;

/// Either kind of socket.
pub(super) trait Stream: Read + Write + AsFd + Send {}
impl<T: Read + Write + AsFd + Send> Stream for T {}

/// A connection and what is on its way.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of the output has been written.
    written: usize,
    /// Since when there has been output without a break.
    waiting_since: Option<Instant>,
    /// Whether the other end will send no more.
    pub(super) ended: bool,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            waiting_since: None,
            ended: false,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Reads once what is there. An error means that the connection is of no use any more.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        let room = MOST_INPUT.saturating_sub(self.input.len());
        let mut bytes = [0; 4096];
        let room = room.min(bytes.len());
        if room == 0 {
            return Ok(());
        }
        match self.stream.read(&mut bytes[..room]) {
            Ok(0) => self.ended = true,
            Ok(n) => self.input.extend_from_slice(&bytes[..n]),
            Err(error) if is_for_now(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether there is room for more input.
    pub(super) fn has_room(&self) -> bool {
        self.input.len() < MOST_INPUT
    }

    pub(super) fn input(&mut self) -> &mut Vec<u8> {
        &mut self.input
    }

    /// Takes a whole line, without its end.
    pub(super) fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|byte| *byte == b'\n')?;
        let rest = self.input.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.input, rest);
        line.truncate(end);
        Some(line)
    }

    /// Whether it can take one, and would be listened to.
    pub(super) fn has_line(&self) -> bool {
        self.is_drained() && self.input.contains(&b'\n')
    }

    /// Says that nothing more will come.
    pub(super) fn finish(&self) {
        // The other end may be gone already.
        let _: nix::Result<()> = shutdown(self.stream.as_fd().as_raw_fd(), Shutdown::Write);
    }

    /// Adds to what is to be written.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    /// Writes what it can.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_for_now(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        self.waiting_since = None;
        Ok(())
    }

    /// Whether everything was written.
    pub(super) fn is_drained(&self) -> bool {
        self.output.is_empty()
    }

    /// Since when it has not been.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }
}

/// Not now, but later.
pub(super) fn is_for_now(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
