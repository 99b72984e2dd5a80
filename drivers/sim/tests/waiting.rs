//! Receivers that sleep: no frame is left beside a sleeper. Real threads and real descriptors; nothing
//! is asserted about how long anything takes, only that it ends.
#![cfg(not(loom))]

mod common;

use std::os::fd::BorrowedFd;

use common::*;
use linecard_hal::{Burst, Port, QueuePair};
use linecard_sim::{Impairments, Link, LinkConfig};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

fn readable(fd: BorrowedFd<'_>, timeout: PollTimeout) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout).unwrap() == 1
}

/// Long enough that only a lost wake-up takes it.
fn patience() -> PollTimeout {
    PollTimeout::from(60_000u16)
}

fn sleep(queue: &mut QueuePair) {
    let fd = queue.rx.wait_fd().unwrap();
    assert!(readable(fd, patience()), "a wake-up was lost");
}

#[test]
fn a_frame_makes_the_descriptor_readable_and_only_then() {
    for impairments in [
        Impairments::default(),
        Impairments {
            delay_ns: 1000,
            ..Impairments::default()
        },
    ] {
        let config = LinkConfig {
            impairments: [impairments, Impairments::default()],
            ..LinkConfig::default()
        };
        let (mut a, mut b) = Link::pair(config).unwrap();
        let pool = pool("wake", 64);
        let (mut qa, mut qb) = (start(&mut a, &pool, 1), start(&mut b, &pool, 1));
        assert!(b.info().can_wait);
        assert!(!readable(qb[0].rx.wait_fd().unwrap(), PollTimeout::ZERO));
        // Sent to a sleeper.
        send(&mut qa[0], numbered(&pool, 1, 60).unwrap());
        sleep(&mut qb[0]);
        assert_eq!(receive_all(&mut qb[0]).len(), 1);
        // Old signals are taken back.
        assert!(!readable(qb[0].rx.wait_fd().unwrap(), PollTimeout::ZERO));
        assert!(receive_all(&mut qb[0]).is_empty());
        // Sent before it sleeps.
        send(&mut qa[0], numbered(&pool, 2, 60).unwrap());
        sleep(&mut qb[0]);
        assert_eq!(receive_all(&mut qb[0]).len(), 1);
    }
}

#[test]
fn no_wake_up_is_lost_between_threads() {
    const FRAMES: u32 = 20_000;
    for queues in [1, 2] {
        let (mut a, mut b) = Link::pair(LinkConfig::default()).unwrap();
        let pool = pool("threads", 4096);
        let (mut qa, mut qb) = (start(&mut a, &pool, 1), start(&mut b, &pool, queues));
        qb.truncate(1);
        if queues == 2 {
            // Dropping a queue takes the receiver down: start anew with both.
            qb.clear();
            b.stop().unwrap();
            qb = start(&mut b, &pool, 2);
        }
        let received = std::thread::scope(|scope| {
            let handles: Vec<_> = qb
                .iter_mut()
                .map(|queue| {
                    scope.spawn(move || {
                        let mut got = 0;
                        let mut burst = Burst::with_capacity(32);
                        loop {
                            sleep(queue);
                            // A burst goes home before the next one is asked for: who keeps everything
                            // that comes, beside a sender that goes on, takes the pool's last mbuf.
                            while queue.rx.receive(&mut burst) > 0 {
                                for mbuf in burst.drain() {
                                    // The last frame of each queue says so.
                                    if mbuf.frame_len() == 61 {
                                        return got;
                                    }
                                    got += 1;
                                }
                            }
                        }
                    })
                })
                .collect();
            let mut burst = Burst::with_capacity(4);
            let mut next = 0;
            while next < FRAMES {
                while burst.room() > 0 && next < FRAMES {
                    burst.push(udp(&pool, next as u16, false)).unwrap();
                    next += 1;
                }
                qa[0].tx.transmit(&mut burst);
            }
            while !burst.is_empty() || qa[0].tx.reclaim() > 0 {
                qa[0].tx.transmit(&mut burst);
            }
            // Flows for every queue.
            for flow in 0..64 {
                let mut last = udp(&pool, flow, false);
                last.append(1).unwrap().fill(0);
                while !send_or_keep(&mut qa[0], &mut last, &pool) {}
            }
            handles.into_iter().map(|h| h.join().unwrap()).sum::<u32>()
        });
        assert_eq!(received, FRAMES);
    }
}

fn send_or_keep(
    queue: &mut QueuePair,
    mbuf: &mut linecard_hal::Mbuf,
    pool: &linecard_hal::Mempool,
) -> bool {
    let Some(copy) = mbuf.copy(pool) else {
        return false;
    };
    send(queue, copy)
}
