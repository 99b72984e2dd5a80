//! What goes wrong: interfaces that go down or away, empty pools, missing permission.

mod common;

use std::time::{Duration, Instant};

use common::*;
use linecard_hal::{LinkState, PortErrorKind, PortName, QueueState};

const RX: [&str; 3] = ["ring", "multishot", "mmsg"];

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = deadline();
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Frames pass again from `a` to `b`.
fn passes(a: &mut Running, b: &mut Running) {
    for i in 0..50 {
        a.send(vec![a.mbuf(&numbered(i))]);
        assert_eq!(bytes(&b.receive(1)[0]), numbered(i));
    }
}

#[test]
fn down_and_up_again() {
    in_namespace("down_and_up_again", || {
        veth("va", "vb");
        for (rx, tx) in RX.into_iter().zip(["ring", "uring", "mmsg"]) {
            let mut a = Running::new(&format!("uring:va?tx={tx}"), 0);
            let mut b = Running::new(&format!("uring:vb?rx={rx}&tx={tx}"), 1);
            passes(&mut a, &mut b);
            for _ in 0..3 {
                ip("link set vb down");
                assert_eq!(b.rx().maintain(), QueueState::Down);
                assert_eq!(b.tx().maintain(), QueueState::Down);
                assert_eq!(b.port.link(), LinkState::Down);
                receive_rest(b.rx());
                // Frames to nowhere are counted, not kept for ever.
                let before = b.tx().stats();
                let mbufs = (0..40).map(|i| b.mbuf(&numbered(i))).collect();
                b.send(mbufs);
                assert_eq!(b.tx().stats().errors, before.errors + 40);
                // The other end has lost its carrier: also there they end.
                let mbufs = (0..40).map(|i| a.mbuf(&numbered(i))).collect();
                a.send(mbufs);
                ip("link set vb up");
                until("vb is not up", || b.rx().maintain() == QueueState::Up);
                until("vb does not send", || b.tx().maintain() == QueueState::Up);
                until("va does not send", || a.tx().maintain() == QueueState::Up);
                receive_rest(b.rx());
                passes(&mut a, &mut b);
                passes(&mut b, &mut a);
            }
            a.finish(0);
            b.finish(0);
        }
    });
}

#[test]
fn removed_and_made_again_under_load() {
    in_namespace("removed_and_made_again_under_load", || {
        for (rx, tx) in RX.into_iter().zip(["ring", "uring", "mmsg"]) {
            veth("va", "vb");
            let mut a = Running::new(&format!("uring:va?tx={tx}"), 0);
            let mut b = Running::new(&format!("uring:vb?rx={rx}&tx={tx}"), 1);
            passes(&mut a, &mut b);
            let mbufs = (0..100).map(|i| a.mbuf(&numbered(i))).collect();
            a.send(mbufs);
            let held = b.receive(20);
            let ifindex = b.port.ifindex().unwrap();
            ip("link del va");
            assert_eq!(b.rx().maintain(), QueueState::Down);
            assert_eq!((b.port.link(), b.port.ifindex()), (LinkState::Gone, None));
            let mbufs = (0..40).map(|i| b.mbuf(&numbered(i))).collect();
            b.send(mbufs);
            assert_eq!(b.tx().stats().errors, 40);
            receive_rest(b.rx());
            assert!(b.rx().wait_fd().is_some());
            ip("link add vx type veth peer name vy"); // other numbers
            veth("va", "vb");
            assert!(b.port.ifindex().is_some_and(|now| now != ifindex));
            until("vb is not back", || b.rx().maintain() == QueueState::Up);
            until("vb does not send", || b.tx().maintain() == QueueState::Up);
            until("va is not back", || a.rx().maintain() == QueueState::Up);
            until("va does not send", || a.tx().maintain() == QueueState::Up);
            passes(&mut a, &mut b);
            passes(&mut b, &mut a);
            // What was received before is still what it was.
            for (i, mbuf) in (0..).zip(&held) {
                assert_eq!(bytes(mbuf), numbered(i));
            }
            drop(held);
            ip("link del va");
            ip("link del vx");
            a.finish(0);
            b.finish(0);
        }
    });
}

