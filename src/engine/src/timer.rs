//! Timers: a wheel for one worker, with millions of timers at a constant cost each.
//!
//! A [`TimerWheel`] has no clock, thread or callback of its own: `now_ns` is an argument, a timer is a
//! deadline and a token of the caller's, and expired tokens are handed out when the caller asks for them.
//!
//! ```
//! use linecard_engine::timer::TimerWheel;
//!
//! let mut now_ns = 5_000_000_000;
//! let mut wheel = TimerWheel::new(now_ns, 50_000, 1_000_000)?;
//! let resend = wheel.schedule(now_ns + 200_000_000, 7).expect("a million are not running yet");
//! let idle = wheel.schedule(now_ns + 30_000_000_000, 8).expect("nor now");
//!
//! // An acknowledgement came: the connection lives, and this one need not be sent again.
//! assert!(wheel.reschedule(idle, now_ns + 31_000_000_000));
//! assert_eq!(wheel.cancel(resend), Some(7));
//! assert_eq!(wheel.cancel(resend), None); // an old handle does nothing
//!
//! while let Some(deadline_ns) = wheel.next_deadline_ns() {
//!     now_ns = deadline_ns; // sleep until then
//!     wheel.advance(now_ns, 64, |token| assert_eq!(token, 8));
//! }
//! assert!((36_000_000_000..36_000_100_000).contains(&now_ns));
//! # Ok::<(), std::collections::TryReserveError>(())
//! ```
//!
//! # How it works
//!
//! Time is counted in ticks of a granule. Seven levels have 256 slots each: a slot of level 0 is a tick, a
//! slot of level 1 is 256 ticks, and so on; a slot heads lists of timers. A timer lies on the level of the
//! highest digit (base 256) in which its tick differs from the current one. When time reaches a slot,
//! timers that are due are handed out, and the others move to a lower level, so a timer moves at most
//! six times in its life, and once or twice as a rule (Varghese and Lauck, SOSP 1987, scheme 7). A bit for
//! each slot that is not empty makes empty time free to pass: a clock that jumps by years costs as much
//! as one that does not.
//!
//! A timer that is postponed stays where it is, and is only looked at again when its old slot is reached:
//! one that is put off with every packet, as retransmission and idle timers are, costs a store each time.
//!
//! # What is promised
//!
//! - A timer never expires at a `now_ns` before its deadline. It does at the first call, with work left to
//!   do it, at a `now_ns` one [granule](TimerWheel::granularity_ns) or more after the deadline (or after the
//!   call that scheduled it, if the deadline had passed by then).
//! - Timers expire in the order of their granules; within a granule in no particular order.
//! - A call does no more than the work that it was allowed. What is left is done by the next, in the
//!   same order, and timers that are scheduled meanwhile cannot hold it up.
//! - Memory, 36 bytes a timer, is asked for once, in [`TimerWheel::new`], and touched as far as it was ever used.
//! - Any `now_ns` and any deadline will do. When the clock goes back, nothing expires until it is again where
//!   it was. Deadlines in the last granule before 2⁶⁴ ns (584 years) never come.

#[cfg(test)]
mod tests;

use core::num::NonZeroU64;
use std::collections::TryReserveError;

/// A digit of a tick.
const DIGIT_BITS: u32 = 8;

/// Slots of a level.
const SLOTS: usize = 1 << DIGIT_BITS;

/// Seven digits are 56 bits, and ticks of 2^[`LEAST_SHIFT`] ns have 54, and one more where a deadline is
/// rounded up.
const LEVELS: usize = 7;

/// Lists of a slot. Who walks one list waits for memory at every timer; taking from each list in turn, we have
/// the next timers of the others on their way meanwhile.
const LANES: usize = 4;

/// The finest granule is 2¹⁰ ns, about a microsecond.
const LEAST_SHIFT: u32 = 10;

/// The coarsest is 2³⁰ ns, about a second.
const MOST_SHIFT: u32 = 30;

/// No timer: the end of a list.
const NIL: u32 = u32::MAX;

/// No slot: a timer that is free.
const NOWHERE: u16 = u16::MAX;

/// Timers of a slot that [`TimerWheel::next_deadline_ns`] looks at.
const LOOKED_AT: usize = 8;

