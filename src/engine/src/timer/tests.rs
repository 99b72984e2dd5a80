use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const GRANULE: u64 = 1 << 16;
const YEAR_NS: u64 = 365 * 24 * 3600 * 1_000_000_000;

/// No tokens.
const NONE: [u64; 0] = [];

fn wheel(now_ns: u64) -> TimerWheel {
    TimerWheel::new(now_ns, GRANULE, 1000).unwrap()
}

fn expire(wheel: &mut TimerWheel, now_ns: u64) -> Vec<u64> {
    let mut tokens = Vec::new();
    wheel.advance(now_ns, usize::MAX, |token| tokens.push(token));
    tokens
}

#[test]
fn a_timer_expires_once_and_never_early() {
    for delay in [1, GRANULE, 300 * GRANULE, 70_000 * GRANULE + 5, YEAR_NS] {
        for start in [0, 12_345, 255 * GRANULE, YEAR_NS - 1] {
            let mut wheel = wheel(start);
            let handle = wheel.schedule(start + delay, 9).unwrap();
            assert_eq!(expire(&mut wheel, start + delay - 1), NONE);
            assert!(wheel.is_running(handle));
            assert_eq!(expire(&mut wheel, start + delay + GRANULE), [9]);
            assert!(!wheel.is_running(handle));
            assert_eq!(expire(&mut wheel, u64::MAX), NONE);
        }
    }
}

#[test]
fn a_lone_timer_wakes_its_worker_once() {
    let mut wheel = wheel(77);
    wheel.schedule(10_000_000_000, 1).unwrap();
    let at = wheel.next_deadline_ns().unwrap();
    assert!((10_000_000_000..10_000_000_000 + GRANULE).contains(&at));
    assert_eq!(expire(&mut wheel, at), [1]);
    assert_eq!(wheel.next_deadline_ns(), None);
}

#[test]
fn a_worker_that_sleeps_wakes_seven_times_at_most() {
    let mut wheel = wheel(0);
    // More in one slot than are looked at, on the highest level that lasts a life.
    for token in 0..100 {
        wheel.schedule(YEAR_NS + token, token).unwrap();
    }
    let (mut wakes, mut seen) = (0, 0);
    while let Some(at) = wheel.next_deadline_ns() {
        seen += expire(&mut wheel, at).len();
        wakes += 1;
    }
    assert_eq!(seen, 100);
    assert!(wakes <= LEVELS, "{wakes} times awake");
}

#[test]
fn deadlines_that_have_passed_come_with_the_next_granule() {
    let start = YEAR_NS;
    let mut wheel = wheel(start);
    wheel.schedule(0, 1).unwrap();
    wheel.schedule(start, 2).unwrap();
    assert_eq!(expire(&mut wheel, start).len(), 0);
    let next = wheel.next_deadline_ns().unwrap();
    assert!((start + 1..=start + GRANULE).contains(&next));
    assert_eq!(expire(&mut wheel, next).len(), 2);
}

#[test]
fn who_schedules_without_end_holds_nobody_up() {
    let mut wheel = wheel(0);
    wheel.schedule(0, 0).unwrap();
    wheel.schedule(5 * GRANULE, 1).unwrap();
    let mut seen = false;
    for _ in 0..100 {
        let mut work = 1;
        while let Some(token) = wheel.pop_expired(YEAR_NS, &mut work) {
            seen |= token == 1;
            wheel.schedule(0, 0);
        }
    }
    assert!(seen);
}

#[test]
fn clocks_may_jump_and_go_back() {
    let mut wheel = wheel(10 * YEAR_NS);
    wheel.schedule(10 * YEAR_NS + 1_000_000, 1).unwrap();
    assert_eq!(expire(&mut wheel, 0), NONE);
    wheel.schedule(5, 2).unwrap();
    assert_eq!(expire(&mut wheel, 9 * YEAR_NS), NONE);
    assert_eq!(expire(&mut wheel, 500 * YEAR_NS).len(), 2);
    wheel.schedule(u64::MAX, 3).unwrap();
    assert_eq!(wheel.next_deadline_ns(), Some(u64::MAX));
    assert_eq!(expire(&mut wheel, u64::MAX), NONE, "stated: it never comes");
    let last = wheel.schedule(0, 4).unwrap();
    assert_eq!(expire(&mut wheel, u64::MAX), NONE);
    assert!(wheel.reschedule(last, 0) && wheel.cancel(last) == Some(4));
    for granule in [0, 1, 3_000, u64::MAX] {
        let mut wheel = TimerWheel::new(u64::MAX, granule, 1).unwrap();
        let shift = wheel.granularity_ns().trailing_zeros();
        assert!((LEAST_SHIFT..=MOST_SHIFT).contains(&shift));
        wheel.schedule(u64::MAX, 0).unwrap();
        wheel.next_deadline_ns();
        expire(&mut wheel, u64::MAX);
    }
}

