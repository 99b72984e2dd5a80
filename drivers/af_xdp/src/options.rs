//! A port's options, from its name.

use std::fmt;
use std::str::FromStr;

use linecard_hal::{PortError, PortErrorKind, PortName};

use crate::MAX_QUEUES;
use crate::program::Share;

/// All options, for the error about an unknown one.
const KNOWN: [&str; 5] = ["mode", "share", "queues", "busy_poll", "force"];

/// How frames get between the device and us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// The driver reads and writes our buffers.
    ZeroCopy,
    /// The driver runs the program, and the kernel copies.
    Copy,
    /// The kernel runs the program after the driver, and copies.
    Skb,
}

impl Mode {
    pub(crate) const LADDER: [Self; 3] = [Self::ZeroCopy, Self::Copy, Self::Skb];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroCopy => "zerocopy",
            Self::Copy => "copy",
            Self::Skb => "skb",
        })
    }
}

#[derive(Debug)]
pub(crate) struct Unknown(&'static str);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not one of {}", self.0)
    }
}

impl FromStr for Mode {
    type Err = Unknown;

    fn from_str(s: &str) -> Result<Self, Unknown> {
        Self::LADDER
            .into_iter()
            .find(|mode| mode.to_string() == s)
            .ok_or(Unknown("zerocopy, copy, skb"))
    }
}

impl FromStr for Share {
    type Err = Unknown;

    fn from_str(s: &str) -> Result<Self, Unknown> {
        match s {
            "none" => Ok(Self::None),
            "kernel" => Ok(Self::Kernel),
            _ => Err(Unknown("none, kernel")),
        }
    }
}

/// `0` or `1`.
struct Switch(bool);

impl FromStr for Switch {
    type Err = Unknown;

    fn from_str(s: &str) -> Result<Self, Unknown> {
        match s {
            "0" => Ok(Self(false)),
            "1" => Ok(Self(true)),
            _ => Err(Unknown("0, 1")),
        }
    }
}

/// The options of `xdp:`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// The only mode to try; else all, the best first.
    pub(crate) mode: Option<Mode>,
    pub(crate) share: Share,
    /// Queues wanted by name; the configuration has to agree.
    pub(crate) queues: Option<u16>,
    pub(crate) busy_poll: bool,
    /// Replace a program that somebody else attached.
    pub(crate) force: bool,
}

impl Options {
    pub(crate) fn take(name: &mut PortName) -> Result<Self, PortError> {
        let switch = |name: &mut PortName, key| {
            Ok::<_, PortError>(name.take::<Switch>(key)?.is_some_and(|s| s.0))
        };
        let options = Self {
            mode: name.take("mode")?,
            share: name.take("share")?.unwrap_or(Share::None),
            queues: name.take("queues")?,
            busy_poll: switch(name, "busy_poll")?,
            force: switch(name, "force")?,
        };
        name.finish(&KNOWN)?;
        match options.queues {
            Some(n) if n == 0 || n > MAX_QUEUES => Err(PortError::new(
                name.full(),
                PortErrorKind::Config,
                format!("queues={n} is not between 1 and {MAX_QUEUES}"),
            )),
            _ => Ok(options),
        }
    }

    /// The modes to try, in order.
    pub(crate) fn modes(&self) -> impl Iterator<Item = Mode> + use<> {
        let only = self.mode;
        Mode::LADDER
            .into_iter()
            .filter(move |mode| only.is_none_or(|only| only == *mode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<Options, PortError> {
        Options::take(&mut format!("xdp:eth1{text}").parse().unwrap())
    }

    #[test]
    fn everything_has_a_default() {
        let all = options("").unwrap();
        assert!(all.modes().eq(Mode::LADDER));
        assert_eq!(
            (all.share, all.busy_poll, all.force),
            (Share::None, false, false)
        );
        let some = options("?mode=skb&share=kernel&queues=2&busy_poll=1&force=1").unwrap();
        assert!(some.modes().eq([Mode::Skb]));
        assert_eq!((some.share, some.queues), (Share::Kernel, Some(2)));
        assert!(some.busy_poll && some.force);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("?mode=fast", "not one of zerocopy, copy, skb"),
            ("?share=all", "not one of none, kernel"),
            ("?force=yes", "not one of 0, 1"),
            ("?queues=0", "not between 1 and 64"),
            ("?rx=ring", "the xdp driver has: mode, share"),
        ] {
            let error = options(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
