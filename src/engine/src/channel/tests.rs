use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use linecard_hal::{Burst, Mempool, MempoolConfig};
use proptest::prelude::*;

use super::*;
use crate::bell::{Bell, Wake as WorkerWake};
use crate::idle::{Idle, Idler};

/// Longer than any test takes, so that a wait that ends by it has lost a wake-up.
const LONG: Duration = Duration::from_secs(60);

/// An executor of one task.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut cx, mut future) = (Context::from_waker(&waker), pin!(future));
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// What a worker does between turns, with the engine's own idler.
fn sleep_unless(bell: &Bell, ready: impl FnOnce() -> bool) {
    bell.about_to_sleep();
    if !ready() {
        Idler::new(Idle::Sleep).sleep(std::iter::empty(), bell, None);
    }
    bell.awake();
}

#[test]
fn a_burst_is_published_at_once() {
    let (mut tx, mut rx) = to_application(8, 4);
    for i in 0..3 {
        tx.put(i).unwrap();
    }
    assert_eq!(rx.try_recv(), Err(RecvError::Empty), "not before the flush");
    assert_eq!((tx.flush(), rx.len()), (0, 3));
    let mut out = Vec::with_capacity(2);
    assert_eq!((rx.try_recv_into(&mut out), &out[..]), (2, &[0, 1][..]));
    assert_eq!(rx.try_recv(), Ok(2));
}

#[test]
fn a_full_channel_is_a_count() {
    let (mut tx, mut rx) = to_application(4, 2);
    assert_eq!(tx.room(), 6);
    let taken = (0..10).take_while(|i| tx.put(*i).is_ok()).count();
    assert_eq!((taken, tx.room(), tx.flush(), tx.waiting()), (6, 0, 2, 2));
    assert!(!tx.is_ready(), "nothing to do before there is room");
    assert_eq!(rx.try_recv(), Ok(0));
    assert!(tx.is_ready());
    assert_eq!((tx.flush(), tx.room()), (1, 1));
    let (mut tx, mut rx) = to_worker(2);
    assert_eq!(tx.try_send_from(&mut vec![1, 2, 3]), 2);
    assert_eq!((tx.room(), tx.try_send(4)), (0, Err(SendError::Full(4))));
    let refused = tx.send_timeout(5, Duration::from_millis(1)).unwrap_err();
    assert_eq!((refused.into_inner(), rx.pop()), (5, Some(1)));
}

#[test]
fn what_was_sent_before_the_end_comes_before_the_end() {
    let (mut tx, mut rx) = to_application(4, 4);
    let other = tx.clone();
    tx.put(1).unwrap();
    drop(tx);
    assert_eq!(rx.try_recv(), Ok(1), "the drop has flushed");
    assert_eq!(rx.try_recv(), Err(RecvError::Empty), "there is another");
    drop(other);
    assert_eq!(rx.recv_timeout(LONG), Err(RecvError::Closed));
    assert_eq!(rx.wait_timeout(LONG), Err(RecvError::Closed));

    let (mut tx, mut rx) = to_worker(4);
    let other = tx.clone();
    tx.try_send(1).unwrap();
    drop((tx, other));
    assert!(rx.is_ready() && !rx.is_finished());
    assert_eq!((rx.pop(), rx.is_finished()), (Some(1), false));
    assert!(rx.is_ready(), "to see the end");
    assert_eq!(
        (rx.pop(), rx.is_finished(), rx.is_ready()),
        (None, true, false)
    );
}

