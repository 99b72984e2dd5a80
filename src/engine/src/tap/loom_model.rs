//! A model of the tap's hand-over, run under every interleaving that matters by loom; see the crate's `loom_model`.

use loom::thread;

use super::*;

const MOST_FRAMES: u8 = 3;

fn handle() -> TapHandle {
    let port = PortInfo {
        name: "model".to_owned(),
        driver: "model",
        mac: None,
        mtu: 1500,
        node: None,
        speed_mbps: None,
        speed_is_nominal: false,
        max_queues: 1,
        data_room: 2048,
        offloads: linecard_hal::Offloads::empty(),
        can_wait: false,
        notes: Vec::new(),
        rungs: Vec::new(),
    };
    TapHandle::new(&[Arc::new(Bell::new().unwrap())], &[], 1, &[port])
}

/// Two blocks with room for a frame each.
fn small() -> TapConfig {
    TapConfig {
        directions: vec![Direction::Both],
        snaplen: 1,
        blocks: 2,
        block_bytes: 0,
        ..TapConfig::default()
    }
}

/// A worker that takes so many turns, with a frame in each, and ends.
fn work(handle: &TapHandle, turns: u8) {
    let mut taps = handle.of_worker(0, &Time::Virtual(linecard_hal::SimClock::new()));
    for byte in 0..turns {
        taps.refresh();
        taps.received_byte(byte);
    }
}

/// Takes all that comes until the end; gives the frames' bytes.
fn read_to_the_end(tap: &mut Tap) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !tap.is_over() {
        match tap.pop() {
            Some((lane, block)) => {
                bytes.extend(block.records().map(|record| record.data[0]));
                tap.give_back(lane, block);
            }
            None => thread::yield_now(),
        }
    }
    bytes
}

/// Each frame that passed while there was a tap is copied, in order, or counted as dropped.
fn assert_honest(tap: &Tap, bytes: &[u8]) {
    let counts = tap.counts();
    assert!(bytes.is_sorted_by(|a, b| a < b), "{bytes:?}");
    assert_eq!(counts.copied, bytes.len() as u64);
    assert_eq!(counts.seen, counts.copied + counts.dropped);
}

fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn what_a_worker_copies_until_it_ends_is_read_or_counted() {
    explore(3, || {
        let handle = handle();
        let worker = handle.clone();
        let mut tap = handle.attach(&small()).unwrap();
        let worker = thread::spawn(move || work(&worker, MOST_FRAMES));
        let bytes = read_to_the_end(&mut tap);
        worker.join().unwrap();
        assert_honest(&tap, &bytes);
        assert_eq!(tap.counts().seen, u64::from(MOST_FRAMES));
    });
}

#[test]
fn a_tap_that_comes_and_goes_while_a_worker_runs_is_honest_and_ends() {
    explore(3, || {
        let handle = handle();
        let worker = handle.clone();
        let worker = thread::spawn(move || work(&worker, 2));
        let mut tap = handle.attach(&small()).unwrap();
        tap.detach();
        let bytes = read_to_the_end(&mut tap);
        assert_honest(&tap, &bytes);
        worker.join().unwrap();
        drop(tap);
        // Who comes to a worker that has ended is told at once.
        assert!(handle.attach(&small()).unwrap().is_over());
    });
}
