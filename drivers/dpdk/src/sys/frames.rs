//! What is known of frames without looking at them.
//!
//! A device that fills its own pool's mbufs gives nothing else, and then nobody has to look at each. The rings of `net_ring`
//! give back whatever was sent, so what is known of those is known by who sends: each [`Sender`] says what it sends before
//! it does, and as long as all have said the same, it is what a receiver receives.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use linecard_hal::burst::Plain;
use linecard_hal::{Burst, Mbuf};

use super::port::Info;

/// What a device gives.
#[derive(Debug)]
pub(super) enum Gives {
    Anything,
    /// Mbufs of the receive queue's pool only, and of those, unless it was asked to scatter, all but the usual fields of a frame
    /// in one segment as the pool had them; of so many bytes, or 0.
    ItsPools(u32),
    WhatWasSent,
}

impl Gives {
    /// Of the drivers that are named here it is known; others give buffers of their own (net_mlx5), or are not looked into.
    pub(super) fn of(info: &Info, arguments: &str) -> Self {
        let name = info.driver.map(|c| c as u8);
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        match &name[..end] {
            b"net_null" => Self::ItsPools(null_size(arguments)),
            b"net_e1000_em" | b"net_e1000_igb" | b"net_e1000_igb_vf" | b"net_ixgbe"
            | b"net_ixgbe_vf" | b"net_i40e" | b"net_iavf" | b"net_ice" => Self::ItsPools(0),
            b"net_ring" => Self::WhatWasSent,
            _ => Self::Anything,
        }
    }

    pub(super) fn known(&self, pool: usize, scatters: bool) -> Known {
        match self {
            Self::ItsPools(each) if !scatters => Known::Own(Frames { pool, each: *each }),
            Self::WhatWasSent => Known::Sent,
            _ => Known::Nothing,
        }
    }
}

/// Bytes of the frames of `net_null`, which are all alike; 0 if its options do not say it plainly.
fn null_size(arguments: &str) -> u32 {
    let mut sizes = (arguments.split(',')).filter_map(|option| option.strip_prefix("size="));
    match (sizes.next(), sizes.next()) {
        // What its driver begins with (drivers/net/null/rte_eth_null.c).
        (None, _) => 64,
        // A number that begins with 0 would be octal there.
        (Some(size), None) if size.starts_with(|c| matches!(c, '1'..='9')) => {
            size.parse::<u16>().map_or(0, u32::from)
        }
        _ => 0,
    }
}

/// What is known of everything that a receive queue gives.
#[derive(Debug)]
pub(super) enum Known {
    Nothing,
    /// It is all like this, and has the driver's port number.
    Own(Frames),
    /// It is what was sent by this process, with whatever port number it had then.
    Sent,
}

/// Frames that are plain mbufs of one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frames {
    /// What the headers name as their pool.
    pub(crate) pool: usize,
    /// Bytes of each, if they all have as many; else 0.
    pub(crate) each: u32,
}

impl Frames {
    /// What is known of a burst of `n` such.
    #[inline(always)]
    pub(super) fn plain(self, burst: &Burst, n: usize) -> Plain {
        let Self { pool, each } = self;
        let bytes = match each {
            0 => bytes_of(burst),
            each => each.wrapping_mul(n as u32).into(),
        };
        Plain { pool, bytes, each }
    }

    /// Whether these are such.
    pub(super) fn are(self, mbufs: &[Mbuf]) -> bool {
        let is_one = |mbuf: &Mbuf| {
            let len = [mbuf.frame_len(), 0].contains(&(self.each as usize));
            mbuf.pool_token() == self.pool && mbuf.is_plain() && len
        };
        mbufs.iter().all(is_one)
    }

    /// Whether nothing new is said of frames like `other`.
    #[inline(always)]
    fn covers(self, other: Self) -> bool {
        self.pool == other.pool && (self.each == 0 || self.each == other.each)
    }
}

/// The bytes of a burst of plain mbufs. (A function of its own: who need not count has fewer registers to save.)
#[inline(never)]
fn bytes_of(burst: &Burst) -> u64 {
    // One segment each, so of less than 2¹⁶ bytes, and fewer than 2¹⁶ of them: no overflow, and one
    // instruction a frame less.
    let bytes = (burst.iter()).fold(0_u32, |sum, mbuf| sum.wrapping_add(mbuf.frame_len() as u32));
    bytes.into()
}