#[test]
fn a_receiver_that_goes_gives_everything_back() {
    let item = Arc::new(());
    let (mut tx, rx) = to_application(2, 2);
    for _ in 0..4 {
        tx.put(item.clone()).unwrap();
    }
    assert_eq!(tx.flush(), 2);
    drop(rx);
    assert!(tx.is_closed() && tx.is_ready());
    assert!(tx.put(item.clone()).is_err());
    assert_eq!(tx.flush(), 0);
    assert_eq!(Arc::strong_count(&item), 1);

    let (mut tx, rx) = to_worker(2);
    tx.try_send(item.clone()).unwrap();
    drop(rx);
    assert!(matches!(
        tx.try_send(item.clone()),
        Err(SendError::Closed(_))
    ));
    assert!(matches!(
        tx.send_timeout(item.clone(), LONG),
        Err(SendError::Closed(_))
    ));
    assert_eq!(tx.try_send_from(&mut vec![item.clone()]), 0);
    assert_eq!(block_on(tx.send(item.clone())), Err(Closed));
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn mbufs_cross_in_bursts_and_none_is_lost() {
    let pool = Mempool::new(MempoolConfig::new("channel", 64)).unwrap();
    let (mut up, mut app) = to_application(4, 8);
    let (mut down, mut worker) = to_worker(4);
    let mut burst = Burst::with_capacity(8);
    (0..6).for_each(|_| burst.push(pool.alloc().unwrap()).unwrap());
    up.put(pool.alloc().unwrap()).unwrap();
    assert_eq!((up.push_burst(&mut burst), burst.len()), (3, 3));
    let mut got = Burst::with_capacity(8);
    assert_eq!(app.try_recv_burst(&mut got), 4);
    assert_eq!((down.try_send_burst(&mut got), got.len()), (4, 0));
    assert_eq!(worker.pop_burst(&mut got), 4);
    assert_eq!(down.try_send_burst(&mut got), 4);
    assert_eq!(up.push_burst(&mut burst), 3);
    drop((app, worker));
    assert_eq!(
        (up.push_burst(&mut got), down.try_send_burst(&mut got)),
        (0, 0)
    );
    drop((up, down, burst, got));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_sink_holds_one_item_and_sends_it_first() {
    let (mut tx, mut rx) = to_worker(1);
    block_on(async {
        tx.feed(1).await.unwrap();
        tx.feed(2).await.unwrap();
    });
    assert_eq!(tx.try_send(3), Err(SendError::Full(3)));
    assert_eq!(rx.pop(), Some(1));
    assert_eq!(tx.try_send(3), Err(SendError::Full(3)), "2 took the room");
    assert_eq!(rx.pop(), Some(2));
    assert_eq!(tx.try_send(3), Ok(()));
    assert_eq!(rx.pop(), Some(3));
}

/// A worker that adds one to what it gets and sleeps whenever it can; until everybody has gone.
fn adder(mut rx: WorkerReceiver<u64>, mut tx: WorkerSender<u64>) {
    let bell = Arc::new(Bell::new().unwrap());
    let wake = WorkerWake::new(&bell);
    rx.attach(&wake);
    tx.attach(&wake);
    let mut run = Vec::with_capacity(4);
    while !rx.is_finished() {
        // Takes no more than it can give on.
        if tx.room() >= run.capacity() {
            rx.pop_into(&mut run);
        }
        for item in run.drain(..) {
            tx.put(item + 1).unwrap();
        }
        tx.flush();
        sleep_unless(&bell, || tx.is_ready() || (tx.room() >= 4 && rx.is_ready()));
    }
}

#[test]
fn threads_and_a_worker_that_sleeps() {
    const EACH: u64 = 3_000;
    let (requests, to_adder) = to_worker(8);
    let (from_adder, mut replies) = to_application(8, 4);
    let worker = thread::spawn(move || adder(to_adder, from_adder));
    let senders: Vec<_> = (0..3)
        .map(|id| {
            let mut requests = requests.clone();
            thread::spawn(move || {
                for i in 0..EACH {
                    requests.send_timeout(id << 32 | i, LONG).unwrap();
                }
            })
        })
        .collect();
    drop(requests);
    let mut next = [1; 3];
    for _ in 0..3 * EACH {
        let reply = replies.recv_timeout(LONG).unwrap();
        let (id, i) = ((reply >> 32) as usize, reply & 0xffff_ffff);
        assert_eq!(next[id], i, "in order");
        next[id] += 1;
    }
    assert_eq!(replies.recv_timeout(LONG), Err(RecvError::Closed));
    senders.into_iter().for_each(|s| s.join().unwrap());
    worker.join().unwrap();
}

async fn ask_many(mut requests: AppSender<u64>, mut replies: AppReceiver<u64>) -> u64 {
    let (mut sum, mut waiting) = (0, 0);
    for i in 0..2_000 {
        requests.send(i).await.unwrap();
        waiting += 1;
        if i % 7 == 0 {
            while waiting > 0 {
                sum += replies.next().await.unwrap();
                waiting -= 1;
            }
        }
    }
    drop(requests);
    sum + replies.collect::<Vec<_>>().await.into_iter().sum::<u64>()
}

/// One more than each of 0 to 1,999.
const ASKED: u64 = 2_000 * 2_001 / 2;

fn with_adder(ask: impl FnOnce(AppSender<u64>, AppReceiver<u64>) -> u64) {
    let (requests, to_adder) = to_worker(2);
    let (from_adder, replies) = to_application(4, 4);
    let worker = thread::spawn(move || adder(to_adder, from_adder));
    assert_eq!(ask(requests, replies), ASKED);
    worker.join().unwrap();
}

#[test]
fn awaited_by_a_tiny_executor() {
    with_adder(|requests, replies| block_on(ask_many(requests, replies)));
}

#[test]
fn awaited_by_tokio() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    with_adder(|requests, replies| runtime.unwrap().block_on(ask_many(requests, replies)));
}

#[test]
fn a_worker_that_dies_wakes_who_waits() {
    let (mut requests, to_worker_rx) = to_worker(1);
    let (from_worker, mut replies) = to_application::<u64>(1, 1);
    requests.try_send(0).unwrap();
    let mut more = requests.clone();
    let waiting = thread::spawn(move || more.send_timeout(1, LONG));
    let worker = thread::spawn(move || {
        let _ends = (to_worker_rx, from_worker);
        thread::sleep(Duration::from_millis(5));
        panic!("as a protocol might");
    });
    assert_eq!(replies.recv_timeout(LONG), Err(RecvError::Closed));
    // What it sent either came in time or came back.
    let sent = waiting.join().unwrap();
    assert!(matches!(sent, Err(SendError::Closed(1))));
    assert!(worker.join().is_err());
}

#[test]
fn a_task_that_owns_its_waker_goes_with_it() {
    // The waker holds the last reference to the receiver that it waits for: freeing one frees the other.
    struct Holds(std::sync::Mutex<Option<AppReceiver<u64>>>);
    impl Wake for Holds {
        fn wake(self: Arc<Self>) {}
    }
    let (mut tx, rx) = to_application(2, 2);
    let holds = Arc::new(Holds(std::sync::Mutex::new(Some(rx))));
    let waker = Waker::from(holds.clone());
    {
        let mut rx = holds.0.lock().unwrap();
        let ready = rx
            .as_mut()
            .unwrap()
            .poll_ready(&mut Context::from_waker(&waker));
        assert!(ready.is_pending());
    }
    drop((waker, holds));
    tx.put(1).unwrap();
    tx.flush();
    assert!(tx.is_closed());
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Put,
    Flush,
    Recv,
    RecvInto(usize),
    Send,
    SendFrom(usize),
    Feed,
    Pop,
    PopInto(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Put),
        2 => Just(Op::Flush),
        2 => Just(Op::Recv),
        1 => (0usize..6).prop_map(Op::RecvInto),
        2 => Just(Op::Send),
        1 => (0usize..6).prop_map(Op::SendFrom),
        1 => Just(Op::Feed),
        2 => Just(Op::Pop),
        1 => (0usize..6).prop_map(Op::PopInto),
    ]
}

