//! What every driver has to do: one set of tests over the port traits, whatever is behind them.
//!
//! ```text
//!   case ─► bench ─► port under test ═══ wire ═══ rig: the far end ─► case
//!           (pool, books)                         (injects, collects, unplugs)
//! ```
//!
//! A [`Rig`] knows how one driver's port is made and what is at its other end; a [`Case`] knows what a port
//! must do. Each case starts with a rig and a port of its own, and ends when every mbuf is home and the
//! queues' statistics say what the far end has seen. A driver passes when no case fails; what a rig cannot
//! do (a capture file has no link to lose) it says with a reason, and the reason stands in the table.
//!
//! | module | what it has |
//! | --- | --- |
//! | [`rig`] | what a driver's author writes: how to open a port, and its far end |
//! | [`cases`] | the cases, in the order of the table |
//! | [`mod@bench`] | a port that runs, its pool, and the books that have to balance |
//! | [`far`] | a far end that is a port itself |
//! | [`frame`], [`wire`] | frames that can be told apart, and what an mbuf is on a wire |
//! | [`table`] | the table, driver by case |
//!
//! It is a crate of its own, not a module of `linecard-hal`, because it needs the reference code of
//! `linecard-wire` (what a checksum, a tag and a segment have to be), on which the ground floor must not depend.
//! It imports no driver. The program that runs it on all of them, through the function by which the command
//! opens its ports, is the test `conformance` of the crate `linecard`; a new driver is a row there:
//!
//! ```text
//! cargo test --test conformance                       every row that this build has
//! cargo test --test conformance -- sim tap            rows whose names contain one of these words
//! cargo test --test conformance -- --case sleep       one case
//! cargo test --test conformance --features dpdk -- --table     the table of drivers/README.md
//! ```
//!
//! # For a driver elsewhere
//!
//! A driver that lives outside of Linecard's repository has this crate as a dev-dependency, a rig, and a test:
//!
//! ```no_run
//! use linecard_conformance::{Need, Rig, Sink, Source, check};
//! use linecard_hal::{Port, PortError};
//!
//! # mod mine {
//! #     use linecard_hal::{Port, PortError};
//! #     pub fn open(_: &str) -> Result<Box<dyn Port>, PortError> { unreachable!() }
//! # }
//! /// A port whose device has a loop-back plug.
//! struct Plugged;
//!
//! impl Rig for Plugged {
//!     fn open(&mut self) -> Result<Box<dyn Port>, PortError> {
//!         mine::open("mine:0")
//!     }
//!     fn source(&self) -> Source {
//!         Source::Loop
//!     }
//!     fn sink(&self) -> Sink {
//!         Sink::Loop
//!     }
//!     fn lacks(&self, need: Need) -> Option<String> {
//!         let reason = match need {
//!             Need::Carrier => "nobody can pull the plug by program",
//!             Need::Removal => "the device is soldered in",
//!             Need::Spread => "what a queue sends it receives itself",
//!             Need::Mtu => "has one MTU",
//!             _ => return None,
//!         };
//!         Some(reason.into())
//!     }
//! }
//!
//! // In a driver's tests/conformance.rs, with #[test].
//! fn conforms() {
//!     check("mine", || Ok(Box::new(Plugged)));
//! }
//! # conforms();
//! ```
//!
//! With a far end, `inject` and `collect` come on top: a packet socket on the other end of a cable, or
//! [`far::Far`], a second port. Where `lacks` gives a reason, the case is skipped and the reason printed: it is for what
//! cannot be, not for what does not work yet.
#![forbid(unsafe_code)]

pub mod bench;
pub mod cases;
pub mod far;
pub mod frame;
pub mod rig;
pub mod table;
pub mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use cases::{CASES, Case};
pub use rig::{Need, Rig, Sink, Source};

/// Why a case ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The rig cannot do it, for this reason.
    NotApplicable(String),
    /// The port did something else than it must.
    Failed(String),
}

/// How a step of a case went.
pub type Step<T = ()> = Result<T, Stop>;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it should, with these remarks on what was narrower than elsewhere.
    Passed(Vec<String>),
    /// The rig cannot do it, for this reason.
    NotApplicable(String),
    /// The port did something else than it must.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A failure.
pub fn fail<T>(what: impl Into<String>) -> Step<T> {
    Err(Stop::Failed(what.into()))
}

/// Fails unless something holds; the rest is the message, as for `format!`.
#[macro_export]
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err($crate::Stop::Failed(format!($($message)+)));
        }
    };
}

/// A rig and what the case remarked.
pub struct Stand {
    /// The port's other end.
    pub rig: Box<dyn Rig>,
    remarks: Vec<String>,
}

impl Stand {
    /// Ends the case as not applicable if the rig lacks something.
    pub fn need(&self, need: Need) -> Step {
        match self.rig.lacks(need) {
            Some(reason) => Err(Stop::NotApplicable(reason)),
            None => Ok(()),
        }
    }

    /// Says in the table what was narrower than elsewhere.
    pub fn remark(&mut self, remark: impl Into<String>) {
        let remark = remark.into();
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }
}

/// How a rig is made.
pub type Make = fn() -> Result<Box<dyn Rig>, String>;

/// Runs one case on a fresh rig, as a worker: on a thread of its own, registered as an lcore. A panic is a
/// failure.
pub fn run(case: &Case, make: Make) -> Verdict {
    let ended = std::thread::scope(|scope| {
        let body = || catch_unwind(AssertUnwindSafe(|| on_stand(case, make)));
        scope.spawn(body).join()
    });
    match ended {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(panic)) | Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Verdict::Failed(format!("panicked: {}", text.unwrap_or("without a message")))
        }
    }
}

/// Runs all cases on a driver in this process, one after the other, and prints how each ended: for the tests of
/// a driver that lives elsewhere.
///
/// # Panics
///
/// If a case failed, when all have run.
pub fn check(name: &str, make: Make) -> table::Line {
    let mut verdicts = Vec::new();
    for case in CASES {
        let verdict = run(case, make);
        println!("{name}, {}: {verdict:?}", case.name);
        verdicts.push(verdict);
    }
    let failed = |v: &&Verdict| matches!(v, Verdict::Failed(_));
    let failed = verdicts.iter().filter(failed).count();
    assert!(
        failed == 0,
        "{name}: {failed} cases failed, as printed above"
    );
    table::Line {
        name: name.to_owned(),
        verdicts,
    }
}

fn on_stand(case: &Case, make: Make) -> Verdict {
    let _lcore = linecard_hal::lcore::register();
    let rig = match make() {
        Ok(rig) => rig,
        Err(why) => return Verdict::Failed(format!("the rig could not be made: {why}")),
    };
    let mut stand = Stand {
        rig,
        remarks: Vec::new(),
    };
    match (case.run)(&mut stand) {
        Ok(()) => Verdict::Passed(stand.remarks),
        Err(Stop::NotApplicable(reason)) => Verdict::NotApplicable(reason),
        Err(Stop::Failed(what)) => Verdict::Failed(what),
    }
}
