//! Reassembly of IPv4 and IPv6 datagrams (RFC 791, RFC 815, RFC 8200 section 4.5), with bounds.
//!
//! A datagram's fragments are kept sorted, and never overlap: one that does ends the whole datagram, and what
//! comes of it later is discarded, too (RFC 5722; for IPv4 alike, as nobody sends overlaps but attackers). So there
//! are no holes left exactly when the lengths add up to that of the whole, and RFC 815's list of holes is not
//! needed.
//!
//! Nothing is copied: the frames wait as they came, and the whole is a chain of them, headers taken off but for
//! the first. Copied is only what cannot wait or be read: a frame in an external buffer, because a kernel's receive
//! ring has few and wants them back soon; and a datagram whose first fragment is so short that not all headers
//! would lie in the first segment.
//!
//! # Bounds
//!
//! Datagrams, fragments of each and of all, their bytes, and the time they have. Where a datagram waits is
//! chosen by a keyed hash of its addresses, among eight places: one pair of hosts pushes out only its own, at
//! most. When fragments or bytes run out, the oldest datagram goes.

mod pieces;
#[cfg(test)]
mod tests;
mod whole;

use std::net::IpAddr;

use linecard_hal::{Mbuf, Mempool};
use serde::Serialize;

use crate::lists::Lists;
use crate::reason::{Drops, Reason};
use crate::secret::Secret;
use pieces::{Pieces, Placed, Run};
pub(crate) use whole::{FragmentAt, find_fragment};
/// Places that a datagram can wait in.
const WAYS: usize = 8;
/// Keeps this use of the secret apart from others.
const USE: u64 = 0x6672_6167;
const FREE: usize = 0;
const USED: usize = 1;
/// What length fields can say.
const MOST_BYTES: u32 = u16::MAX as u32;

/// Limits of reassembly.
#[derive(Debug, Clone, Serialize)]
pub struct ReassemblyConfig {
    /// How many datagrams may be incomplete; rounded up to a multiple of eight.
    pub datagrams: u32,
    /// How many fragments may be kept in all: so many mbufs, at least, are to be in the pool for it.
    pub fragments: u32,
    /// How many fragments a datagram may have. 64 KiB make 45 at an MTU of 1,500 and 119 at one of 576.
    pub fragments_each: u32,
    /// Bytes that may be kept in all.
    pub bytes: usize,
    /// How long a datagram may take. RFC 8200 has 60 seconds.
    pub timeout_ns: u64,
}

impl Default for ReassemblyConfig {
    fn default() -> Self {
        Self {
            datagrams: 64,
            fragments: 512,
            fragments_each: 128,
            bytes: 1 << 20,
            timeout_ns: 60_000_000_000,
        }
    }
}

/// What fragments of one datagram have in common (RFC 791 section 3.2; RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// The interface that they came by.
    pub interface: u16,
    /// From whom.
    pub src: IpAddr,
    /// To whom.
    pub dst: IpAddr,
    /// The protocol in IPv4; 0 in IPv6, where only that of the first fragment counts.
    pub protocol: u8,
    /// The identification.
    pub ident: u32,
}

/// Where a fragment belongs, and where its bytes lie in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Which datagram.
    pub key: FragmentKey,
    /// Where in the datagram its bytes belong.
    pub offset: u16,
    /// How many there are.
    pub len: u16,
    /// Whether more follow.
    pub more: bool,
    /// Where the IP header begins in the frame.
    pub l3_offset: u16,
    /// Where the bytes begin in the frame.
    pub data_offset: u16,
    /// Congestion notification (RFC 3168 section 5.3).
    pub ecn: u8,
}

