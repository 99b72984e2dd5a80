//! What is printed before a run and after it.

use linecard::engine::{CopyReason, PoolReport, PortReport};
use linecard::{Engine, PortInfo, Report, Rung, auto};

use super::Job;
use super::protocols::Told;
use crate::cmd::table::{Cell, Paint, Table, Tone};

/// The plan, the ports' own choices and the pools, before anything moves.
pub(super) fn start(engine: &Engine, job: &Job) -> String {
    let job = match job {
        Job::Forward(forward) => format!("mode {}", forward.mode),
        Job::Protocols { listed, .. } => {
            let kinds: Vec<_> = listed.iter().map(|listed| listed.kind.as_str()).collect();
            format!("protocols {}", kinds.join(", "))
        }
    };
    let mut text = format!("{job}\n{}", engine.plan());
    for port in engine.ports() {
        text += &ladder(&port.name, &port.rungs);
        for note in &port.notes {
            text += &format!("{}: {note}\n", port.name);
        }
    }
    for pool in engine.pools() {
        let (config, region) = (pool.config(), pool.region());
        text += &format!(
            "pool {}: {} mbufs of {} bytes, {} MiB in {} pages\n",
            config.name,
            config.size,
            config.stride(),
            region.len_bytes() >> 20,
            region.page(),
        );
        for note in region.notes() {
            text += &format!("  not in {note}\n");
        }
    }
    text + &format!("pool size: {}\n", engine.sizing())
}

/// What an `auto:` port came to and why; nothing for others.
fn ladder(port: &str, rungs: &[Rung]) -> String {
    let lines = auto::lines(rungs).into_iter();
    lines.map(|line| format!("{port}: {line}\n")).collect()
}

/// The ladders of ports that stepped down when they were started.
pub(super) fn stepped_down(before: &[PortInfo], now: &[PortInfo]) -> String {
    let ports = before.iter().zip(now);
    ports
        .filter(|(before, now)| before.rungs != now.rungs)
        .map(|(_, now)| ladder(&now.name, &now.rungs))
        .collect()
}

/// The account.
pub(super) fn last(told: &Told<'_>, paint: Paint) -> String {
    let report = told.report;
    let mut text = format!("\n{:.3} s\n", report.duration_s);
    for port in &report.ports {
        text += &ladder(&port.name, &port.rungs);
    }
    text += &ports(&report.ports).render(paint);
    text += &copies(&report.ports);
    text += "\n";
    if report.ports.iter().any(|port| !port.flows.is_empty()) {
        text += &flows(&report.ports).render(paint);
        for flow in report.ports.iter().flat_map(|port| &port.flows) {
            if let Some(problem) = &flow.problem {
                text += &format!("{}: {}\n", flow.rule, paint.tone(problem, Tone::Bad));
            }
        }
        text += "\n";
    }
    let protocols = told.render(paint);
    if !protocols.is_empty() {
        text += &(protocols + "\n");
    }
    text += &workers(report).render(paint);
    text += "\n";
    text += &pools(&report.pools).render(paint);
    for pool in &report.pools {
        for leak in &pool.leaks {
            let from = leak
                .received_on
                .as_deref()
                .unwrap_or("allocated for transmission");
            text += &format!(
                "leaked from {}: mbuf {}, {} bytes, last held: {from}\n",
                pool.ledger.name, leak.leak.index, leak.leak.frame_len
            );
        }
    }
    for worker in &report.workers {
        if let Some(failure) = &worker.failure {
            text += &paint.tone(
                &format!("worker {} failed: {failure}", worker.worker),
                Tone::Bad,
            );
            text += "\n";
        }
    }
    text + &account(report, paint)
}

fn number(n: u64) -> Cell {
    Cell::from(n.to_string())
}

fn alarming(n: u64) -> Cell {
    Cell::toned(
        n.to_string(),
        if n == 0 { Tone::Plain } else { Tone::Caution },
    )
}

