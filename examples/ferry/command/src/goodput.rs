//! Goodput by loss and delay.

use anyhow::Result;
use linecard_ferry::Config;
use linecard_ferry::congestion::{MakeController, cubic, new_reno};
use linecard_ferry::sim::{Failure, LinkConfig, Scenario, run};

const MS: u64 = 1_000_000;
const RATE_BPS: u64 = 100_000_000;
const MESSAGE_LEN: u64 = 16 << 10;
/// Loss in per cent, and megabytes that take some seconds at it.
const LOSSES: [(u64, u64); 4] = [(0, 100), (1, 20), (5, 8), (20, 2)];
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// Prints the table.
pub(super) fn measure() -> Result<()> {
    println!(
        "| round trip | controller | 0 % | 1 % | 5 % | 20 % |\n| --- | --- | --- | --- | --- | --- |"
    );
    for rtt_ms in [1, 10, 50, 100] {
        let controllers: [(&str, MakeController); 2] = [("CUBIC", cubic), ("NewReno", new_reno)];
        for (name, controller) in controllers {
            let row = LOSSES.map(|(loss, volume)| goodput(rtt_ms, loss, volume, controller));
            let row = row.into_iter().collect::<Result<Vec<_>, _>>()?;
            println!("| {rtt_ms} ms | {name} | {} |", row.join(" | "));
        }
    }
    Ok(())
}

/// The median over some seeds, in Mbit/s of messages.
fn goodput(
    rtt_ms: u64,
    loss: u64,
    megabytes: u64,
    controller: MakeController,
) -> Result<String, Failure> {
    let product = RATE_BPS / 8 * rtt_ms / 1_000;
    let config = Config {
        receive_window: 4 << 20,
        send_buffer: 4 << 20,
        idle_ns: 600_000 * MS,
        handshake_ns: 600_000 * MS,
        controller,
        ..Config::default()
    };
    let clean = LinkConfig::clean(rtt_ms * MS / 2, RATE_BPS, product.max(64_000));
    // One packet in a hundred is overtaken by those of up to half a round trip.
    let link = LinkConfig {
        loss: loss as f64 / 100.0,
        reorder: 0.01,
        reorder_ns: rtt_ms * MS / 2,
        ..clean
    };
    let mut rates = Vec::new();
    for seed in SEEDS {
        let report = run(&Scenario::bulk(
            seed,
            config,
            link,
            megabytes * 1_000_000 / MESSAGE_LEN,
            MESSAGE_LEN,
        ))?;
        rates.push(report.bytes[0] as f64 * 8e3 / report.took_ns as f64);
    }
    rates.sort_by(f64::total_cmp);
    Ok(format!("{:.1}", rates[SEEDS.len() / 2]))
}
