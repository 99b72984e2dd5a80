//! The table of the headers that are known.

use alloc::vec::Vec;

use super::{Description, Header, standard};

/// The headers that are known: those of this crate, and yours.
///
/// ```
/// use linecard_wire::describe::Headers;
///
/// let headers = Headers::standard();
/// assert_eq!(headers.find("udp").map(|udp| udp.fixed_len()), Some(8));
/// assert_eq!(headers.announced_by("ethertype", 0x0806).map(|header| header.name), Some("arp"));
/// ```
#[derive(Clone, Debug)]
pub struct Headers {
    list: Vec<&'static Description>,
}

impl Headers {
    /// Those of this crate.
    pub fn standard() -> Self {
        Self {
            list: standard::ALL.to_vec(),
        }
    }

    /// These and that of `H`, which comes before others of the same name or number.
    pub fn with<H: Header>(mut self) -> Self {
        self.add(H::DESCRIPTION);
        self
    }

    /// Adds a header, which comes before others of the same name or number.
    pub fn add(&mut self, header: &'static Description) {
        self.list.insert(0, header);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &'static Description> {
        self.list.iter().copied()
    }

    /// The one of this name.
    pub fn find(&self, name: &str) -> Option<&'static Description> {
        self.iter().find(|header| header.name == name)
    }

    /// The one that this number announces.
    pub fn announced_by(&self, space: &str, value: u64) -> Option<&'static Description> {
        self.iter().find(|header| {
            let mut under = header.under.iter();
            under.any(|under| under.space == space && under.value == value)
        })
    }
}
