//! Why protocols cannot run together.

use crate::stage::PortIndex;

/// Why an engine does not start with these protocols.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Some packet would belong to both.
    #[error(
        "protocols {first:?} and {second:?} both claim packets on port {port}: {first_claim:?} and {second_claim:?} overlap; narrow one of them, or give it rights on other ports"
    )]
    Overlap {
        /// One of them.
        first: String,
        /// Its claim.
        first_claim: String,
        /// The other one.
        second: String,
        /// Its claim.
        second_claim: String,
        /// A port on which both receive.
        port: PortIndex,
    },
    /// A claim that cannot be carried out.
    #[error("protocol {protocol:?} claims {claim:?}: {why}")]
    Claim {
        /// Whose.
        protocol: String,
        /// The claim.
        claim: String,
        /// What is wrong with it.
        why: String,
    },
    /// A claim that its rights do not cover.
    #[error("protocol {protocol:?} claims {claim:?}, and its rights are: {allowed}")]
    Beyond {
        /// Whose.
        protocol: String,
        /// The claim.
        claim: String,
        /// What it may claim.
        allowed: String,
    },
    /// Rights that cannot be.
    #[error("protocol {protocol:?}: {why}")]
    Rights {
        /// Whose.
        protocol: String,
        /// What is wrong with them.
        why: String,
    },
    /// Something else about the protocol.
    #[error("protocol {protocol:?} {why}")]
    Protocol {
        /// Which.
        protocol: String,
        /// What is wrong with it.
        why: String,
    },
    /// More than can be told apart.
    #[error("{what}")]
    TooMany {
        /// Of what.
        what: String,
    },
}
