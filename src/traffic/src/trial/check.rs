//! The reasons not to believe a trial.

use std::fmt;

use crate::results::Trial;

/// How far a trial may be from what was asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Of the rate and of the duration, as a share; and so of the frames that were due and not sent.
    pub rate: f64,
    /// Of frames that are none of ours, as a share of those sent; ten are always allowed.
    pub foreign: f64,
    /// Frames that a sender who was held up may send at once to catch up: a few of its bursts.
    pub burst: u64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            rate: 0.001,
            foreign: 0.001,
            burst: 256,
        }
    }
}

/// A reason not to believe a trial.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Not one frame left.
    NothingSent,
    /// The rate was another than what was asked.
    Rate {
        /// Frames a second.
        asked: f64,
        /// Frames a second.
        achieved: f64,
    },
    /// Frames were due and not sent.
    Unsent(u64),
    /// We were held up, sent what was due at once, and so few were lost that this may be why.
    CaughtUp {
        /// Frames sent at once.
        burst: u64,
        /// Frames.
        lost: u64,
    },
    /// Another number of frames left than the burst was to have.
    Frames {
        /// Frames.
        asked: u64,
        /// Frames.
        sent: u64,
    },
    /// It sent for longer or shorter than it was to.
    Duration {
        /// Seconds.
        asked: f64,
        /// Seconds.
        sent: f64,
    },
    /// Frames still arrived when nobody could wait any more.
    NotSettled,
    /// Our own receiver lost frames.
    ReceiverMisses(u64),
    /// More different frames came than were sent.
    MoreThanSent {
        /// Frames.
        sent: u64,
        /// Frames.
        received: u64,
    },
    /// Frames sent, received and lost do not add up.
    Account,
    /// Frames came so far behind that it is not known whether they are among those counted as lost.
    Astray(u64),
    /// Many frames were changed or none of ours.
    Foreign(u64),
    /// A port's link went down.
    LinkDown(String),
    /// Times that cannot be: longer than the trial, as of a clock that went back.
    Clock,
}

/// How [`Fault::LinkDown`] begins in a trial's faults, which are text.
const LINK_DOWN: &str = "the link of ";

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingSent => f.write_str("not one frame was sent"),
            Self::Rate { asked, achieved } => write!(
                f,
                "asked for {asked:.0} frames a second, {achieved:.0} were sent"
            ),
            Self::Unsent(frames) => write!(f, "{frames} frames were due and not sent"),
            Self::CaughtUp { burst, lost } => write!(
                f,
                "the generator was held up and sent up to {burst} frames at once, which may be why {lost} were lost; give it a core of its own"
            ),
            Self::Frames { asked, sent } => {
                write!(
                    f,
                    "a burst of {asked} frames was asked for, {sent} were sent"
                )
            }
            Self::Duration { asked, sent } => {
                write!(f, "was to send for {asked:.3} s and sent for {sent:.3} s")
            }
            Self::NotSettled => f.write_str(
                "frames still arrived after the time to settle; wait longer with --settle",
            ),
            Self::ReceiverMisses(frames) => {
                write!(f, "our own receiver lost {frames} frames")
            }
            Self::MoreThanSent { sent, received } => {
                write!(f, "{received} different frames came, but {sent} were sent")
            }
            Self::Account => f.write_str("frames received and lost are not those that were sent"),
            Self::Astray(frames) => write!(
                f,
                "{frames} frames came further behind than the receiver remembers, so what was lost is not known"
            ),
            Self::Foreign(frames) => {
                write!(f, "{frames} frames came back changed or were none of ours")
            }
            Self::LinkDown(port) => write!(f, "{LINK_DOWN}{port} was down"),
            Self::Clock => {
                f.write_str("frames were on their way for longer than the trial took, by the clock")
            }
        }
    }
}

/// Whether the trial's sender was slower than asked: what the device would have made of that rate is not known. A link
/// that was down says nothing of the sender.
pub fn is_too_slow(trial: &Trial, tolerance: &Tolerance) -> bool {
    let is_down = |fault: &String| fault.starts_with(LINK_DOWN);
    !trial.faults.iter().any(is_down)
        && trial
            .asked_fps
            .is_some_and(|asked| trial.achieved_fps < asked * (1.0 - tolerance.rate))
}

/// Every reason in the figures of a trial not to believe it.
pub fn check(trial: &Trial, tolerance: &Tolerance) -> Vec<Fault> {
    let counts = &trial.counts;
    if counts.sent == 0 {
        return vec![Fault::NothingSent];
    }
    let mut faults = Vec::new();
    if let Some(asked) = trial.asked_fps {
        check_pace(trial, asked, tolerance, &mut faults);
        faults.extend(check_bursts(trial, asked, tolerance));
    }
    if let Some(asked) = trial.asked_frames
        && asked != counts.sent
    {
        let sent = counts.sent;
        faults.push(Fault::Frames { asked, sent });
    }
    // They are another way to miss the rate: the same share of it is forgiven. Who asks for as much as the port takes is
    // refused frames all the time.
    let due = counts.sent + counts.unsent;
    if counts.unsent as f64 > due as f64 * tolerance.rate && trial.asked_fps.is_some() {
        faults.push(Fault::Unsent(counts.unsent));
    }
    if counts.receiver_misses > 0 {
        faults.push(Fault::ReceiverMisses(counts.receiver_misses));
    }
    if counts.received > counts.sent {
        faults.push(Fault::MoreThanSent {
            sent: counts.sent,
            received: counts.received,
        });
    } else if counts.sent - counts.received != counts.lost {
        faults.push(Fault::Account);
    }
    if counts.astray > 0 {
        faults.push(Fault::Astray(counts.astray));
    }
    if counts.foreign > 10 + (counts.sent as f64 * tolerance.foreign) as u64 {
        faults.push(Fault::Foreign(counts.foreign));
    }
    faults
}

