//! What a forwarder says in the end, and whether it is true.

use serde_json::Value;

use crate::lab::Interface;

/// The JSON object that `fwd --json` prints.
#[derive(Debug)]
pub struct Report(pub Value);

impl Report {
    pub fn port(&self, index: usize) -> Port<'_> {
        Port(&self.0["ports"][index])
    }

    pub fn account(&self, key: &str) -> u64 {
        number(&self.0["account"][key])
    }

    /// The sum of a figure over all workers.
    pub fn workers(&self, key: &str) -> u64 {
        self.0["workers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| number(&w[key]))
            .sum()
    }

    /// The sum of a figure over all pools.
    pub fn pools(&self, key: &str) -> u64 {
        self.0["pools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| number(&p[key]))
            .sum()
    }

    /// Every frame is accounted for, by our own arithmetic; every mbuf is home; no worker failed.
    pub fn assert_balanced(&self) {
        let a = |key| self.account(key);
        assert_eq!(
            a("rx") + a("generated") + a("segmented"),
            a("tx") + a("delivered") + a("consumed") + a("drops"),
            "{self:#?}"
        );
        assert_eq!(self.0["account"]["unaccounted"], 0, "{self:#?}");
        assert_eq!(a("in_flight"), 0, "{self:#?}");
        let ports = self.0["ports"].as_array().unwrap();
        let sum = |key: &str| ports.iter().map(|p| number(&p[key])).sum::<u64>();
        assert_eq!(sum("rx"), a("rx"), "{self:#?}");
        assert_eq!(sum("tx"), a("tx"), "{self:#?}");
        assert_eq!(self.workers("rx"), a("rx"), "{self:#?}");
        let drops: u64 = (0..ports.len()).map(|i| self.port(i).drops()).sum();
        assert_eq!(drops, a("drops"), "{self:#?}");
        assert_eq!(self.pools("in_use"), 0, "{self:#?}");
        assert_eq!(self.pools("leaked"), 0, "{self:#?}");
        assert_eq!(self.pools("allocated"), self.pools("freed"), "{self:#?}");
        for worker in self.0["workers"].as_array().unwrap() {
            assert_eq!(worker["failure"], Value::Null, "{self:#?}");
        }
    }

    /// The port's figures are those of the kernel at the other end of its cable, to the frame.
    pub fn assert_agrees(&self, index: usize, peer: &Interface) {
        let port = self.port(index);
        let taken = port.rx() + port.misses() + port.errors();
        assert_eq!(
            taken, peer.tx,
            "received by port {index}, {peer:?}: {self:#?}"
        );
        assert_eq!(
            port.tx(),
            peer.rx,
            "sent by port {index}, {peer:?}: {self:#?}"
        );
    }
}

/// A port's part of the report.
pub struct Port<'a>(&'a Value);

impl Port<'_> {
    pub fn rx(&self) -> u64 {
        number(&self.0["rx"])
    }

    pub fn tx(&self) -> u64 {
        number(&self.0["tx"])
    }

    pub fn misses(&self) -> u64 {
        number(&self.0["rx_misses"])
    }

    pub fn errors(&self) -> u64 {
        number(&self.0["rx_errors"])
    }

    pub fn copies(&self) -> u64 {
        let reasons = self.0["tx_copy_reasons"].as_object();
        let explained: u64 = reasons.map_or(0, |all| all.values().map(number).sum());
        assert_eq!(number(&self.0["tx_copies"]), explained);
        explained
    }

    pub fn drops(&self) -> u64 {
        self.0["drops"]
            .as_object()
            .unwrap()
            .values()
            .map(number)
            .sum()
    }

    pub fn dropped_for(&self, reason: &str) -> u64 {
        self.0["drops"].get(reason).map_or(0, number)
    }
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is not a count"))
}
