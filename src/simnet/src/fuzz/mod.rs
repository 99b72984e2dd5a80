//! Fuzzing a protocol: whatever bytes a fuzzer comes up with become packets that get past the demultiplexer, and time.
//!
//! One line puts a protocol under it. It makes a function `fuzz(&[u8])`, which panics if something does not hold:
//!
//! ```
//! use linecard_simnet::players::Echo;
//!
//! linecard_simnet::fuzz_protocol!(|_| Echo::new(7));
//!
//! // What libFuzzer does, a million times: `fuzz_target!(|data: &[u8]| fuzz(data))`.
//! # fn main() {
//! fuzz(b"any bytes");
//! # }
//! ```
//!
//! In this repository that line is a file in `src/fuzz/fuzz_targets`, and `scripts/fuzz NAME` runs it.
//!
//! # What the bytes mean
//!
//! They are a list of steps, on virtual time, for a host that runs the protocol on one port:
//!
//! | step | what happens |
//! | --- | --- |
//! | a packet | one that the protocol [claims](linecard_engine::protocol::Protocol::claims), or one that was [given](Subject::packet) |
//! | an answer | a packet that the protocol has sent, turned round: what it waits for, so that handshakes can be got past |
//! | again | a packet that it was sent before |
//! | time | to the next deadline, or for a nanosecond to half an hour |
//! | starvation | the host's pool has no mbufs left, or nearly none; or all of them again |
//!
//! Each packet comes as it is or changed: fields of its [described](linecard_wire::describe) headers get values at
//! their edges, values with a name, values near to the old one, or values of fields in packets that the protocol has
//! sent; headers are added, doubled and taken out; payloads are made, cut, changed, taken from packets of the
//! protocol's, or are a packet themselves. After that lengths and checksums are filled in. Half of the packets leave
//! so; in the others some bytes change behind that. Packets can come in bursts.
//!
//! # What has to hold
//!
//! 1. No method of the protocol panics.
//! 2. At each point in time the host comes to rest.
//! 3. At rest the protocol [holds](Subject::holds) no more mbufs than it says: none, if nothing is said.
//! 4. What it sends has headers that agree with one another.
//! 5. At the end every frame and every mbuf is accounted for.
//!
//! What does not hold is a panic with the run as a [packet script](crate::script): what the host was sent and what it
//! sent. With `LINECARD_FUZZ_TRACE=1` in the environment the lines are printed as they happen, for what gives nobody the
//! time to panic.

mod choices;
mod craft;
mod drive;
mod packets;
#[cfg(test)]
mod tests;
mod trace;

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::{Arc, Once, OnceLock};

use linecard_engine::WorkerIndex;
use linecard_engine::protocol::Protocol;
use linecard_engine::topology::Topology;
use linecard_wire::describe::{Expression, Headers};

use crate::error::SimError;
use drive::Run;
use trace::Trace;

/// Packets begin with this header.
const FIRST: &str = "eth";
/// The longest frame.
const LONGEST: usize = 1514;

type Factory = Arc<dyn Fn(WorkerIndex) -> Box<dyn Protocol> + Send + Sync>;
type Seal = Box<dyn Fn(&mut [u8]) + Send + Sync>;

/// What is fuzzed: a protocol, what runs beside it, and what is worth sending to it. See the [module](self).
pub struct Subject {
    make: Vec<Factory>,
    headers: Headers,
    given: Vec<String>,
    holds: usize,
    seal: Option<Seal>,
    topology: Topology,
    templates: OnceLock<Vec<Expression>>,
}

/// How a run that held went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    /// Packets that the host was sent.
    pub sent: usize,
    /// Packets that it sent.
    pub heard: usize,
}

/// What did not hold.
#[derive(Debug, Clone)]
pub struct Broken {
    /// What.
    pub what: String,
    /// How it came to that: a [packet script](crate::Script) but for its `run` lines. In one burst packets came one
    /// behind the other, which a script does not say.
    pub script: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.what, self.script)
    }
}

