//! Requests and answers over UDP: frames that are refused, and versions.

use linecard_calls::{PORT, Server, demonstration, headers};
use linecard_engine::protocol::Claim;
use linecard_wire::describe::Headers;

linecard_simnet::fuzz_protocol!(
    |_| Server::new(demonstration(1, 2), vec![Claim::udp(PORT)]),
    headers(headers(Headers::standard())),
);