/// A running timer. Good for [`cancel`](TimerWheel::cancel) and [`reschedule`](TimerWheel::reschedule) until
/// it expires or is cancelled; afterwards it does nothing, whatever the wheel's memory is used for by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerHandle {
    /// How often the entry was used, in 48 bits: at a million times a second they last nine years.
    generation: NonZeroU64,
    index: u32,
}

/// A timer, or room for one. Two of them are a cache line.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Entry {
    /// When it expires. It may lie in an earlier slot, if it was postponed.
    tick: u64,
    token: u64,
    /// In the list of its slot.
    next: u32,
    prev: u32,
    generation: u32,
    generation_high: u16,
    /// `level * SLOTS + digit`.
    slot: u16,
}

/// The wheel. See the [module](self).
pub struct TimerWheel {
    /// A granule is `1 << shift` nanoseconds.
    shift: u32,
    /// The current tick: all before it is done. Timers lie in the slots after it, and in `unfinished`.
    elapsed: u64,
    /// The slot that begins at `elapsed`, while it is not empty.
    unfinished: u16,
    /// A bit for each level that is not empty.
    levels: u32,
    /// A bit for each slot that is not empty.
    occupied: [[u64; SLOTS / 64]; LEVELS],
    /// The first timer of each list of each slot.
    heads: Box<[[u32; LANES]]>,
    /// The list that the next timer is taken from.
    lane: usize,
    entries: Vec<Entry>,
    /// Entries that were used before, the last one last. Not a list through the entries: whoever follows one
    /// waits for memory at every step.
    free: Vec<u32>,
    len: usize,
    max: usize,
}

impl TimerWheel {
    /// A wheel that starts at `now_ns` and has room for `max_timers`. A granule has `granularity_ns`, rounded
    /// up to a power of two between 2¹⁰ and 2³⁰.
    ///
    /// The granule is how late a timer may be. A coarser one does not make the wheel faster, unless timers run
    /// so long that they move once less: 256 granules without, 65,536 with one move, and so on.
    pub fn new(
        now_ns: u64,
        granularity_ns: u64,
        max_timers: usize,
    ) -> Result<Self, TryReserveError> {
        let shift = granularity_ns
            .clamp(1 << LEAST_SHIFT, 1 << MOST_SHIFT)
            .next_power_of_two()
            .trailing_zeros();
        let max = max_timers.min(NIL as usize);
        let mut entries = Vec::new();
        entries.try_reserve_exact(max)?;
        let mut free = Vec::new();
        free.try_reserve_exact(max)?;
        Ok(Self {
            shift,
            elapsed: now_ns >> shift,
            unfinished: NOWHERE,
            levels: 0,
            occupied: [[0; SLOTS / 64]; LEVELS],
            heads: vec![[NIL; LANES]; LEVELS * SLOTS].into(),
            lane: 0,
            entries,
            free,
            len: 0,
            max,
        })
    }

    /// How late a timer may be, in nanoseconds.
    pub fn granularity_ns(&self) -> u64 {
        1 << self.shift
    }

    /// Timers that run.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Timers that can run at once.
    pub fn capacity(&self) -> usize {
        self.max
    }

    /// Starts a timer that gives `token` when `deadline_ns` has come. `None` when as many as there is room for
    /// are running.
    #[inline]
    pub fn schedule(&mut self, deadline_ns: u64, token: u64) -> Option<TimerHandle> {
        let index = self.take_entry()?;
        let tick = self.tick_of(deadline_ns);
        let entry = &mut self.entries[index as usize];
        entry.tick = tick;
        entry.token = token;
        let generation = entry.generation()?;
        self.link(index, tick);
        self.len += 1;
        Some(TimerHandle { generation, index })
    }

    /// Stops a timer and gives its token, or `None` if it does not run any more.
    #[inline]
    pub fn cancel(&mut self, handle: TimerHandle) -> Option<u64> {
        self.running(handle)?;
        self.unlink(handle.index);
        Some(self.give_entry(handle.index))
    }

    /// Gives a running timer another deadline. `false` if it does not run any more.
    #[inline]
    pub fn reschedule(&mut self, handle: TimerHandle, deadline_ns: u64) -> bool {
        let Some(entry) = self.running(handle) else {
            return false;
        };
        let slot = entry.slot;
        let tick = self.tick_of(deadline_ns);
        // Where it lies it is met no later than it should be.
        if tick >= self.start_of(slot) {
            self.entries[handle.index as usize].tick = tick;
        } else {
            self.unlink(handle.index);
            self.entries[handle.index as usize].tick = tick;
            self.link(handle.index, tick);
        }
        true
    }

