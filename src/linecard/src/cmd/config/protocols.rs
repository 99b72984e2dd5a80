//! The protocols of a configuration: each is made once, to see whether it can be, and all of them are looked at
//! together.

use linecard::engine::WorkerIndex;
use linecard::simnet::Kinds;
use linecard::simnet::scenario::{HostPort, Listed, Made, Place as Where};
use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::keys::KEYS;
use super::ports::{At, PortSetting};
use super::problem::{Place, Problem, Refusal, nearest};
use super::read::Draft;

/// A `[[protocol]]` as it was written.
pub type ProtocolEntry = At<Listed>;

/// What a port's longest packet is taken to be before it is opened.
const USUAL_MTU: u32 = 1500;

/// Reads one.
pub fn read(entry: &Spanned<DeValue<'_>>) -> Result<Listed, Refusal> {
    let mut settings = toml::Table::deserialize(ValueDeserializer::from(entry.clone()))
        .map_err(|error| Refusal::new(error.message(), "write [[protocol]], and kind below it"))?;
    let known = || {
        let kinds = crate::cmd::kinds::known();
        kinds.names().collect::<Vec<_>>().join(", ")
    };
    match settings.remove("kind") {
        Some(toml::Value::String(kind)) => Listed::from_table(&kind, settings)
            .map_err(|what| Refusal::new(what, "or leave ports out for all")),
        Some(other) => Err(Refusal::new(
            format!("kind = {other} is not text"),
            format!("write one of {} in double quotes", known()),
        )),
        None => Err(Refusal::new(
            "the protocol has no kind",
            format!("add kind = \"echo\", or another one of {}", known()),
        )),
    }
}

/// Refuses protocols that cannot be, or not together; how many mbufs they keep.
pub fn check(
    kinds: &Kinds,
    entries: &[ProtocolEntry],
    ports: &[PortSetting],
    workers: WorkerIndex,
    problems: &mut Vec<Problem>,
) -> u32 {
    let ports = host_ports(ports);
    let here = Where {
        host: "linecard",
        workers,
        ports: &ports,
    };
    let (mut made, before) = (Made::default(), problems.len());
    for entry in entries {
        if let Err(what) = made.add(kinds, &entry.value, &here, 0) {
            let remedy = remedy(kinds, &entry.value, &what);
            let key = format!("protocol.{}", entry.value.kind);
            problems.push(Refusal::new(what, remedy).at(entry.place.clone(), key));
        }
    }
    if problems.len() > before {
        return 0;
    }
    if let (Err(error), Some(first)) = (made.protocols.check(ports.len(), workers), entries.first())
    {
        let text = error.to_string();
        let (what, remedy) = text
            .rsplit_once("; ")
            .unwrap_or((&text, "change its settings"));
        problems.push(Refusal::new(what, remedy).at(first.place.clone(), "protocol"));
    }
    made.keeps
}

/// The ports as protocols know them, before they are opened.
fn host_ports(ports: &[PortSetting]) -> Vec<HostPort> {
    let ports = (0..).zip(ports).map(|(index, port)| HostPort {
        index,
        name: port.name.clone(),
        mac: None,
        mtu: USUAL_MTU,
    });
    ports.collect()
}

/// What to do about a protocol that cannot be made.
fn remedy(kinds: &Kinds, listed: &Listed, what: &str) -> String {
    if !kinds.names().any(|kind| kind == listed.kind) {
        return match nearest(&listed.kind, kinds.names()) {
            Some(meant) => format!("did you mean kind = \"{meant}\"?"),
            None => "write one of these".to_owned(),
        };
    }
    // What serde says has the names between back quotes: the one that is wrong, then those that there are.
    let names: Vec<&str> = what.split('`').skip(1).step_by(2).collect();
    match names.split_first() {
        Some((key, [])) if what.starts_with("missing field") => format!("add {key} = …"),
        Some((key, known)) if what.starts_with("unknown field") => {
            match nearest(key, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("leave {key} out"),
            }
        }
        _ => "see `linecard config example` for how it is written".to_owned(),
    }
}

/// The engine has either one stage for all frames or protocols: what is said of the stage is refused beside them.
pub fn check_alone(draft: &mut Draft) {
    if draft.protocols.is_empty() {
        return;
    }
    let given = KEYS.iter().zip(&draft.origins);
    let given =
        given.filter(|(key, origin)| key.section == "forward" && **origin != Place::Default);
    let given = given.map(|(key, origin)| (key.path(), origin.clone()));
    let pairs = draft
        .pairs
        .first()
        .map(|pair| ("forward.pairs".to_owned(), pair.place.clone()));
    let problems: Vec<_> = given
        .chain(pairs)
        .map(|(key, place)| {
            let what =
                "there are [[protocol]] sections, and they decide what is done with each packet";
            let remedy = "remove this, or every [[protocol]]";
            Refusal::new(what, remedy).at(place, key)
        })
        .collect();
    draft.problems.extend(problems);
}