proptest! {
    /// Whatever is done to either channel: items come out as they went in, and as many are taken as there is
    /// room for.
    #[test]
    fn behave_like_queues(
        capacity in 1usize..9,
        burst in 1usize..5,
        ops in prop::collection::vec(op(), 0..200),
    ) {
        let room = capacity.next_power_of_two();
        let (mut put, mut recv) = to_application::<u32>(capacity, burst);
        let (mut send, mut pop) = to_worker::<u32>(capacity);
        // What is in each ring, and before it with the sender.
        let (mut up, mut staged) = (VecDeque::new(), VecDeque::new());
        let (mut down, mut held) = (VecDeque::new(), None);
        let mut cx = Context::from_waker(Waker::noop());
        for (i, op) in (0..).zip(&ops) {
            let flush = |up: &mut VecDeque<u32>, staged: &mut VecDeque<u32>| {
                let n = staged.len().min(room - up.len());
                up.extend(staged.drain(..n));
            };
            let release = |down: &mut VecDeque<u32>, held: &mut Option<u32>| {
                if down.len() < room {
                    down.extend(held.take());
                }
                held.is_none()
            };
            match *op {
                Op::Put => {
                    if staged.len() == burst {
                        flush(&mut up, &mut staged);
                    }
                    let fits = staged.len() < burst;
                    prop_assert_eq!(put.put(i).is_ok(), fits);
                    if fits {
                        staged.push_back(i);
                    }
                }
                Op::Flush => {
                    flush(&mut up, &mut staged);
                    prop_assert_eq!(put.flush(), staged.len());
                }
                Op::Recv => prop_assert_eq!(recv.try_recv().ok(), up.pop_front()),
                Op::RecvInto(n) => {
                    let mut out = Vec::with_capacity(n);
                    recv.try_recv_into(&mut out);
                    let n = out.capacity().min(up.len());
                    prop_assert_eq!(out, up.drain(..n).collect::<Vec<_>>());
                }
                Op::Send => {
                    let fits = release(&mut down, &mut held) && down.len() < room;
                    prop_assert_eq!(send.try_send(i).is_ok(), fits);
                    if fits {
                        down.push_back(i);
                    }
                }
                Op::SendFrom(n) => {
                    let mut items: Vec<u32> = (i..).take(n).collect();
                    let fits = if release(&mut down, &mut held) {
                        n.min(room - down.len())
                    } else {
                        0
                    };
                    down.extend(&items[..fits]);
                    prop_assert_eq!(send.try_send_from(&mut items), fits);
                    prop_assert_eq!(items.len(), n - fits);
                }
                Op::Feed => {
                    let ready = send.poll_ready_unpin(&mut cx).is_ready();
                    prop_assert_eq!(ready, release(&mut down, &mut held));
                    if ready {
                        send.start_send_unpin(i).unwrap();
                        held = Some(i);
                        release(&mut down, &mut held);
                    }
                }
                Op::Pop => prop_assert_eq!(pop.pop(), down.pop_front()),
                Op::PopInto(n) => {
                    let mut out = Vec::with_capacity(n);
                    pop.pop_into(&mut out);
                    let n = out.capacity().min(down.len());
                    prop_assert_eq!(out, down.drain(..n).collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(put.room(), room - up.len() + burst - staged.len());
            prop_assert_eq!((recv.len(), pop.len()), (up.len(), down.len()));
            prop_assert_eq!(send.room(), room - down.len());
        }
    }
}
