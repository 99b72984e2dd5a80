//! What a worker does when there is nothing to do.

use std::os::fd::{AsFd, BorrowedFd};
use std::str::FromStr;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::handoff::Bell;

/// The policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Polls for ever: lowest latency, one core at 100 per cent.
    Spin,
    /// Polls for a while after the last frame, then sleeps until the driver wakes it. How long it polls
    /// follows from how long it slept before: it grows up to 100 µs while sleeps are so short that
    /// polling would have met the next frame, and shrinks to 2 µs while they are longer.
    #[default]
    Adaptive,
    /// Sleeps as soon as a few polls were empty.
    Sleep,
}

impl FromStr for Idle {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "spin" => Ok(Self::Spin),
            "adaptive" => Ok(Self::Adaptive),
            "sleep" => Ok(Self::Sleep),
            _ => Err(format!("{s:?} is not one of spin, adaptive, sleep")),
        }
    }
}

impl std::fmt::Display for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Spin => "spin",
            Self::Adaptive => "adaptive",
            Self::Sleep => "sleep",
        })
    }
}

/// Longest sleep: a worker looks after its queues about ten times a second.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Sleep when a queue cannot be waited on: short, growing, so that a frame waits this long at most.
const NAPS: [Duration; 4] = [
    Duration::from_micros(20),
    Duration::from_micros(50),
    Duration::from_micros(200),
    Duration::from_micros(1000),
];

/// Shortest polling before a sleep.
const LEAST_PATIENCE: Duration = Duration::from_micros(2);

/// Longest: about what two wake-ups cost, so that polling first never costs more than twice the best
/// decision made with hindsight.
const MOST_PATIENCE: Duration = Duration::from_micros(100);

/// Keeps track of emptiness and decides when to sleep.
#[derive(Debug)]
pub(crate) struct Idler {
    policy: Idle,
    /// Cycles of emptiness before a sleep.
    patience: u64,
    /// Between these.
    least: u64,
    most: u64,
    empty_since: Option<u64>,
    naps: usize,
}

impl Idler {
    pub(crate) fn new(policy: Idle) -> Self {
        let (least, most) = match policy {
            Idle::Spin => (u64::MAX, u64::MAX),
            Idle::Adaptive => (
                clock::cycles_of(LEAST_PATIENCE),
                clock::cycles_of(MOST_PATIENCE),
            ),
            Idle::Sleep => {
                let least = clock::cycles_of(LEAST_PATIENCE);
                (least, least)
            }
        };
        Self {
            policy,
            patience: most,
            least,
            most,
            empty_since: None,
            naps: 0,
        }
    }

    /// A turn found frames.
    #[inline(always)]
    pub(crate) fn busy(&mut self) {
        self.empty_since = None;
        self.naps = 0;
    }

    /// A turn that ended at `now` found none. Whether it is time to sleep.
    #[inline(always)]
    pub(crate) fn empty(&mut self, now: u64) -> bool {
        if self.policy == Idle::Spin {
            std::hint::spin_loop();
            return false;
        }
        let since = *self.empty_since.get_or_insert(now);
        let tired = now.wrapping_sub(since) >= self.patience;
        if !tired {
            std::hint::spin_loop();
        }
        tired
    }

    /// Sleeps until one of `fds` is readable (a queue has traffic), the bell rings or the tick ends.
    /// A queue that cannot be waited on is `None`: then the sleep is short. A descriptor whose device
    /// just vanished ends the sleep like a frame. No sleep is longer than `most`.
    pub(crate) fn sleep<'a>(
        &mut self,
        fds: impl Iterator<Item = Option<BorrowedFd<'a>>>,
        bell: &Bell,
        most: Option<Duration>,
    ) {
        let bell = bell.event.as_fd();
        let mut polled: [PollFd<'_>; MOST_QUEUES + 1] =
            std::array::from_fn(|_| PollFd::new(bell, PollFlags::POLLIN));
        let (mut count, mut all) = (1, true);
        for fd in fds {
            match (fd, polled.get_mut(count)) {
                (Some(fd), Some(slot)) => {
                    *slot = PollFd::new(fd, PollFlags::POLLIN);
                    count += 1;
                }
                _ => all = false,
            }
        }
        let timeout = if all {
            TICK
        } else {
            self.naps = (self.naps + 1).min(NAPS.len());
            NAPS[self.naps - 1]
        };
        let timeout = most.map_or(timeout, |most| timeout.min(most));
        let timeout = Some(TimeSpec::from_duration(timeout));
        let start = clock::cycles();
        let _: nix::Result<i32> = nix::poll::ppoll(&mut polled[..count], timeout, None);
        // A nap ends by itself and says nothing about frames.
        if all {
            self.slept(clock::cycles().wrapping_sub(start));
        }
    }

    /// Learns from a sleep of so many cycles.
    ///
    /// A mapped ring that hands over a block a millisecond would else cost 100 µs of polling each time,
    /// several times what its frames do. (The halt polling of the kernel's KVM adapts the same way.)
    fn slept(&mut self, cycles: u64) {
        self.patience = if cycles <= self.most {
            self.patience.saturating_mul(2).min(self.most)
        } else {
            (self.patience / 2).max(self.least)
        };
    }
}

/// Queues of one worker that it can wait on in one call; it naps for the sake of any beyond.
const MOST_QUEUES: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_by_policy() {
        let mut spin = Idler::new(Idle::Spin);
        assert!(!spin.empty(0) && !spin.empty(u64::MAX / 2));
        assert_eq!(spin.patience, u64::MAX);
        let mut sleep = Idler::new(Idle::Sleep);
        assert!(!sleep.empty(1_000));
        assert!(sleep.empty(1_000 + sleep.patience));
        sleep.busy();
        assert!(
            !sleep.empty(u64::MAX / 2),
            "patience starts anew after a frame"
        );
        assert!(Idler::new(Idle::Adaptive).patience > sleep.patience);
    }

    #[test]
    fn patience_follows_the_length_of_sleeps() {
        let mut idler = Idler::new(Idle::Adaptive);
        for _ in 0..20 {
            idler.slept(idler.most + 1);
        }
        assert_eq!(idler.patience, idler.least, "polling never met a frame");
        for _ in 0..20 {
            idler.slept(idler.most);
        }
        assert_eq!(idler.patience, idler.most, "polling would have met each");
        let mut sleep = Idler::new(Idle::Sleep);
        sleep.slept(1);
        assert_eq!(sleep.patience, sleep.least);
    }

    #[test]
    fn a_bell_that_rang_before_the_sleep_ends_it() {
        let (_mailbox, inbox) = crate::handoff::mailbox(4, 4).unwrap();
        inbox.bell.about_to_sleep();
        inbox.bell.ring();
        let mut idler = Idler::new(Idle::Sleep);
        // Would take a whole tick each if the bell were lost; a few hundred show that it is not.
        for _ in 0..300 {
            idler.sleep(std::iter::empty(), &inbox.bell, None);
        }
        inbox.bell.awake();
    }

    #[test]
    fn names_round_trip() {
        for idle in [Idle::Spin, Idle::Adaptive, Idle::Sleep] {
            assert_eq!(idle.to_string().parse(), Ok(idle));
        }
        assert!("nap".parse::<Idle>().unwrap_err().contains("adaptive"));
    }
}
