//! The worker: one pinned thread and its loop.
//!
//! The packet's path through Linecard is [`Worker::turn`]: receive, process, transmit, mailbox; or, for what a stage only lets
//! pass, from queue to queue ([`passing`]). All else here happens between turns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use linecard_hal::{Burst, Mempool, PortError, RxQueue};

use crate::clock;
use crate::context::Context;
use crate::counters::Published;
use crate::handoff::{Crossing, Inbox};
use crate::idle::{Idle, Idler, TICK};
use crate::passing;
use crate::pin;
use crate::stage::{DropReason, PortIndex};
use crate::work::Work;

/// A receive queue of this worker.
pub(crate) struct Input {
    pub(crate) port: PortIndex,
    pub(crate) rx: Box<dyn RxQueue>,
    /// What it gave last, until that is settled.
    pub(crate) burst: Burst,
    /// Where its frames go without the stage, if this worker transmits there; known once it is attached.
    pub(crate) route: Option<PortIndex>,
}

impl Input {
    /// Receives a burst, and has it processed; returns its frames.
    #[inline(always)]
    fn process(&mut self, work: &mut Work, cx: &mut Context) -> usize {
        let Self { rx, burst, .. } = self;
        let received = rx.receive(burst);
        if received == 0 {
            return 0;
        }
        if cx.taps.any() {
            cx.taps.received(self.port, burst);
        }
        cx.port = self.port;
        cx.counters.rx += received as u64;
        cx.counters.bursts += 1;
        work.process(burst, cx);
        if !burst.is_empty() {
            cx.drop_burst(DropReason::Unclaimed, burst);
        }
        received
    }
}

/// What all workers of an engine share.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) stop: AtomicBool,
    /// Stop when this many frames were received in all; 0 for no limit.
    limit: u64,
    received: AtomicU64,
    /// Workers whose inputs may still give frames.
    unfinished: AtomicUsize,
    /// Frames between one worker's hands and another's, counted before the sender lets go and until
    /// the receiver has settled them.
    pub(crate) crossing: AtomicUsize,
}

impl Control {
    pub(crate) fn new(limit: Option<u64>, workers: usize) -> Self {
        Self {
            stop: AtomicBool::new(false),
            limit: limit.unwrap_or(0),
            received: AtomicU64::new(0),
            unfinished: AtomicUsize::new(workers),
            crossing: AtomicUsize::new(0),
        }
    }

    /// Whether no frame can ever come to any worker again.
    fn is_over(&self) -> bool {
        // In this order: a worker adds what it sends before it is finished itself.
        self.unfinished.load(Ordering::Acquire) == 0 && self.crossing.load(Ordering::Acquire) == 0
    }
}

pub(crate) struct Worker {
    pub(crate) lcore: Option<u32>,
    pub(crate) inputs: Vec<Input>,
    /// Whether all that its inputs give goes from queue to queue: see [`passing`].
    pub(crate) only_passes: bool,
    pub(crate) work: Work,
    pub(crate) cx: Context,
    pub(crate) inbox: Inbox,
    pub(crate) idle: Idle,
    pub(crate) control: Arc<Control>,
    pub(crate) published: Arc<Published>,
    /// All pools of the engine, whose caches this thread has to empty at the end.
    pub(crate) pools: Vec<Mempool>,
    /// Whether our inputs are known to have ended, and `Control::unfinished` knows it.
    pub(crate) finished: bool,
    /// Frames that the packet limit knows of.
    pub(crate) limited: u64,
    /// Frames of the mail that was opened in this turn.
    pub(crate) mail: usize,
}

/// What came of a turn, or of its inputs.
#[derive(Default)]
pub(crate) struct Turn {
    /// Times that the inputs were asked: the one that was asked most.
    pub(crate) rounds: u16,
    pub(crate) frames: usize,
    /// How many of the frames came last: when each input was last asked, or from elsewhere.
    pub(crate) last: usize,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Told to stop, or its inputs ended.
    Stopped,
    /// Its stage panicked, with this message.
    Panicked(String),
    /// It could not start.
    Failed(String),
}

/// Rounds of the inputs at most that are timed together, if each but the last gives a burst or more: reading the clock costs as
/// much as a frame or two. An empty round behind such rounds counts as busy with them.
const ROUNDS: u16 = 8;

