//! One row, in a process and a network namespace of its own. What it does is told line by line.

use std::process::ExitCode;

use linecard_conformance::Verdict;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::Arguments;
use crate::rows::ROWS;

/// Begins each line that is for the parent; anything else was printed by a library.
pub const TOLD: &str = "\u{1}";

/// A verdict in one line.
pub fn tell(verdict: &Verdict) -> String {
    let (word, texts) = match verdict {
        Verdict::Passed(remarks) => ("passed", remarks.join("\t")),
        Verdict::NotApplicable(reason) => ("cannot", reason.clone()),
        Verdict::Failed(what) => ("failed", what.replace('\t', " ")),
    };
    format!("{word}\t{}", texts.replace('\n', " "))
}

/// A verdict from its line.
pub fn told(line: &str) -> Verdict {
    let (word, texts) = line.split_once('\t').unwrap_or((line, ""));
    let texts = texts.to_owned();
    match word {
        "passed" if texts.is_empty() => Verdict::Passed(Vec::new()),
        "passed" => Verdict::Passed(texts.split('\t').map(str::to_owned).collect()),
        "cannot" => Verdict::NotApplicable(texts),
        _ => Verdict::Failed(texts),
    }
}

/// Makes this process one that leaves nothing behind, however it ends: it ends with its parent, its interfaces
/// are in a network namespace of its own, and its files in a memory file system that only it sees. To be called
/// before there is any other thread.
fn alone(needs_root: bool) -> nix::Result<()> {
    crate::sys::end_with_parent()?;
    if !nix::unistd::geteuid().is_root() {
        // Rows without interfaces: their files are removed by the case that made them.
        return if needs_root {
            Err(nix::Error::EPERM)
        } else {
            Ok(())
        };
    }
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let options = Some("size=256m,mode=0700");
    mount(
        Some("tmpfs"),
        &std::env::temp_dir(),
        Some("tmpfs"),
        MsFlags::empty(),
        options,
    )
}

pub fn run(row: &str, from: usize, arguments: &Arguments) -> ExitCode {
    let Some(row) = ROWS.iter().find(|r| r.name == row) else {
        eprintln!("there is no row {row:?}");
        return ExitCode::FAILURE;
    };
    if let Err(error) = alone(row.needs_root) {
        eprintln!("no process of its own for {}: {error}", row.name);
        return ExitCode::FAILURE;
    }
    for (at, case) in crate::cases().into_iter().enumerate().skip(from) {
        if !arguments.wants_case(case.name) {
            continue;
        }
        println!("{TOLD}begin\t{at}");
        let verdict = linecard_conformance::run(case, row.make);
        println!("{TOLD}{}", tell(&verdict));
    }
    println!("{TOLD}end");
    ExitCode::SUCCESS
}
