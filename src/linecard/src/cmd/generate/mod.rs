//! `linecard gen`: sends traffic, and says how well it was sent.

mod args;
mod back;
mod by_stream;
mod figures;
mod progress;
mod report;
mod show;
mod steer;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use linecard::engine::topology::Topology;
use linecard::wire::MacAddr;
use linecard::{Engine, Idle, PortInfo, Running};
use linecard_traffic::generator::{Handle, Job, Limit, Sent, Setup, State};
use linecard_traffic::station::Station;
use linecard_traffic::stream::StreamSpec;
use linecard_traffic::template::Addresses;

pub use args::{GenArgs, parse_speed};
use back::Back;
use progress::line;
use report::Outcome;
use steer::Steered;

use super::common::{Live, asked_to_stop};
use super::far;
use super::table::Paint;

/// The exit code when it ran, but not as it was asked: the rate was not held, or frames were not sent.
const EXIT_NOT_HELD: u8 = 4;

/// How often to look whether it is over.
const LOOK: Duration = Duration::from_millis(5);

/// Runs it.
pub fn run(args: &GenArgs) -> anyhow::Result<ExitCode> {
    let job = args.job()?;
    if let Some(frames) = args.show {
        return show::run(args, &job, frames);
    }
    let (ports, transmit, receive) = args.ports()?;
    let ports = linecard::open_all(ports.iter().copied())?;
    let topology = Topology::detect()?;
    let engine = Engine::on(&topology, ports, args.engine.config(Idle::Spin))?;
    let infos = engine.ports();
    let handle = Handle::new(setup(args, &engine, transmit));
    handle.check(&job)?;
    far::say(args.json, &progress::start(&engine, &handle, &job))?;
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let prepared = args.control.prepare()?;
    let lanes = job.streams.len() * handle.setup().workers.len();
    let macs: Vec<_> = infos.iter().map(own_mac).collect();
    let workers = engine.plan().workers.len();
    let mut back = Back::new(args, workers, lanes, receive, &macs);
    let running = engine.start(|worker| {
        let station = Station::new().send(handle.generator(worker));
        Box::new(back.add_to(station, worker))
    })?;
    let asked = asked_to_stop()?;
    let server = prepared.serve(
        "gen",
        Box::new(steered(&running, &handle, &back, &job, &asked)),
    )?;
    if let (Some(found), Some(gateway), Some(port)) = (back.found(), args.gateway, &args.port) {
        let over = || running.is_finished() || asked.load(Ordering::Relaxed);
        handle.set_peer(far::find(found, gateway, port, far::PATIENCE, over)?);
    }
    handle.start(&job)?;
    far::say(args.json, "sending; Ctrl-C stops and reports\n")?;
    let began = Instant::now();
    let mut live = (!args.stats_interval.is_zero()).then(|| Live::new(args.stats_interval));
    let mut last = Sent::default();
    let mut stopped = None;
    while handle.state() != State::Done && !running.is_finished() {
        if asked.load(Ordering::Relaxed) && stopped.is_none() {
            handle.stop();
            stopped = Some(Instant::now());
        }
        // A worker that does not answer any more must not keep us.
        if stopped.is_some_and(|when| when.elapsed() > Duration::from_secs(3)) {
            break;
        }
        if let Some(live) = &mut live
            && live.is_due()
        {
            let now = handle.sent();
            live.show(&line(&last, &now, &job, began.elapsed()));
            last = now;
        }
        std::thread::sleep(LOOK);
    }
    drop(live);
    back.settle(&handle.sent());
    drop(server);
    let engine = running.finish();
    let outcome = Outcome::new(
        args,
        &Done {
            job: &job,
            handle: &handle,
            infos: &infos,
            receive,
            back: &back,
            complete: stopped.is_none(),
        },
        engine,
    );
    if args.json {
        super::print(&(serde_json::to_string(&outcome)? + "\n"))?;
    } else {
        super::print(&outcome.render(Paint::for_stdout()))?;
    }
    Ok(outcome.exit_code())
}

/// A job that is over.
struct Done<'a> {
    job: &'a Job,
    handle: &'a Handle,
    infos: &'a [PortInfo],
    receive: Option<u16>,
    back: &'a Back,
    /// Whether it came to its own end.
    complete: bool,
}

fn steered(
    running: &Running,
    handle: &Handle,
    back: &Back,
    job: &Job,
    asked: &Arc<AtomicBool>,
) -> Steered {
    let rate = |stream: &StreamSpec| stream.rate.unwrap_or(job.rate).to_string();
    Steered {
        remote: running.remote(),
        handle: handle.clone(),
        figures: back.figures().cloned(),
        names: job.streams.iter().enumerate().map(name_of).collect(),
        rates: job.streams.iter().map(rate).collect(),
        asked: asked.clone(),
    }
}

/// What a stream is called.
fn name_of((number, stream): (usize, &StreamSpec)) -> String {
    match &stream.name {
        name if name.is_empty() => number.to_string(),
        name => name.clone(),
    }
}

fn own_mac(info: &PortInfo) -> MacAddr {
    info.mac.map_or(MacAddr([2, 0, 0, 0, 1, 0]), MacAddr)
}

/// Where it sends and as whom.
fn setup(args: &GenArgs, engine: &Engine, transmit: u16) -> Setup {
    let infos = engine.ports();
    let addresses = Addresses {
        own: own_mac(&infos[usize::from(transmit)]),
        peer: args.peer.unwrap_or(MacAddr([2, 0, 0, 0, 0, 1])),
    };
    let mut setup = Setup::of_port(engine, transmit, addresses);
    setup.link_bits_per_second = args.link_speed.or(setup.link_bits_per_second);
    setup
}

/// How long a job is to take, if that is known.
fn asked_seconds(job: &Job, asked_fps: Option<f64>) -> Option<f64> {
    match job.limit {
        Limit::Time(time) => Some(time.as_secs_f64()),
        Limit::Frames(frames) => asked_fps.map(|fps| frames as f64 / fps),
        Limit::Endless => None,
    }
}
