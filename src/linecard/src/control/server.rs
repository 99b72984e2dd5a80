//! The server, as programs have it: a thread, which ends when this does.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Controlled;
use super::message::{Hello, PROTOCOL};
use super::place::Socket;
use super::service::Service;

/// Changes what a process logs, or says why not.
pub type SetLog = fn(&str) -> Result<(), String>;

/// How a server is to be.
#[derive(Debug)]
pub struct Config {
    command: String,
    socket: Option<Socket>,
    metrics: Option<TcpListener>,
    set_log: Option<SetLog>,
}

impl Config {
    /// For a program of this name, with neither socket nor metrics.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            socket: None,
            metrics: None,
            set_log: None,
        }
    }

    /// Answers at this socket.
    pub fn socket(mut self, socket: Socket) -> Self {
        self.socket = Some(socket);
        self
    }

    /// Gives metrics to whoever connects here.
    pub fn metrics(mut self, listener: TcpListener) -> Self {
        self.metrics = Some(listener);
        self
    }

    /// What changes what the process logs.
    pub fn set_log(mut self, set_log: SetLog) -> Self {
        self.set_log = Some(set_log);
        self
    }
}

/// Answers until it is dropped.
#[derive(Debug)]
pub struct Server {
    thread: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    wake: Arc<EventFd>,
    path: Option<PathBuf>,
    metrics: Option<SocketAddr>,
}

impl Server {
    /// Starts the thread.
    pub fn start(config: Config, program: Box<dyn Controlled>) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let wake = Arc::new(EventFd::from_flags(
            EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC,
        )?);
        if let Some(socket) = &config.socket {
            socket.listener.set_nonblocking(true)?;
        }
        if let Some(listener) = &config.metrics {
            listener.set_nonblocking(true)?;
        }
        let name = match &config.socket {
            Some(socket) => socket.name.clone(),
            None => std::process::id().to_string(),
        };
        let path = config.socket.as_ref().map(|s| s.path().to_owned());
        let metrics = config.metrics.as_ref().and_then(|l| l.local_addr().ok());
        let hello = Hello {
            linecard: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            pid: std::process::id(),
            command: config.command,
            name,
        };
        let service = Service::new(hello, program, config.set_log);
        let (socket, web) = (config.socket, config.metrics);
        let (over_there, wake_there) = (over.clone(), wake.clone());
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || service.run(socket.as_ref(), web.as_ref(), &over_there, &wake_there))?;
        Ok(Self {
            thread: Some(thread),
            over,
            wake,
            path,
            metrics,
        })
    }

    /// Where its socket is.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Where its metrics are.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // It cannot be full: this is the only write.
        let _: nix::Result<usize> = self.wake.write(1);
        if let Some(thread) = self.thread.take() {
            let _: std::thread::Result<()> = thread.join();
        }
    }
}
