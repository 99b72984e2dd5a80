//! A laboratory: hosts, cables and the command under test.
//!
//! Hosts are network namespaces without names, each held open by a process that ends with the test,
//! however it ends: so nothing is ever left on the machine, and its own interfaces are out of reach.
//! Works as root and, where user namespaces are allowed, without.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::report::Report;

/// The command under test.
pub const LINECARD: &str = env!("CARGO_BIN_EXE_linecard");

/// Longer than anything takes that works, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds; panics if it never does.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A network namespace and the process that holds it open.
pub struct Host {
    holder: Child,
    rootless: bool,
}

/// A namespace in the middle, where the command under test runs and where the cables of hosts end.
pub struct Lab {
    pub here: Host,
}

impl Lab {
    pub fn new() -> Self {
        let try_unshare = |args: &[&str]| {
            let tried = Command::new("unshare")
                .args(args)
                .arg("true")
                .stderr(Stdio::null())
                .status();
            tried.is_ok_and(|s| s.success())
        };
        let root = ["--net"];
        let rootless = ["--user", "--map-root-user", "--net"];
        let args = if try_unshare(&root) {
            &root[..]
        } else if try_unshare(&rootless) {
            &rootless[..]
        } else {
            panic!("no network namespace can be made here: run as root or allow user namespaces")
        };
        let mut unshare = Command::new("unshare");
        unshare.args(args);
        let lab = Self {
            here: Host::hold(unshare, args.len() > 1),
        };
        lab.here.sh("ip link set lo up");
        lab
    }

    /// A host with one interface, `cable0`; its cable ends in interface `port` of the lab.
    ///
    /// Not `eth0`: a mistake about the namespace may never find an interface of the machine's own.
    ///
    /// The host's end is down, so nothing moves yet. The lab's end has no address, not even a
    /// link-local one, and answers no ARP: its kernel stays silent, so whatever a host receives was
    /// sent by the command.
    pub fn host(&self, port: &str) -> Host {
        let mut command = self.here.command("unshare");
        command.arg("--net");
        let host = Host::hold(command, self.here.rootless);
        self.plug(&host, port);
        host
    }

    /// Connects a host; also again, after its cable was pulled out.
    pub fn plug(&self, host: &Host, port: &str) {
        let pid = host.holder.id();
        self.here.sh(&format!(
            "ip link add name {port} type veth peer name cable0 netns {pid}"
        ));
        self.here.sh(&format!(
            "ip link set dev {port} addrgenmode none arp off up"
        ));
        host.sh("ip link set lo up");
    }

    /// Starts the command under test.
    pub fn linecard(&self, args: &[&str]) -> Process {
        self.here.linecard(args)
    }

    /// Asserts that no process runs in the lab but the one that holds it open, and that its
    /// interfaces are these, beside `lo`.
    pub fn assert_left(&self, interfaces: &[&str]) {
        let mine = fs::read_link(format!("/proc/{}/ns/net", self.here.holder.id())).unwrap();
        let mut processes: Vec<String> = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let is_holder = pid == self.here.holder.id().to_string();
            if fs::read_link(entry.path().join("ns/net")).is_ok_and(|ns| ns == mine) && !is_holder {
                processes.push(fs::read_to_string(entry.path().join("cmdline")).unwrap_or(pid));
            }
        }
        assert!(processes.is_empty(), "left behind: {processes:?}");
        let mut have: Vec<String> = self.here.interfaces().into_iter().map(|i| i.name).collect();
        have.retain(|name| name != "lo");
        have.sort_unstable();
        assert_eq!(have, interfaces, "interfaces left behind or lost");
    }
}

/// An interface's counters, as its kernel has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub rx: u64,
    pub tx: u64,
}

impl Host {
    /// `enter` is a command that runs its arguments in the new namespace.
    fn hold(mut enter: Command, rootless: bool) -> Self {
        // Ends when our end of its standard input is closed, at the latest with this process.
        let mut holder = enter
            .args(["sh", "-c", "echo ready; read end"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "the namespace could not be made");
        Self { holder, rootless }
    }

    /// A command that runs here and is killed at the latest with the test.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net"]);
        if self.rootless {
            command.args(["--user", "--preserve-credentials"]);
        }
        command
            .args(["--", "setpriv", "--pdeathsig", "KILL", "--", program])
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell command to its end; gives its exit status and its output, both streams.
    pub fn try_sh(&self, text: &str) -> (ExitStatus, String) {
        let output = self.command("sh").args(["-c", text]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&text).into_owned())
    }

    /// As `try_sh`, for what has to succeed.
    pub fn sh(&self, text: &str) -> String {
        let (status, output) = self.try_sh(text);
        assert!(status.success(), "{text}: {status}\n{output}");
        output
    }

