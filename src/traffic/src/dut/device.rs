//! What a simulated device does with each frame: no frames here, only times.

use std::collections::VecDeque;

use super::{DeviceSpec, Lie, PAUSE_NS};
use crate::rate::Rate;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It does not come out.
    Dropped,
    /// It comes out at this time.
    Leaves(u64),
    /// It comes out twice.
    Twice(u64, u64),
}

/// One direction of a device. Times are nanoseconds of one clock, and frames come in their order.
#[derive(Debug, Clone)]
pub struct Device {
    spec: DeviceSpec,
    /// When the server is done with all that it has, with the fraction that adds up.
    free_ns: f64,
    /// When it is done with each frame that it holds.
    holds: VecDeque<f64>,
    /// It is being reset until then.
    gone_until_ns: u64,
    stream: Stream,
}

/// Frames without a long pause between them.
#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    began_ns: u64,
    last_ns: u64,
    frames: u64,
}

impl Device {
    /// One that is idle.
    pub fn new(spec: DeviceSpec) -> Self {
        Self {
            spec,
            free_ns: 0.0,
            holds: VecDeque::new(),
            gone_until_ns: 0,
            stream: Stream::default(),
        }
    }

    /// Loses all that it holds, and for a while all that comes.
    pub fn reset(&mut self, now_ns: u64) {
        self.gone_until_ns = now_ns + self.spec.reset.as_nanos() as u64;
        self.free_ns = self.gone_until_ns as f64;
        self.holds.clear();
    }

    /// Until when it is being reset; a time that may have passed.
    pub fn gone_until_ns(&self) -> u64 {
        self.gone_until_ns
    }

    /// A frame of so many bytes with FCS arrives.
    pub fn arrives(&mut self, now_ns: u64, frame_bytes: u16) -> Fate {
        let stream = &mut self.stream;
        if stream.frames == 0 || now_ns > stream.last_ns + PAUSE_NS {
            *stream = Stream {
                began_ns: now_ns,
                ..Stream::default()
            };
        }
        stream.frames += 1;
        stream.last_ns = now_ns;
        if now_ns < self.gone_until_ns {
            return Fate::Dropped;
        }
        let now = now_ns as f64;
        while self.holds.front().is_some_and(|done| *done <= now) {
            self.holds.pop_front();
        }
        if self.holds.len() >= self.spec.buffer as usize || self.drops(now_ns) {
            return Fate::Dropped;
        }
        let start = self.starts(self.free_ns.max(now));
        self.free_ns = start + self.service_ns(frame_bytes);
        self.holds.push_back(self.free_ns);
        self.fate(start as u64 + self.spec.latency.as_nanos() as u64)
    }

    fn service_ns(&self, frame_bytes: u16) -> f64 {
        match self.spec.capacity {
            Rate::Max => 0.0,
            _ => 1e9 / self.spec.capacity_fps(frame_bytes),
        }
    }

    /// When a frame is served that could be served then: not while it stalls.
    fn starts(&self, at: f64) -> f64 {
        self.spec.lies.iter().fold(at, |at, lie| match lie {
            Lie::Stall(stalls, every) => {
                let (stalls, every) = (stalls.as_nanos() as f64, every.as_nanos() as f64);
                // At the end of each period, so that it does not begin with one.
                let into = at % every;
                if into >= every - stalls {
                    at - into + every
                } else {
                    at
                }
            }
            _ => at,
        })
    }

    /// Whether it loses this frame though it has room.
    fn drops(&self, now_ns: u64) -> bool {
        let Stream {
            began_ns, frames, ..
        } = self.stream;
        self.spec.lies.iter().any(|lie| match lie {
            Lie::DropAfter(time) => {
                u128::from(now_ns - began_ns) >= time.as_nanos() && frames.is_multiple_of(100)
            }
            Lie::DropBeyond(first) => frames > *first && (frames - first) % 100 == 1,
            Lie::Duplicate(every) => frames.is_multiple_of(*every),
            Lie::Loss(every) => frames.is_multiple_of(*every),
            _ => false,
        })
    }

