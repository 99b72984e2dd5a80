//! The cases, in the order of the table.

mod faults;
mod flow;
mod frames;
mod life;
mod mbufs;
mod offload;
mod queues;

use crate::{Stand, Step};

/// Something that every port must do.
pub struct Case {
    /// One word, as in the table.
    pub name: &'static str,
    /// What it must do.
    pub about: &'static str,
    /// Does it.
    pub run: fn(&mut Stand) -> Step,
}

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        name: "sizes",
        about: "frames of 14 to 9,000 bytes cross whole and in order, in both directions",
        run: frames::sizes,
    },
    Case {
        name: "limits",
        about: "frames that are too long or too short are errors and freed, never sent short, and keep nobody back",
        run: frames::limits,
    },
    Case {
        name: "bursts",
        about: "bursts of 1 to 512 mbufs, also into a burst with little room",
        run: frames::bursts,
    },
    Case {
        name: "forwards",
        about: "what a queue receives it sends again: full bursts straight, what does not fill one stays in the burst",
        run: frames::forwards,
    },
    Case {
        name: "descriptors",
        about: "bursts of 512 mbufs with 64 descriptors",
        run: frames::descriptors,
    },
    Case {
        name: "statistics",
        about: "a seeded mixture of lengths and bursts both ways: packets, bytes and errors are what the far end saw, and only grow",
        run: frames::statistics,
    },
    Case {
        name: "chains",
        about: "mbufs of 2 to 16 segments are sent whole",
        run: mbufs::chains,
    },
    Case {
        name: "clones",
        about: "mbufs that share their bytes are sent, and the bytes are not written to",
        run: mbufs::clones,
    },
    Case {
        name: "foreign",
        about: "mbufs of a pool that the port was not given are sent and go home",
        run: mbufs::foreign,
    },
    Case {
        name: "held",
        about: "received mbufs that are kept stay as they are while traffic goes on",
        run: mbufs::held,
    },
    Case {
        name: "exhausted",
        about: "with an empty pool nothing is received or lost uncounted, and then it goes on",
        run: mbufs::exhausted,
    },
    Case {
        name: "full",
        about: "a full ring takes fewer; the rest stays in the burst, in order, and goes later",
        run: mbufs::full,
    },
    Case {
        name: "in flight",
        about: "stopped with frames to be sent, to be received and held: every mbuf comes home",
        run: life::in_flight,
    },
    Case {
        name: "restart",
        about: "configured, started and stopped again and again; statistics begin at nothing",
        run: life::restart,
    },
    Case {
        name: "reconfigure",
        about: "other queues, bursts, descriptors and offloads at each start",
        run: life::reconfigure,
    },
    Case {
        name: "mtu",
        about: "another MTU from one start to the next: its longest frame crosses both ways, a longer one is an error",
        run: life::mtu,
    },
    Case {
        name: "drops",
        about: "queues and port are dropped in every order, and the device can be opened again",
        run: life::drops,
    },
    Case {
        name: "refusals",
        about: "no queue, too many, no burst, too few pools, twice started: refused by name, and nothing is broken",
        run: life::refusals,
    },
    Case {
        name: "queues",
        about: "several queues: every frame comes once, flows keep their order and, both ways, their queue",
        run: queues::queues,
    },
    Case {
        name: "finished",
        about: "the end is said after the last frame, and never while more can come",
        run: queues::finished,
    },
    Case {
        name: "sleep",
        about: "a sleeper is woken by a frame, at once if it is there already, and is left alone otherwise",
        run: queues::sleep,
    },
    Case {
        name: "link",
        about: "a link that is lost is seen and accounted for, and works again when it is back",
        run: faults::link,
    },
    Case {
        name: "removal",
        about: "the device is taken away under load: no panic, every mbuf accounted for, and it may come back",
        run: faults::removal,
    },
    Case {
        name: "flow rules",
        about: "a rule is taken, works and counts, or is refused with a reason",
        run: flow::flow_rules,
    },
    Case {
        name: "requests",
        about: "checksums, tags and segmentation, as far as offered: right on the wire",
        run: offload::requests,
    },
    Case {
        name: "receive offloads",
        about: "tags, checksum states, hashes and times, as far as offered: a forwarder puts the same frame back",
        run: offload::receive,
    },
];