#[test]
fn room_is_bounded_and_comes_back() {
    let mut wheel = TimerWheel::new(0, GRANULE, 3).unwrap();
    let handles: Vec<_> = (0..3)
        .map(|i| wheel.schedule(i * YEAR_NS, i).unwrap())
        .collect();
    assert_eq!(wheel.schedule(0, 9), None);
    assert_eq!(wheel.cancel(handles[1]), Some(1));
    assert!(wheel.schedule(0, 9).is_some());
    assert_eq!(wheel.schedule(0, 9), None);
    assert_eq!((wheel.len(), wheel.capacity()), (3, 3));
    assert_eq!(TimerWheel::new(0, GRANULE, 0).unwrap().schedule(0, 1), None);
    // More than there is memory for is an error, if the system does not promise it all the same.
    let huge = TimerWheel::new(0, GRANULE, usize::MAX);
    assert!(huge.is_err() || huge.is_ok_and(|w| w.capacity() < usize::MAX));
}

#[test]
fn old_handles_do_nothing() {
    let mut wheel = wheel(0);
    let old = wheel.schedule(1, 1).unwrap();
    wheel.cancel(old).unwrap();
    let new = wheel.schedule(2, 2).unwrap();
    assert_eq!(old.index, new.index, "the entry is used again");
    assert!(!wheel.reschedule(old, 3) && wheel.cancel(old).is_none());
    assert!(wheel.is_running(new));
}

#[test]
fn generations_begin_again_at_one() {
    let mut entry = Entry {
        tick: 0,
        token: 0,
        next: NIL,
        prev: NIL,
        generation: u32::MAX,
        generation_high: 0,
        slot: NOWHERE,
    };
    entry.next_generation();
    assert_eq!(entry.generation(), NonZeroU64::new(1 << 32));
    (entry.generation, entry.generation_high) = (u32::MAX, u16::MAX);
    entry.next_generation();
    assert_eq!(entry.generation(), NonZeroU64::new(1));
    assert_eq!(size_of::<Entry>(), 32);
}

#[derive(Debug, Clone)]
enum Op {
    Schedule(u64),
    Cancel(usize),
    Reschedule(usize, u64),
    /// How far the clock goes on (back, if negative), and how much may be done.
    Advance(i64, usize),
    /// To what the wheel says, or just before.
    AdvanceToNext(u64),
}

/// Times of every magnitude.
fn span() -> impl Strategy<Value = u64> {
    (0u32..62, any::<u64>()).prop_map(|(bits, value)| value >> (63 - bits))
}

fn op() -> impl Strategy<Value = Op> {
    let work = prop_oneof![3 => Just(usize::MAX), 1 => 0usize..20];
    let jump = prop_oneof![
        6 => 0..3_000 * GRANULE as i64,
        2 => span().prop_map(|s| s as i64),
        1 => span().prop_map(|s| -(s as i64)),
    ];
    let delay = prop_oneof![2 => 0..600 * GRANULE, 1 => span()];
    prop_oneof![
        4 => delay.clone().prop_map(Op::Schedule),
        1 => any::<usize>().prop_map(Op::Cancel),
        3 => (any::<usize>(), delay).prop_map(|(which, delay)| Op::Reschedule(which, delay)),
        3 => (jump, work).prop_map(|(jump, work)| Op::Advance(jump, work)),
        1 => (0..3u64).prop_map(Op::AdvanceToNext),
    ]
}

/// What the wheel is compared with: every running timer's tick.
struct Oracle {
    wheel: TimerWheel,
    now_ns: u64,
    running: BTreeMap<u64, (TimerHandle, u64)>,
    next_token: u64,
}

impl Oracle {
    fn new(now_ns: u64, max: usize) -> Self {
        Self {
            wheel: TimerWheel::new(now_ns, GRANULE, max).unwrap(),
            now_ns,
            running: BTreeMap::new(),
            next_token: 0,
        }
    }

    /// Deadline rounded up, and after what is done.
    fn tick(&self, deadline_ns: u64) -> u64 {
        deadline_ns.div_ceil(GRANULE).max(self.wheel.elapsed + 1)
    }

