//! Starts a process for each row, two at a time, and adds up what they tell.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use linecard_conformance::Verdict;
use linecard_conformance::table::{Line, markdown};

use crate::child::{TOLD, told};
use crate::rows::{ROWS, Row};
use crate::{Arguments, cases, readme};

/// A case that takes longer has hung. Every wait within it is shorter.
const PATIENCE: Duration = Duration::from_secs(90);

pub fn run(arguments: &Arguments) -> ExitCode {
    let root = nix::unistd::geteuid().is_root();
    let (wanted, left): (Vec<&Row>, Vec<&Row>) = ROWS
        .iter()
        .filter(|row| arguments.wants(row.name))
        .partition(|row| root || !row.needs_root);
    for row in left {
        println!(
            "NOT RUN: {}: needs root, for interfaces in a namespace of its own",
            row.name
        );
    }
    let quiet = arguments.table;
    let next = Mutex::new(wanted.iter().enumerate());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some((at, row)) = next.lock().ok().and_then(|mut next| next.next()) else {
                        return;
                    };
                    let verdicts = one_row(row, arguments);
                    if let Ok(mut done) = done.lock() {
                        if !quiet {
                            report(row.name, &verdicts);
                        }
                        done.push((at, row.name, verdicts));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(at, ..)| *at);
    let lines: Vec<Line> = done
        .into_iter()
        .map(|(_, name, verdicts)| Line {
            name: name.to_owned(),
            verdicts: verdicts.into_iter().flatten().collect(),
        })
        .collect();
    conclude(arguments, &lines, root)
}

/// The table, the check of the README, and the line that `scripts/test` adds up.
fn conclude(arguments: &Arguments, lines: &[Line], root: bool) -> ExitCode {
    let count = |is: fn(&Verdict) -> bool| {
        let verdicts = lines.iter().flat_map(|line| &line.verdicts);
        verdicts.filter(|verdict| is(verdict)).count()
    };
    let mut failed = count(|v| matches!(v, Verdict::Failed(_)));
    let passed = count(|v| matches!(v, Verdict::Passed(_)));
    let cannot = count(|v| matches!(v, Verdict::NotApplicable(_)));
    let table = markdown(&cases(), lines);
    if arguments.table {
        println!("{table}");
    }
    let whole = arguments.case.is_none() && root;
    if arguments.update && failed == 0 {
        if let Err(error) = readme::write(&table) {
            println!("drivers/README.md: {error}");
            failed += 1;
        }
    } else if whole
        && !arguments.table
        && failed == 0
        && let Err(error) = readme::check(&table, arguments.words.is_empty())
    {
        println!("\n{error}");
        failed += 1;
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    if !arguments.table {
        println!(
            "\ntest result: {word}. {passed} passed; {failed} failed; {cannot} ignored; 0 measured; 0 filtered out"
        );
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn report(name: &str, verdicts: &[Option<Verdict>]) {
    let count = |is: fn(&Verdict) -> bool| verdicts.iter().flatten().filter(|v| is(v)).count();
    println!(
        "{name}: {} passed, {} cannot be, {} failed",
        count(|v| matches!(v, Verdict::Passed(_))),
        count(|v| matches!(v, Verdict::NotApplicable(_))),
        count(|v| matches!(v, Verdict::Failed(_))),
    );
    for (case, verdict) in cases().into_iter().zip(verdicts) {
        if let Some(Verdict::Failed(what)) = verdict {
            println!("    {name}, {}: FAILED: {what}", case.name);
        }
    }
}

/// All cases of a row. A process that ends in the middle of a case has failed it, and another one goes on
/// behind it.
fn one_row(row: &Row, arguments: &Arguments) -> Vec<Option<Verdict>> {
    let mut verdicts: Vec<Option<Verdict>> = cases().iter().map(|_| None).collect();
    let mut from = 0;
    while from < cases().len() {
        let mut command = match std::env::current_exe() {
            Ok(exe) => Command::new(exe),
            Err(error) => {
                verdicts[from] = Some(Verdict::Failed(format!("its own path: {error}")));
                return verdicts;
            }
        };
        command.args(["--row", row.name, &from.to_string()]);
        if let Some(case) = &arguments.case {
            command.args(["--case", case]);
        }
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        match started {
            Ok(child) => from = follow(child, from, &mut verdicts),
            Err(error) => {
                verdicts[from] = Some(Verdict::Failed(format!("a process: {error}")));
                return verdicts;
            }
        }
    }
    verdicts
}

/// Follows a process to its end; returns where another one has to go on.
fn follow(mut child: Child, from: usize, verdicts: &mut [Option<Verdict>]) -> usize {
    let lines = listen(&mut child);
    let mut running = None;
    let why = loop {
        let line = match lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                break "it hangs".to_owned();
            }
            Err(RecvTimeoutError::Disconnected) => {
                break match child.wait() {
                    Ok(status) if status.signal().is_some() => {
                        format!(
                            "the process was ended by signal {}",
                            status.signal().unwrap_or(0)
                        )
                    }
                    Ok(status) => format!("the process ended: {status}"),
                    Err(error) => format!("the process was lost: {error}"),
                };
            }
        };
        let Some(told_line) = line.strip_prefix(TOLD) else {
            continue;
        };
        if let Some(at) = told_line.strip_prefix("begin\t") {
            running = at.parse::<usize>().ok();
        } else if told_line == "end" {
            let _ = child.wait();
            return cases().len();
        } else if let Some(at) = running.take() {
            verdicts[at] = Some(told(told_line));
        }
    };
    let _ = child.wait();
    let at = running.unwrap_or(from);
    verdicts[at] = Some(Verdict::Failed(why));
    at + 1
}

fn listen(child: &mut Child) -> Receiver<String> {
    let (to, from) = channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
    }
    from
}
