use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// What came of a lane, counted.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Tally {
    received: u64,
    reordered: u64,
    duplicated: u64,
    late: u64,
    astray: u64,
}

impl Tally {
    fn of(tracker: &mut Tracker, arrivals: &[u64]) -> Self {
        let mut tally = Self::default();
        for &number in arrivals {
            match tracker.record(number as u32) {
                Arrival::InOrder => tally.received += 1,
                Arrival::Reordered { .. } => {
                    tally.received += 1;
                    tally.reordered += 1;
                }
                Arrival::Duplicate => tally.duplicated += 1,
                Arrival::Late => tally.late += 1,
                Arrival::Astray => tally.astray += 1,
                Arrival::Resumed { before } => {
                    tally.received += 2;
                    match before {
                        Before::Astray => tally.astray -= 1,
                        Before::Duplicate => tally.duplicated -= 1,
                    }
                }
            }
        }
        tally
    }

    /// The same by the definitions, with all the memory in the world, for arrivals within the window.
    fn by_definition(first: u64, window: u64, arrivals: &[u64]) -> (Self, u64) {
        let (mut tally, mut seen, mut next) = (Self::default(), HashSet::new(), first);
        for &number in arrivals {
            if number < first {
                tally.late += 1;
            } else if number < next && next - number > window {
                tally.astray += 1;
            } else if !seen.insert(number) {
                tally.duplicated += 1;
            } else {
                tally.received += 1;
                tally.reordered += u64::from(number < next);
                next = next.max(number + 1);
            }
        }
        (tally, next)
    }
}

/// Numbers from `start` on, some missing, some twice, some held back, as a network might deliver them.
fn arrivals(most_lost: u64) -> impl Strategy<Value = (u64, u64, Vec<u64>)> {
    let starts = prop_oneof![
        Just(0),
        0..1_000_000_u64,
        // Around the wrap.
        (1_u64 << 32) - 300..(1_u64 << 32) + 300,
        Just((7_u64 << 32) - 5),
    ];
    let fates = proptest::collection::vec((0..20_u8, 0..300_u64), 1..600);
    (starts, 0..100_u64, fates).prop_map(move |(start, before, fates)| {
        let mut timed = Vec::new();
        let mut number = start.saturating_sub(before);
        for (i, (fate, by)) in (0_u64..).zip(fates) {
            match fate {
                // Lost, one or many.
                0 => number += 1 + by % most_lost,
                1 => number += 1,
                _ => {
                    if fate == 2 {
                        timed.push((i * 2 + 1 + by * 2, number));
                    }
                    let held = if fate == 3 { by * 2 } else { 0 };
                    timed.push((i * 2 + held, number));
                    number += 1;
                }
            }
        }
        timed.sort_by_key(|(time, _)| *time);
        let arrivals = timed.into_iter().map(|(_, number)| number).collect();
        (start, before, arrivals)
    })
}

proptest! {
    #[test]
    fn is_the_definition(window in prop_oneof![Just(64_usize), Just(128), Just(4096)], (start, _, arrivals) in arrivals(300)) {
        let mut tracker = Tracker::new(window);
        tracker.begin(start);
        let tally = Tally::of(&mut tracker, &arrivals);
        let (wanted, next) = Tally::by_definition(start, tracker.window(), &arrivals);
        prop_assert_eq!(tally, wanted);
        prop_assert_eq!((tracker.first(), tracker.next()), (start, next));
    }

    #[test]
    fn goes_on_from_interval_to_interval((start, _, arrivals) in arrivals(300), cut in 0..1000_usize) {
        let mut tracker = Tracker::new(1024);
        tracker.begin(start);
        let (one, two) = arrivals.split_at(cut.min(arrivals.len()));
        Tally::of(&mut tracker, one);
        let second = tracker.next();
        tracker.begin(second);
        let tally = Tally::of(&mut tracker, two);
        prop_assert_eq!(tally, Tally::by_definition(second, 1024, two).0);
    }

    #[test]
    fn a_learnt_lane_misses_nothing_but_its_edges((_, _, arrivals) in arrivals(5)) {
        let mut tracker = Tracker::new(4096);
        tracker.learn(arrivals.first().map_or(0, |&n| n as u32));
        let tally = Tally::of(&mut tracker, &arrivals);
        let lowest = arrivals.iter().copied().min().unwrap_or(0);
        let (wanted, next) = Tally::by_definition(lowest, 4096, &arrivals);
        // A second 0 followed by a second 1 is a sender's new beginning, and so not a pair of copies.
        let again = arrivals.windows(2).any(|pair| pair == [0, 1]) && tally.duplicated < wanted.duplicated;
        if !again {
            prop_assert_eq!(
                (tally.received, tally.reordered, tally.duplicated),
                (wanted.received, wanted.reordered, wanted.duplicated)
            );
            prop_assert_eq!(tracker.span(), next.saturating_sub(lowest));
        }
    }

    #[test]
    fn bounded_whatever_comes(numbers: Vec<u32>, begin: Result<u64, u32>) {
        let mut tracker = Tracker::new(64);
        match begin {
            Ok(first) => tracker.begin(first >> 1),
            Err(first) => tracker.learn(first),
        }
        let numbers: Vec<u64> = numbers.into_iter().map(u64::from).collect();
        let tally = Tally::of(&mut tracker, &numbers);
        let all = tally.received + tally.duplicated + tally.late + tally.astray;
        prop_assert_eq!(all, numbers.len() as u64);
        prop_assert!(tally.received <= tracker.span());
        prop_assert_eq!(tracker.window(), 64);
    }
}

#[test]
fn a_sender_that_begins_anew_is_a_second_sequence() {
    for count in [10, 5000, 5_000_000_u64] {
        let mut tracker = Tracker::new(4096);
        let mut numbers: Vec<u64> = (count - 10..count).collect();
        numbers.extend(0..10);
        tracker.learn(numbers[0] as u32);
        let tally = Tally::of(&mut tracker, &numbers);
        let wanted = Tally {
            received: 20,
            ..Tally::default()
        };
        assert_eq!((tally, tracker.span()), (wanted, 20), "{count}");
    }
}

#[test]
fn one_frame_far_off_changes_nothing_and_two_do() {
    let mut tracker = Tracker::new(4096);
    tracker.learn(5);
    let numbers = [5, 6, 3_000_000, 7, 8, 3_000_000, 9, 4_000_000_000, 10];
    let tally = Tally::of(&mut tracker, &numbers);
    assert_eq!((tally.received, tally.astray, tracker.span()), (6, 3, 6));
    // We were away for a while.
    let tally = Tally::of(&mut tracker, &[3_000_000, 3_000_001, 3_000_002]);
    assert_eq!((tally.received, tally.astray), (3, 0));
    assert_eq!(tracker.span(), 3_000_003 - 5);
}

#[test]
fn what_the_window_forgot_is_called_astray() {
    let mut tracker = Tracker::new(64);
    tracker.begin(0);
    let tally = Tally::of(&mut tracker, &[0, 1, 3, 100, 2, 3, 37, 36]);
    let wanted = Tally {
        received: 5,
        reordered: 1,
        duplicated: 0,
        late: 0,
        astray: 3,
    };
    // The oldest of 64 up to 100 is 37.
    assert_eq!(tally, wanted);
}
