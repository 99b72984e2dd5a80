//! The kinds of protocols that files can name.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;

use linecard_engine::protocol::Protocol;
use linecard_engine::{PortIndex, WorkerIndex};
use linecard_wire::MacAddr;
use linecard_wire::describe::Headers;
use serde::de::DeserializeOwned;

use super::usual;

/// Tells a protocol's figures, by name.
pub(super) type Teller = Box<dyn Fn() -> Vec<(String, u64)>>;

/// One worker's instance of a protocol, and what it says of itself.
pub struct Part {
    pub(super) protocol: Box<dyn Protocol>,
    pub(super) figures: Teller,
    pub(super) keeps: u32,
}

impl Part {
    /// A protocol that says nothing.
    pub fn new(protocol: impl Protocol + 'static) -> Self {
        Self {
            protocol: Box::new(protocol),
            figures: Box::new(Vec::new),
            keeps: 0,
        }
    }

    /// A protocol, and what tells its figures at the end.
    pub fn with_figures(
        protocol: impl Protocol + 'static,
        figures: impl Fn() -> Vec<(String, u64)> + 'static,
    ) -> Self {
        Self {
            protocol: Box::new(protocol),
            figures: Box::new(figures),
            keeps: 0,
        }
    }

    /// It keeps up to so many of its worker's mbufs, for which the pool then has room.
    pub fn keeping(mut self, mbufs: usize) -> Self {
        self.keeps = u32::try_from(mbufs).unwrap_or(u32::MAX);
        self
    }
}

/// A port of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Its place among the host's ports: what a protocol sends by.
    pub index: PortIndex,
    /// What files call it.
    pub name: String,
    /// Its own Ethernet address, if it has one.
    pub mac: Option<MacAddr>,
    /// Its longest layer-3 packet.
    pub mtu: u32,
}

/// What a file says of a protocol, and what is known of where it runs. A kind makes a [`Part`] for each worker.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The host's name.
    pub host: &'a str,
    /// For dice of its own, the same for all workers: in a simulation from its seed, elsewhere from the system's
    /// random numbers.
    pub seed: u64,
    /// The worker that this instance is for.
    pub worker: WorkerIndex,
    /// How many workers there are.
    pub workers: u16,
    /// The ports that it may use: those that the file names for it, or all of the host's. One at least.
    pub ports: &'a [HostPort],
    /// Where [`each`](Self::each) keeps what is for other workers.
    pub together: &'a Together,
    /// The keys beside `kind` and `ports`.
    pub settings: toml::Table,
}

impl Setting<'_> {
    /// The first of its ports, for a protocol that has one.
    pub fn port(&self) -> &HostPort {
        &self.ports[0]
    }

    /// The keys, as a type that knows them.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, String> {
        self.look()
    }

    /// The same, and the setting is still there.
    pub fn look<T: DeserializeOwned>(&self) -> Result<T, String> {
        let keys = self.settings.clone();
        keys.try_into()
            .map_err(|error: toml::de::Error| error.message().to_owned())
    }

    /// This worker's of what is made for all workers together, for the first of them.
    pub fn each<T: 'static>(
        &self,
        make: impl FnOnce(u16) -> Result<Vec<T>, String>,
    ) -> Result<T, String> {
        let mut together = self.together.0.borrow_mut();
        if together.is_none() {
            let all: Vec<_> = make(self.workers)?.into_iter().map(Some).collect();
            *together = Some(Box::new(all));
        }
        let all = together
            .as_mut()
            .and_then(|all| all.downcast_mut::<Vec<Option<T>>>());
        all.and_then(|all| all.get_mut(usize::from(self.worker))?.take())
            .ok_or_else(|| format!("there is nothing for worker {}", self.worker))
    }
}

/// What the instances of one protocol have together, while they are made.
#[derive(Default)]
pub struct Together(RefCell<Option<Box<dyn Any>>>);

impl std::fmt::Debug for Together {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Together")
    }
}

type Make = Box<dyn Fn(Setting<'_>) -> Result<Part, String> + Send + Sync>;

/// The kinds of protocols that files can name: scenarios, scripts and what `linecard run` reads. Add your own
/// with [`with`](Self::with).
pub struct Kinds {
    kinds: BTreeMap<&'static str, Make>,
    headers: Headers,
}

impl Default for Kinds {
    fn default() -> Self {
        Self::new()
    }
}

impl Kinds {
    /// `echo`, `probe` and `ask` ([`players`](crate::players)), and `host` ([`IpHost`](linecard_stack::IpHost)).
    pub fn new() -> Self {
        let none = Self {
            kinds: BTreeMap::new(),
            headers: Headers::standard(),
        };
        none.with_headers(Headers::standard())
            .with("echo", usual::echo)
            .with("host", usual::host)
            .with("probe", usual::probe)
    }

    /// Adds a kind, or replaces it.
    pub fn with(
        mut self,
        name: &'static str,
        make: impl Fn(Setting<'_>) -> Result<Part, String> + Send + Sync + 'static,
    ) -> Self {
        self.kinds.insert(name, Box::new(make));
        self
    }

    /// The headers that scripts, and `ask`, can name, and that are found in packets, instead of the
    /// [standard](Headers::standard) ones.
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.headers = headers.clone();
        self.with("ask", move |setting| usual::ask(setting, &headers))
    }

    /// The headers that scripts can name.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.keys().copied()
    }

    pub(super) fn make(&self, kind: &str, setting: Setting<'_>) -> Result<Part, String> {
        let make = self.kinds.get(kind).ok_or_else(|| {
            let known: Vec<_> = self.names().collect();
            format!("there is no such kind, but {}", known.join(", "))
        })?;
        make(setting)
    }
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
