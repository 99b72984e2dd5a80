//! The usual experiment: host a, forwarder, host b.

use crate::lab::{Host, Lab, Process};
use crate::report::Report;

pub const A4: &str = "10.77.0.1";
pub const B4: &str = "10.77.0.2";
pub const A6: &str = "fd77::1";
pub const B6: &str = "fd77::2";

/// Two hosts and a forwarder between them.
pub struct Wire {
    pub lab: Lab,
    pub a: Host,
    pub b: Host,
    pub linecard: Process,
}

impl Wire {
    /// Starts `linecard fwd` on ports `uring:a` and `uring:b`, each with these options, and with
    /// these further arguments; then connects the hosts, so that it sees all that they ever send.
    pub fn new(options: &str, arguments: &[&str]) -> Self {
        let wire = Self::silent(options, arguments);
        wire.a.up(&[&format!("{A4}/24"), &format!("{A6}/64")]);
        wire.b.up(&[&format!("{B4}/24"), &format!("{B6}/64")]);
        wire
    }

    /// As `new`, with hosts that have no addresses and so say nothing by themselves.
    pub fn silent(options: &str, arguments: &[&str]) -> Self {
        Self::between(
            ["a", "b"].map(|name| format!("uring:{name}{options}")),
            arguments,
        )
    }

    /// As `silent`, with the interfaces `a` and `b` opened as these two ports.
    pub fn between(ports: [String; 2], arguments: &[&str]) -> Self {
        let lab = Lab::new();
        let (a, b) = (lab.host("a"), lab.host("b"));
        for host in [&a, &b] {
            host.sh("ip link set cable0 addrgenmode none");
        }
        let fixed = [
            "fwd",
            "--port",
            &ports[0],
            "--port",
            &ports[1],
            "--json",
            "--stats-interval",
            "100ms",
        ];
        let linecard = lab.linecard(&[&fixed, arguments].concat()).ready();
        Self {
            lab,
            a,
            b,
            linecard,
        }
    }

    /// Connects hosts that are to say nothing by themselves.
    pub fn connect(&self) {
        self.a.up(&[]);
        self.b.up(&[]);
    }

    /// As [`connect`](Self::connect), for a forwarder that sends nothing of its own. Workers look at their
    /// links ten times a second: returns when they have seen these come up, as what is sent to a link that
    /// is down is dropped.
    pub fn up_without_addresses(&mut self) {
        self.connect();
        self.linecard.quiet();
    }

    /// Disconnects the hosts, lets the forwarder take what is still queued, stops it as Ctrl-C does,
    /// and checks all that is always true: exit code 0, the account balances and agrees with both
    /// hosts' kernels, and nothing is left behind.
    pub fn finish(self) -> Report {
        let Self {
            lab,
            a,
            b,
            mut linecard,
        } = self;
        a.down();
        b.down();
        linecard.quiet();
        let ended = linecard.interrupt();
        assert_eq!(ended.code, 0, "{ended:#?}");
        let report = ended.report();
        report.assert_balanced();
        report.assert_agrees(0, &a.cable());
        report.assert_agrees(1, &b.cable());
        assert_eq!(report.port(0).copies() + report.port(1).copies(), 0);
        lab.assert_left(&["a", "b"]);
        report
    }
}
