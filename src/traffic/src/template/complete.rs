//! What an expression leaves out, and flows.

use linecard_wire::MacAddr;
use linecard_wire::describe::{ETHERTYPE, Expression, Headers, IP_PROTOCOL, Value};

use super::Addresses;
use crate::fields::Vary;

/// Fills in headers and fields that are left out.
pub(super) fn complete(
    headers: &Headers,
    mut expression: Expression,
    addresses: Addresses,
) -> Expression {
    let names = |e: &Expression| -> Vec<&'static str> { e.headers().map(|h| h.name).collect() };
    let insert = |expression: &mut Expression, at, name| {
        if let Some(header) = headers.find(name) {
            expression.insert(at, header);
        }
    };
    if names(&expression).first() != Some(&"eth") {
        insert(&mut expression, 0, "eth");
    }
    // Behind Ethernet and its tags.
    let tags = names(&expression)
        .iter()
        .take_while(|name| matches!(**name, "eth" | "vlan"))
        .count();
    let next = expression.headers().nth(tags);
    match next {
        Some(next)
            if next.number_in(ETHERTYPE).is_none() && next.number_in(IP_PROTOCOL).is_some() =>
        {
            let ip = if next.name == "icmp6" { "ipv6" } else { "ipv4" };
            insert(&mut expression, tags, ip);
        }
        None if expression.data().is_empty()
            && expression.value(tags - 1, "ethertype").is_none() =>
        {
            insert(&mut expression, tags, "ipv4");
        }
        _ => {}
    }
    let last = names(&expression).len() - 1;
    let announces = match names(&expression)[last] {
        "ipv4" => Some("protocol"),
        "ipv6" => Some("next_header"),
        _ => None,
    };
    if let Some(field) = announces
        && expression.data().is_empty()
        && expression.value(last, field).is_none()
        && expression.value(last, "frag").is_none()
    {
        insert(&mut expression, last + 1, "udp");
    }
    fill_in(expression, addresses)
}

fn fill_in(mut expression: Expression, addresses: Addresses) -> Expression {
    let names: Vec<_> = expression.headers().map(|h| h.name).collect();
    let mut say = |layer: usize, field: &str, value: &[u8]| {
        if expression.value(layer, field).is_some() {
            return;
        }
        let number = value.iter().fold(0, |n, b| n << 8 | u64::from(*b));
        // An address or a number, whichever the field takes.
        let _ = expression
            .set(layer, field, Value::Bytes(value.to_vec()))
            .or_else(|| expression.set(layer, field, Value::Number(number)));
    };
    for (layer, name) in names.iter().enumerate() {
        match *name {
            "eth" => {
                say(layer, "src", &addresses.own.0);
                say(layer, "dst", &addresses.peer.0);
            }
            "arp" => {
                say(layer, "sender_mac", &addresses.own.0);
                say(layer, "sender_ip", &[198, 18, 0, 1]);
                say(layer, "target_ip", &[198, 19, 0, 1]);
            }
            "ipv4" => {
                say(layer, "src", &[198, 18, 0, 1]);
                say(layer, "dst", &[198, 19, 0, 1]);
            }
            "ipv6" => {
                let mut address = [0; 16];
                (address[0], address[1], address[3], address[15]) = (0x20, 0x01, 2, 1);
                say(layer, "src", &address);
                address[7] = 1;
                say(layer, "dst", &address);
            }
            // A header that follows is announced by the port.
            "udp" | "tcp" if layer + 1 == names.len() => {
                say(layer, "sport", &1024u16.to_be_bytes());
                say(layer, "dport", &9u16.to_be_bytes());
            }
            _ => {}
        }
    }
    expression
}

/// So many flows: source ports, then source addresses.
pub(super) fn flows(expression: &Expression, flows: u32) -> Result<Vary, String> {
    let names: Vec<_> = expression.headers().map(|h| h.name).collect();
    let label = |layer: usize, field| {
        let nth = names[..=layer]
            .iter()
            .filter(|n| **n == names[layer])
            .count();
        format!("{}#{nth}.{field}", names[layer])
    };
    let last = |wanted: &[&str]| names.iter().rposition(|name| wanted.contains(name));
    let number = |layer: usize, field| match expression.value(layer, field) {
        Some(Value::Number(number)) => u128::from(*number),
        Some(Value::Bytes(bytes)) => bytes.iter().fold(0, |n, b| n << 8 | u128::from(*b)),
        None => 0,
    };
    // So many addresses from the one that is there.
    let addresses = |count: u64| -> Result<(String, String, String), String> {
        let layer = last(&["ipv4", "ipv6"]).or_else(|| last(&["eth"]));
        let layer = layer.ok_or("a packet without addresses has no flows")?;
        let first = number(layer, "src");
        let (bits, text): (u32, fn(u128) -> String) = match names[layer] {
            "ipv4" => (32, |n| std::net::Ipv4Addr::from(n as u32).to_string()),
            "ipv6" => (128, |n| std::net::Ipv6Addr::from(n).to_string()),
            _ => (48, |n| {
                let [.., a, b, c, d, e, f] = n.to_be_bytes();
                MacAddr([a, b, c, d, e, f]).to_string()
            }),
        };
        let to = first + u128::from(count - 1);
        if bits < 128 && to >> bits != 0 {
            return Err(format!(
                "{flows} flows are more than there are addresses from {} on",
                text(first)
            ));
        }
        Ok((label(layer, "src"), text(first), text(to)))
    };
    let Some(layer) = last(&["udp", "tcp"]) else {
        let (field, from, to) = addresses(flows.into())?;
        return Ok(Vary::range(field, from, to));
    };
    let first = number(layer, "sport") as u64;
    let ports = u64::from(flows).min(65_536 - first.min(65_535));
    let more = u64::from(flows).div_ceil(ports);
    let then = if more > 1 {
        Some(addresses(more)?)
    } else {
        None
    };
    let ports = (label(layer, "sport"), first, first + ports - 1);
    Ok(Vary::flows(ports, then, flows.into()))
}