    fn nth(&self, which: usize) -> Option<u64> {
        let which = which.checked_rem(self.running.len())?;
        self.running.keys().nth(which).copied()
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Schedule(delay) => {
                let deadline = self.now_ns.saturating_add(delay);
                let tick = self.tick(deadline);
                let handle = self.wheel.schedule(deadline, self.next_token);
                assert_eq!(
                    handle.is_none(),
                    self.running.len() == self.wheel.capacity()
                );
                if let Some(handle) = handle {
                    self.running.insert(self.next_token, (handle, tick));
                    self.next_token += 1;
                }
            }
            Op::Cancel(which) => {
                if let Some(token) = self.nth(which) {
                    let (handle, _) = self.running.remove(&token).unwrap();
                    assert_eq!(self.wheel.cancel(handle), Some(token));
                    assert_eq!(self.wheel.cancel(handle), None);
                }
            }
            Op::Reschedule(which, delay) => {
                if let Some(token) = self.nth(which) {
                    let deadline = self.now_ns.saturating_add(delay);
                    let tick = self.tick(deadline);
                    let timer = self.running.get_mut(&token).unwrap();
                    assert!(self.wheel.reschedule(timer.0, deadline));
                    timer.1 = tick;
                }
            }
            Op::Advance(jump, work) => {
                self.now_ns = self.now_ns.saturating_add_signed(jump);
                self.advance(work);
            }
            Op::AdvanceToNext(before) => {
                if let Some(next) = self.wheel.next_deadline_ns() {
                    self.now_ns = next.saturating_sub(before);
                    let expired = self.advance(usize::MAX);
                    assert!(before == 0 || expired == 0, "expired before it was said to");
                }
            }
        }
        self.check();
    }

    fn advance(&mut self, work: usize) -> usize {
        let now = self.now_ns / GRANULE;
        let mut tokens = Vec::new();
        let done = self.wheel.advance(self.now_ns, work, |t| tokens.push(t));
        assert_eq!(done, tokens.len());
        assert!(done <= work);
        let mut last = 0;
        for token in tokens {
            let (handle, tick) = self.running.remove(&token).expect("it was running");
            assert!(tick <= now, "early");
            assert!(last <= tick, "out of order");
            last = tick;
            assert!(!self.wheel.is_running(handle));
        }
        // Whatever is due has come, unless there was too much.
        let due = self.running.values().filter(|(_, tick)| *tick <= now);
        if work == usize::MAX {
            assert_eq!(due.count(), 0);
        } else {
            assert!(due.map(|(_, tick)| *tick).min().is_none_or(|t| t >= last));
        }
        done
    }

    fn check(&self) {
        assert_eq!(self.wheel.len(), self.running.len());
        let first = self.running.values().map(|(_, tick)| *tick).min();
        let said = self.wheel.next_deadline_ns();
        assert_eq!(first.is_none(), said.is_none());
        if let (Some(first), Some(said)) = (first, said) {
            assert!(said <= first.saturating_mul(GRANULE), "sleeps too long");
            let done = self.wheel.elapsed * GRANULE;
            assert!(
                said > done || self.wheel.unfinished != NOWHERE,
                "would not sleep"
            );
        }
    }
}

proptest! {
    #[test]
    fn behaves_like_a_sorted_map(
        start in span(),
        max in 1usize..60,
        ops in prop::collection::vec(op(), 0..250),
    ) {
        let mut oracle = Oracle::new(start, max);
        for op in &ops {
            oracle.apply(op);
        }
        // In the end all have come, but for those that are stated never to come.
        oracle.now_ns = u64::MAX;
        oracle.advance(usize::MAX);
        prop_assert!(oracle.running.values().all(|(_, tick)| *tick > u64::MAX / GRANULE));
    }

    /// A little work at a time gives the same timers in the same order of ticks.
    #[test]
    fn a_budget_changes_nothing_but_the_time(
        delays in prop::collection::vec(span(), 1..80),
        work in 1usize..5,
    ) {
        let deadline = 1u64 << 62;
        let mut whole = TimerWheel::new(0, GRANULE, 100).unwrap();
        let mut parts = TimerWheel::new(0, GRANULE, 100).unwrap();
        for (token, delay) in (0..).zip(&delays) {
            whole.schedule(*delay, token).unwrap();
            parts.schedule(*delay, token).unwrap();
        }
        let want = expire(&mut whole, deadline);
        let (mut got, mut calls) = (Vec::new(), 0);
        while got.len() < want.len() {
            parts.advance(deadline, work, |token| got.push(token));
            calls += 1;
            prop_assert!(calls <= want.len() * LEVELS);
        }
        let ticks = |tokens: &[u64]| -> Vec<u64> {
            tokens.iter().map(|t| delays[*t as usize].div_ceil(GRANULE)).collect()
        };
        prop_assert_eq!(ticks(&got), ticks(&want));
    }
}
