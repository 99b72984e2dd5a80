//! What a device says while its queues are polled.

use std::sync::Mutex;

use linecard_dpdk_sys as dpdk;
use linecard_hal::flow::{FlowCount, FlowId};
use linecard_hal::passage::{self, Passage, Takes};
use linecard_hal::{Burst, MempoolConfig, QueueState};

use super::*;
use crate::Pages;

/// A null device with two queues that run.
fn started(name: &str) -> (DpdkPort, Mempool, Vec<QueuePair>) {
    crate::configure(crate::EalConfig {
        pages: Pages::Normal,
        memory_mib: 64,
        ..crate::EalConfig::default()
    });
    let pool = Mempool::new(MempoolConfig::new(name, 4096)).unwrap();
    let mut port = open_device(format!("dpdk:{name}").parse().unwrap()).unwrap();
    let config = PortConfig {
        queues: 2,
        ..PortConfig::default()
    };
    port.configure(&config).unwrap();
    let queues = port.start(&[pool.clone(), pool.clone()]).unwrap();
    (port, pool, queues)
}

fn received(queues: &mut [QueuePair]) -> Vec<usize> {
    let mut burst = Burst::with_capacity(4);
    let each = queues.iter_mut().map(|pair| {
        burst.clear();
        pair.rx.receive(&mut burst)
    });
    each.collect()
}

fn end(mut port: DpdkPort, pool: &Mempool, queues: Vec<QueuePair>) {
    drop(queues);
    port.stop().unwrap();
    assert_eq!(pool.leaks(), []);
}

#[test]
fn a_device_is_reset_by_the_last_queue_that_lets_go() {
    let (port, pool, mut queues) = started("net_null20");
    for round in 0..2 {
        assert_eq!(received(&mut queues), [4, 4]);
        port.device.as_ref().unwrap().raise(dpdk::LC_EVENT_RESET);
        assert_eq!(received(&mut queues), [0, 0], "nobody touches it");
        assert_eq!(port.link(), LinkState::Down);
        assert!(port.extended_stats().is_empty());
        assert!(!queues[0].rx.finished());
        assert_eq!(queues[0].rx.maintain(), QueueState::Down);
        assert_eq!(queues[0].rx.maintain(), QueueState::Down);
        assert_eq!(queues[0].tx.maintain(), QueueState::Down);
        assert_eq!(queues[1].tx.maintain(), QueueState::Down);
        assert_eq!(received(&mut queues), [0, 0], "one may still be inside");
        if round == 1 {
            // A worker that ends lets go of its queues as well.
            queues.pop();
            queues[0].rx.maintain();
            // Not twice within a second.
            std::thread::sleep(std::time::Duration::from_millis(1050));
            assert_eq!(queues[0].rx.maintain(), QueueState::Up);
            assert_eq!(received(&mut queues), [4]);
        } else {
            assert_eq!(queues[1].rx.maintain(), QueueState::Up);
            assert_eq!(queues[0].rx.maintain(), QueueState::Up);
            assert_eq!(received(&mut queues), [4, 4]);
        }
    }
    assert_eq!(queues[0].rx.stats().packets, 16);
    end(port, &pool, queues);
}

#[test]
fn a_removed_device_ends_its_queues() {
    let (port, pool, mut queues) = started("net_null21");
    assert_eq!(received(&mut queues), [4, 4]);
    assert!(!port.extended_stats().is_empty());
    port.device.as_ref().unwrap().raise(dpdk::LC_EVENT_REMOVED);
    assert_eq!(received(&mut queues), [0, 0]);
    assert!(port.extended_stats().is_empty(), "nobody asks it");
    assert!(queues[0].rx.finished());
    assert_eq!(queues[0].rx.maintain(), QueueState::Finished);
    assert_eq!(queues[0].tx.maintain(), QueueState::Down);
    assert_eq!(port.link(), LinkState::Gone);
    end(port, &pool, queues);
}

