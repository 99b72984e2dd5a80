//! x
mod ident;
mod interface;
mod limit;
mod lists;
pub mod neighbor;
mod reason;
pub mod reassembly;
pub mod route;
mod secret;
#[cfg(test)]
mod testing;
pub use limit::Rate;
pub use reason::*;
pub use secret::Secret;
