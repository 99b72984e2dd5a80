//! Timers: the wheel beside a binary heap, a sorted map and tokio's `DelayQueue`, with a million running.
//!
//! `cargo bench -p linecard-engine --bench timers`; see `benches/README.md` for the method.

mod support;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use linecard_engine::timer::{TimerHandle, TimerWheel};
use support::{CHUNKS, OBJECTS, cycles, report};
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue::Key};

const RUNNING: usize = 1_000_000;

/// Time goes on in steps of a millisecond, which is `DelayQueue`'s granule.
const STEP_NS: u64 = 1_000_000;

fn main() {
    support::quiet_or_say_so();
    support::pin(0);
    measure("wheel", &mut Wheel::new(1 << 20));
    measure("wheel-65us", &mut Wheel::new(1 << 16));
    measure("heap", &mut Heap::default());
    measure("btree", &mut Map::default());
    measure("delayqueue", &mut Delay::new());
}

/// A million connections, by number, with a timer each. What finds a timer again (a handle, a key, a
/// deadline) is in an array by connection, as it would be in the connection's state.
trait Timers {
    fn schedule(&mut self, who: u32, at_ns: u64);
    fn cancel(&mut self, who: u32);
    fn postpone(&mut self, who: u32, at_ns: u64);
    /// Expires what is due at `now_ns`, and schedules each again for `again(who)`; returns how many.
    fn expire(&mut self, now_ns: u64, again: &mut dyn FnMut() -> u64) -> usize;
}

/// The same pseudo-random delays for all: between 0.2 and 10.2 s, as of retransmission and keep-alive timers.
struct Delays(u64);

impl Delays {
    fn random(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn next(&mut self) -> u64 {
        200_000_000 + self.random() % 10_000_000_000
    }
}

fn measure(whose: &str, timers: &mut dyn Timers) {
    let mut delays = Delays(0x9e37_79b9_7f4a_7c15);
    let mut order: Vec<u32> = (0..RUNNING as u32).collect();
    for i in (1..RUNNING).rev() {
        order.swap(i, delays.random() as usize % (i + 1));
    }
    for who in 0..RUNNING as u32 {
        timers.schedule(who, delays.next());
    }
    let mut now_ns = 0;
    let (mut cancels, mut schedules, mut postpones, mut expires) = (vec![], vec![], vec![], vec![]);
    for chunk in 0..CHUNKS {
        // Connections in an order that has nothing to do with when their timers were scheduled.
        let begin = chunk * OBJECTS % (RUNNING - OBJECTS);
        let some = &order[begin..begin + OBJECTS];
        cancels.push(per_object(OBJECTS, || {
            some.iter().for_each(|who| timers.cancel(*who));
        }));
        schedules.push(per_object(OBJECTS, || {
            some.iter()
                .for_each(|who| timers.schedule(*who, now_ns + delays.next()));
        }));
        // As an acknowledgement does: what is running now runs for the longest delay from now.
        postpones.push(per_object(OBJECTS, || {
            some.iter()
                .for_each(|who| timers.postpone(*who, now_ns + 10_200_000_000));
        }));
        let start = cycles();
        let mut count = 0;
        while count < OBJECTS {
            now_ns += STEP_NS;
            count += timers.expire(now_ns, &mut || now_ns + delays.next());
        }
        expires.push((cycles() - start) as f64 / count as f64);
    }
    for (how, mut each) in [
        ("schedule", schedules),
        ("cancel", cancels),
        ("postpone", postpones),
        ("expire", expires),
    ] {
        each.sort_unstable_by(f64::total_cmp);
        report("timers", how, "1M", 1, whose, Some(each[each.len() / 2]));
    }
}

fn per_object(objects: usize, work: impl FnOnce()) -> f64 {
    let start = cycles();
    work();
    (cycles() - start) as f64 / objects as f64
}

struct Wheel {
    wheel: TimerWheel,
    handles: Vec<Option<TimerHandle>>,
}

impl Wheel {
    fn new(granularity_ns: u64) -> Self {
        Self {
            wheel: TimerWheel::new(0, granularity_ns, RUNNING).unwrap(),
            handles: vec![None; RUNNING],
        }
    }
}

impl Timers for Wheel {
    fn schedule(&mut self, who: u32, at_ns: u64) {
        self.handles[who as usize] = self.wheel.schedule(at_ns, who.into());
    }

    fn cancel(&mut self, who: u32) {
        let handle = self.handles[who as usize].take();
        handle.and_then(|handle| self.wheel.cancel(handle)).unwrap();
    }

    fn postpone(&mut self, who: u32, at_ns: u64) {
        let handle = self.handles[who as usize].unwrap();
        assert!(self.wheel.reschedule(handle, at_ns));
    }