#[test]
fn a_device_that_is_removed_ends_what_passes() {
    let (port, pool, mut queues) = started("net_null28");
    let device = port.device.as_ref().unwrap();
    let removed = || {
        device.raise(dpdk::LC_EVENT_REMOVED);
        false
    };
    let mut burst = Burst::with_capacity(4);
    let mut pass = || {
        let QueuePair { rx, tx, .. } = &mut queues[0];
        let mut passage = [Passage::new(&mut **rx, &mut **tx, &mut burst, Takes::Plain)];
        passage::forward(&mut passage, 20, &removed);
        let done = passage[0].done;
        (done.asked, done.empty, done.sent)
    };
    assert_eq!(pass(), (8, 0, 32), "at the first look");
    assert_eq!(pass(), (1, 1, 0));
    assert!(queues[0].rx.finished());
    end(port, &pool, queues);
}

#[test]
fn the_number_of_an_unplugged_device_is_not_used_again() {
    let (mut port, pool, mut queues) = started("net_null22");
    assert_eq!(received(&mut queues), [4, 4]);
    let device = port.device.as_ref().unwrap();
    let number = device.id();
    device.unplug();
    // Another device takes the number over.
    let (other, others, mut running) = started("net_null23");
    assert_eq!(received(&mut queues), [0, 0]);
    let (rx, tx) = (queues[0].rx.stats(), queues[0].tx.stats());
    assert_eq!((rx.packets, tx.packets), (4, 0));
    assert!(queues[0].rx.wait_fd().is_none());
    assert_eq!(port.link(), LinkState::Gone);
    assert!(port.extended_stats().is_empty());
    assert!(port.flow_rules().unwrap().flush().is_err());
    end(port, &pool, queues);
    assert_eq!(received(&mut running), [4, 4], "device {number}");
    assert_eq!(other.link(), LinkState::Up);
    // The other is still heard.
    other.device.as_ref().unwrap().raise(dpdk::LC_EVENT_REMOVED);
    assert_eq!(other.link(), LinkState::Gone);
    end(other, &others, running);
}

#[test]
fn a_start_that_does_not_get_its_device_again_may_be_repeated() {
    let (mut port, pool, queues) = started("net_null27");
    drop(queues);
    port.stop().unwrap();
    // Another port has it meanwhile.
    let (other, others, running) = started("net_null27");
    for _ in 0..2 {
        let error = port.start(&[pool.clone(), pool.clone()]).unwrap_err();
        assert!(error.to_string().contains("open already"), "{error}");
    }
    end(other, &others, running);
    let queues = port.start(&[pool.clone(), pool.clone()]).unwrap();
    end(port, &pool, queues);
}

#[test]
fn nobody_listens_to_the_number_of_an_unplugged_device() {
    let (port, pool, queues) = started("net_null25");
    let device = port.device.as_ref().unwrap();
    let (number, events) = (device.id(), device.events().clone());
    device.unplug();
    end(port, &pool, queues);
    // DPDK would call back for the next device with this number.
    assert!(!events.raise(number, dpdk::LC_EVENT_RESET));
}

#[test]
fn pools_are_adopted_all_or_none() {
    let (port, pool, queues) = started("net_null26");
    let [first, second] =
        ["first", "second"].map(|name| Mempool::new(MempoolConfig::new(name, 256)).unwrap());
    let own = first.alloc().unwrap().pool_token();
    // DPDK does not take memory twice.
    let known = RtePool::new(&second, "second").unwrap();
    assert!(pools::adopt(&[first.clone(), second.clone()]).is_err());
    assert_eq!(first.alloc().unwrap().pool_token(), own);
    known.close().unwrap();
    end(port, &pool, queues);
}

/// A driver's table of flow rules, made up: no virtual device has one that works. What it was told, and what
/// it refuses.
#[derive(Debug, Clone, Default)]
struct MadeUp(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    /// What it has, in the order in which it came.
    has: Vec<String>,
    destroyed: usize,
    /// Refuses what contains this.
    dislikes: Option<&'static str>,
}

