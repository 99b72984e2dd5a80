//! `linecard dissector`: a described header in Wireshark.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use linecard::wire::describe::lua::Dissector;
use linecard::wire::describe::{
    Description, ETHERTYPE, IP_PROTOCOL, TCP_PORT, UDP_PORT, Under, standard,
};
use serde::Serialize;

use super::headers::known;
use super::table::{Paint, Table};

/// Writes dissectors for Wireshark.
#[derive(Args, Debug)]
#[command(
    about = "Write a Wireshark dissector of a header, in Lua",
    long_about = "Write a Wireshark dissector of a header, in Lua.\n\n\
        The dissector shows every field with its names, and says which constants, lengths and \
        checksums are wrong. Filters work on its fields: sensor.kind == 2. It hooks in where the \
        header's description says, or only at the numbers that are given here. Of messages in a \
        TCP stream it finds the ends, if the header has a length.\n\n\
        A header of Wireshark's own, such as udp, is called linecard_udp here: the two then show \
        the same packets in two ways.\n\n\
        For a header of a program of yours, let that program print \
        linecard::wire::describe::lua::Dissector::of(YourHeader::DESCRIPTION).",
    after_help = "Examples:\n  \
        linecard dissector --list                                 what there is\n  \
        linecard dissector sensor > sensor.lua\n  \
        tshark -X lua_script:sensor.lua -V -r trace.pcap          in the terminal\n  \
        tshark -X lua_script:sensor.lua -r trace.pcap -Y 'sensor.kind == 2' -T fields -e sensor.id\n  \
        wireshark -X lua_script:sensor.lua trace.pcap\n  \
        cp sensor.lua ~/.local/lib/wireshark/plugins/             from now on, always\n  \
        linecard dissector sensor --udp-port 5000 --ethertype 0x88b5 > sensor.lua"
)]
pub struct DissectorArgs {
    /// The header, as packet expressions call it: see --list
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// List the headers, and where their dissectors hook in
    #[arg(long, conflicts_with = "name")]
    list: bool,
    /// With --list: print one JSON array instead of a table
    #[arg(long, conflicts_with = "name")]
    json: bool,
    /// Hook in at this UDP port; may be given several times
    #[arg(long, value_name = "PORT")]
    udp_port: Vec<u16>,
    /// Hook in at this TCP port
    #[arg(long, value_name = "PORT")]
    tcp_port: Vec<u16>,
    /// Hook in at this IP protocol number
    #[arg(long, value_name = "NUMBER")]
    ip_protocol: Vec<u8>,
    /// Hook in at this EtherType, such as 0x88b5
    #[arg(long, value_name = "NUMBER", value_parser = ethertype)]
    ethertype: Vec<u16>,
}

/// Runs it.
pub fn run(args: &DissectorArgs) -> anyhow::Result<ExitCode> {
    let text = match &args.name {
        Some(name) => lua(name, args.hooks())?,
        None if args.json => {
            let list: Vec<Listed> = known().iter().map(Listed::new).collect();
            serde_json::to_string_pretty(&list)? + "\n"
        }
        None => list(Paint::for_stdout()),
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

impl DissectorArgs {
    /// The numbers that were given.
    fn hooks(&self) -> Vec<Under> {
        let under = |space, value: u64| Under { space, value };
        let mut hooks = Vec::new();
        hooks.extend(
            self.udp_port
                .iter()
                .map(|port| under(UDP_PORT, (*port).into())),
        );
        hooks.extend(
            self.tcp_port
                .iter()
                .map(|port| under(TCP_PORT, (*port).into())),
        );
        hooks.extend(
            self.ip_protocol
                .iter()
                .map(|number| under(IP_PROTOCOL, (*number).into())),
        );
        hooks.extend(
            self.ethertype
                .iter()
                .map(|number| under(ETHERTYPE, (*number).into())),
        );
        hooks
    }
}

/// The dissector of a header.
fn lua(name: &str, hooks: Vec<Under>) -> anyhow::Result<String> {
    let headers = known();
    let Some(header) = headers.find(name) else {
        let names: Vec<&str> = headers.iter().map(|header| header.name).collect();
        bail!(
            "there is no header '{name}'; there are {}; see linecard dissector --list",
            names.join(", ")
        );
    };
    if header.under.is_empty() && hooks.is_empty() {
        bail!(
            "nothing announces '{name}', so say where to look for it: linecard dissector {name} --udp-port 5000 \
             (or --tcp-port, --ip-protocol, --ethertype)"
        );
    }
    let mut dissector = Dissector::of(header);
    if standard::ALL.contains(&header) {
        dissector = dissector.filter(&format!("linecard_{name}"));
    }
    if !hooks.is_empty() {
        dissector = dissector.under(hooks);
    }
    Ok(dissector.to_string())
}

/// A header in the list.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    title: &'static str,
    /// `udp_port 4919`
    hooks: Vec<String>,
    fields: Vec<&'static str>,
}

impl Listed {
    fn new(header: &'static Description) -> Self {
        let hook = |under: &Under| match under.space {
            ETHERTYPE => format!("ethertype {:#06x}", under.value),
            space => format!("{space} {}", under.value),
        };
        Self {
            name: header.name,
            title: header.title(),
            hooks: header.under.iter().map(hook).collect(),
            fields: header.fields.iter().map(|field| field.name).collect(),
        }
    }
}

fn list(paint: Paint) -> String {
    let mut table = Table::new(&["name", "hooks in at", "what it is"]);
    for listed in known().iter().map(Listed::new) {
        table.row([
            listed.name.into(),
            listed.hooks.join(", ").into(),
            listed.title.into(),
        ]);
    }
    table.render(paint)
}

/// A number, decimal or hexadecimal.
fn ethertype(text: &str) -> Result<u16, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "an EtherType is a number from 0x0600 to 0xffff, such as 0x88b5".into())
}
