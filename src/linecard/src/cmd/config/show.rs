//! `linecard config show`: every value that will be used, and where it comes from.

use serde::Serialize;
use serde_json::Value;

use super::keys::KEYS;
use super::load::Config;
use super::problem::Place;
use crate::cmd::table::{Cell, Paint, Table, Tone};

/// A configuration as it will be used.
#[derive(Debug, Serialize)]
pub struct Shown {
    file: String,
    settings: Vec<Setting>,
    ports: Vec<Port>,
    protocols: Vec<Protocol>,
}

#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    value: Value,
    origin: Place,
    variable: String,
    #[serde(skip)]
    unset: &'static str,
}

#[derive(Debug, Serialize)]
struct Port {
    name: String,
    open: String,
    /// Where its frames leave; itself if it is in no pair, and nothing if protocols decide.
    partner: Option<String>,
    peer: String,
    origin: Place,
}

#[derive(Debug, Serialize)]
struct Protocol {
    kind: String,
    /// The ports that it may use.
    ports: Vec<String>,
    settings: toml::Table,
    origin: Place,
}

impl Shown {
    /// All of a configuration.
    pub fn new(config: &Config) -> Self {
        let settings = KEYS
            .iter()
            .zip(&config.origins)
            .map(|(key, origin)| Setting {
                key: key.path(),
                value: (key.show)(&config.settings),
                origin: origin.clone(),
                variable: key.variable(),
                unset: key.unset,
            });
        let names = || config.ports.iter().map(|port| port.name.clone());
        let partners = (0..config.ports.len()).map(|port| {
            let partner = config.partners.get(port);
            partner.and_then(|partner| names().nth(usize::from(*partner)))
        });
        let ports = config.ports.iter().zip(partners).zip(config.peers());
        let protocols = config.protocols.iter().map(|protocol| Protocol {
            kind: protocol.value.kind.clone(),
            ports: protocol.value.ports.clone().unwrap_or(names().collect()),
            settings: protocol.value.settings.clone(),
            origin: protocol.place.clone(),
        });
        Self {
            file: config.file.clone(),
            settings: settings.collect(),
            ports: ports
                .map(|((port, partner), peer)| Port {
                    name: port.name.clone(),
                    open: port.open.clone(),
                    partner,
                    peer: peer.to_string(),
                    origin: port.place.clone(),
                })
                .collect(),
            protocols: protocols.collect(),
        }
    }

    /// As tables.
    pub fn render(&self, paint: Paint) -> String {
        let mut settings = Table::new(&["key", "value", "from", "variable"]);
        for setting in &self.settings {
            let value = match &setting.value {
                Value::Null => format!("({})", setting.unset),
                value => value.to_string(),
            };
            // What somebody chose stands out from what nobody touched.
            let tone = match setting.origin {
                Place::Default => Tone::Faint,
                _ => Tone::Plain,
            };
            settings.row([
                setting.key.clone().into(),
                Cell::toned(value, tone),
                Cell::toned(setting.origin.to_string(), tone),
                Cell::toned(setting.variable.clone(), Tone::Faint),
            ]);
        }
        let mut ports = Table::new(&["port", "opens", "forwards to", "peer", "from"]);
        for port in &self.ports {
            ports.row([
                port.name.clone().into(),
                port.open.clone().into(),
                port.partner
                    .clone()
                    .unwrap_or_else(|| "(protocols)".into())
                    .into(),
                port.peer.clone().into(),
                port.origin.to_string().into(),
            ]);
        }
        let mut text = format!("{}\n{}", settings.render(paint), ports.render(paint));
        if !self.protocols.is_empty() {
            text += &format!("\n{}", self.protocols().render(paint));
        }
        text
    }

    fn protocols(&self) -> Table {
        let mut table = Table::new(&["protocol", "ports", "settings", "from"]);
        for protocol in &self.protocols {
            let settings = protocol.settings.iter();
            let settings: Vec<_> = settings
                .map(|(key, value)| format!("{key} = {value}"))
                .collect();
            table.row([
                protocol.kind.clone().into(),
                protocol.ports.join(", ").into(),
                settings.join(", ").into(),
                protocol.origin.to_string().into(),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_says_where_it_is_from() {
        let text = "[[port]]\nname = \"a\"\nopen = \"null:0\"\npeer = \"02:00:00:00:00:99\"\n\
                    [engine]\nduration = \"90s\"\n";
        let variables = [("LINECARD_ENGINE_BURST".into(), "64".into())];
        let config = Config::parse("f.toml", text, variables).expect("a configuration");
        let shown = Shown::new(&config);
        let table = shown.render(Paint::Never);
        let row = |key: &str| {
            let row = table.lines().find(|line| line.starts_with(key));
            row.unwrap_or_else(|| panic!("no {key} in\n{table}"))
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            row("engine.burst"),
            "engine.burst 64 LINECARD_ENGINE_BURST LINECARD_ENGINE_BURST"
        );
        assert!(row("engine.duration").contains("\"1m 30s\" line 6"));
        assert!(row("engine.packets").contains("(no limit) default"));
        assert_eq!(row("a "), "a null:0 a 02:00:00:00:00:99 line 1");
        let json = serde_json::to_value(&shown).expect("JSON");
        assert_eq!(json["settings"].as_array().map(Vec::len), Some(KEYS.len()));
        assert_eq!(json["settings"][4]["origin"], "LINECARD_ENGINE_BURST");
        assert_eq!(json["ports"][0]["origin"], "line 1");
    }
}
