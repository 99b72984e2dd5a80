//! One conformance suite for all drivers: `linecard-conformance`, run on real ports, opened as the command opens
//! them. A new driver is a row in `rows.rs`.
//!
//! ```text
//! cargo test --test conformance                       every row that this build has
//! cargo test --test conformance -- sim tap            rows whose names contain one of these words
//! cargo test --test conformance -- --case sleep       one case
//! cargo test --test conformance -- --table            prints the table, driver by case, as Markdown
//! cargo test --test conformance -- --update           writes it into drivers/README.md
//! cargo test --test conformance -- --list             names rows and cases
//! ```
//!
//! Each row runs in a process of its own, in a network namespace of its own: a driver that crashes or hangs
//! fails one case, and nothing is left behind.

#![allow(unreachable_pub, missing_docs)]

mod child;
mod claims;
mod parent;
mod readme;
mod rigs;
mod rows;
mod sys;

use std::process::ExitCode;

use linecard_conformance::{CASES, Case};

/// What was asked for.
#[derive(Debug, Default)]
struct Arguments {
    table: bool,
    update: bool,
    list: bool,
    case: Option<String>,
    /// Internal: run this row from this case on, here.
    row: Option<(String, usize)>,
    words: Vec<String>,
}

impl Arguments {
    fn read(given: impl Iterator<Item = String>) -> Self {
        let mut arguments = Self::default();
        let mut given = given;
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--table" => arguments.table = true,
                "--update" => arguments.update = true,
                "--list" => arguments.list = true,
                "--case" => arguments.case = given.next(),
                "--row" => {
                    let row = given.next().unwrap_or_default();
                    let from = given.next().and_then(|n| n.parse().ok()).unwrap_or(0);
                    arguments.row = Some((row, from));
                }
                // What cargo hands to every test runner.
                flag if flag.starts_with('-') => {}
                word => arguments.words.push(word.to_owned()),
            }
        }
        arguments
    }

    fn wants(&self, row: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| row.contains(word.as_str()))
    }

    fn wants_case(&self, case: &str) -> bool {
        self.case.as_deref().is_none_or(|wanted| wanted == case)
    }
}

/// What every port must do by itself, and what an engine must do on it.
fn cases() -> Vec<&'static Case> {
    CASES.iter().chain([&claims::CASE]).collect()
}

fn main() -> ExitCode {
    let arguments = Arguments::read(std::env::args().skip(1));
    if arguments.list {
        rows::ROWS
            .iter()
            .for_each(|row| println!("row   {}", row.name));
        cases()
            .iter()
            .for_each(|case| println!("case  {:18} {}", case.name, case.about));
        return ExitCode::SUCCESS;
    }
    match &arguments.row {
        Some((row, from)) => child::run(row, *from, &arguments),
        None => parent::run(&arguments),
    }
}
