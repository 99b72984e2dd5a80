//! Models of the channels and of published configuration, run under every interleaving that matters by loom:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p linecard-engine --release --lib loom_model
//! ```
//!
//! They run the code that ships, the ground floor's rings included, on loom's atomics and locks. A wake-up that
//! is lost leaves a thread waiting for ever, which loom reports as a deadlock.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use futures_core::Stream;
use futures_sink::Sink;
use loom::future::block_on;
use loom::thread;

use crate::bell::{Bell, Wake};
use crate::channel::{
    AppReceiver, AppSender, Closed, WorkerReceiver, WorkerSender, to_application, to_worker,
};
use crate::publish::publish;

/// Explores every interleaving with at most `preemptions` involuntary switches.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn bell() -> std::sync::Arc<Bell> {
    std::sync::Arc::new(Bell::new().unwrap())
}

/// What a worker does between turns; without the tick that would end any sleep.
fn sleep_unless(bell: &Bell, ready: impl FnOnce() -> bool) {
    bell.about_to_sleep();
    if !ready() {
        bell.event.wait();
    }
    bell.awake();
}

fn next<T: Send>(rx: &mut AppReceiver<T>) -> impl Future<Output = Option<T>> {
    poll_fn(|cx| Pin::new(&mut *rx).poll_next(cx))
}

async fn send<T: Send>(tx: &mut AppSender<T>, item: T) -> Result<(), Closed> {
    poll_fn(|cx| Pin::new(&mut *tx).poll_ready(cx)).await?;
    Pin::new(&mut *tx).start_send(item)?;
    poll_fn(|cx| Pin::new(&mut *tx).poll_flush(cx)).await
}

/// A worker that sleeps unless something has come, until the end.
fn receive_all(mut rx: WorkerReceiver<u32>) -> Vec<u32> {
    let bell = bell();
    rx.attach(&Wake::new(&bell));
    let mut seen = Vec::with_capacity(8);
    while !rx.is_finished() {
        if rx.pop_into(&mut seen) == 0 && !rx.is_finished() {
            sleep_unless(&bell, || rx.is_ready());
        }
    }
    seen
}

/// A worker that sleeps while what it has sent finds no room.
fn send_all(mut tx: WorkerSender<u32>, items: u32) {
    let bell = bell();
    tx.attach(&Wake::new(&bell));
    for item in 0..items {
        while tx.put(item).is_err() {
            sleep_unless(&bell, || tx.is_ready());
        }
    }
    while tx.flush() > 0 {
        sleep_unless(&bell, || tx.is_ready());
    }
}

#[test]
fn a_sleeping_worker_is_woken_for_items_and_for_the_end() {
    explore(3, || {
        let (mut tx, rx) = to_worker(2);
        let worker = thread::spawn(move || receive_all(rx));
        tx.try_send(1).unwrap();
        tx.try_send(2).unwrap();
        drop(tx);
        assert_eq!(worker.join().unwrap(), [1, 2]);
    });
}

#[test]
fn two_threads_wake_a_sleeping_worker() {
    explore(2, || {
        let (tx, rx) = to_worker(2);
        let worker = thread::spawn(move || receive_all(rx));
        let mut other = tx.clone();
        let thread = thread::spawn(move || other.try_send(1).unwrap());
        let mut tx = tx;
        tx.try_send(2).unwrap();
        drop(tx);
        thread.join().unwrap();
        let mut seen = worker.join().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    });
}

#[test]
fn a_task_that_waits_for_room_is_woken() {
    explore(3, || {
        let (mut tx, rx) = to_worker(1);
        let worker = thread::spawn(move || receive_all(rx));
        block_on(async {
            for item in 1..=3 {
                send(&mut tx, item).await.unwrap();
            }
        });
        drop(tx);
        assert_eq!(worker.join().unwrap(), [1, 2, 3]);
    });
}

/// The list of waiting tasks is taken by one of them while the worker would wake both.
#[test]
fn two_tasks_that_wait_for_room_are_both_woken() {
    explore(2, || {
        let (mut tx, mut rx) = to_worker(1);
        tx.try_send(0).unwrap();
        let tasks: Vec<_> = [tx.clone(), tx]
            .into_iter()
            .map(|mut tx| thread::spawn(move || block_on(send(&mut tx, 1))))
            .collect();
        let mut seen = Vec::with_capacity(4);
        while seen.len() < 3 {
            if rx.pop_into(&mut seen) == 0 {
                thread::yield_now();
            }
        }
        for task in tasks {
            assert_eq!(task.join().unwrap(), Ok(()));
        }
        assert_eq!(seen, [0, 1, 1]);
    });
}

#[test]
fn tasks_that_wait_for_room_are_woken_when_the_worker_goes() {
    explore(2, || {
        let (mut tx, rx) = to_worker(1);
        tx.try_send(0).unwrap();
        let tasks: Vec<_> = [tx.clone(), tx]
            .into_iter()
            .map(|mut tx| thread::spawn(move || block_on(send(&mut tx, 1))))
            .collect();
        drop(rx);
        for task in tasks {
            // What is sent at the very moment of going is lost; else it comes back.
            let _: Result<(), Closed> = task.join().unwrap();
        }
    });
}