impl Fragment {
    /// Whether it is all there is: an atomic fragment.
    pub fn is_whole(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// What became of a fragment.
#[derive(Debug)]
pub enum Added {
    /// It waits for others; or it was the last, and the whole was discarded and counted, as it cannot be.
    Kept,
    /// The datagram is whole: its first frame's Ethernet and IP headers, and all bytes.
    Whole(Mbuf),
    /// It was not taken.
    Refused(Mbuf, Reason),
}

/// A datagram that did not become whole in time.
#[derive(Debug)]
pub struct Expired {
    /// The frame of its first fragment, if that came: what an error quotes.
    pub first: Option<Mbuf>,
}

#[derive(Debug)]
struct Datagram {
    key: Option<FragmentKey>,
    deadline_ns: u64,
    run: Run,
    /// The length of the whole, once the last fragment came.
    total: Option<u32>,
    /// One bit for each of the four ECN values seen.
    ecn: u8,
    /// It was discarded; whatever else comes of it is, too.
    dead: bool,
}

/// Incomplete datagrams. Time is an argument; a clock that goes backwards is taken to stand still.
#[derive(Debug)]
pub struct Reassembly {
    datagrams: Box<[Datagram]>,
    /// Used places, the oldest datagram first: as all have the same time, the next to expire.
    lists: Lists<2>,
    pieces: Pieces,
    secret: Secret,
    config: ReassemblyConfig,
    now_ns: u64,
    drops: Drops,
}

impl Reassembly {
    /// Nothing yet; everything it will ever need is allocated now.
    pub fn new(config: ReassemblyConfig, secret: Secret) -> Self {
        let places = config
            .datagrams
            .clamp(1, 1 << 20)
            .next_multiple_of(WAYS as u32);
        let empty = || Datagram {
            key: None,
            deadline_ns: 0,
            run: Run::default(),
            total: None,
            ecn: 0,
            dead: false,
        };
        Self {
            datagrams: (0..places).map(|_| empty()).collect(),
            lists: Lists::new(places),
            pieces: Pieces::new(config.fragments.clamp(1, 1 << 24)),
            secret,
            now_ns: 0,
            drops: Drops::default(),
            config,
        }
    }

    /// Mbufs that wait here at most, if no fragment is longer than one.
    pub fn most_mbufs(&self) -> usize {
        self.pieces.capacity()
    }

    /// Fragments that wait.
    pub fn waiting(&self) -> usize {
        self.pieces.used()
    }

    /// Bytes that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.pieces.bytes()
    }

    /// Fragments that were kept and then discarded.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Takes a fragment. `pool` is for what has to be copied.
    pub fn add(&mut self, frame: Mbuf, fragment: &Fragment, pool: &Mempool, now_ns: u64) -> Added {
        self.now_ns = self.now_ns.max(now_ns);
        let end = u32::from(fragment.offset) + u32::from(fragment.len);
        let aligned = !fragment.more || fragment.len.is_multiple_of(8);
        if fragment.len == 0 || end > MOST_BYTES || !aligned {
            return Added::Refused(frame, Reason::BadFragment);
        }
        if fragment.is_whole() {
            // Whatever else is about with the same identification (RFC 6946).
            return match whole::of_one(frame, fragment, pool) {
                Ok(frame) => Added::Whole(frame),
                Err((frame, reason)) => Added::Refused(frame, reason),
            };
        }
        let place = self.place(&fragment.key);
        if self.datagrams[place].dead {
            return Added::Refused(frame, Reason::FragmentLate);
        }
        let frame = match fit_to_wait(frame, fragment, pool) {
            Ok(frame) => frame,
            Err((frame, reason)) => return Added::Refused(frame, reason),
        };
        if let Err(reason) = self.admit(place, fragment, end) {
            return self.kill(place, frame, reason);
        }
        if !self.make_room(place, frame.frame_len()) {
            return self.kill(place, frame, Reason::FragmentLimit);
        }
        let datagram = &mut self.datagrams[place];
        let start = fragment.offset.into();
        match self
            .pieces
            .insert(&mut datagram.run, start..end, fragment, frame)
        {
            Placed::Kept => {}
            Placed::Duplicate(frame) => return Added::Refused(frame, Reason::FragmentDuplicate),
            Placed::Overlap(frame) => return self.kill(place, frame, Reason::FragmentOverlap),
        }
        datagram.ecn |= 1 << (fragment.ecn & 3);
        if datagram.total == Some(datagram.run.bytes) {
            return self.finish(place, pool);
        }
        Added::Kept
    }

    /// Whether the fragment agrees with what is known of the datagram's length.
    fn admit(&mut self, place: usize, fragment: &Fragment, end: u32) -> Result<(), Reason> {
        let datagram = &mut self.datagrams[place];
        if datagram.run.count >= self.config.fragments_each {
            return Err(Reason::FragmentLimit);
        }
        let agrees = match datagram.total {
            Some(total) if fragment.more => end <= total,
            Some(total) => end == total,
            None => fragment.more || self.pieces.end(&datagram.run) <= end,
        };
        if !agrees {
            return Err(Reason::FragmentOverlap);
        }
        if !fragment.more {
            datagram.total = Some(end);
        }
        Ok(())
    }

    /// Where the datagram waits, or is to wait.
    fn place(&mut self, key: &FragmentKey) -> usize {
        let pair = (key.interface, key.src, key.dst);
        let sets = self.datagrams.len() / WAYS;
        let first = self.secret.hash(USE, &pair) as usize % sets * WAYS;
        let set = first..first + WAYS;
        let here = |place: &usize| self.datagrams[*place].key.as_ref() == Some(key);
        if let Some(place) = set.clone().find(here) {
            return place;
        }
        let age = |place: &usize| {
            let datagram = &self.datagrams[*place];
            datagram.key.map(|_| datagram.deadline_ns)
        };
        // A free one, which has no age, or the oldest.
        let place = set.min_by_key(age).unwrap_or(first);
        self.clear(place, Reason::FragmentEvicted);
        let datagram = &mut self.datagrams[place];
        datagram.key = Some(*key);
        datagram.deadline_ns = self.now_ns.saturating_add(self.config.timeout_ns);
        self.lists.move_to(place as u32, USED);
        place
    }

    /// Makes room for one more fragment of the datagram at `place`, at the cost of older ones.
    fn make_room(&mut self, place: usize, bytes: usize) -> bool {
        while self.pieces.is_full() || self.pieces.bytes() + bytes > self.config.bytes {
            match self.lists.first(USED) {
                Some(oldest) if oldest as usize != place => {
                    self.clear(oldest as usize, Reason::FragmentEvicted);
                }
                _ => return false,
            }
        }
        true
    }

    /// Discards a datagram, and what is still to come of it.
    fn kill(&mut self, place: usize, frame: Mbuf, reason: Reason) -> Added {
        let datagram = &mut self.datagrams[place];
        self.drops.add(reason, self.pieces.clear(&mut datagram.run));
        datagram.dead = true;
        Added::Refused(frame, reason)
    }

    /// Frees a place.
    fn clear(&mut self, place: usize, reason: Reason) {
        let datagram = &mut self.datagrams[place];
        self.drops.add(reason, self.pieces.clear(&mut datagram.run));
        datagram.key = None;
        (datagram.total, datagram.ecn, datagram.dead) = (None, 0, false);
        self.lists.move_to(place as u32, FREE);
    }

    fn finish(&mut self, place: usize, pool: &Mempool) -> Added {
        let datagram = &mut self.datagrams[place];
        let (ecn, count) = (datagram.ecn, datagram.run.count as usize);
        let joined = whole::join(&mut self.pieces, &mut datagram.run, ecn, pool);
        self.clear(place, Reason::BadFragment);
        match joined {
            Ok(whole) => Added::Whole(whole),
            Err(reason) => {
                self.drops.add(reason, count);
                Added::Kept
            }
        }
    }

    /// When [`poll`](Self::poll) has something to do.
    pub fn deadline_ns(&self) -> Option<u64> {
        let oldest = self.lists.first(USED)?;
        Some(self.datagrams[oldest as usize].deadline_ns)
    }

    /// The next datagram whose time is over by now, if any: to be called until there is none.
    pub fn poll(&mut self, now_ns: u64) -> Option<Expired> {
        self.now_ns = self.now_ns.max(now_ns);
        let oldest = self.lists.first(USED)? as usize;
        let datagram = &mut self.datagrams[oldest];
        if datagram.deadline_ns > self.now_ns {
            return None;
        }
        let first = self.pieces.take_first(&mut datagram.run);
        self.drops
            .add(Reason::FragmentTimeout, first.is_some().into());
        self.clear(oldest, Reason::FragmentTimeout);
        Some(Expired { first })
    }
}

/// Makes a frame one that can wait, and whose bytes end where the fragment's do.
fn fit_to_wait(
    mut frame: Mbuf,
    fragment: &Fragment,
    pool: &Mempool,
) -> Result<Mbuf, (Mbuf, Reason)> {
    if frame.any_external() {
        match frame.copy(pool) {
            Some(copy) => frame = copy,
            None => return Err((frame, Reason::NoMbuf)),
        }
    }
    let end = usize::from(fragment.data_offset) + usize::from(fragment.len);
    let headers = frame.data().len() >= usize::from(fragment.data_offset);
    let padding = frame.frame_len().checked_sub(end);
    match padding {
        Some(padding) if headers && frame.trim(padding) => Ok(frame),
        _ => Err((frame, Reason::Malformed)),
    }
}
