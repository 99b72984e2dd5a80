//! Headers from structs: write down the fields, and get everything else.
//!
//! ```
//! use linecard_derive::Header;
//! use linecard_wire::describe::{Header as _, Headers};
//!
//! /// Asks a sensor for its readings, and answers.
//! #[derive(Header, Clone, Debug, PartialEq)]
//! #[header(crate = linecard_wire, udp_port = 4919)]
//! pub struct Probe<'a> {
//!     #[field(bits = 4, constant = 1)]
//!     version: u8,
//!     #[field(bits = 4, values(request = 1, reply = 2))]
//!     kind: u8,
//!     /// Length of the tags.
//!     #[field(len = "tags")]
//!     tags_len: u8,
//!     #[field(checksum = "internet")]
//!     checksum: u16,
//!     /// Which sensor.
//!     #[field(key)]
//!     sensor: u32,
//!     tags: &'a [u8],
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Write it in front of a payload that is there already; constants and lengths are filled in.
//! let mut buf = *b"............21.5";
//! let probe = Probe { kind: Probe::KIND_REPLY, sensor: 7, tags: b"cool", ..Default::default() };
//! assert_eq!(probe.header_len(), 12);
//! probe.emit(&mut buf, 4)?.fill_checksum();
//!
//! // Read it: checked once, without a copy.
//! let view = ProbeView::parse(&buf)?;
//! assert_eq!((view.kind(), view.sensor(), view.payload()), (Probe::KIND_REPLY, 7, &b"21.5"[..]));
//! assert!(view.checksum_ok());
//! assert_eq!(view.key(), ProbeKey { sensor: 7 });
//!
//! // See it, write it by hand in a script, read it in Wireshark: all from `Probe::DESCRIPTION`.
//! let headers = Headers::standard().with::<Probe<'_>>();
//! let text = headers.dissect("probe", &buf).to_string();
//! assert_eq!(text, "probe(kind=reply, sensor=7, tags=0x636f6f6c)/data(\"21.5\")");
//! let packet = headers.expression("ipv4(dst=10.0.0.2)/udp/probe(kind=request, sensor=9)")?.to_bytes()?;
//! assert_eq!(&packet[22..24], &4919_u16.to_be_bytes());
//! # Ok(())
//! # }
//! ```
//!
//! In front of a packet in an mbuf it is the same, in the headroom:
//! `mbuf.prepend(header.header_len())`, then `header.emit(mbuf.data_mut()?, payload_len)`.
//!
//! # What is made
//!
//! For a struct `Probe`:
//!
//! | item | what it is |
//! | --- | --- |
//! | `ProbeView<'a>` | `parse(bytes)` checks lengths and constants once; then an accessor for each field, `payload()`, `header_len()`, `checksum_ok()`. No bytes whatever make it panic. |
//! | `ProbeMut<'a>` | the same to change bytes in place: `set_…`, `payload_mut()`, `fill_checksum()` |
//! | `probe.emit(buf, payload_len)` | writes the header and gives a `ProbeMut`; `header_len()` says how much room it takes |
//! | `Probe::default()` | constants and defaults, zero for all other fields |
//! | `Probe::from(view)` | all values |
//! | `ProbeKey`, `view.key()` | the fields that name a flow, if some are marked `key`; `to_bytes()` |
//! | `Probe::KIND_REPLY` | a constant for every value that has a name |
//! | `Probe::DESCRIPTION` | the table of fields, `linecard_wire::describe::Description` |
//!
//! What the struct itself holds in constants, lengths and checksums is not looked at when it is written. The view
//! does not check the checksum by itself: `checksum_ok()` does.
//!
//! # Fields
//!
//! They follow one another as on the wire, without gaps, first bit first, and fill whole bytes in the end. Types are
//! `u8` to `u64` in network byte order, `bool` for one bit, `[u8; N]`, `MacAddr`, `Ipv4Addr`, `Ipv6Addr`. Fields whose
//! length varies are `&'a [u8]`, come after all others, and have a length somewhere before. What follows the header
//! needs no field: it is the payload.
//!
//! | `#[field(…)]` | meaning |
//! | --- | --- |
//! | `bits = 4` | so many bits of a number; they may cross bytes |
//! | `little` | the least significant byte first |
//! | `constant = 0x4c43` | always this value; anything else is refused by `parse` |
//! | `default = 64` | what it is if nobody says |
//! | `values(request = 1, reply = 2)` | names for values |
//! | `flags(more = 0x1, last = 0x2)` | names for bits |
//! | `hex` | prints to the base of sixteen |
//! | `key` | is part of the flow key |
//! | `len = "header"`, `"payload"`, `"all"`, `"tags"` | how long that is, in bytes or in pieces of `unit = 4` bytes (what varies is then filled up with zeros); `"all"` is header and payload |
//! | `checksum = "internet"`, `"crc32"`, `"crc32c"` | over header and payload, or with `covers = "header"` the header alone; with `pseudo = 17` an IP pseudo header of that protocol comes first |
//! | `selects = "ethertype"` | says what the payload is: an `ethertype`, `ip_protocol`, `udp_port`, `tcp_port`, or numbers of its own, by the name `"probe.kind"` |
//! | `name = "type"` | another name in scripts |
//!
//! | `#[header(…)]` | meaning |
//! | --- | --- |
//! | `udp_port = 4919`, `tcp_port`, `ip_protocol`, `ethertype` | what announces the header |
//! | `under("probe.kind" = 2)` | that a field of another header announces it, which `selects = "probe.kind"` |
//! | `payload = "ipv4"`, `no_payload` | always this header follows, or nothing |
//! | `name = "probe"` | what scripts call it; otherwise the struct's name in small letters |
//! | `crate = linecard_wire` | where to find `linecard-wire`, if not at `linecard::wire` |
//!
//! Mistakes are errors of the compiler that name the field and what would help:
//!
//! ```compile_fail
//! #[derive(linecard_derive::Header)]
//! #[header(crate = linecard_wire)]
//! struct Probe {
//!     #[field(bits = 4)]
//!     version: u8, // error: `version`: the fixed part ends within a byte, after 4 bits;
//! }                //        add `#[field(bits = 4)] reserved: u8`
//! ```

mod check;
mod emit;
mod model;
mod read;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes views, a writer, a flow key and a description of a struct of fields. See [the crate](crate).
#[proc_macro_derive(Header, attributes(header, field))]
pub fn derive_header(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// As [`derive_header`], where no compiler is needed.
fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    let mut model = read::model(input)?;
    check::lay_out(&mut model)?;
    Ok(emit::all(&model))
}
