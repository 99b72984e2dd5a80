//! What a wire does to frames: configuration, and the dice.

use linecard_hal::{PortError, PortErrorKind, PortName};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

use crate::units::{BitsPerSecond, Nanos, Probability};

/// The options of [`Impairments::take`].
pub(crate) const OPTIONS: [&str; 12] = [
    "loss",
    "burst_loss",
    "delay",
    "jitter",
    "jitter_dist",
    "reorder",
    "reorder_by",
    "duplicate",
    "corrupt",
    "rate",
    "rate_layer",
    "rate_queue",
];

/// What happens to frames on their way in one direction. The default is nothing.
///
/// Each frame meets them in this order: the queue in front of the rate limit, loss, corruption,
/// duplication, delay. Probabilities are between 0 and 1 and independent of each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Impairments {
    /// The probability that a frame is lost, each by itself.
    pub loss: f64,
    /// Losses in bursts, in addition.
    pub burst_loss: Option<BurstLoss>,
    /// The time on the wire in nanoseconds.
    pub delay_ns: u64,
    /// How much the delay varies, in nanoseconds: at most (uniform) or by standard deviation (normal).
    /// Frames keep their order: one that would overtake arrives together with the one before.
    pub jitter_ns: u64,
    /// How the jitter is distributed.
    pub jitter: Jitter,
    /// The probability that a frame is held back so that later ones overtake it.
    pub reorder: f64,
    /// For how long, in nanoseconds.
    pub reorder_by_ns: u64,
    /// The probability that a frame arrives twice. The copy comes from the receiver's pool.
    pub duplicate: f64,
    /// The probability that one bit of a frame is flipped.
    pub corrupt: f64,
    /// How fast the wire is.
    pub rate: Option<Rate>,
}

impl Default for Impairments {
    fn default() -> Self {
        Self {
            loss: 0.0,
            burst_loss: None,
            delay_ns: 0,
            jitter_ns: 0,
            jitter: Jitter::Uniform,
            reorder: 0.0,
            reorder_by_ns: 100_000,
            duplicate: 0.0,
            corrupt: 0.0,
            rate: None,
        }
    }
}

/// The model of Gilbert: the wire is good and loses nothing, or bad and loses everything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurstLoss {
    /// The probability that a good wire turns bad before a frame.
    pub enter: f64,
    /// The probability that a bad wire turns good before a frame; a burst is `1 / leave` frames long
    /// on average.
    pub leave: f64,
}

/// How jitter is distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// Evenly between `-jitter` and `+jitter`.
    Uniform,
    /// The bell curve with the standard deviation `jitter`, cut off at four of them.
    Normal,
}

/// The speed of a wire, and the queue in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bits a second.
    pub bits_per_s: u64,
    /// Which bits count.
    pub layer: RateLayer,
    /// Frames that wait or are being sent; when there are as many, the next is dropped (tail drop).
    pub queue: usize,
}

/// Which bits of a frame a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLayer {
    /// As on the wire: frame and FCS, at least 64 bytes, plus preamble and gap (20 bytes).
    One,
    /// The frame's bytes without FCS.
    Two,
}

impl Impairments {
    /// Whether frames pass as they are, at once: then the wire is a ring.
    pub fn are_none(&self) -> bool {
        let times = self.delay_ns == 0 && self.jitter_ns == 0 && self.rate.is_none();
        let chances = [self.loss, self.reorder, self.duplicate, self.corrupt];
        times && self.burst_loss.is_none() && chances.iter().all(|p| *p == 0.0)
    }

    /// Refuses what cannot be.
    pub fn check(&self) -> Result<(), String> {
        let burst = self.burst_loss.unwrap_or(BurstLoss {
            enter: 0.0,
            leave: 0.0,
        });
        for (name, p) in [
            ("loss", self.loss),
            ("burst_loss", burst.enter),
            ("burst_loss", burst.leave),
            ("reorder", self.reorder),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
        ] {
            if !(0.0..=1.0).contains(&p) {
                return Err(format!("{name}={p} is not a probability between 0 and 1"));
            }
        }
        if let Some(rate) = self.rate {
            if rate.bits_per_s == 0 {
                return Err("a rate of 0 bits a second".into());
            }
            if rate.queue == 0 {
                return Err("a rate_queue of 0 frames, which lets none pass".into());
            }
        }
        Ok(())
    }