/// The same while a worker only passes on: these rounds end soon after anybody else wants it.
const PASSES: u16 = 64;

/// How long a stopping worker tries to send what waits.
const FAREWELL: Duration = Duration::from_millis(200);

impl Ending {
    pub(crate) fn failure(self) -> Option<String> {
        match self {
            Self::Stopped => None,
            Self::Panicked(message) => Some(format!("its stage panicked: {message}")),
            Self::Failed(error) => Some(error),
        }
    }
}

impl Worker {
    /// The thread's body. Gives the inbox back, because others may still push into it.
    pub(crate) fn run(mut self) -> (Ending, Inbox) {
        let _lcore = linecard_hal::lcore::register();
        if let Err(error) = self.prepare() {
            return self.close(Ending::Failed(error));
        }
        // A panic of the stage ends this worker and nothing else: what it holds is freed, its queues
        // are closed, and the others go on. Nothing is used afterwards but counters and queues, which
        // no panic of a stage leaves half-changed: they are changed only outside of it.
        let ending = match catch_unwind(AssertUnwindSafe(|| self.work())) {
            Ok(()) => Ending::Stopped,
            Err(panic) => {
                let lost = self.cx.entered().saturating_sub(self.cx.settled());
                let port = self.cx.port as usize;
                self.cx.counters.ports[port].drops[DropReason::StagePanic as usize] += lost;
                // What was left of the mail was freed with the rest of the turn.
                self.settle_mail();
                Ending::Panicked(message_of(&*panic))
            }
        };
        self.close(ending)
    }

    fn prepare(&mut self) -> Result<(), String> {
        if let Some(lcore) = self.lcore {
            pin::pin_current_thread(lcore).map_err(|e| e.to_string())?;
        }
        self.attach().map_err(|e| e.to_string())
    }

    /// Binds the queues, and what wakes protocols, to this thread.
    pub(crate) fn attach(&mut self) -> Result<(), PortError> {
        for input in &mut self.inputs {
            input.rx.attach()?;
        }
        for output in &mut self.cx.outputs {
            output.attach()?;
        }
        self.read_clock();
        self.work.attach(&self.inbox.bell, &mut self.cx);
        self.only_passes = passing::find_routes(&mut self.inputs, &self.work, &self.cx.outputs);
        Ok(())
    }

    /// A turn that somebody else asks for, who also says when the queues are to be looked after.
    pub(crate) fn step(&mut self, tick: bool) -> usize {
        if tick {
            self.maintain();
        }
        self.turn(1).frames
    }