    /// Whether a timer still runs.
    pub fn is_running(&self, handle: TimerHandle) -> bool {
        self.running(handle).is_some()
    }

    /// Hands the tokens of timers whose deadline has come to `expired`; returns how many. Handing out a token
    /// is one piece of work, and so is moving a timer to a lower level; no more than `work` are done.
    #[inline]
    pub fn advance(&mut self, now_ns: u64, mut work: usize, mut expired: impl FnMut(u64)) -> usize {
        let mut count = 0;
        while let Some(token) = self.pop_expired(now_ns, &mut work) {
            expired(token);
            count += 1;
        }
        count
    }

    /// The token of one timer whose deadline has come. `None` when there is none, or when no `work` is left,
    /// which is counted down as by [`advance`](Self::advance). For who schedules timers in between:
    ///
    /// ```
    /// # use linecard_engine::timer::TimerWheel;
    /// # let mut wheel = TimerWheel::new(0, 1 << 16, 100).unwrap();
    /// # wheel.schedule(1_000_000, 1);
    /// # let (now_ns, period_ns) = (2_000_000, 10_000_000);
    /// let mut work = 64;
    /// while let Some(token) = wheel.pop_expired(now_ns, &mut work) {
    ///     wheel.schedule(now_ns + period_ns, token);
    /// }
    /// ```
    #[inline]
    pub fn pop_expired(&mut self, now_ns: u64, work: &mut usize) -> Option<u64> {
        let now = now_ns >> self.shift;
        while *work > 0 {
            let slot = match self.first_slot() {
                Some(slot) if self.start_of(slot) <= now => slot,
                // No slot is passed by, so every timer is still where it should be.
                _ => {
                    self.elapsed = self.elapsed.max(now);
                    return None;
                }
            };
            *work -= 1;
            self.elapsed = self.start_of(slot);
            self.unfinished = slot;
            let index = self.next_of(slot)?;
            // Writes to the one behind it, and so has it fetched.
            self.unlink(index);
            let tick = self.entries[index as usize].tick;
            if tick <= self.elapsed {
                return Some(self.give_entry(index));
            }
            self.link(index, tick);
        }
        None
    }

