//! Protocols on real ports: made for them, and what is told of them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use anyhow::anyhow;
use linecard::engine::protocol::{Place as CarriedOut, ProtocolReport};
use linecard::simnet::scenario::{HostPort, Listed, Made, Place, Tellers};
use linecard::wire::MacAddr;
use linecard::{Engine, Report};
use serde::Serialize;

use crate::cmd::table::{Cell, Paint, Table, Tone};

/// Makes an instance of each protocol for each worker.
pub(super) fn make(engine: &Engine, listed: &[Listed], names: &[String]) -> anyhow::Result<Made> {
    let infos = engine.ports();
    let ports: Vec<HostPort> = (0..)
        .zip(infos.iter().zip(names))
        .map(|(index, (info, name))| HostPort {
            index,
            name: name.clone(),
            mac: info.mac.map(MacAddr),
            mtu: info.mtu,
        })
        .collect();
    let place = Place {
        host: "linecard",
        workers: u16::try_from(engine.plan().workers.len())?,
        ports: &ports,
    };
    // Where the standard library has the keys of its hash maps from.
    let random = RandomState::new();
    let kinds = crate::cmd::kinds::known();
    let mut made = Made::default();
    for (number, listed) in listed.iter().enumerate() {
        made.add(&kinds, listed, &place, random.hash_one(number))
            .map_err(|what| anyhow!("protocol {}: {what}", listed.kind))?;
    }
    Ok(made)
}

/// Where each claim is carried out, and why; nothing without protocols.
pub(super) fn claims(protocols: &[ProtocolReport], paint: Paint) -> String {
    if protocols.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["protocol", "claim", "port", "carried out", "as, or why"]);
    for protocol in protocols {
        for claim in &protocol.claims {
            let (place, tone) = match claim.place {
                CarriedOut::Hardware => ("by the port", Tone::Good),
                CarriedOut::Offered => ("to be offered to the port", Tone::Plain),
                CarriedOut::Software => ("in software", Tone::Plain),
            };
            table.row([
                Cell::from(protocol.name.clone()),
                Cell::from(claim.claim.clone()),
                Cell::from(claim.port.clone()),
                Cell::toned(place, tone),
                Cell::from(claim.why.clone()),
            ]);
        }
    }
    table.render(paint)
}

/// A protocol's claims alone, as JSON.
pub(super) fn claims_of(protocol: &ProtocolReport) -> serde_json::Value {
    serde_json::json!({ "name": protocol.name, "claims": protocol.claims })
}

/// The engine's report, and what the protocols say of themselves.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    #[serde(flatten)]
    pub(super) report: &'a Report,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    figures: BTreeMap<String, BTreeMap<String, u64>>,
}

impl<'a> Told<'a> {
    pub(super) fn new(report: &'a Report, tellers: &Tellers) -> Self {
        let told = tellers.tell().into_iter();
        let told = told.map(|(name, figures)| (name, figures.into_iter().collect()));
        Self {
            report,
            figures: told
                .filter(|(_, f): &(_, BTreeMap<_, _>)| !f.is_empty())
                .collect(),
        }
    }

    /// Whether all is accounted for and nothing failed on the way.
    pub(super) fn is_clean(&self) -> bool {
        self.report.is_clean() && self.report.protocols.iter().all(|p| p.faults == 0)
    }

    /// What became of each protocol's packets; nothing without protocols.
    pub(super) fn render(&self, paint: Paint) -> String {
        let protocols = &self.report.protocols;
        if protocols.is_empty() {
            return String::new();
        }
        let columns = [
            "protocol", "received", "sent", "crossed", "no mbuf", "panics", "drops",
        ];
        let mut table = Table::new(&columns);
        for p in protocols {
            let alarming =
                |n: u64, tone| Cell::toned(n.to_string(), if n == 0 { Tone::Plain } else { tone });
            let drops: Vec<_> = p
                .drops
                .iter()
                .map(|(why, n)| format!("{why} {n}"))
                .collect();
            table.row([
                Cell::from(p.name.clone()),
                Cell::from(p.received.to_string()),
                Cell::from(p.sent.to_string()),
                Cell::from(p.crossed.to_string()),
                alarming(p.no_mbuf, Tone::Caution),
                alarming(p.faults, Tone::Bad),
                Cell::from(if drops.is_empty() {
                    "0".to_owned()
                } else {
                    drops.join(", ")
                }),
            ]);
        }
        let mut text = table.render(paint);
        for p in protocols {
            if let Some(fault) = &p.fault {
                let line = format!("{} panicked {} time(s), first: {fault}", p.name, p.faults);
                text += &format!("{}\n", paint.tone(&line, Tone::Bad));
            }
        }
        for (name, figures) in &self.figures {
            let figures: Vec<_> = figures
                .iter()
                .map(|(what, n)| format!("{what} {n}"))
                .collect();
            text += &format!("{name}: {}\n", figures.join(", "));
        }
        text
    }
}