/// What was ever sent into the rings of this process's `net_ring` devices. One for all of them and for as long as the process
/// lives, as the options of one can make it use the rings of another, and a ring may outlive its device. Nobody else may put
/// mbufs into these rings, which DPDK would let them find by name.
pub(super) static SENT: Sent = Sent::new();

/// What was sent. Of more frames less is known, never more.
#[derive(Debug)]
pub(super) struct Sent {
    /// As in [`Frames`]; or `NOTHING` yet, or `ANYTHING`.
    pool: AtomicUsize,
    each: AtomicU32,
    saying: Mutex<()>,
}

const NOTHING: usize = 0;
/// No address of a pool.
const ANYTHING: usize = 1;

/// What a sender has said for good.
const ALL_SORTS: Frames = Frames {
    pool: ANYTHING,
    each: 0,
};

impl Sent {
    const fn new() -> Self {
        Self {
            pool: AtomicUsize::new(NOTHING),
            each: AtomicU32::new(0),
            saying: Mutex::new(()),
        }
    }

    /// What everything that has come out of the rings by now is like.
    #[inline(always)]
    pub(super) fn frames(&self) -> Option<Frames> {
        // Who sent it had said so before, and the ring's own indices order that before this. `say` stores in the other order, so
        // that a length is never that of an earlier pool.
        let pool = self.pool.load(Ordering::Acquire);
        let each = self.each.load(Ordering::Relaxed);
        (pool > ANYTHING).then_some(Frames { pool, each })
    }

    /// Takes note of what is about to be sent; returns what all that was ever sent is like, then.
    #[cold]
    fn say(&self, frames: Option<Frames>) -> Option<Frames> {
        let _saying = self.saying.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match (self.pool.load(Ordering::Relaxed), frames) {
            (NOTHING, frames) => frames,
            (pool, Some(frames)) if pool == frames.pool => {
                let each = self.each.load(Ordering::Relaxed);
                let each = if each == frames.each { each } else { 0 };
                Some(Frames { pool, each })
            }
            _ => None,
        };
        if let Some(frames) = now {
            self.each.store(frames.each, Ordering::Release);
        }
        let pool = now.map_or(ANYTHING, |frames| frames.pool);
        self.pool.store(pool, Ordering::Release);
        now
    }
}

/// One that sends into rings.
#[derive(Debug)]
pub(super) struct Sender {
    sent: &'static Sent,
    /// What it has said: that nothing but such is sent; or `NOTHING` yet, or `ANYTHING`.
    said: Frames,
}

impl Sender {
    pub(super) fn new(sent: &'static Sent) -> Self {
        Self {
            sent,
            said: Frames {
                pool: NOTHING,
                each: 0,
            },
        }
    }

    /// Whether such may be sent without another word.
    #[inline(always)]
    pub(super) fn has_said(&self, frames: Frames) -> bool {
        self.said == frames
    }

    /// Says what is about to be sent, if that is news.
    #[inline(always)]
    pub(super) fn tell(&mut self, burst: &mut Burst) {
        let told =
            (burst.plain_of(self.said.pool)).is_some_and(|plain| plain.each == self.said.each);
        if !told {
            self.say(burst);
        }
    }

    #[inline(never)]
    fn say(&mut self, burst: &mut Burst) {
        if self.said.pool == ANYTHING || burst.is_empty() {
            return;
        }
        let frames = burst
            .find_plain()
            .map(|Plain { pool, each, .. }| Frames { pool, each });
        if frames.is_none_or(|frames| !self.said.covers(frames)) {
            self.said = self.sent.say(frames).unwrap_or(ALL_SORTS);
        }
    }

    /// Says that what is about to be sent may be anything.
    pub(super) fn tell_anything(&mut self) {
        if self.said != ALL_SORTS {
            self.sent.say(None);
            self.said = ALL_SORTS;
        }
    }
}

#[cfg(test)]
mod tests;
