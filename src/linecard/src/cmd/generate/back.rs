//! What comes back, and who answers for our addresses.

use std::time::{Duration, Instant};

use linecard::WorkerIndex;
use linecard::wire::MacAddr;
use linecard_traffic::generator::{LaneSent, Sent};
use linecard_traffic::receiver::{self, Config, Receiver, Snapshot};
use linecard_traffic::responder::{self, Found, Responder};
use linecard_traffic::sink::Sink;
use linecard_traffic::station::Station;

use super::GenArgs;

/// How long it is waited for frames that are still on their way, at most and since the last one that came.
const SETTLE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(200));

/// Bits of all lanes' windows together: 8 MiB.
const WINDOW_BITS: usize = 1 << 26;

/// Receivers and responders of all workers, and the figures of the former.
pub(super) struct Back {
    /// By worker, until it is started.
    sinks: Vec<Option<Sink>>,
    ports: Vec<u16>,
    figures: Option<receiver::Handle>,
    found: Option<Found>,
    /// Who answers at the port that sends, if another one receives.
    sends: Vec<Responder>,
}

impl Back {
    /// For so many workers and lanes. Something is received where it was asked for; addresses are answered for at
    /// each port.
    pub(super) fn new(
        args: &GenArgs,
        workers: usize,
        lanes: usize,
        receive: Option<u16>,
        macs: &[MacAddr],
    ) -> Self {
        let lanes = if receive.is_some() { lanes.max(1) } else { 1 };
        let config = Config {
            lanes: lanes as u32,
            window: (WINDOW_BITS / lanes / 64 * 64).clamp(1024, 1 << 16),
            ..Config::default()
        };
        let (handle, receivers) = receiver::receivers(config, workers);
        handle.begin(&vec![0; lanes]);
        let answers = args.answer.is_some();
        let find = args.gateway.and_then(|gateway| {
            let from = args.answer.as_ref()?.first_like(gateway)?;
            Some((gateway, from))
        });
        let responders: Vec<Responder> = (0..)
            .zip(macs)
            .filter(|_| answers)
            .map(|(port, mac)| {
                Responder::new(responder::Config {
                    port,
                    mac: *mac,
                    addresses: args.answer.clone().unwrap_or_default(),
                    pings: true,
                    find: find.filter(|_| port == 0),
                })
            })
            .collect();
        // Each port has one who asks.
        let mut here = responders.clone();
        here.retain(|responder| receive.is_none_or(|port| responder.port() == port));
        let sink = |receiver: Receiver| Some(Sink::new(receiver, here.clone()));
        let found = responders.first().map(Responder::found);
        // One sink has one receiver: it is at the port where something is received, else at the one that sends.
        Self {
            sinks: receivers.into_iter().map(sink).collect(),
            ports: match receive {
                Some(port) => vec![port],
                None if answers => vec![0],
                None => Vec::new(),
            },
            figures: receive.map(|_| handle),
            found: found.filter(|_| find.is_some()),
            sends: responders,
        }
    }

    /// Whom frames are sent to, if that is to be found out.
    pub(super) fn found(&self) -> Option<&Found> {
        self.found.as_ref()
    }

    /// Gives a worker's station its part.
    pub(super) fn add_to(&mut self, station: Station, worker: WorkerIndex) -> Station {
        let sink = self
            .sinks
            .get_mut(usize::from(worker))
            .and_then(Option::take);
        match (sink, &self.ports[..]) {
            (Some(sink), [0]) => station.receive(0, sink),
            (Some(sink), [port]) => station
                .receive(*port, sink)
                .receive(0, Sink::answering(self.sends.clone())),
            _ => station,
        }
    }

    /// What has come back, if anybody looks.
    pub(super) fn figures(&self) -> Option<&receiver::Handle> {
        self.figures.as_ref()
    }

    /// Waits for what is on its way.
    pub(super) fn settle(&self, sent: &Sent) {
        let Some(figures) = &self.figures else { return };
        let (began, mut last) = (Instant::now(), (0, Instant::now()));
        loop {
            let received = received(&figures.snapshot());
            if received != last.0 {
                last = (received, Instant::now());
            }
            if received >= sent.frames || last.1.elapsed() > SETTLE.1 || began.elapsed() > SETTLE.0
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn received(snapshot: &Snapshot) -> u64 {
    snapshot.lanes.values().map(|lane| lane.received).sum()
}

/// How many frames a lane was sent.
pub(super) fn sent_by(lanes: &[LaneSent]) -> impl Fn(u16) -> u64 {
    let sent: std::collections::HashMap<_, _> =
        lanes.iter().map(|l| (l.lane, l.next - l.first)).collect();
    move |lane| sent.get(&lane).copied().unwrap_or(0)
}