    /// When it comes out, and how often.
    fn fate(&self, leaves_ns: u64) -> Fate {
        let frames = self.stream.frames;
        let mut leaves = leaves_ns;
        for lie in &self.spec.lies {
            match lie {
                Lie::Duplicate(every) if frames % every == 1 => return Fate::Twice(leaves, leaves),
                // After the next frame, at any rate down to ten frames a second.
                Lie::Reorder(every) if frames.is_multiple_of(*every) => leaves += PAUSE_NS * 2,
                Lie::Late(every, by) if frames.is_multiple_of(*every) => {
                    leaves += by.as_nanos() as u64;
                }
                _ => {}
            }
        }
        Fate::Leaves(leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(text: &str) -> Device {
        Device::new(text.parse().unwrap())
    }

    /// The fates of frames of 64 bytes so many nanoseconds apart.
    fn fates(device: &mut Device, frames: u64, gap_ns: u64) -> Vec<Fate> {
        (0..frames)
            .map(|i| device.arrives(i * gap_ns, 64))
            .collect()
    }

    fn dropped(fates: &[Fate]) -> usize {
        fates.iter().filter(|fate| **fate == Fate::Dropped).count()
    }

    #[test]
    fn it_forwards_its_capacity_and_holds_its_buffer() {
        let mut same = device("capacity=1Mpps,latency=50us");
        let at_capacity = fates(&mut same, 100_000, 1000);
        assert!(
            at_capacity
                .iter()
                .zip(0..)
                .all(|(fate, i)| *fate == Fate::Leaves(i * 1000 + 50_000))
        );

        let mut twice = device("capacity=1Mpps,buffer=64");
        let fates = fates(&mut twice, 10_000, 500);
        let first = fates
            .iter()
            .position(|fate| *fate == Fate::Dropped)
            .unwrap();
        assert!((127..=129).contains(&first), "{first}");
        let lost = dropped(&fates);
        assert!((5000 - 65..=5000 - 63).contains(&lost), "{lost}");
    }

    #[test]
    fn each_lie_is_told() {
        let second = 1_000_000;
        let mut late_drops = device("drop_after=500ms");
        let lost = fates(&mut late_drops, 1000, second);
        assert_eq!((dropped(&lost[..500]), dropped(&lost[500..])), (0, 5));

        let lost = fates(&mut device("drop_beyond=700"), 1000, second);
        assert_eq!((dropped(&lost[..700]), dropped(&lost[700..])), (0, 3));

        let twice = fates(&mut device("duplicate=10"), 1000, second);
        let copies = twice
            .iter()
            .filter(|fate| matches!(fate, Fate::Twice(..)))
            .count();
        assert_eq!((dropped(&twice), copies), (100, 100));

        let late = fates(&mut device("late=10/2s,capacity=10kpps"), 10, second);
        assert_eq!(late[9], Fate::Leaves(9_000_000 + 2_000_000_000));
        let reordered = fates(&mut device("reorder=10"), 11, second);
        assert!(
            matches!((reordered[9], reordered[10]), (Fate::Leaves(a), Fate::Leaves(b)) if a > b)
        );

        // 10 of each 100 ms; a buffer of 4 frames.
        let stalled = fates(&mut device("stall=10ms/100ms,buffer=4"), 1000, second);
        assert_eq!(dropped(&stalled), 60);
    }

    #[test]
    fn a_reset_takes_a_while() {
        let mut device = device("reset=2s,capacity=1kpps");
        assert_eq!(device.arrives(0, 64), Fate::Leaves(0));
        device.reset(1_000_000_000);
        assert_eq!(device.arrives(2_999_999_999, 64), Fate::Dropped);
        assert_eq!(
            device.arrives(3_000_000_000, 64),
            Fate::Leaves(3_000_000_000)
        );
    }
}