    /// When it has something to do though nothing arrives.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        self.work.deadline_ns()
    }

    /// Ends without having had a thread.
    pub(crate) fn end(self) -> (Ending, Inbox) {
        self.close(Ending::Stopped)
    }

    /// Turns until told to stop.
    fn work(&mut self) {
        let tick = clock::cycles_of(TICK);
        let mut idler = Idler::new(self.idle);
        let mut now = self.read_clock();
        let mut next_tick = now;
        let full = self.cx.burst_size;
        let mut untimed = 0;
        while !self.control.stop.load(Ordering::Relaxed) {
            let at_once = self.at_once();
            let turn = self.turn(at_once.saturating_sub(untimed).max(1));
            untimed += turn.rounds;
            if turn.last >= full && untimed < at_once {
                idler.busy();
                continue;
            }
            let end = self.read_clock();
            let cycles = end.wrapping_sub(now);
            self.cx.counters.cycles += cycles;
            let frames = turn.frames;
            if frames > 0 || untimed > turn.rounds {
                self.cx.counters.busy_cycles += cycles;
            }
            (now, untimed) = (end, 0);
            // Signed difference: the counter may wrap.
            if now.wrapping_sub(next_tick) as i64 >= 0 {
                next_tick = now.wrapping_add(tick);
                if self.maintain() {
                    return;
                }
            }
            if frames > 0 {
                idler.busy();
            } else if idler.empty(now) {
                self.sleep(&mut idler);
                now = self.read_clock();
            }
        }
    }

    /// How many rounds of the inputs may be timed together.
    #[inline(always)]
    fn at_once(&self) -> u16 {
        if self.control.limit > 0 {
            // Frames are counted up to the limit, or a burst later.
            1
        } else if self.passes() && self.work.is_only_answering() {
            PASSES
        } else {
            ROUNDS
        }
    }

    /// Whether what comes goes from queue to queue now.
    #[inline(always)]
    fn passes(&self) -> bool {
        self.only_passes && !self.cx.unsent && !self.cx.taps.any()
    }

    /// What the time is, also for all that is done until it is read again.
    #[inline(always)]
    fn read_clock(&mut self) -> u64 {
        self.cx.cycles = clock::cycles();
        self.cx.cycles
    }

    /// One turn: every input, the mailbox, the stage's own frames; then everything out. The inputs are asked up to `most` times
    /// before the rest, as long as there is no rest: bursts come in full and go straight out, there is no mail, and the stage
    /// only answers. That is looked at behind each round; but mail, taps and an end only behind every eighth while all only
    /// passes.
    #[inline(always)]
    fn turn(&mut self, most: u16) -> Turn {
        self.cx.taps.refresh();
        let most = if self.work.is_only_answering() {
            most
        } else {
            1
        };
        let mut turn = self.receive(most);
        while !self.only_passes
            && turn.rounds < most
            && turn.last >= self.cx.burst_size
            && !self.cx.unsent
            && self.inbox.ring.is_empty()
        {
            let next = self.receive(most - turn.rounds);
            turn.rounds += next.rounds;
            turn.frames += next.frames;
            turn.last = next.last;
        }
        let mail = self.open_mail();
        turn.frames += mail;
        turn.last += mail;
        if self.work.is_source(&self.cx) {
            let before = self.cx.counters.generated;
            self.work.generate(&mut self.cx);
            let generated = (self.cx.counters.generated - before) as usize;
            turn.frames += generated;
            turn.last += generated;
        }
        self.cx.transmit();
        self.settle_mail();
        self.account(&turn);
        turn
    }

    /// Asks each input for a burst; or for up to `most`, if they only pass on, as long as nobody waits and nobody looks.
    #[inline(always)]
    fn receive(&mut self, most: u16) -> Turn {
        let passes = self.passes();
        let Self {
            inputs, work, cx, ..
        } = self;
        if passes {
            return passing::pass(inputs, &self.inbox, cx, most);
        }
        let frames = (inputs.iter_mut())
            .map(|input| input.process(work, cx))
            .sum();
        Turn {
            rounds: 1,
            frames,
            last: frames,
        }
    }

    /// Takes over frames from other workers, a burst at most.
    #[inline(always)]
    fn open_mail(&mut self) -> usize {
        if self.inbox.ring.is_empty() {
            return 0;
        }
        let frames = self.inbox.ring.pop_into(&mut self.inbox.opened);
        self.mail = frames;
        self.cx.counters.handed_in += frames as u64;
        for Crossing {
            mbuf,
            transmit_by,
            nest,
        } in self.inbox.opened.drain(..)
        {
            match transmit_by {
                Some(port) => self.cx.forward(port, mbuf),
                None => {
                    self.cx.port = mbuf.port().min(self.cx.ports() as u16 - 1);
                    self.work.handed(mbuf, nest, &mut self.cx);
                }
            }
        }
        self.work.mail_opened(&mut self.cx);
        frames
    }

    /// At the end of a turn: the mail that was opened is with the outputs, or crosses again and is
    /// counted again.
    #[inline(always)]
    fn settle_mail(&mut self) {
        if self.mail > 0 {
            self.control
                .crossing
                .fetch_sub(core::mem::take(&mut self.mail), Ordering::AcqRel);
        }
    }

    #[inline(always)]
    fn account(&mut self, turn: &Turn) {
        let counters = &mut self.cx.counters;
        counters.polls += u64::from(turn.rounds);
        counters.empty_polls += u64::from(turn.last == 0);
        if self.control.limit > 0 && turn.frames > 0 {
            let received = counters.rx - core::mem::replace(&mut self.limited, counters.rx);
            let before = self.control.received.fetch_add(received, Ordering::Relaxed);
            if before + received >= self.control.limit {
                self.control.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Looks after the queues and publishes the counters. `true` when no frame can ever come again.
    fn maintain(&mut self) -> bool {
        let mut finished = !self.inputs.is_empty() && !self.work.is_source(&self.cx);
        for input in &mut self.inputs {
            input.rx.maintain();
            finished &= input.rx.finished();
        }
        for output in &mut self.cx.outputs {
            output.maintain(&mut self.cx.counters);
        }
        self.cx.taps.flush();
        self.publish();
        if finished {
            self.mark_finished();
        }
        // As long as one worker has inputs or mail, it may hand us frames.
        finished
            && self.control.is_over()
            && self.inbox.ring.is_empty()
            && self.cx.waiting_in_all() == 0
    }

    fn mark_finished(&mut self) {
        if !core::mem::replace(&mut self.finished, true) {
            self.control.unfinished.fetch_sub(1, Ordering::Release);
        }
    }

    /// Sleeps until something can have happened, unless something has by now.
    fn sleep(&mut self, idler: &mut Idler) {
        self.inbox.bell.about_to_sleep();
        let nothing = self.inbox.ring.is_empty()
            && !self.control.stop.load(Ordering::Relaxed)
            && self.cx.waiting_in_all() == 0
            && !self.work.is_due(&self.cx);
        if nothing {
            self.cx.counters.sleeps += 1;
            idler.sleep(
                self.inputs.iter_mut().map(|i| i.rx.wait_fd()),
                &self.inbox.bell,
                self.work.idle_for(&self.cx),
            );
        }
        self.inbox.bell.awake();
    }

    pub(crate) fn publish(&mut self) {
        for input in &mut self.inputs {
            self.cx.counters.ports[input.port as usize].rx = input.rx.stats();
        }
        for output in &mut self.cx.outputs {
            output.collect(&mut self.cx.counters);
        }
        self.cx.counters.pending = self.cx.waiting_in_all() as u64;
        self.cx.counters.mailbox = self.inbox.ring.len() as u64;
        let now = self.read_clock();
        self.cx.counters.counted_ns = self.cx.time.at(now);
        self.published.publish(&self.cx.counters);
    }

    /// Sends what waits, for a while; then closes everything and gives the final counters.
    fn close(mut self, mut ending: Ending) -> (Ending, Inbox) {
        self.mark_finished();
        self.say_farewell();
        self.publish();
        let Self {
            inputs,
            work,
            mut cx,
            mut inbox,
            pools,
            control,
            published,
            ..
        } = self;
        // The stage's own code may panic once more.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(work))) {
            ending = Ending::Panicked(message_of(&*panic));
        }
        cx.outputs.clear();
        drop(inputs);
        if ending != Ending::Stopped {
            refuse_mail(&mut inbox, &mut cx, &control, &published);
        }
        // Whatever held mbufs is gone before the caches are emptied.
        drop(cx);
        for pool in &pools {
            pool.flush_cache();
        }
        (ending, inbox)
    }

    fn say_farewell(&mut self) {
        let start = Instant::now();
        loop {
            self.cx.transmit();
            let counters = &mut self.cx.counters;
            let held: usize = self
                .cx
                .outputs
                .iter_mut()
                .map(|o| o.maintain(counters))
                .sum();
            if held + self.cx.waiting_in_all() == 0 || start.elapsed() > FAREWELL {
                break;
            }
            std::thread::yield_now();
        }
        for output in &mut self.cx.outputs {
            output.give_up(DropReason::Stopped, &mut self.cx.counters);
        }
    }
}

/// What a failed worker still does: drops what others hand to it, so that they need not know.
fn refuse_mail(inbox: &mut Inbox, cx: &mut Context, control: &Control, published: &Published) {
    let mut idler = Idler::new(Idle::Sleep);
    while !control.stop.load(Ordering::Relaxed) && !control.is_over() {
        inbox.bell.about_to_sleep();
        if inbox.ring.is_empty() && !control.stop.load(Ordering::Relaxed) {
            idler.sleep(std::iter::empty(), &inbox.bell, None);
        }
        inbox.bell.awake();
        let frames = inbox.ring.pop_into(&mut inbox.opened);
        cx.counters.handed_in += frames as u64;
        for Crossing { mbuf, .. } in inbox.opened.drain(..) {
            cx.drop(DropReason::StagePanic, mbuf);
        }
        published.publish(&cx.counters);
        control.crossing.fetch_sub(frames, Ordering::AcqRel);
    }
}

/// What a panic said.
pub(crate) fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
