//! The options of every long-running command that make it watchable and controllable, and what they do.

use std::net::{SocketAddr, TcpListener};
use std::sync::OnceLock;

use anyhow::Context as _;
use clap::Args;
use linecard::control::{Config, Controlled, Place, Server, Socket};

/// Who may look at it, and steer it, while it runs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Watching")]
pub struct ControlArgs {
    /// What linecard top and linecard ctl find it by: a name, or the path of a socket. Its process's
    /// number if left out.
    #[arg(long, value_name = "NAME")]
    control: Option<Place>,
    /// No socket: linecard top and linecard ctl will not find it.
    #[arg(long, conflicts_with = "control")]
    no_control: bool,
    /// Give metrics to Prometheus and the like at http://ADDRESS/metrics, for example 127.0.0.1:9100.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Allow an address for --metrics that other machines can reach: whoever can may read them.
    #[arg(long, requires = "metrics")]
    metrics_public: bool,
}

/// What was made of the options before the engine starts, so that mistakes show at once.
#[derive(Debug)]
pub struct Prepared {
    socket: Option<Socket>,
    metrics: Option<TcpListener>,
}

impl ControlArgs {
    /// Makes the socket and the listener. That there is no socket is a warning, unless one was asked for by name.
    pub fn prepare(&self) -> anyhow::Result<Prepared> {
        let metrics = self
            .metrics
            .map(|address| self.listen(address))
            .transpose()?;
        let place = self.control.clone().unwrap_or_default();
        let socket = match (!self.no_control).then(|| Socket::bind(&place)) {
            None => None,
            Some(Ok(socket)) => Some(socket),
            Some(Err(error)) if self.control.is_some() => {
                return Err(error).context("cannot make the control socket");
            }
            Some(Err(error)) => {
                tracing::warn!(
                    "linecard top will not find this: {error}; --no-control if that is all right"
                );
                None
            }
        };
        Ok(Prepared { socket, metrics })
    }

    fn listen(&self, address: SocketAddr) -> anyhow::Result<TcpListener> {
        anyhow::ensure!(
            address.ip().is_loopback() || self.metrics_public,
            "--metrics {address}: other machines can reach that, and anybody there could read the metrics; \
             use 127.0.0.1:{}, or add --metrics-public",
            address.port()
        );
        TcpListener::bind(address).with_context(|| format!("--metrics {address}"))
    }
}

impl Prepared {
    /// Answers from now on, until what is returned is dropped.
    pub fn serve(
        self,
        command: &str,
        program: Box<dyn Controlled>,
    ) -> anyhow::Result<Option<Server>> {
        let Self { socket, metrics } = self;
        if socket.is_none() && metrics.is_none() {
            return Ok(None);
        }
        let mut config = Config::new(command).set_log(set_log);
        if let Some(socket) = socket {
            config = config.socket(socket);
        }
        if let Some(listener) = metrics {
            config = config.metrics(listener);
        }
        Ok(Some(Server::start(config, program)?))
    }
}

/// What `log_to_stderr` leaves here: changes the filter of the log.
type SetLog = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;
static LOG: OnceLock<SetLog> = OnceLock::new();

/// Warnings, or what `LINECARD_LOG` asks for, on standard error.
pub fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("LINECARD_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    let set: SetLog = Box::new(move |text| {
        let filter = EnvFilter::try_new(text).map_err(|error| {
            format!("{text:?} is no filter: {error}; error, warn, info, debug and trace are")
        })?;
        handle.reload(filter).map_err(|error| error.to_string())
    });
    subscriber.init();
    // Called once.
    let _: Result<(), SetLog> = LOG.set(set);
}

fn set_log(filter: &str) -> Result<(), String> {
    match LOG.get() {
        Some(set) => set(filter),
        None => Err("the log is not ours to change".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_stay_on_this_machine_unless_told_otherwise() {
        let args = |metrics: &str, metrics_public| ControlArgs {
            no_control: true,
            metrics: Some(metrics.parse().unwrap()),
            metrics_public,
            ..ControlArgs::default()
        };
        let refused = args("0.0.0.0:0", false).prepare().unwrap_err().to_string();
        assert!(refused.contains("--metrics-public"), "{refused}");
        assert!(args("[::]:0", false).prepare().is_err());
        let prepared = args("127.0.0.1:0", false).prepare().unwrap();
        assert!(prepared.metrics.is_some() && prepared.socket.is_none());
    }
}