#[test]
fn mbufs_outlive_their_queue_and_port() {
    in_namespace("mbufs_outlive_their_queue_and_port", || {
        veth("va", "vb");
        for rx in RX {
            let mut a = Running::new("uring:va", 0);
            let mut b = Running::new(&format!("uring:vb?rx={rx}"), 1);
            let mbufs = (0..30).map(|i| a.mbuf(&numbered(i))).collect();
            a.send(mbufs);
            let held = b.receive(30);
            let pool = b.pool.clone();
            b.finish(30);
            for (i, mbuf) in (0..).zip(&held) {
                assert_eq!(bytes(mbuf), numbered(i));
            }
            drop(held);
            assert_eq!(pool.in_use(), 0);
        }
    });
}

#[test]
fn a_port_that_is_down_at_first_begins_when_it_is_up() {
    in_namespace("a_port_that_is_down_at_first_begins_when_it_is_up", || {
        veth("va", "vb");
        for (rx, queues) in [("ring", 1), ("multishot", 1), ("mmsg", 2), ("ring", 2)] {
            ip("link set vb down");
            let mut b = Running::with(&format!("uring:vb?rx={rx}"), 1, 2048, queues);
            assert!(
                b.port
                    .info()
                    .notes
                    .iter()
                    .any(|n| n.contains("ip link set vb up"))
            );
            assert_eq!(b.rx().maintain(), QueueState::Down);
            assert_eq!(receive_rest(b.rx()), 0);
            ip("link set vb up");
            for pair in &mut b.pairs {
                until("vb is not up", || pair.rx.maintain() == QueueState::Up);
            }
            let mut a = Running::new("uring:va", 0);
            passes(&mut a, &mut b);
        }
    });
}