/// Rate and duration. Between the first frame and the last are one gap fewer than frames.
fn check_pace(trial: &Trial, asked: f64, tolerance: &Tolerance, faults: &mut Vec<Fault>) {
    let achieved = trial.achieved_fps;
    if trial.counts.sent > 1 && (achieved - asked).abs() > asked * tolerance.rate {
        faults.push(Fault::Rate { asked, achieved });
    }
    let (asked_s, sent_s) = (trial.asked_s, trial.sent_s);
    if (sent_s - asked_s).abs() > asked_s * tolerance.rate + 1.5 / asked {
        let (asked, sent) = (asked_s, sent_s);
        faults.push(Fault::Duration { asked, sent });
    }
}

/// The device is only made worse by what we send at once to catch up: who lost nothing is believed, and so is who lost
/// many times as much. Where loss is what is looked for, the trial says when it was last, and is believed as well.
fn check_bursts(trial: &Trial, asked: f64, tolerance: &Tolerance) -> Option<Fault> {
    let (lost, pacing) = (trial.counts.lost, &trial.pacing);
    let burst = (pacing.latest_ns as f64 / 1e9 * asked) as u64;
    let most = burst.saturating_mul(MANY_TIMES).min(pacing.late_frames);
    let is_why = burst > tolerance.burst && lost > 0 && lost <= most;
    (is_why && trial.last_loss_ns.is_none()).then_some(Fault::CaughtUp { burst, lost })
}

/// Losses of so many of the longest catch-up bursts have another reason.
const MANY_TIMES: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Counts;

    fn good() -> Trial {
        Trial {
            asked_fps: Some(1000.0),
            achieved_fps: 1000.0,
            asked_s: 1.0,
            sent_s: 0.999,
            counts: Counts {
                sent: 1000,
                received: 990,
                lost: 10,
                ..Counts::default()
            },
            ..Trial::default()
        }
    }

    fn faults(change: impl FnOnce(&mut Trial)) -> Vec<Fault> {
        let mut trial = good();
        change(&mut trial);
        check(&trial, &Tolerance::default())
    }

    #[test]
    fn a_good_trial_is_believed_also_with_loss_duplicates_and_disorder() {
        assert_eq!(faults(|_| {}), []);
        assert_eq!(faults(|t| t.counts.duplicated = 5), []);
        assert_eq!(faults(|t| t.counts.reordered = 5), []);
        assert_eq!(faults(|t| t.counts.foreign = 10), []);
        assert_eq!(faults(|t| t.achieved_fps = 999.1), []);
        assert_eq!(faults(|t| t.counts.unsent = 1), []);
    }

    #[test]
    fn loss_after_a_burst_of_our_own_is_not_the_devices() {
        let late = |latest_ns, lost| {
            faults(|t| {
                (t.asked_fps, t.achieved_fps) = (Some(1e6), 1e6);
                t.counts = Counts {
                    sent: 1_000_000,
                    received: 1_000_000 - lost,
                    lost,
                    ..Counts::default()
                };
                t.pacing.latest_ns = latest_ns;
                t.pacing.late_frames = 500_000;
            })
        };
        let (burst, lost) = (8700, 2000);
        assert_eq!(late(8_700_000, lost), [Fault::CaughtUp { burst, lost }]);
        assert_eq!(late(8_700_000, 0), []);
        assert_eq!(late(8_700_000, 100_000), []);
        assert_eq!(late(250_000, 100), []);
    }

    #[test]
    fn every_lie_has_its_name() {
        let slow = |t: &mut Trial| t.achieved_fps = 998.0;
        let expected = Fault::Rate {
            asked: 1000.0,
            achieved: 998.0,
        };
        assert_eq!(faults(slow), [expected]);
        let mut trial = good();
        slow(&mut trial);
        assert!(is_too_slow(&trial, &Tolerance::default()));
        assert!(!is_too_slow(&good(), &Tolerance::default()));
        trial.faults = vec![Fault::LinkDown("uring:eth1".to_owned()).to_string()];
        assert!(!is_too_slow(&trial, &Tolerance::default()));

        assert!(matches!(
            faults(|t| t.achieved_fps = 1002.0)[..],
            [Fault::Rate { .. }]
        ));
        assert_eq!(faults(|t| t.counts.unsent = 2), [Fault::Unsent(2)]);
        assert!(matches!(
            faults(|t| t.sent_s = 1.1)[..],
            [Fault::Duration { .. }]
        ));
        assert_eq!(
            faults(|t| t.counts.receiver_misses = 2),
            [Fault::ReceiverMisses(2)]
        );
        assert_eq!(faults(|t| t.counts.lost = 0), [Fault::Account]);
        assert_eq!(faults(|t| t.counts.foreign = 12), [Fault::Foreign(12)]);
        // They may be those that were lost, which then were not.
        assert_eq!(faults(|t| t.counts.astray = 1), [Fault::Astray(1)]);
        assert_eq!(
            faults(|t| t.counts = Counts::default()),
            [Fault::NothingSent]
        );
        let more = faults(|t| t.counts.received = 1001);
        assert!(matches!(more[..], [Fault::MoreThanSent { .. }]), "{more:?}");
        let burst = faults(|t| {
            t.asked_fps = None;
            t.asked_frames = Some(999);
        });
        assert!(matches!(burst[..], [Fault::Frames { .. }]), "{burst:?}");
        assert!(more[0].to_string().contains("1001"));
    }
}
