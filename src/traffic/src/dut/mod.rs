//! A simulated device under test: known capacity, latency and buffer, and ways to lie.
//!
//! ```text
//!   port 0 ─► link ─► device: queue, server, delay ─► port 1      and the same back
//! ```
//!
//! What the device does with each frame is [arithmetic](Device); [`ports`] are two ports with it in between, for an
//! engine in virtual time. So the real generator and the real receiver are measured against figures that are known, and
//! a measurement that takes hours takes seconds.
//!
//! A device is described as text: `capacity=1Mpps,buffer=64,latency=50us`. The options that lie are there because
//! devices do: a measurement must notice each of them.
//!
//! | option | meaning | default |
//! | --- | --- | --- |
//! | `capacity=RATE` | what it forwards: `1Mpps`, `5Gbps` (layer 2), `max` | `max` |
//! | `buffer=N` | frames that it holds, the one in service included; the next is dropped | 64 |
//! | `latency=T` | from a frame's arrival to its departure, if it need not wait | 0 |
//! | `link=RATE` | speed of its links | `10Gbps` |
//! | `reset=T` | how long it is gone when it is reset | `1s` |
//! | `drop_after=T` | from so long after a stream's first frame it loses 1 frame of 100 | never |
//! | `drop_beyond=N` | the same from a stream's frame `N` on | never |
//! | `duplicate=N` | of every `N` frames it sends one twice, and another not at all | never |
//! | `reorder=N` | of every `N` frames one is overtaken by the next | never |
//! | `stall=T/U` | for T every U it forwards nothing, and then all that it held | never |
//! | `late=N/T` | of every `N` frames it keeps one back for T | never |
//! | `loss=N` | of every `N` frames it loses one | never |
//!
//! A stream ends when no frame came for 50 milliseconds.

mod device;
mod port;

use std::str::FromStr;
use std::time::Duration;

pub use device::{Device, Fate};
pub use port::{DutPort, Wire, ports};

use crate::rate::{Layer, Rate};

/// What a simulated device is.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSpec {
    /// What it forwards at most.
    pub capacity: Rate,
    /// Frames that it holds, the one in service included.
    pub buffer: u32,
    /// From a frame's arrival to its departure, if it need not wait.
    pub latency: Duration,
    /// Bits a second of its links, on layer 1.
    pub link_bits_per_second: f64,
    /// How long it is gone when it is reset.
    pub reset: Duration,
    /// What it does beside.
    pub lies: Vec<Lie>,
}

/// What a device does to look better than it is, or does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Loses 1 frame of 100, from so long after a stream's first frame.
    DropAfter(Duration),
    /// Loses 1 frame of 100, from so many frames of a stream on.
    DropBeyond(u64),
    /// Of every so many frames sends one twice and loses another: the number is right.
    Duplicate(u64),
    /// Of every so many frames has one overtaken by the next.
    Reorder(u64),
    /// Forwards nothing for the first, every second.
    Stall(Duration, Duration),
    /// Of every so many frames keeps one back for so long.
    Late(u64, Duration),
    /// Of every so many frames loses one.
    Loss(u64),
}

/// A stream is over when no frame came for so long.
const PAUSE_NS: u64 = 50_000_000;

/// The shortest stream that is worth its waits.
const SHORTEST: Duration = Duration::from_millis(10);

/// Frames that are between the ports at one time at most: what the pool has to have.
const MOST_HELD: f64 = 65_536.0;

impl Default for DeviceSpec {
    fn default() -> Self {
        Self {
            capacity: Rate::Max,
            buffer: 64,
            latency: Duration::ZERO,
            link_bits_per_second: 10e9,
            reset: Duration::from_secs(1),
            lies: Vec::new(),
        }
    }
}

impl DeviceSpec {
    /// Frames a second of a size that it forwards.
    pub fn capacity_fps(&self, frame_bytes: u16) -> f64 {
        let bytes = f64::from(frame_bytes);
        let link = crate::rate::line_rate(self.link_bits_per_second, bytes);
        let own = self
            .capacity
            .frames_per_second(bytes, Some(self.link_bits_per_second));
        own.ok().flatten().map_or(link, |fps| fps.min(link))
    }

    /// How long a stream of at most so many frames a second has to be for all that this device does to show: its buffer
    /// is filled by a rate that is too high by half of `precision`, and every lie that goes by the clock is told. In
    /// virtual time a longer one says nothing more.
    ///
    /// `None` for a device that counts frames: the fewer there are a second, the later it tells its lie, and a search
    /// for what is not lost lowers their number. How long is long enough is then for the measurement to say.
    pub fn shows_within(&self, fps: f64, precision: f64) -> Option<Duration> {
        let mut longest = f64::from(self.buffer) / precision / fps;
        for lie in &self.lies {
            match lie {
                Lie::DropAfter(time) | Lie::Stall(_, time) => {
                    longest = longest.max(time.as_secs_f64());
                }
                Lie::DropBeyond(_)
                | Lie::Duplicate(_)
                | Lie::Reorder(_)
                | Lie::Late(..)
                | Lie::Loss(_) => return None,
            }
        }
        let time = Duration::try_from_secs_f64(longest * 2.0);
        Some(time.map_or(Duration::MAX, |time| time.max(SHORTEST)))
    }