fn ports(ports: &[PortReport]) -> Table {
    let mut columns = vec![
        "port", "rx", "tx", "rx bytes", "tx bytes", "misses", "errors",
    ];
    // Nearly always none, and then not worth a column.
    let copies = ports.iter().any(|port| port.tx_copies > 0);
    if copies {
        columns.push("copies");
    }
    columns.push("drops");
    let mut table = Table::new(&columns);
    for port in ports {
        let drops: Vec<_> = port
            .drops
            .iter()
            .map(|(why, n)| format!("{why} {n}"))
            .collect();
        let mut row = vec![
            Cell::from(port.name.clone()),
            number(port.rx),
            number(port.tx),
            number(port.rx_bytes),
            number(port.tx_bytes),
            alarming(port.rx_misses),
            alarming(port.rx_errors),
        ];
        if copies {
            row.push(alarming(port.tx_copies));
        }
        row.push(Cell::from(if drops.is_empty() {
            "0".to_owned()
        } else {
            drops.join(", ")
        }));
        table.row(row);
    }
    table
}

/// Why frames were copied, a line for each reason.
fn copies(ports: &[PortReport]) -> String {
    let mut text = String::new();
    for port in ports {
        for reason in CopyReason::ALL {
            if let Some(frames) = port.tx_copy_reasons.get(reason.name()) {
                text += &format!(
                    "{}: {frames} frames were copied: {}\n",
                    port.name,
                    reason.explain()
                );
            }
        }
    }
    text
}

fn flows(ports: &[PortReport]) -> Table {
    let mut table = Table::new(&["port", "flow rule", "packets", "bytes"]);
    let count = |n: Option<u64>| n.map_or(Cell::from("not counted".to_owned()), number);
    for port in ports {
        for flow in &port.flows {
            table.row([
                Cell::from(port.name.clone()),
                Cell::from(flow.rule.to_string()),
                count(flow.packets),
                count(flow.bytes),
            ]);
        }
    }
    table
}

fn workers(report: &Report) -> Table {
    let mut table = Table::new(&[
        "worker",
        "lcore",
        "node",
        "rx",
        "tx",
        "cycles/packet",
        "burst",
        "empty polls",
        "sleeps",
        "crossed",
    ]);
    for w in &report.workers {
        table.row([
            number(w.worker.into()),
            number(w.lcore.into()),
            number(w.node.into()),
            number(w.rx),
            number(w.tx),
            Cell::from(format!("{:.1}", w.cycles_per_packet)),
            Cell::from(format!("{:.1}", w.burst_avg)),
            Cell::from(format!("{:.1}%", w.empty_share * 100.0)),
            number(w.sleeps),
            number(w.handed_out),
        ]);
    }
    table
}

fn pools(pools: &[PoolReport]) -> Table {
    let mut table = Table::new(&[
        "pool",
        "size",
        "page",
        "allocated",
        "freed",
        "exhausted",
        "in use",
        "leaked",
    ]);
    for p in pools {
        table.row([
            Cell::from(p.ledger.name.clone()),
            number(p.ledger.size as u64),
            Cell::from(p.ledger.page.clone()),
            number(p.ledger.allocated),
            number(p.ledger.freed),
            alarming(p.ledger.exhausted),
            number(p.ledger.in_use as u64),
            alarming(p.leaked as u64),
        ]);
    }
    table
}

fn account(report: &Report, paint: Paint) -> String {
    let a = &report.account;
    let mut left = vec![format!("rx {}", a.rx)];
    let mut right = vec![format!("tx {}", a.tx)];
    for (name, n) in [("generated", a.generated), ("segmented", a.segmented)] {
        if n > 0 {
            left.push(format!("{name} {n}"));
        }
    }
    for (name, n) in [("delivered", a.delivered), ("consumed", a.consumed)] {
        if n > 0 {
            right.push(format!("{name} {n}"));
        }
    }
    right.push(format!("drops {}", a.drops));
    right.push(format!("in_flight {}", a.in_flight));
    let leaked: usize = report.pools.iter().map(|p| p.leaked).sum();
    let verdict = if a.unaccounted == 0 {
        paint.tone("balanced", Tone::Good)
    } else {
        paint.tone(
            &format!(
                "{} frames unaccounted for: please report this",
                a.unaccounted
            ),
            Tone::Bad,
        )
    };
    format!(
        "\naccount: {} = {}; leaked {leaked}: {verdict}\n",
        left.join(" + "),
        right.join(" + ")
    )
}
