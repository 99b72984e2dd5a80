//! Many random networks.

use std::ops::Range;

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use linecard_ferry::sim::{Scenario, run};

/// Plays random scenarios.
pub(super) fn play(seeds: Range<u64>) -> Result<()> {
    let one = seeds.end - seeds.start == 1;
    let bar = ProgressBar::new(seeds.end - seeds.start);
    bar.set_style(
        ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {eta} to go")
            .expect("a template"),
    );
    let (mut failures, mut virtual_ns) = (0, 0u64);
    for seed in seeds.clone() {
        let scenario = Scenario::random(seed);
        match run(&scenario) {
            Ok(report) => {
                virtual_ns += report.took_ns;
                if one {
                    println!("{scenario:#?}\n{report:#?}");
                }
            }
            Err(failure) => {
                failures += 1;
                bar.suspend(|| eprintln!("{failure}\n  again: ferry seeds {seed}"));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!(
        "{} seeds, {} failed; {:.1} hours of virtual time",
        seeds.end - seeds.start,
        failures,
        virtual_ns as f64 / 3.6e12
    );
    ensure!(failures == 0, "{failures} seeds failed");
    Ok(())
}
