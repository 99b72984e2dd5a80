//! `linecard top`: what a running engine does, at a glance.

mod figures;
mod screen;
mod sheet;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use linecard::control::{self, Client, ClientError, Status};
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::table::Paint;
use figures::{Between, Sheets, headline};
use screen::{Screen, Then};

/// Show what a running engine does: ports, queues, workers, pools, drops, rules, protocols, streams.
#[derive(Debug, Args)]
#[command(after_help = "\
Every long-running command can be watched, by its user and by root: linecard fwd, run, gen and others. h explains the \
keys. Without a terminal it prints a table once, as with --once.

Examples:
  linecard top                        the engine that runs here; if there are several, says which
  linecard top edge                   the one that was started with --control edge
  linecard top 4711 --once            a table of what happens in one second
  linecard top --json | jq .report.account

Exit codes: 0 it was shown until you left or the engine ended, 1 there is no such engine, 2 wrong usage.")]
pub struct TopArgs {
    /// The engine: its name, its process's number, or the path of its socket.
    #[arg(value_name = "ENGINE")]
    engine: Option<String>,
    /// Time from one look to the next.
    #[arg(long, short, value_name = "D", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Print a table of what happens in one interval, and stop.
    #[arg(long)]
    once: bool,
    /// Print each snapshot as a line of JSON; with --once just one.
    #[arg(long)]
    json: bool,
}

/// How soon a key is answered.
const KEY_PATIENCE: Duration = Duration::from_millis(50);

/// The most snapshots that wait to be drawn.
const AHEAD: usize = 4;

/// Runs it.
pub fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.interval >= Duration::from_millis(200),
        "--interval {}: figures are counted ten times a second; use 200ms or more",
        humantime::format_duration(args.interval)
    );
    let client = control::find(args.engine.as_deref())?;
    if args.json {
        print_json(client, args)?;
    } else if args.once || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        print_once(client, args.interval)?;
    } else {
        show(client, args.interval)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(client: Client, args: &TopArgs) -> anyhow::Result<()> {
    let count = if args.once { 1 } else { usize::MAX };
    for status in client.watch(args.interval)?.take(count) {
        match status {
            Ok(status) => super::print(&(serde_json::to_string(&status)? + "\n"))?,
            Err(error) if has_ended(&error) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn print_once(client: Client, interval: Duration) -> anyhow::Result<()> {
    let mut statuses = client.watch(interval)?;
    let mut next = || {
        statuses
            .next()
            .context("nothing came")?
            .context("while watching")
    };
    let (before, now) = (next()?, next()?);
    super::print(&as_text(Between {
        before: Some(&before),
        now: &now,
    }))
}

/// All sheets one below the other.
pub fn as_text(between: Between<'_>) -> String {
    let sheets = Sheets::new(between);
    let sheets = sheets.all().map(|sheet| sheet.render(Paint::for_stdout()));
    format!("{}\n\n{}", headline(between.now), sheets.concat())
}

/// What has happened since the start, for `linecard ctl status`.
pub fn since_start(status: &Status) -> String {
    as_text(Between {
        before: None,
        now: status,
    })
}

/// Whether that is how a watch ends.
fn has_ended(error: &ClientError) -> bool {
    matches!(error, ClientError::Io { source, .. } if source.kind() != std::io::ErrorKind::TimedOut)
}

/// The live view. The terminal is as before afterwards, however it ends: a panic passes ratatui's hook, and signals end the
/// loop.
fn show(client: Client, interval: Duration) -> anyhow::Result<()> {
    let told = Arc::new(AtomicBool::new(false));
    let tell = told.clone();
    ctrlc::set_handler(move || tell.store(true, Ordering::Relaxed))
        .context("cannot catch signals")?;
    let snapshots = watch_in_thread(client, interval)?;
    let mut terminal =
        ratatui::try_init().context("cannot use this terminal; --once prints a table")?;
    let outcome = until_left(&mut terminal, &snapshots, &told);
    ratatui::restore();
    outcome
}

/// The socket has a thread of its own, as the keyboard has this one.
fn watch_in_thread(
    client: Client,
    interval: Duration,
) -> anyhow::Result<Receiver<Result<Status, ClientError>>> {
    let (sender, receiver) = sync_channel(AHEAD);
    let snapshots = client.watch(interval)?;
    std::thread::spawn(move || {
        for snapshot in snapshots {
            let over = snapshot.is_err();
            if sender.send(snapshot).is_err() || over {
                return;
            }
        }
    });
    Ok(receiver)
}

fn until_left(
    terminal: &mut ratatui::DefaultTerminal,
    snapshots: &Receiver<Result<Status, ClientError>>,
    told: &AtomicBool,
) -> anyhow::Result<()> {
    let mut screen = Screen::default();
    let mut changed = true;
    while !told.load(Ordering::Relaxed) {
        loop {
            match snapshots.try_recv() {
                Ok(Ok(status)) => screen.update(status),
                Ok(Err(error)) => screen.end(format!("{:#}", anyhow::Error::from(error))),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
            changed = true;
        }
        if std::mem::take(&mut changed) {
            terminal.draw(|frame| screen.draw(frame))?;
        }
        if event::poll(KEY_PATIENCE)? {
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && screen.press(key) == Then::Leave
            {
                return Ok(());
            }
            changed = true;
        }
    }
    Ok(())
}