#[test]
fn an_empty_pool_loses_nothing_without_a_count() {
    in_namespace("an_empty_pool_loses_nothing_without_a_count", || {
        veth("va", "vb");
        for rx in RX {
            let mut a = Running::new("uring:va", 0);
            // The smallest ring, so that it overflows.
            let name = format!("uring:vb?rx={rx}&blocks=2&block_kib=128");
            let mut b = Running::with(&name, 1, 64, 1);
            let mut held = b.receive_all();
            let mut sent = 0;
            for round in 0..100u32 {
                let mbufs = (0..100)
                    .map(|i| a.mbuf(&numbered(round * 100 + i)))
                    .collect();
                a.send(mbufs);
                sent += 100;
                held.extend(b.receive_all());
            }
            assert_eq!(held.len() as u64, b.rx().stats().packets);
            assert!(held.len() <= 64);
            if held.len() == 64 {
                // Nobody sleeps on what is readable all the time.
                assert!(b.rx().wait_fd().is_none(), "{rx}");
            }
            // Mbufs come back, and so does the traffic.
            let mut received = held.len() as u64;
            held.clear();
            let end = deadline();
            loop {
                received += b.receive_all().len() as u64;
                let stats = b.rx().stats();
                if stats.packets + stats.misses + stats.errors >= sent {
                    assert_eq!(
                        stats.packets + stats.misses + stats.errors,
                        sent,
                        "{rx}: {stats:?}"
                    );
                    assert_eq!(stats.packets, received);
                    break;
                }
                assert!(Instant::now() < end, "{rx}: {sent} sent, {stats:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
            passes(&mut a, &mut b);
            b.finish(0);
        }
    });
}

trait ReceiveAll {
    fn receive_all(&mut self) -> Vec<linecard_hal::Mbuf>;
}

impl ReceiveAll for Running {
    /// Everything that is there now.
    fn receive_all(&mut self) -> Vec<linecard_hal::Mbuf> {
        let mut burst = linecard_hal::Burst::with_capacity(32);
        let mut all = Vec::new();
        while self.rx().receive(&mut burst) > 0 {
            all.extend(burst.drain());
        }
        all
    }
}

/// Forbids io_uring to the calling thread, as a container's seccomp filter does.
#[allow(unsafe_code)]
fn forbid_io_uring() {
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let number = libc::SYS_io_uring_setup as u32;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut code = [
        op(0x20, 0, 0, 0), // load the call's number
        op(0x15, 0, 1, number),
        op(0x06, 0, 0, refuse),
        op(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: code.len() as u16,
        filter: code.as_mut_ptr(),
    };
    // SAFETY: the program lives through the calls.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ),
        ]
    };
    assert_eq!(results, [0, 0], "{}", std::io::Error::last_os_error());
}

#[test]
fn without_io_uring_everything_else_is_used_and_said() {
    in_namespace("without_io_uring_everything_else_is_used_and_said", || {
        veth("va", "vb");
        forbid_io_uring();
        assert!(
            linecard_io_uring::probe()
                .io_uring
                .unwrap_err()
                .contains("seccomp")
        );
        for (rx, instead) in [
            ("ring", "using epoll and sendmmsg"),
            ("auto", "using epoll and sendmmsg"),
            ("multishot", "using recvmmsg/sendmmsg"),
            ("mmsg", "using recvmmsg/sendmmsg"),
        ] {
            let mut a = Running::new("uring:va?tx=uring", 0);
            let mut b = Running::new(&format!("uring:vb?rx={rx}"), 1);
            let notes = b.port.info().notes;
            let said = |n: &String| n.starts_with("io_uring: EPERM (") && n.ends_with(instead);
            assert!(notes.iter().any(said), "{notes:?}");
            passes(&mut a, &mut b);
            for i in 0..20 {
                a.send(vec![a.mbuf(&numbered(i))]);
                sleep_until_frame(b.rx());
            }
            a.finish(0);
            b.finish(0);
        }
        let mut tap = Running::new("tap:lc0", 0);
        ip("link set lc0 addrgenmode none");
        let mut peer = Running::new("uring:lc0", 1);
        passes(&mut tap, &mut peer);
        passes(&mut peer, &mut tap);
    });
}

fn refused(name: &str) -> linecard_hal::PortError {
    match linecard_io_uring::open(name.parse::<PortName>().expect("a name")) {
        Ok(_) => panic!("{name} opened"),
        Err(error) => error,
    }
}

#[test]
fn errors_name_port_value_and_remedy() {
    in_namespace("errors_name_port_value_and_remedy", || {
        for (name, kind, says) in [
            ("uring:nope0", PortErrorKind::NotFound, "linecard ports"),
            ("uring:", PortErrorKind::NotFound, "linecard ports"),
            (
                "uring:a-name-that-is-far-too-long",
                PortErrorKind::NotFound,
                "linecard ports",
            ),
            ("uring:lo?rx=fast", PortErrorKind::Name, "ring, multishot"),
            ("uring:lo?speed=9", PortErrorKind::Name, "block_kib"),
            ("uring:lo?queues=0", PortErrorKind::Config, "queues=0"),
            ("uring:lo?block_kib=100", PortErrorKind::Config, "256"),
            ("uring:lo?retire_ms=0", PortErrorKind::Config, "retire_ms=1"),
        ] {
            let error = refused(name);
            assert_eq!(error.kind, kind, "{error}");
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(says), "{text}");
        }
    });
}

#[test]
fn a_missing_capability_is_named() {
    in_namespace("a_missing_capability_is_named", || {
        // This thread gives up its capabilities by becoming nobody in all but name.
        let exe = std::env::current_exe().expect("the test's own path");
        let output = std::process::Command::new("setpriv")
            .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])
            .arg(exe)
            .args([
                "--ignored",
                "--exact",
                "without_capabilities",
                "--nocapture",
            ])
            .output()
            .expect("`setpriv` (util-linux) runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        assert!(
            text.contains("CAP_NET_RAW") && text.contains("setcap"),
            "{text}"
        );
    });
}

#[test]
#[ignore = "started by a_missing_capability_is_named"]
fn without_capabilities() {
    let error = refused("uring:lo");
    assert_eq!(error.kind, PortErrorKind::Permission, "{error}");
    println!("{error}");
}