    /// Starts a shell command that goes on meanwhile.
    pub fn start(&self, text: &str) -> Process {
        let mut command = self.command("sh");
        command.args(["-c", &format!("exec {text}")]);
        Process::start(command)
    }

    /// Starts the command under test here.
    pub fn linecard(&self, args: &[&str]) -> Process {
        let mut command = self.command(LINECARD);
        command.args(args);
        Process::start(command)
    }

    /// Gives `cable0` its addresses and connects it.
    pub fn up(&self, addresses: &[&str]) {
        for address in addresses {
            // Without duplicate address detection: usable at once.
            let nodad = if address.contains(':') { "nodad" } else { "" };
            self.sh(&format!("ip address add {address} dev cable0 {nodad}"));
        }
        self.sh("ip link set cable0 up");
    }

    /// Disconnects it; from now on its counters stand still.
    pub fn down(&self) {
        self.sh("ip link set cable0 down");
    }

    /// Pings so many times, with these further arguments, and loses nothing.
    ///
    /// With a deadline, because ping otherwise gives the last reply no more than twice the time that
    /// the slowest one took; meanwhile it goes on, so what counts is that the first ones came back.
    pub fn ping(&self, count: u32, arguments: &str) {
        let said = self.sh(&format!("ping -i 0.01 -c {count} -w 60 {arguments}"));
        let lost = (1..=count).find(|n| !said.contains(&format!(": icmp_seq={n} ttl=")));
        assert_eq!(lost, None, "{said}");
    }

    /// Sends a frame as it is, so many times.
    pub fn send_raw(&self, frame: &[u8], times: u32) {
        self.send_each([frame], times);
    }

    /// Sends frames as they are, one after the other, and all of that so many times.
    pub fn send_each<'a>(&self, frames: impl IntoIterator<Item = &'a [u8]>, times: u32) {
        const PROGRAM: &str = r#"
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("cable0", 0))
frames = [bytes.fromhex(frame) for frame in sys.argv[2:]]
for _ in range(int(sys.argv[1])):
    for frame in frames:
        s.send(frame)
"#;
        let hex = |frame: &[u8]| frame.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let mut command = self.command("python3");
        command.args(["-c", PROGRAM, &times.to_string()]);
        let output = command.args(frames.into_iter().map(hex)).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// A server that listens on a TCP port from now on.
    pub fn serve(&self, port: u16, text: &str) -> Process {
        let server = self.start(text);
        let proc = format!("/proc/{}/net", self.holder.id());
        // Local address with port, remote address, state: 0A is LISTEN.
        let (socket, state) = (format!(":{port:04X}"), "0A");
        wait_until(&format!("{text} to listen"), || {
            ["tcp", "tcp6"].iter().any(|table| {
                fs::read_to_string(format!("{proc}/{table}"))
                    .unwrap()
                    .lines()
                    .any(|line| {
                        let field: Vec<_> = line.split_whitespace().take(4).collect();
                        field.len() == 4 && field[1].ends_with(&socket) && field[3] == state
                    })
            })
        });
        server
    }

    /// Watches what arrives at `cable0` from now on, until so many frames of an ethertype are there.
    ///
    /// Not by tcpdump, which refuses to run as the root of a user namespace.
    pub fn watch(&self, count: u32, ethertype: u16) -> Watch {
        let mut command = self.command("python3");
        command.args([
            "-c",
            include_str!("watch.py"),
            &count.to_string(),
            &ethertype.to_string(),
        ]);
        let watch = Process::start(command);
        wait_until("the watch", || watch.stderr().contains("watching"));
        Watch(watch)
    }

    /// The interfaces, as the kernel counts them.
    pub fn interfaces(&self) -> Vec<Interface> {
        let text = fs::read_to_string(format!("/proc/{}/net/dev", self.holder.id())).unwrap();
        let interface = |line: &str| {
            let (name, rest) = line.split_once(':')?;
            let figures: Vec<u64> = rest.split_whitespace().flat_map(str::parse).collect();
            Some(Interface {
                name: name.trim().to_owned(),
                rx: figures[1],
                tx: figures[9],
            })
        };
        text.lines().filter_map(interface).collect()
    }

    /// The counters of `cable0`.
    pub fn cable(&self) -> Interface {
        self.interfaces()
            .into_iter()
            .find(|i| i.name == "cable0")
            .expect("cable0")
    }

    /// The MAC address of an interface.
    pub fn mac(&self, interface: &str) -> [u8; 6] {
        let shown = self.sh(&format!("ip -br link show dev {interface}"));
        let text = shown.split_whitespace().nth(2).unwrap();
        let bytes: Vec<u8> = text
            .split(':')
            .map(|b| u8::from_str_radix(b, 16).unwrap())
            .collect();
        bytes.try_into().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _: std::io::Result<ExitStatus> = self.holder.wait();
    }
}

