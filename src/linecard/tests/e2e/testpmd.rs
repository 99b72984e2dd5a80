//! DPDK's own forwarder as the peer: told what to do over its standard input, and asked what it counted.
//!
//! It sends so many bursts of 32 frames (`start tx_first N`) and from then on only receives, so the traffic
//! is finite, and both sides can count it to the frame.

use std::process::Stdio;

use tempfile::TempDir;

use crate::lab::{Ended, Host, Process, wait_until};

/// Frames in a burst of testpmd's.
pub const BURST: u64 = 32;

/// What it says it has done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    pub rx: u64,
    pub tx: u64,
    /// Frames that its device would not take.
    pub tx_dropped: u64,
}

/// A testpmd with one device. Killed when dropped.
pub struct Testpmd {
    process: Process,
    /// For the files that EAL leaves behind.
    _runtime: TempDir,
}

impl Testpmd {
    /// Starts it with a virtual device, without hugepages, and waits until it can be told what to do.
    pub fn start(host: &Host, vdev: &str) -> Self {
        let runtime = tempfile::tempdir().unwrap();
        // Its main lcore only waits; the other one polls, and not where our first worker does.
        let (here, there) = two_cpus();
        let mut command = host.command("stdbuf");
        command
            .args(["--output=L", "dpdk-testpmd"])
            .arg(format!("--lcores=0@{there},1@{here}"))
            .args(["--no-huge", "-m", "128", "--iova-mode=va", "--no-pci"])
            .args(["--no-shconf", "--no-telemetry"])
            .arg(format!("--file-prefix=peer-{}", std::process::id()))
            .args(["--vdev", vdev, "--", "--interactive", "--no-flush-rx"])
            .args(["--total-num-mbufs=4096", "--forward-mode=rxonly"])
            .env("RUNTIME_DIRECTORY", runtime.path())
            .stdin(Stdio::piped());
        let mut process = Process::start(command);
        wait_until("testpmd", || {
            process.assert_running();
            process.stdout().contains("testpmd> ")
        });
        Self {
            process,
            _runtime: runtime,
        }
    }

    fn say(&mut self, command: &str) {
        self.process.write(&format!("{command}\n"));
    }

    /// Says something again and again until what it answers is what is waited for.
    fn ask(&mut self, command: &str, mut holds: impl FnMut(&str) -> bool) {
        wait_until(command, || {
            self.process.assert_running();
            let before = self.process.stdout().len();
            self.say(command);
            // The answer to `help` would come behind it; a prompt does.
            wait_until("an answer", || {
                self.process.stdout()[before..].contains("testpmd> ")
            });
            holds(&self.process.stdout()[before..])
        });
    }

    /// Waits until its device has found the other side.
    pub fn wait_for_link(&mut self) {
        self.ask("show port info 0", |answer| {
            answer.contains("Link status: up")
        });
    }

    /// Sends so many bursts, and receives from then on.
    pub fn send(&mut self, bursts: u64) {
        self.say(&format!("start tx_first {bursts}"));
        self.ask("show fwd stats all", |answer| {
            figures(answer).is_some_and(|f| f.tx + f.tx_dropped >= bursts * BURST)
        });
    }

    /// Waits until as many frames have come back as have left.
    pub fn wait_for_all(&mut self) {
        self.ask("show fwd stats all", |answer| {
            figures(answer).is_some_and(|f| f.rx >= f.tx)
        });
    }

    /// Stops, and says what was done since `send`.
    pub fn stop(&mut self) -> Figures {
        let before = self.process.stdout().len();
        self.say("stop");
        let mut last = None;
        wait_until("testpmd to stop", || {
            last = figures(&self.process.stdout()[before..]);
            last.is_some()
        });
        last.unwrap()
    }

    /// Ends it.
    pub fn quit(mut self) -> Ended {
        self.say("quit");
        self.process.end()
    }
}

/// The sums of the last account in a text, if it is there as a whole.
fn figures(text: &str) -> Option<Figures> {
    let at = text.rfind("Accumulated forward statistics")?;
    let (_, account) = text[at..].split_once('\n')?;
    let (account, _) = account.split_once("+++")?;
    let number = |name: &str| -> Option<u64> {
        let (_, rest) = account.split_once(name)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    Some(Figures {
        rx: number("RX-packets:")?,
        tx: number("TX-packets:")?,
        tx_dropped: number("TX-dropped:")?,
    })
}

/// The first and the last cpu that may be used, which may be the same.
fn two_cpus() -> (usize, usize) {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    let all: Vec<usize> = (0..nix::sched::CpuSet::count())
        .filter(|cpu| set.is_set(*cpu).unwrap())
        .collect();
    (all[0], all[all.len() - 1])
}
