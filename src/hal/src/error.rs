//! Errors of the control plane: which device, what is wrong, what to type next.

use std::io;

/// Why a port could not be opened, configured or started.
///
/// Prints as `uring:eth9: no such interface; try: linecard ports`.
#[derive(Debug, thiserror::Error)]
#[error("{port}: {what}{}{}", after(.cause.as_ref()), next(.remedy))]
pub struct PortError {
    /// The port as it was named.
    pub port: String,
    /// The kind, for programs.
    pub kind: PortErrorKind,
    /// What is wrong, with the value.
    pub what: String,
    /// What to do about it; a command where there is one. May be empty.
    pub remedy: String,
    /// The system's answer. Part of the message, and so not a `source()` to be printed after it.
    pub cause: Option<io::Error>,
}

/// What sort of failure a [`PortError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PortErrorKind {
    /// The name or an option cannot be understood.
    Name,
    /// There is no such device or file.
    NotFound,
    /// The system does not allow it.
    Permission,
    /// Somebody else uses it.
    Busy,
    /// The device, driver or kernel cannot do it.
    Unsupported,
    /// A value is out of range.
    Config,
    /// The pool does not fit the port.
    Pool,
    /// Anything else the system answered.
    System,
}

impl PortError {
    /// An error without a remedy or a cause.
    pub fn new(port: impl Into<String>, kind: PortErrorKind, what: impl Into<String>) -> Self {
        Self {
            port: port.into(),
            kind,
            what: what.into(),
            remedy: String::new(),
            cause: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Adds the system's answer.
    #[must_use]
    pub fn cause(mut self, cause: io::Error) -> Self {
        self.cause = Some(cause);
        self
    }
}

fn after(cause: Option<&io::Error>) -> String {
    cause.map_or_else(String::new, |e| format!(": {e}"))
}

fn next(remedy: &str) -> String {
    if remedy.is_empty() {
        String::new()
    } else {
        format!("; {remedy}")
    }
}
