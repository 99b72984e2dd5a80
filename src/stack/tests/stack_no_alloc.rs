//! A stack allocates nothing once it was made: a counting allocator watches it.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

mod harness;

thread_local! {
    /// How often this thread has asked for memory.
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_while_it_works() {
    use linecard_hal::{Mbuf, Mempool, MempoolConfig};
    use linecard_stack::*;
    use linecard_wire::parse_layers;

    struct Lab(Mempool);
    impl Host for Lab {
        fn pool(&self) -> &Mempool {
            &self.0
        }
        fn emit(&mut self, _: u16, frame: Mbuf) {
            drop(frame);
        }
    }

    let interface = InterfaceConfig::new(0, harness::US)
        .address("192.0.2.9/24".parse().unwrap())
        .address("2001:db8::9/64".parse().unwrap());
    let config = StackConfig {
        interfaces: vec![InterfaceConfig {
            detect: false,
            ..interface
        }],
        ..StackConfig::default()
    };
    let mut stack = Stack::new(config, Secret::from_seed(1), 0).unwrap();
    let mut lab = Lab(Mempool::new(MempoolConfig::new("no_alloc", 1024)).unwrap());
    let frames: Vec<Vec<u8>> = harness::seeds::seeds()
        .into_iter()
        .chain(harness::seeds::nasty())
        .flat_map(|(_, input)| harness::frames(&input))
        .collect();
    assert!(frames.len() > 50);
    let before = ASKED.get();
    let mut kept = 0;
    for round in 0..100u64 {
        let now = round * 1_000_000_000;
        stack.poll(now, &mut lab);
        for n in 1..250u8 {
            let payload = lab.0.alloc().unwrap();
            let to = Outgoing::new([192, 0, 2, n].into(), linecard_wire::IpProtocol(253));
            let _ = stack.send(payload, &to, now, &mut lab);
        }
        for bytes in &frames {
            let mut frame = lab.0.alloc().unwrap();
            frame.append(bytes.len()).unwrap().copy_from_slice(bytes);
            frame.set_port(0);
            harness::mend_frame(frame.data_mut().unwrap());
            let layers = parse_layers(frame.data());
            let received = stack.receive(&mut frame, &layers, now, &mut lab);
            if let Received::Fragment(fragment) = received {
                kept += 1;
                drop(stack.reassemble(frame, &fragment, now, &mut lab));
            }
        }
    }
    assert_eq!(ASKED.get() - before, 0);
    let counters = stack.counters();
    assert!(counters.answers > 0 && counters.echoes > 0 && counters.errors > 0 && kept > 0);
}
