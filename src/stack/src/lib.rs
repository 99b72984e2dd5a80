//! x
mod limit;
mod lists;
pub mod neighbor;
mod reason;
mod secret;
pub use limit::Rate;
pub use reason::*;
pub use secret::Secret;
