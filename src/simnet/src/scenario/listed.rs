//! The protocols of a host, as a file lists them.

use std::collections::BTreeMap;

use linecard_engine::protocol::{Protocol, Protocols, Rights};
use serde::Deserialize;

use super::kinds::{HostPort, Kinds, Setting, Teller, Together};

/// A protocol as a file lists it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Listed {
    /// One of [`Kinds`].
    pub kind: String,
    /// The ports that it may use, by name; all if nothing is said.
    pub ports: Option<Vec<String>>,
    /// What the kind knows.
    #[serde(flatten)]
    pub settings: toml::Table,
}

impl Listed {
    /// The same, of a kind and a table with everything else.
    pub fn from_table(kind: &str, mut settings: toml::Table) -> Result<Self, String> {
        let names = settings.remove("ports").map(toml::Value::try_into);
        let ports = names.transpose().map_err(|_: toml::de::Error| {
            "ports: a list of names is needed, such as [\"left\"]".to_owned()
        })?;
        Ok(Self {
            kind: kind.to_owned(),
            ports,
            settings,
        })
    }
}

/// Where protocols run.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// The host's name.
    pub host: &'a str,
    /// How many workers there are.
    pub workers: u16,
    /// Its ports; one at least.
    pub ports: &'a [HostPort],
}

/// A host's protocols, ready to start.
#[derive(Debug, Default)]
pub struct Made {
    /// For the engine, in the order of the list.
    pub protocols: Protocols,
    /// What they say of themselves.
    pub figures: Tellers,
    /// Mbufs that each worker's instances keep at most.
    pub keeps: u32,
}

/// What protocols say of themselves.
#[derive(Default)]
pub struct Tellers(Vec<(String, Vec<Teller>)>);

impl Tellers {
    /// Each protocol's figures, over all workers.
    pub fn tell(&self) -> Vec<(String, Vec<(String, u64)>)> {
        let sum = |tellers: &Vec<Teller>| {
            let mut sums: Vec<(String, u64)> = Vec::new();
            for (name, n) in tellers.iter().flat_map(|tell| tell()) {
                match sums.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, sum)) => *sum = sum.saturating_add(n),
                    None => sums.push((name, n)),
                }
            }
            sums
        };
        let all = self.0.iter();
        all.map(|(name, tellers)| (name.clone(), sum(tellers)))
            .collect()
    }
}

impl std::fmt::Debug for Tellers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|t| &t.0)).finish()
    }
}

impl Made {
    /// Adds a protocol, with an instance for each worker. If it cannot be made, the reason.
    pub fn add(
        &mut self,
        kinds: &Kinds,
        listed: &Listed,
        place: &Place<'_>,
        seed: u64,
    ) -> Result<(), String> {
        let ports = chosen(place.ports, listed.ports.as_deref())?;
        let mut instances: BTreeMap<u16, Box<dyn Protocol>> = BTreeMap::new();
        let (mut tellers, together) = (Vec::new(), Together::default());
        let mut name = String::new();
        for worker in 0..place.workers {
            let setting = Setting {
                host: place.host,
                seed,
                worker,
                workers: place.workers,
                ports: &ports,
                together: &together,
                settings: listed.settings.clone(),
            };
            let part = kinds.make(&listed.kind, setting)?;
            part.protocol.name().clone_into(&mut name);
            self.keeps = self
                .keeps
                .saturating_add(if worker == 0 { part.keeps } else { 0 });
            tellers.push(part.figures);
            instances.insert(worker, part.protocol);
        }
        if self.figures.0.iter().any(|(other, _)| *other == name) {
            return Err(format!("there are two protocols with the name {name:?}"));
        }
        self.figures.0.push((name, tellers));
        let mut rights = Rights::default();
        if listed.ports.is_some() {
            rights = rights.ports(ports.iter().map(|port| port.index).collect::<Vec<_>>());
        }
        let make = move |worker| {
            instances
                .remove(&worker)
                .expect("each worker is asked for once, and there are as many as was said")
        };
        let others = std::mem::take(&mut self.protocols);
        self.protocols = others.with_rights(rights, make);
        Ok(())
    }
}

/// The ports of these names.
fn chosen(ports: &[HostPort], names: Option<&[String]>) -> Result<Vec<HostPort>, String> {
    let Some(names) = names else {
        return Ok(ports.to_vec());
    };
    if names.is_empty() {
        return Err("ports = []: name one at least, or leave it out for all".into());
    }
    let find = |name: &String| {
        let found = ports.iter().find(|port| port.name == *name);
        found.cloned().ok_or_else(|| {
            let known: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
            format!("ports: there is no port {name:?}, but {}", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use linecard_engine::Verdict;
    use linecard_engine::protocol::{Claim, Outbox, Packet};

    use super::*;
    use crate::Part;

    struct Named(&'static str);

    impl Protocol for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn claims(&self) -> Vec<Claim> {
            vec![Claim::rest()]
        }
        fn packet(&mut self, _: u64, _: Packet<'_>, _: &mut Outbox) -> Verdict {
            Verdict::Consume
        }
    }

    fn port(index: u16, name: &str) -> HostPort {
        HostPort {
            index,
            name: name.into(),
            mac: None,
            mtu: 1500,
        }
    }

    fn listed(text: &str) -> Listed {
        Listed::from_table("named", toml::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn each_worker_has_an_instance_and_its_figures_are_added_up() {
        let kinds = Kinds::new().with("named", |setting| {
            let (worker, workers) = (u64::from(setting.worker), u64::from(setting.workers));
            let port = u64::from(setting.port().index);
            assert_eq!((setting.ports.len(), setting.seed), (1, 9));
            let figures = move || vec![("sum".into(), 1 + worker), ("port".into(), port * workers)];
            Ok(Part::with_figures(Named("named"), figures).keeping(5))
        });
        let ports = [port(0, "left"), port(1, "right")];
        let place = Place {
            host: "host",
            workers: 3,
            ports: &ports,
        };
        let mut made = Made::default();
        let named = listed("ports = [\"right\"]");
        made.add(&kinds, &named, &place, 9).unwrap();
        assert_eq!(made.keeps, 5);
        let figures = vec![("sum".to_owned(), 6), ("port".to_owned(), 9)];
        assert_eq!(made.figures.tell(), [("named".to_owned(), figures)]);

        let error = made.add(&kinds, &named, &place, 9).unwrap_err();
        assert!(error.contains("two protocols with the name"), "{error}");
        for (text, said) in [
            (
                "ports = [\"middle\"]",
                "no port \"middle\", but left, right",
            ),
            ("ports = []", "name one at least"),
        ] {
            let error = Made::default()
                .add(&kinds, &listed(text), &place, 9)
                .unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let table = toml::from_str("ports = 7").unwrap();
        let error = Listed::from_table("named", table).unwrap_err();
        assert!(error.contains("[\"left\"]"), "{error}");
    }
}
