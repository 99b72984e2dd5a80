//! Why a simulation could not be made or go on.

use std::io;
use std::path::PathBuf;

use linecard_engine::EngineError;
use linecard_hal::PortError;

/// Why a simulation could not be made or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// A host's ports, protocols or pools cannot be.
    #[error("host {host}: {source}")]
    Host {
        /// Its name.
        host: String,
        /// Why not.
        source: Box<EngineError>,
    },
    /// A link cannot be.
    #[error(transparent)]
    Link(Box<PortError>),
    /// Two hosts have the same name.
    #[error("there are two hosts with the name {0:?}; give each its own")]
    SameName(String),
    /// A host has no link.
    #[error(
        "host {0} has no link, so nothing can happen to it; link it with another, or leave it out"
    )]
    NoLink(String),
    /// Time does not pass.
    #[error(
        "at {at_ns} ns of virtual time {hosts} went on for {turns} turns without time passing: answers to answers over a \
         link without delay, or a deadline that has always come already"
    )]
    Stuck {
        /// When.
        at_ns: u64,
        /// Who.
        hosts: String,
        /// How many turns it was given.
        turns: usize,
    },
    /// A scenario makes no sense.
    #[error("{file}: {what}")]
    Scenario {
        /// Where it is from.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// The file for the frames cannot be written.
    #[error("{}: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl From<PortError> for SimError {
    fn from(error: PortError) -> Self {
        Self::Link(Box::new(error))
    }
}

impl SimError {
    pub(crate) fn scenario(file: &str, what: String) -> Self {
        Self::Scenario {
            file: file.to_owned(),
            what,
        }
    }
}
