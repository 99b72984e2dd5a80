//! A whole transport on a host: the handshake and what comes behind it, for a server that sends messages back.

use linecard_ferry::players::Receiver;
use linecard_ferry::transport::{Ferry, fit};
use linecard_ferry::{Config, Endpoint, Secret, headers};
use linecard_stack::IpHost;
use linecard_wire::describe::Headers;

use super::host::stack;

linecard_simnet::fuzz_protocol!(
    |_| IpHost::new(stack()).with(server()),
    headers(headers::add(Headers::standard())),
    packet("eth/ipv4/udp(sport=5000)/ferry/ferry_hello(from=0x77)/data(0x00*188)"),
    packet("eth/ipv6/ferry/ferry_hello(from=0x78)/data(0x00*188)"),
    packet("eth/ipv4/udp(sport=5000)/ferry(parts=ping)"),
    packet("eth/ipv4/udp(sport=5000)/ferry(parts=chunk)/ferry_chunk/data(0x0000000568656c6c6f)"),
    packet("eth/ipv4/udp(sport=5000)/ferry(parts=ack)/ferry_ack"),
    packet("eth/ipv4/udp(sport=5000)/ferry(parts=close)/ferry_close"),
    holds(stack().most_mbufs()),
);

/// Small, so that a short input fills its tables.
fn server() -> Ferry<Receiver> {
    let config = Config {
        connections: 4,
        half_open: 2,
        receive_window: 16 << 10,
        send_buffer: 16 << 10,
        message_len: 8 << 10,
        ..Config::default()
    };
    let endpoint = Endpoint::new(fit(config, &stack()), Secret::new([1; 16], 0), true);
    Ferry::new(endpoint, Receiver::new(true).0)
}