    /// Frames that are between the ports at one time at most.
    fn held(&self) -> f64 {
        let smallest = crate::rate::line_rate(self.link_bits_per_second, 64.0);
        let fps = self.capacity_fps(64);
        let flight = self.latency.as_secs_f64() * fps;
        let stalled = self.lies.iter().map(|lie| match lie {
            Lie::Late(every, time) => time.as_secs_f64() * fps / *every as f64,
            _ => 0.0,
        });
        f64::from(self.buffer) + flight + stalled.sum::<f64>() + (smallest * 1e-4).min(1024.0)
    }
}

impl FromStr for DeviceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut spec = Self::default();
        for option in text
            .split(',')
            .map(str::trim)
            .filter(|option| !option.is_empty())
        {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            set(&mut spec, name, value).map_err(|why| {
                format!("{option:?} of the simulated device: {why}; for example capacity=1Mpps,buffer=64,latency=50us")
            })?;
        }
        if spec.held() > MOST_HELD {
            return Err(format!(
                "the simulated device would hold up to {:.0} frames at a time, which is more than {MOST_HELD}; make buffer, latency or capacity smaller",
                spec.held()
            ));
        }
        Ok(spec)
    }
}

fn set(spec: &mut DeviceSpec, name: &str, value: &str) -> Result<(), String> {
    let time = |text: &str| humantime::parse_duration(text).map_err(|error| error.to_string());
    let rate = || value.parse::<Rate>().map_err(|error| error.to_string());
    let number = |text: &str| match text.parse::<u64>() {
        Ok(0) | Err(_) => Err("a whole number from 1 on is wanted".to_owned()),
        Ok(number) => Ok(number),
    };
    let pair = || {
        value
            .split_once('/')
            .ok_or("two values with a / between are wanted".to_owned())
    };
    let lie = match name {
        "capacity" => {
            spec.capacity = rate()?;
            return Ok(());
        }
        "buffer" => {
            let frames = number(value)?;
            spec.buffer = u32::try_from(frames).map_err(|error| error.to_string())?;
            return Ok(());
        }
        "latency" => {
            spec.latency = time(value)?;
            return Ok(());
        }
        "link" => {
            spec.link_bits_per_second = match rate()? {
                Rate::BitsPerSecond(bits, Layer::One | Layer::Two) => bits,
                _ => return Err("a speed in bits a second is wanted, such as 10Gbps".to_owned()),
            };
            return Ok(());
        }
        "reset" => {
            spec.reset = time(value)?;
            return Ok(());
        }
        "drop_after" => Lie::DropAfter(time(value)?),
        "drop_beyond" => Lie::DropBeyond(number(value)?),
        "duplicate" => Lie::Duplicate(number(value)?.max(2)),
        "reorder" => Lie::Reorder(number(value)?.max(2)),
        "stall" => {
            let (stalls, every) = pair()?;
            let (stalls, every) = (time(stalls)?, time(every)?);
            if stalls >= every || stalls.is_zero() {
                return Err("it stalls for longer than it works, or not at all".to_owned());
            }
            Lie::Stall(stalls, every)
        }
        "late" => {
            let (every, by) = pair()?;
            Lie::Late(number(every)?, time(by)?)
        }
        "loss" => Lie::Loss(number(value)?),
        _ => {
            return Err(
                "there is no such option; there are capacity, buffer, latency, link, reset, drop_after, drop_beyond, duplicate, reorder, stall, late, loss"
                    .to_owned(),
            );
        }
    };
    spec.lies.push(lie);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn described_as_text() {
        let spec: DeviceSpec =
            "capacity=1Mpps,buffer=128,latency=50us,link=1Gbps,stall=1ms/1s,late=100/2s"
                .parse()
                .unwrap();
        assert_eq!(spec.capacity, Rate::FramesPerSecond(1e6));
        assert_eq!(
            (spec.buffer, spec.latency),
            (128, Duration::from_micros(50))
        );
        assert_eq!(spec.link_bits_per_second, 1e9);
        assert_eq!(spec.lies.len(), 2);
        assert_eq!(spec.capacity_fps(64), 1e6);
        assert!((spec.capacity_fps(1518) - 81_274.4).abs() < 0.1);
        assert_eq!("".parse(), Ok(DeviceSpec::default()));
    }

    #[test]
    fn what_it_does_shows_in_time() {
        for (text, millis) in [
            ("capacity=1Mpps,buffer=64", Some(25)),
            ("capacity=1kpps,buffer=64", Some(25_600)),
            ("capacity=1Mpps,buffer=1", Some(10)),
            ("drop_after=800ms", Some(1600)),
            ("stall=1ms/1s", Some(2000)),
            ("capacity=1Mpps,drop_beyond=50000", None),
            ("stall=1ms/1s,loss=7", None),
            ("duplicate=9", None),
            ("reorder=9", None),
            ("capacity=1Mpps,late=50/2s", None),
        ] {
            let spec: DeviceSpec = text.parse().unwrap();
            let time = spec.shows_within(spec.capacity_fps(64), 0.005);
            assert_eq!(time.map(|time| time.as_millis()), millis, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (text, says) in [
            ("capacity=5", "not a rate"),
            ("buffer=0", "from 1 on"),
            ("speed=1", "no such option"),
            ("latency=long", "latency=long"),
            ("stall=2s/1s", "longer than it works"),
            ("late=5", "a / between"),
            ("link=5pps", "bits a second"),
            ("latency=1s", "more than 65536"),
        ] {
            let error = text.parse::<DeviceSpec>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