/// Somebody who watches an interface.
pub struct Watch(Process);

impl Watch {
    /// The frames, once all have come.
    pub fn frames(self) -> Vec<Vec<u8>> {
        let ended = self.0.end();
        assert_eq!(ended.code, 0, "{ended:#?}");
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        ended
            .stdout
            .lines()
            .map(|line| line.as_bytes().chunks(2).map(byte).collect())
            .collect()
    }
}

/// A process whose output is collected while it runs. Killed when dropped.
pub struct Process {
    child: Child,
    output: [Arc<Mutex<String>>; 2],
    readers: Vec<JoinHandle<()>>,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code, or 128 and the signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The JSON object that `--json` printed.
    pub fn report(&self) -> Report {
        Report(serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}\n{self:#?}")))
    }
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        // Hugepages come and go with a test that reserves some, and DPDK would find them and then not.
        let pages = "LINECARD_DPDK_PAGES";
        if cfg!(feature = "dpdk") && command.get_envs().all(|(name, _)| name != pages) {
            command.env(pages, "normal");
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let output: [Arc<Mutex<String>>; 2] = Default::default();
        let pipes: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        let readers = pipes
            .into_iter()
            .zip(output.clone())
            .map(|(mut pipe, text)| {
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(n @ 1..) = pipe.read(&mut bytes) {
                        text.lock()
                            .unwrap()
                            .push_str(&String::from_utf8_lossy(&bytes[..n]));
                    }
                })
            });
        Self {
            readers: readers.collect(),
            child,
            output,
        }
    }

    pub fn stdout(&self) -> String {
        self.output[0].lock().unwrap().clone()
    }

    pub fn stderr(&self) -> String {
        self.output[1].lock().unwrap().clone()
    }

    /// The lines of figures that a forwarder prints on the way, since there were `from` of them.
    fn figures(&self, from: usize) -> Vec<String> {
        let is_figures = |line: &&str| line.contains(" pps, drops ");
        self.stderr()
            .lines()
            .filter(is_figures)
            .skip(from)
            .map(str::to_owned)
            .collect()
    }

    /// Types something, if its standard input is a pipe. That it has ended is for others to notice.
    #[cfg(feature = "dpdk")]
    pub fn write(&mut self, text: &str) {
        use std::io::Write as _;
        let pipe = self.child.stdin.as_mut().expect("a pipe");
        let _: std::io::Result<()> = pipe.write_all(text.as_bytes());
    }

    /// Ends its standard input, if that is a pipe.
    pub fn hang_up(&mut self) {
        drop(self.child.stdin.take());
    }

    pub fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("it ended: {status}\n{}\n{}", self.stdout(), self.stderr());
        }
    }

    /// Waits until the forwarder forwards, or the protocols run.
    pub fn ready(mut self) -> Self {
        wait_until("the forwarder", || {
            self.assert_running();
            let said = [self.stdout(), self.stderr()];
            let begun = |text: &String| text.contains("\nforwarding") || text.contains("\nrunning");
            said.iter().any(begun)
        });
        self
    }

    /// Waits until the forwarder has had nothing to do for a while.
    pub fn quiet(&mut self) {
        let from = self.figures(0).len();
        let idle = |line: &String| !line.contains(": rx ") || !moves(line);
        // The figures behind the lines are taken ten times a second.
        wait_until("silence", || {
            self.assert_running();
            let lines = self.figures(from);
            lines.len() >= 4 && lines[lines.len() - 3..].iter().all(idle)
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// As Ctrl-C does.
    pub fn interrupt(self) -> Ended {
        self.signal(nix::sys::signal::Signal::SIGINT);
        self.end()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let mut status = None;
        wait_until("the process to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let status = status.unwrap();
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ended {
            code,
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }
}

/// Whether a line of figures, "… a: rx 0 tx 0 pps, drops 0, misses 0  b: …", says that frames moved.
fn moves(line: &str) -> bool {
    let words: Vec<_> = line.split_whitespace().collect();
    words
        .windows(2)
        .any(|pair| ["rx", "tx"].contains(&pair[0]) && pair[1] != "0")
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // It is ours and not yet waited for, so the pid is its own.
            let _: std::io::Result<()> = self.child.kill();
            let _: std::io::Result<ExitStatus> = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!(
                "--- output of a process\n{}\n{}",
                self.stdout(),
                self.stderr()
            );
        }
    }
}
