//! Filters: which frames, in the language of tcpdump (`pcap-filter(7)`), with libpcap's meaning.
//!
//! ```
//! use linecard_traffic::filter::Filter;
//!
//! let dns: Filter = "udp port 53 and not net 10.0.0.0/8".parse()?;
//! assert!(!dns.matches(&[0; 60]));
//!
//! let error = "udp prot 53".parse::<Filter>().unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "expected \"and\", \"or\" or the end, not \"prot\"\n  udp prot 53\n      ^"
//! );
//! # Ok::<(), linecard_traffic::filter::FilterError>(())
//! ```
//!
//! | primitive | examples |
//! | --- | --- |
//! | protocol | `ip`, `ip6`, `arp`, `rarp`, `tcp`, `udp`, `sctp`, `icmp`, `icmp6`, `igmp`, `pim`, `ah`, `esp`, `vrrp` |
//! | by number | `ether proto 0x88cc`, `ip proto 47`, `ip6 proto 43`, `proto 17` |
//! | host | `host 10.0.0.1`, `src host fd00::1`, `arp host 10.0.0.1`, `ether src 02:00:00:00:00:01` |
//! | net | `net 10.0.0.0/8`, `dst net 10.1`, `net 10.0.0.0 mask 255.0.0.0`, `net fd00::/8` |
//! | port | `port 53`, `tcp dst port 80 or 443`, `udp src portrange 1024-65535` |
//! | tag | `vlan`, `vlan 7`: what stands behind it in the expression is looked for behind the tag |
//! | group | `broadcast`, `multicast`, `ip multicast`, `ip6 multicast` |
//! | length | `less 64`, `greater 1000`, `len > 128` |
//! | bytes | `tcp[tcpflags] & (tcp-syn\|tcp-fin) != 0`, `ip[8] < 3`, `ether[12:2] = 0x88cc` |
//!
//! `not` binds tightest; `and` and `or` bind alike, from the left. What libpcap's words mean is not always what one
//! expects, and is kept:
//! - `port 53` does not match the later fragments of a datagram, nor TCP and UDP behind extension headers of IPv6;
//!   `udp` does match those fragments.
//! - `udp`, `ip` and all others do not match a tagged frame, unless `vlan` stands in front of them.
//! - `host 10.0.0.1` matches ARP that asks for it as well.
//! - `tcp[…]`, `udp[…]` and `icmp[…]` look at IPv4 only.
//! - A frame that ends before a byte that has to be looked at does not match the expression at all, `not` or not.
//!
//! Not to be had are names of hosts, networks and services, `gateway`, `protochain`, LLC, MPLS, PPPoE and what only other
//! links than Ethernet have. A filter is compiled once; a frame then goes through a list of checks, each of which says which is next,
//! always forward: no allocation, no recursion but that of arithmetic as deep as it was written, no loop.

mod compile;
mod lex;
mod meaning;
mod parse;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use linecard_engine::tap::{HEAD_BYTES, Select, head_of, tagged_len};
use linecard_hal::Mbuf;

use compile::Program;

/// Which frames are wanted. The empty text wants all.
#[derive(Debug, Clone)]
pub struct Filter {
    text: String,
    program: Program,
}

impl Filter {
    /// Whether it wants a frame, which is all there.
    #[inline]
    pub fn matches(&self, frame: &[u8]) -> bool {
        self.matches_cut(frame, frame.len() as u32)
    }

    /// Whether it wants a frame of which only the beginning is there, and which is so long.
    #[inline]
    pub fn matches_cut(&self, frame: &[u8], len: u32) -> bool {
        self.program.run(frame, len).unwrap_or(false)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let tree = parse::parse(text)?;
        Ok(Self {
            text: text.to_owned(),
            program: Program::new(tree.as_ref()),
        })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Select for Filter {
    fn select(&self, frames: &[Mbuf], wanted: &mut [bool]) {
        let mut scratch = [0; HEAD_BYTES];
        for (frame, wanted) in frames.iter().zip(wanted) {
            let len = tagged_len(frame) as u32;
            *wanted = self.matches_cut(head_of(frame, &mut scratch), len);
        }
    }
}

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// The expression.
    pub text: String,
    /// The byte at which it goes wrong.
    pub at: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.text.get(..self.at).map_or(0, |s| s.chars().count());
        let line = self.text.replace(['\n', '\t', '\r'], " ");
        write!(f, "{}\n  {line}\n  {:before$}^", self.what, "")
    }
}

impl std::error::Error for FilterError {}