    /// The impairments that [options](crate::sim#impairments) describe, by name and value.
    pub fn from_options<'a>(
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, PortError> {
        let options: Vec<_> = options
            .into_iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let mut name: PortName = format!("sim:wire?{}", options.join("&")).parse()?;
        let imp = Self::take(&mut name)?;
        name.finish(&OPTIONS)?;
        let wrong = |what: String| PortError::new(name.full(), PortErrorKind::Config, what);
        imp.check().map_err(wrong)?;
        Ok(imp)
    }

    /// Takes the impairments from the options of a name.
    pub(crate) fn take(name: &mut PortName) -> Result<Self, PortError> {
        let mut imp = Self::default();
        let probability = |p: Option<Probability>| p.map_or(0.0, |p| p.0);
        imp.loss = probability(name.take("loss")?);
        imp.reorder = probability(name.take("reorder")?);
        imp.duplicate = probability(name.take("duplicate")?);
        imp.corrupt = probability(name.take("corrupt")?);
        imp.delay_ns = name.take::<Nanos>("delay")?.map_or(0, |n| n.0);
        imp.jitter_ns = name.take::<Nanos>("jitter")?.map_or(0, |n| n.0);
        let held = name.take::<Nanos>("reorder_by")?;
        imp.reorder_by_ns = held.map_or(imp.reorder_by_ns, |n| n.0);
        let full = name.full().to_owned();
        let wrong = |what: String| Err(PortError::new(&full, PortErrorKind::Name, what));
        if let Some(text) = name.take::<String>("burst_loss")? {
            let parsed = text.split_once('/').and_then(|(enter, leave)| {
                let enter = enter.parse::<Probability>().ok()?.0;
                Some(BurstLoss {
                    enter,
                    leave: leave.parse::<Probability>().ok()?.0,
                })
            });
            if parsed.is_none() {
                return wrong(format!(
                    "option burst_loss={text}: not ENTER/LEAVE, such as 0.1%/30%"
                ));
            }
            imp.burst_loss = parsed;
        }
        imp.jitter = match name.take::<String>("jitter_dist")?.as_deref() {
            None | Some("uniform") => Jitter::Uniform,
            Some("normal") => Jitter::Normal,
            Some(other) => {
                return wrong(format!(
                    "option jitter_dist={other}: neither uniform nor normal"
                ));
            }
        };
        let layer = match name.take::<String>("rate_layer")?.as_deref() {
            None | Some("1") => RateLayer::One,
            Some("2") => RateLayer::Two,
            Some(other) => return wrong(format!("option rate_layer={other}: neither 1 nor 2")),
        };
        let queue = name.take::<usize>("rate_queue")?.unwrap_or(1000);
        let rate = name.take::<BitsPerSecond>("rate")?;
        imp.rate = rate.map(|bits| Rate {
            bits_per_s: bits.0,
            layer,
            queue,
        });
        imp.check()
            .map_err(|what| PortError::new(&full, PortErrorKind::Config, what))?;
        Ok(imp)
    }
}

impl Rate {
    /// How long a frame occupies the wire, in picoseconds so that no rate drifts.
    pub(crate) fn duration_ps(&self, frame_len: usize) -> u128 {
        let bytes = match self.layer {
            RateLayer::One => (frame_len + 4).max(64) + 20,
            RateLayer::Two => frame_len,
        };
        bytes as u128 * 8 * 1_000_000_000_000 / u128::from(self.bits_per_s)
    }
}

/// The dice of one direction: the same seed gives the same throws.
pub(crate) struct Dice {
    rng: Pcg64,
    /// The state of [`BurstLoss`].
    bad: bool,
}

impl Dice {
    pub(crate) fn new(seed: u64, direction: usize) -> Self {
        // The stream must differ as well: two sequences of one seed would be alike.
        Self {
            rng: Pcg64::new(u128::from(seed), 0xa02b_dbf7 + direction as u128),
            bad: false,
        }
    }