impl Subject {
    /// A protocol by itself; `make` makes an instance for each run.
    pub fn new<P: Protocol + 'static>(
        make: impl Fn(WorkerIndex) -> P + Send + Sync + 'static,
    ) -> Self {
        let subject = Self {
            make: Vec::new(),
            headers: Headers::standard(),
            given: Vec::new(),
            holds: 0,
            seal: None,
            // Described, so that nothing of this machine matters.
            topology: Topology::synthetic("core:1 pu:1").expect("the description is right"),
            templates: OnceLock::new(),
        };
        subject.beside(make)
    }

    /// Another protocol at its side, which is sent packets as well.
    pub fn beside<P: Protocol + 'static>(
        mut self,
        make: impl Fn(WorkerIndex) -> P + Send + Sync + 'static,
    ) -> Self {
        self.make
            .push(Arc::new(move |worker| Box::new(make(worker))));
        self
    }

    /// The headers that packets have, instead of the [standard](Headers::standard) ones.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// A packet to begin from, as an [expression](linecard_wire::describe#the-language), beside those that follow from the
    /// claims. The host is 02:00:00:00:00:02, 10.0.0.2 and fd00::2, its peer 02:00:00:00:00:01, 10.0.0.1 and fd00::1.
    pub fn packet(mut self, text: impl Into<String>) -> Self {
        self.given.push(text.into());
        self
    }

    /// How many mbufs the protocols may hold while they wait for time to pass or for packets.
    pub fn holds(mut self, mbufs: usize) -> Self {
        self.holds = mbufs;
        self
    }

    /// Puts right what no description can, in what follows UDP, TCP, or the IP header of other protocols: a checksum of the
    /// protocol's own, say.
    pub fn seal(mut self, seal: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Self {
        self.seal = Some(Box::new(seal));
        self
    }

    /// Runs one input, and panics with [what did not hold](Broken).
    ///
    /// # Panics
    /// If something does not hold; if a given packet makes no sense, or the protocols cannot run together.
    pub fn run(&self, data: &[u8]) {
        match self.check(data) {
            Ok(Ok(_)) => {}
            Ok(Err(broken)) => panic!("{broken}"),
            Err(error) => panic!("this cannot be fuzzed: {error}"),
        }
    }

    /// Runs one input.
    ///
    /// # Errors
    /// The protocols cannot run, together or at all.
    pub fn check(&self, data: &[u8]) -> Result<Result<Tried, Broken>, SimError> {
        let run = Run::new(self)?;
        let mut trace = Trace::new();
        let ended = contained(|| run.run(data, &mut trace));
        Ok(ended.map_err(|what| Broken {
            what,
            script: trace.script(&self.headers),
        }))
    }

    /// The packets to begin from.
    fn templates(&self) -> &[Expression] {
        self.templates.get_or_init(|| {
            let claims = self.make.iter().flat_map(|make| make(0).claims());
            let claims: Vec<_> = claims.collect();
            let given = self.given.iter();
            let mut all: Vec<_> = given.map(|text| expression(&self.headers, text)).collect();
            all.extend(packets::of_claims(&claims, &self.headers));
            all
        })
    }
}

fn expression(headers: &Headers, text: &str) -> Expression {
    match headers.expression(text) {
        Ok(packet) => packet,
        Err(error) => panic!("{text}: {error}"),
    }
}

thread_local! {
    /// While a run is on: where the first panic was, and what it said.
    static FIRST_PANIC: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

/// Cheaper to ask than the engine.
fn may_have_panicked() -> bool {
    FIRST_PANIC.with_borrow(|first| !matches!(first, Some(None)))
}

/// Runs it without letting panics be noticed by anybody else: the engine contains those of a protocol, and libFuzzer
/// would end the process at once, with nothing said of how it came to that.
fn contained<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let outer = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let taken = FIRST_PANIC.try_with(|first| match &mut *first.borrow_mut() {
                None => false,
                Some(first) => {
                    first.get_or_insert_with(|| info.to_string());
                    true
                }
            });
            if !matches!(taken, Ok(true)) {
                outer(info);
            }
        }));
    });
    FIRST_PANIC.set(Some(None));
    let ended = catch_unwind(AssertUnwindSafe(run));
    let first = FIRST_PANIC.take().flatten();
    match (ended, first) {
        (Ok(Ok(done)), _) => Ok(done),
        (Ok(Err(what)), None) => Err(what),
        (Ok(Err(what)), Some(first)) => Err(format!("{what}\n# {}", first.replace('\n', "\n# "))),
        (Err(_), Some(first)) => Err(first.replace('\n', "\n# ")),
        (Err(panic), None) => panic_any(panic),
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self
            .make
            .iter()
            .map(|make| make(0).name().to_owned())
            .collect();
        f.debug_tuple("Subject").field(&names).finish()
    }
}

/// Makes a function `fuzz(&[u8])` of what makes a protocol, and maybe of what else is to be said of it: the methods of
/// [`Subject`](crate::fuzz::Subject).
///
/// ```
/// # use linecard_simnet::players::Echo;
/// linecard_simnet::fuzz_protocol!(
///     |_| Echo::new(7),
///     packet("eth(dst=02:00:00:00:00:02)/ipv4(dst=10.0.0.2)/udp(dport=7)/data(\"hello\")"),
///     holds(0),
/// );
/// # fn main() {
/// fuzz(b"\0\0\0");
/// # }
/// ```
#[macro_export]
macro_rules! fuzz_protocol {
    ($make:expr $(, $option:ident ( $($value:expr),* ))* $(,)?) => {
        /// Runs one input; panics if something does not hold.
        pub fn fuzz(data: &[u8]) {
            static SUBJECT: ::std::sync::OnceLock<$crate::fuzz::Subject> =
                ::std::sync::OnceLock::new();
            SUBJECT
                .get_or_init(|| $crate::fuzz::Subject::new($make)$(.$option($($value),*))*)
                .run(data);
        }
    };
}