impl flow::Table for MadeUp {
    fn validate(&mut self, form: &flow::Form) -> Result<(), flow::Refused> {
        let book = self.0.lock().unwrap();
        match book.dislikes {
            Some(word) if form.describe().contains(word) => Err(flow::Refused {
                message: "the table is full".into(),
                about: "vlan".into(),
                error: io::Error::from_raw_os_error(libc::ENOSPC),
            }),
            _ => Ok(()),
        }
    }

    fn create(&mut self, form: &flow::Form) -> Result<flow::Flow, flow::Refused> {
        self.validate(form)?;
        self.0.lock().unwrap().has.push(form.describe());
        Ok(flow::Flow::made_up())
    }

    fn destroy(&mut self, _: flow::Flow) -> Result<(), flow::Refused> {
        self.0.lock().unwrap().destroyed += 1;
        Ok(())
    }

    fn query(&mut self, _: &flow::Flow) -> Result<Option<FlowCount>, flow::Refused> {
        Ok(Some(FlowCount::default()))
    }
}

/// Resets the device: all queues let go of it, and look again.
fn reset(port: &DpdkPort, queues: &mut [QueuePair]) {
    port.device.as_ref().unwrap().raise(dpdk::LC_EVENT_RESET);
    for pair in &mut *queues {
        pair.rx.maintain();
        pair.tx.maintain();
    }
    for pair in queues {
        assert_eq!(pair.rx.maintain(), QueueState::Up);
    }
}

#[test]
fn flow_rules_are_there_again_after_a_reset() {
    let (mut port, pool, mut queues) = started("net_null24");
    let table = MadeUp::default();
    let rules = port.no_rules(Box::new(table.clone()), 2);
    let device = port.device.as_ref().unwrap();
    device.events().recovery().rules = Some(rules);
    let texts = [
        "vlan=5 => queue 1",
        "proto=udp dport=53 => drop",
        "=> queue 0",
    ];
    let mut create = |text: &str| port.flow_rules().unwrap().create(&text.parse().unwrap());
    let ids: Vec<FlowId> = texts.iter().map(|text| create(text).unwrap()).collect();
    // A second version of IP, and priorities as the rules overlap.
    let before = core::mem::take(&mut table.0.lock().unwrap().has);
    assert_eq!(before.len(), 4);
    assert!(before[3].starts_with("priority=2 "), "{before:?}");

    reset(&port, &mut queues);
    assert_eq!(received(&mut queues), [4, 4]);
    {
        let mut book = table.0.lock().unwrap();
        assert_eq!((&book.has, book.destroyed), (&before, 4));
        book.has.clear();
        // The next time one is refused.
        book.dislikes = Some("/ vlan ");
    }
    assert!(
        port.extended_stats()
            .iter()
            .all(|(name, _)| name != "flow_rules_lost")
    );

    std::thread::sleep(std::time::Duration::from_millis(1050));
    reset(&port, &mut queues);
    assert_eq!(
        received(&mut queues),
        [4, 4],
        "the port comes up all the same"
    );
    let after = core::mem::take(&mut table.0.lock().unwrap().has);
    assert_eq!(after.len(), 3);
    // Nothing is in front of it any more but the one that the device has.
    assert_eq!(after[0], before[1].replace("priority=1 ", "priority=0 "));
    assert!(
        port.extended_stats()
            .contains(&("flow_rules_lost".into(), 1))
    );
    let rules = port.flow_rules().unwrap();
    let error = rules.query(ids[0]).unwrap_err().to_string();
    assert!(error.contains("the table is full (about vlan)"), "{error}");
    assert_eq!(rules.query(ids[1]).unwrap(), Some(FlowCount::default()));
    for id in ids {
        rules.destroy(id).unwrap();
    }
    assert_eq!(table.0.lock().unwrap().destroyed, 4 + 4 + 3);
    assert!(
        port.extended_stats()
            .iter()
            .all(|(name, _)| name != "flow_rules_lost")
    );
    end(port, &pool, queues);
}