#[test]
fn a_task_that_waits_for_items_is_woken_for_each_burst_and_the_end() {
    explore(3, || {
        let (mut tx, mut rx) = to_application(2, 2);
        let worker = thread::spawn(move || {
            tx.put(0).unwrap();
            tx.flush();
            tx.put(1).unwrap();
        });
        block_on(async {
            assert_eq!(next(&mut rx).await, Some(0));
            assert_eq!(next(&mut rx).await, Some(1));
            assert_eq!(next(&mut rx).await, None);
        });
        worker.join().unwrap();
    });
}

#[test]
fn two_workers_wake_one_task() {
    explore(2, || {
        let (tx, mut rx) = to_application(2, 1);
        let workers: Vec<_> = [tx.clone(), tx]
            .into_iter()
            .map(|mut tx| thread::spawn(move || tx.put(7).unwrap()))
            .collect();
        block_on(async {
            assert_eq!(next(&mut rx).await, Some(7));
            assert_eq!(next(&mut rx).await, Some(7));
        });
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

#[test]
fn a_worker_whose_items_wait_for_room_is_woken() {
    explore(3, || {
        let (tx, mut rx) = to_application(1, 1);
        let worker = thread::spawn(move || send_all(tx, 3));
        block_on(async {
            for item in 0..3 {
                assert_eq!(next(&mut rx).await, Some(item));
            }
        });
        worker.join().unwrap();
    });
}

/// The one that is woken first takes the room that both were woken for.
#[test]
fn two_workers_whose_items_wait_for_room_are_both_woken() {
    explore(1, || {
        let (tx, mut rx) = to_application(1, 2);
        let send = |mut tx: WorkerSender<u32>, items: u32| {
            thread::spawn(move || {
                let bell = bell();
                tx.attach(&Wake::new(&bell));
                (0..items).for_each(|item| tx.put(item).unwrap());
                tx.flush();
                // As the engine does: what waits is flushed when it is said to be ready, and not otherwise.
                while tx.waiting() > 0 {
                    sleep_unless(&bell, || tx.is_ready());
                    if tx.is_ready() {
                        tx.flush();
                    }
                    // The other one may be in the middle of a push.
                    thread::yield_now();
                }
            })
        };
        let workers = [send(tx.clone(), 2), send(tx, 1)];
        block_on(async {
            for _ in 0..3 {
                assert!(next(&mut rx).await.is_some());
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

#[test]
fn a_worker_whose_items_wait_for_room_is_woken_when_the_application_goes() {
    explore(3, || {
        let (mut tx, rx) = to_application(1, 1);
        let worker = thread::spawn(move || {
            let bell = bell();
            tx.attach(&Wake::new(&bell));
            while tx.put(1).is_ok() {
                tx.flush();
                if tx.room() == 0 {
                    sleep_unless(&bell, || tx.is_ready());
                }
            }
            assert!(tx.is_closed());
        });
        drop(rx);
        worker.join().unwrap();
    });
}

/// A sender that gives up takes its name off the list just when the worker would wake another.
#[test]
fn who_gives_up_leaves_the_others_their_wake_up() {
    explore(2, || {
        let (mut tx, mut rx) = to_worker(1);
        tx.try_send(0).unwrap();
        let mut other = tx.clone();
        let waits = thread::spawn(move || block_on(send(&mut other, 1)));
        let gives_up = thread::spawn(move || {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let _: Poll<_> = Pin::new(&mut tx).poll_flush(&mut cx);
            drop(tx);
        });
        assert_eq!(rx.pop(), Some(0));
        assert_eq!(waits.join().unwrap(), Ok(()));
        gives_up.join().unwrap();
        assert_eq!(rx.pop(), Some(1));
    });
}

/// A worker that sleeps with an old version is woken for the new one.
#[test]
fn a_sleeping_worker_is_woken_for_a_new_version() {
    explore(3, || {
        let (mut publisher, mut reader) = publish(0);
        let worker = thread::spawn(move || {
            let bell = bell();
            reader.attach(&Wake::new(&bell));
            while *reader < 2 {
                if !reader.refresh() {
                    sleep_unless(&bell, || reader.is_ready());
                    // It does not wait for the lock of a publisher that is at it: that one goes on.
                    thread::yield_now();
                }
            }
        });
        publisher.publish(1);
        publisher.publish(2);
        worker.join().unwrap();
    });
}

/// Every reader sees whole versions, in order, and frees none; the newest is seen in the end.
#[test]
fn versions_are_seen_whole_and_freed_by_the_publisher() {
    struct Version(u32, thread::ThreadId);
    impl Drop for Version {
        fn drop(&mut self) {
            assert_eq!(self.1, thread::current().id());
        }
    }
    explore(3, || {
        let here = thread::current().id();
        let (mut publisher, reader) = publish(Version(0, here));
        let readers: Vec<_> = [reader.clone(), reader]
            .into_iter()
            .map(|mut reader| {
                thread::spawn(move || {
                    let mut last = 0;
                    for _ in 0..2 {
                        reader.refresh();
                        assert!(reader.0 >= last);
                        last = reader.0;
                    }
                    reader
                })
            })
            .collect();
        publisher.publish(Version(1, here));
        publisher.publish(Version(2, here));
        let mut readers: Vec<_> = readers.into_iter().map(|r| r.join().unwrap()).collect();
        for reader in &mut readers {
            reader.refresh();
            assert_eq!(reader.0, 2);
        }
        assert_eq!(publisher.reclaim(), 0);
    });
}
