//! The table in `drivers/README.md`, between two marks.

use std::fs;
use std::path::PathBuf;

const BEGIN: &str = "<!-- conformance: begin -->\n";
const END: &str = "<!-- conformance: end -->";
const HOW: &str = "cargo test --test conformance --features dpdk -- --update";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../drivers/README.md")
}

/// The text before the table, the table, and the text behind it.
fn parts() -> Result<[String; 3], String> {
    let text = fs::read_to_string(path()).map_err(|e| format!("drivers/README.md: {e}"))?;
    let split = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (table, after) = rest.split_once(END)?;
        Some([before, table, after].map(str::to_owned))
    });
    split.ok_or_else(|| format!("drivers/README.md has no {BEGIN:?} and {END:?}"))
}

/// Replaces the table.
pub fn write(table: &str) -> Result<(), String> {
    let [before, _, after] = parts()?;
    let text = format!("{before}{BEGIN}{table}{END}{after}");
    fs::write(path(), text).map_err(|e| e.to_string())
}

/// Whether the README says what was found. Part of the rows, or a build without DPDK, are compared line by
/// line; a build that has all rows, as a whole.
pub fn check(table: &str, all_rows: bool) -> Result<(), String> {
    let [_, kept, _] = parts()?;
    let stale = |what: &str| {
        Err(format!(
            "drivers/README.md is stale: {what}\nwrite it anew: {HOW}"
        ))
    };
    for line in table.lines() {
        if !kept.lines().any(|k| k == line) {
            return stale(&format!("it does not say\n{line}"));
        }
    }
    if all_rows && cfg!(feature = "dpdk") && kept != table {
        return stale("it says more than is so");
    }
    Ok(())
}