    /// Evenly in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something with this probability happens. What cannot happen takes no throw.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.unit() < p
    }

    /// Evenly in `0..n`; `n` is small, so the bias is nothing.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    pub(crate) fn loses(&mut self, imp: &Impairments) -> bool {
        if let Some(burst) = imp.burst_loss {
            let turn = if self.bad { burst.leave } else { burst.enter };
            self.bad ^= self.chance(turn);
            if self.bad {
                return true;
            }
        }
        self.chance(imp.loss)
    }

    /// The delay of one frame.
    pub(crate) fn delay_ns(&mut self, imp: &Impairments) -> u64 {
        if imp.jitter_ns == 0 {
            return imp.delay_ns;
        }
        let swing = match imp.jitter {
            Jitter::Uniform => 2.0 * self.unit() - 1.0,
            Jitter::Normal => {
                // Box and Muller; 1 - u is never 0.
                let (u, v) = (1.0 - self.unit(), self.unit());
                ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()).clamp(-4.0, 4.0)
            }
        };
        let delay = imp.delay_ns as f64 + swing * imp.jitter_ns as f64;
        delay.max(0.0) as u64
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn chances_come_out_and_repeat() {
        let throws = |seed| {
            let mut dice = Dice::new(seed, 0);
            (0..20_000).map(|_| dice.chance(0.25)).collect::<Vec<_>>()
        };
        let hits = throws(7).iter().filter(|hit| **hit).count();
        assert!((4_700..5_300).contains(&hits), "{hits}");
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
    }

    #[test]
    fn bursts_are_as_long_as_asked_for() {
        let mut dice = Dice::new(1, 0);
        let burst_loss = Some(BurstLoss {
            enter: 0.01,
            leave: 0.2,
        });
        let imp = Impairments {
            burst_loss,
            ..Impairments::default()
        };
        let lost: Vec<bool> = (0..100_000).map(|_| dice.loses(&imp)).collect();
        let bursts = lost.windows(2).filter(|w| !w[0] && w[1]).count();
        let mean = lost.iter().filter(|l| **l).count() as f64 / bursts as f64;
        assert!((4.5..5.5).contains(&mean), "{mean}");
    }

    #[test]
    fn delays_stay_in_bounds() {
        for jitter in [Jitter::Uniform, Jitter::Normal] {
            let mut dice = Dice::new(3, 1);
            let imp = Impairments {
                delay_ns: 1000,
                jitter_ns: 200,
                jitter,
                ..Impairments::default()
            };
            let all: Vec<u64> = (0..10_000).map(|_| dice.delay_ns(&imp)).collect();
            let mean = all.iter().sum::<u64>() / 10_000;
            assert!((990..1010).contains(&mean), "{mean}");
            let most = if jitter == Jitter::Uniform { 200 } else { 800 };
            assert!(all.iter().all(|d| d.abs_diff(1000) <= most));
        }
    }

    #[test]
    fn a_gigabit_of_small_frames() {
        let rate = Rate {
            bits_per_s: 1_000_000_000,
            layer: RateLayer::One,
            queue: 1,
        };
        assert_eq!(rate.duration_ps(60), 672_000); // 1.488 Mpps
        let rate = Rate {
            layer: RateLayer::Two,
            ..rate
        };
        assert_eq!(rate.duration_ps(1500), 12_000_000);
    }

    #[test]
    fn options_and_their_errors() {
        let take = |options: &str| {
            let mut name: PortName = format!("sim:a?{options}").parse().unwrap();
            Impairments::take(&mut name)
        };
        let imp = take("loss=1%&delay=5ms&jitter=1ms&jitter_dist=normal&rate=1G&rate_layer=2");
        let imp = imp.unwrap();
        assert_eq!(
            (imp.loss, imp.delay_ns, imp.jitter),
            (0.01, 5_000_000, Jitter::Normal)
        );
        assert_eq!(imp.rate.unwrap().layer, RateLayer::Two);
        assert!(take("").unwrap().are_none());
        for wrong in [
            "loss=2",
            "burst_loss=0.1",
            "burst_loss=1/x",
            "delay=5",
            "jitter=-1ms",
            "jitter_dist=even",
            "reorder=x",
            "reorder_by=1",
            "duplicate=200%",
            "corrupt=-1",
            "rate=0",
            "rate_layer=3",
            "rate=1M&rate_queue=0",
            "rate_queue=x",
        ] {
            let key = wrong.rsplit('&').next().unwrap().split('=').next().unwrap();
            let error = take(wrong).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