    /// Before this time no timer expires. `None` when none runs.
    ///
    /// With few timers in the next slot it is the time at which the next one expires, otherwise the beginning
    /// of the slot. It is later than `now_ns` of the last [`advance`](Self::advance), if that had work left: a
    /// worker that sleeps until then wakes seven times at most for a timer, and once more each time that it
    /// was postponed.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let slot = self.first_slot()?;
        let start = self.start_of(slot);
        // Timers that were postponed may lie beyond the end of their slot, and beyond others.
        let mut tick = start + (1 << (DIGIT_BITS * level_of(slot)));
        let mut room = LOOKED_AT;
        for &head in &self.heads[slot as usize] {
            let mut index = head;
            while index != NIL && room > 0 {
                let entry = &self.entries[index as usize];
                tick = tick.min(entry.tick);
                index = entry.next;
                room -= 1;
            }
        }
        // What is unfinished has left timers on lower levels already.
        if room == 0 || self.unfinished != NOWHERE {
            tick = start;
        }
        // The one granule that has no end.
        Some(tick.saturating_mul(1 << self.shift))
    }

    /// The tick at which a timer expires: when all of its granule is over, and never the current one, through
    /// which we may be working right now.
    #[inline(always)]
    fn tick_of(&self, deadline_ns: u64) -> u64 {
        let whole = deadline_ns >> self.shift;
        let rest = deadline_ns & ((1 << self.shift) - 1);
        (whole + u64::from(rest != 0)).max(self.elapsed + 1)
    }

    /// The first tick of a slot that is not empty: it has not been passed, so its higher digits are the
    /// current tick's.
    #[inline(always)]
    fn start_of(&self, slot: u16) -> u64 {
        let shift = DIGIT_BITS * level_of(slot);
        let digit = u64::from(slot) % SLOTS as u64;
        (self.elapsed >> shift >> DIGIT_BITS << DIGIT_BITS | digit) << shift
    }

    /// The first slot that has timers. Those of a lower level come before those of a higher one, whose digit is
    /// larger than the current tick's; only the unfinished slot comes before all.
    #[inline(always)]
    fn first_slot(&self) -> Option<u16> {
        if self.unfinished != NOWHERE {
            return Some(self.unfinished);
        }
        let level = self.levels.trailing_zeros() as usize;
        let words = self.occupied.get(level)?;
        let word = words.iter().position(|&word| word != 0)?;
        let digit = word * 64 + words[word].trailing_zeros() as usize;
        Some((level * SLOTS + digit) as u16)
    }

    /// A timer of a slot, from its lists by turns.
    #[inline(always)]
    fn next_of(&mut self, slot: u16) -> Option<u32> {
        let heads = &self.heads[slot as usize];
        let mut lanes = (1..=LANES).map(|step| (self.lane + step) % LANES);
        self.lane = lanes.find(|&lane| heads[lane] != NIL)?;
        Some(heads[self.lane])
    }

    #[inline(always)]
    fn running(&self, handle: TimerHandle) -> Option<&Entry> {
        let entry = self.entries.get(handle.index as usize)?;
        (entry.slot != NOWHERE && entry.generation() == Some(handle.generation)).then_some(entry)
    }

    /// Puts a timer into the slot for `tick`, which is after the current one.
    #[inline(always)]
    fn link(&mut self, index: u32, tick: u64) {
        let level = (tick ^ self.elapsed).ilog2() / DIGIT_BITS;
        let digit = (tick >> (DIGIT_BITS * level)) as usize % SLOTS;
        let slot = level as usize * SLOTS + digit;
        let next = core::mem::replace(&mut self.heads[slot][lane_of(index)], index);
        if next == NIL {
            self.occupied[level as usize][digit / 64] |= 1 << (digit % 64);
            self.levels |= 1 << level;
        } else {
            self.entries[next as usize].prev = index;
        }
        let entry = &mut self.entries[index as usize];
        entry.next = next;
        entry.prev = NIL;
        entry.slot = slot as u16;
    }

    #[inline(always)]
    fn unlink(&mut self, index: u32) {
        let Entry {
            next, prev, slot, ..
        } = self.entries[index as usize];
        if next != NIL {
            self.entries[next as usize].prev = prev;
        }
        if prev != NIL {
            self.entries[prev as usize].next = next;
            return;
        }
        let heads = &mut self.heads[slot as usize];
        heads[lane_of(index)] = next;
        if *heads == [NIL; LANES] {
            self.emptied(slot);
        }
    }

    #[inline(always)]
    fn emptied(&mut self, slot: u16) {
        let (level, digit) = (level_of(slot), slot as usize % SLOTS);
        let words = &mut self.occupied[level as usize];
        words[digit / 64] &= !(1 << (digit % 64));
        if *words == [0; SLOTS / 64] {
            self.levels &= !(1 << level);
        }
        if self.unfinished == slot {
            self.unfinished = NOWHERE;
        }
    }

    /// An entry that was used before, the last one first since it is in the cache, or else a new one.
    #[inline(always)]
    fn take_entry(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        let index = self.entries.len();
        if index == self.max {
            return None;
        }
        self.entries.push(Entry {
            tick: 0,
            token: 0,
            next: NIL,
            prev: NIL,
            generation: 1,
            generation_high: 0,
            slot: NOWHERE,
        });
        Some(index as u32)
    }

    /// Frees an entry that is in no list, and gives its token.
    #[inline(always)]
    fn give_entry(&mut self, index: u32) -> u64 {
        let entry = &mut self.entries[index as usize];
        entry.next_generation();
        entry.slot = NOWHERE;
        self.free.push(index);
        self.len -= 1;
        entry.token
    }
}

impl Entry {
    #[inline(always)]
    fn generation(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(u64::from(self.generation_high) << 32 | u64::from(self.generation))
    }

    /// The next one, from 1 again after the last.
    #[inline(always)]
    fn next_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            self.generation_high = self.generation_high.wrapping_add(1);
            self.generation = u32::from(self.generation_high == 0);
        }
    }
}

#[inline(always)]
fn level_of(slot: u16) -> u32 {
    u32::from(slot) / SLOTS as u32
}

#[inline(always)]
fn lane_of(index: u32) -> usize {
    index as usize % LANES
}

impl core::fmt::Debug for TimerWheel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TimerWheel")
            .field("granularity_ns", &self.granularity_ns())
            .field("len", &self.len)
            .field("capacity", &self.max)
            .field("next_deadline_ns", &self.next_deadline_ns())
            .finish_non_exhaustive()
    }
}
