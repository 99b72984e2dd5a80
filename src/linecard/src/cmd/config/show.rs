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
    /// Where its frames leave; itself if it is in no pair.
    partner: String,
    peer: String,
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
        let partners = config.partners.iter().map(|partner| {
            let port = config.ports.get(usize::from(*partner));
            port.map_or_else(String::new, |port| port.name.clone())
        });
        let ports = config.ports.iter().zip(partners).zip(config.peers());
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
        }
    }

    /// As two tables.
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
                port.partner.clone().into(),
                port.peer.clone().into(),
                port.origin.to_string().into(),
            ]);
        }
        format!("{}\n{}", settings.render(paint), ports.render(paint))
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