    fn expire(&mut self, now_ns: u64, again: &mut dyn FnMut() -> u64) -> usize {
        let (mut count, mut work) = (0, usize::MAX);
        while let Some(who) = self.wheel.pop_expired(now_ns, &mut work) {
            self.schedule(who as u32, again());
            count += 1;
        }
        count
    }
}

/// Deadline and connection. An entry whose deadline is not the connection's any more is passed over when it
/// comes up; when most are such, they are swept out.
#[derive(Default)]
struct Heap {
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    deadlines: Vec<u64>,
}

const CANCELLED: u64 = u64::MAX;

impl Heap {
    fn sweep(&mut self) {
        if self.heap.len() > 2 * RUNNING {
            let deadlines = &self.deadlines;
            self.heap
                .retain(|Reverse((at, who))| deadlines[*who as usize] == *at);
        }
    }
}

impl Timers for Heap {
    fn schedule(&mut self, who: u32, at_ns: u64) {
        if self.deadlines.len() <= who as usize {
            self.deadlines.resize(who as usize + 1, CANCELLED);
        }
        self.deadlines[who as usize] = at_ns;
        self.heap.push(Reverse((at_ns, who)));
        self.sweep();
    }

    fn cancel(&mut self, who: u32) {
        self.deadlines[who as usize] = CANCELLED;
    }

    fn postpone(&mut self, who: u32, at_ns: u64) {
        self.schedule(who, at_ns);
    }

    fn expire(&mut self, now_ns: u64, again: &mut dyn FnMut() -> u64) -> usize {
        let mut count = 0;
        while let Some(Reverse((at, who))) = self.heap.peek().copied() {
            if at > now_ns {
                break;
            }
            self.heap.pop();
            if self.deadlines[who as usize] == at {
                self.schedule(who, again());
                count += 1;
            }
        }
        count
    }
}

#[derive(Default)]
struct Map {
    map: BTreeMap<(u64, u32), ()>,
    deadlines: Vec<u64>,
}

impl Timers for Map {
    fn schedule(&mut self, who: u32, at_ns: u64) {
        if self.deadlines.len() <= who as usize {
            self.deadlines.resize(who as usize + 1, CANCELLED);
        }
        self.deadlines[who as usize] = at_ns;
        self.map.insert((at_ns, who), ());
    }

    fn cancel(&mut self, who: u32) {
        self.map
            .remove(&(self.deadlines[who as usize], who))
            .unwrap();
    }

    fn postpone(&mut self, who: u32, at_ns: u64) {
        self.cancel(who);
        self.schedule(who, at_ns);
    }

    fn expire(&mut self, now_ns: u64, again: &mut dyn FnMut() -> u64) -> usize {
        let mut count = 0;
        while let Some(first) = self.map.first_entry() {
            let (at, who) = *first.key();
            if at > now_ns {
                break;
            }
            first.remove();
            self.schedule(who, again());
            count += 1;
        }
        count
    }
}

/// In tokio's own virtual time.
struct Delay {
    queue: DelayQueue<u32>,
    keys: Vec<Option<Key>>,
    start: Instant,
    now_ns: u64,
    runtime: Runtime,
}

impl Delay {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        let guard = runtime.enter();
        let (queue, start) = (DelayQueue::with_capacity(RUNNING), Instant::now());
        drop(guard);
        Self {
            queue,
            keys: vec![None; RUNNING],
            start,
            now_ns: 0,
            runtime,
        }
    }

    fn at(&self, at_ns: u64) -> Instant {
        self.start + Duration::from_nanos(at_ns)
    }
}

impl Timers for Delay {
    fn schedule(&mut self, who: u32, at_ns: u64) {
        let at = self.at(at_ns);
        // Instants are relative to the runtime's paused clock.
        let _runtime = self.runtime.enter();
        self.keys[who as usize] = Some(self.queue.insert_at(who, at));
    }

    fn cancel(&mut self, who: u32) {
        let key = self.keys[who as usize].take().unwrap();
        self.queue.remove(&key);
    }

    fn postpone(&mut self, who: u32, at_ns: u64) {
        let at = self.at(at_ns);
        let _runtime = self.runtime.enter();
        self.queue.reset_at(&self.keys[who as usize].unwrap(), at);
    }

    fn expire(&mut self, now_ns: u64, again: &mut dyn FnMut() -> u64) -> usize {
        let Self {
            queue,
            keys,
            start,
            runtime,
            ..
        } = self;
        let step = Duration::from_nanos(now_ns - self.now_ns);
        self.now_ns = now_ns;
        runtime.block_on(async {
            tokio::time::advance(step).await;
            tokio::task::unconstrained(poll_fn(|cx| {
                let mut count = 0;
                while let Poll::Ready(Some(expired)) = queue.poll_expired(cx) {
                    let who = expired.into_inner();
                    let at = *start + Duration::from_nanos(again());
                    keys[who as usize] = Some(queue.insert_at(who, at));
                    count += 1;
                }
                Poll::Ready(count)
            }))
            .await
        })
    }
}
