//! Watching and steering a running engine: `linecard top`, `linecard ctl`, metrics, and those who mean no good.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::lab::{Ended, LINECARD, Lab, Process, wait_until};
use crate::wire::{B4, Wire};
use crate::xdp_lab::{ports, possible, talking};

/// A directory for sockets, so that nobody else's engines are seen.
struct Runtime(tempfile::TempDir);

impl Runtime {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("linecard/{name}.sock"))
    }

    /// The command, where this is the directory.
    fn linecard(&self, args: &[&str]) -> Process {
        let mut command = Command::new(LINECARD);
        command.args(args).env("XDG_RUNTIME_DIR", self.0.path());
        Process::start(command)
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.linecard(args).end()
    }

    /// An engine that has nothing to do.
    fn engine(&self, port: &str, args: &[&str]) -> Process {
        let fwd = [
            "fwd",
            "--port",
            port,
            "--idle",
            "sleep",
            "--stats-interval",
            "0s",
        ];
        self.linecard(&[&fwd, args].concat()).ready()
    }
}

/// A path for a socket of one test, and as text.
pub fn path_in(dir: &tempfile::TempDir) -> String {
    dir.path().join("x.sock").to_str().unwrap().to_owned()
}

/// The command, run to its end somewhere.
fn linecard(args: &[&str]) -> Ended {
    let mut command = Command::new(LINECARD);
    command.args(args);
    Process::start(command).end()
}

/// What the engine at a socket says in JSON.
fn ctl(path: &str, args: &[&str]) -> Value {
    let ended = linecard(&[&["ctl", path], args, &["--json"]].concat());
    assert_eq!(ended.code, 0, "{ended:#?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

/// `linecard top --json` at a running command.
pub struct Top {
    process: Process,
    path: String,
}

impl Top {
    /// Attaches itself as soon as there is a socket.
    pub fn at(path: &str) -> Self {
        wait_until("a socket", || Path::new(path).exists());
        let mut command = Command::new(LINECARD);
        command.args(["top", path, "--json", "--interval", "200ms"]);
        Self {
            process: Process::start(command),
            path: path.to_owned(),
        }
    }

    /// All snapshots up to the first of which this holds, that one last.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut seen = Vec::new();
        wait_until(what, || {
            self.process.assert_running();
            let said = self.process.stdout();
            // What has no end yet is not all there.
            let whole = said.split_inclusive('\n').filter(|l| l.ends_with('\n'));
            for line in whole.skip(seen.len()) {
                seen.push(serde_json::from_str(line).unwrap());
                if holds(&seen[seen.len() - 1]) {
                    return true;
                }
            }
            false
        });
        seen
    }

    /// Stops what is watched, which is the end of the watch, too.
    pub fn stop(self) {
        ctl(&self.path, &["stop"]);
        let ended = self.process.end();
        assert_eq!(ended.code, 0, "{ended:#?}");
    }
}

/// That snapshots are of this command and these ports, and nothing ever went back.
pub fn assert_of(seen: &[Value], command: &str, ports: &[&str]) {
    for snapshot in seen {
        assert_eq!(snapshot["hello"]["command"], command, "{snapshot:#}");
        let all = snapshot["report"]["ports"].as_array().unwrap();
        let names: Vec<_> = all.iter().map(|port| &port["name"]).collect();
        assert_eq!(names, ports, "{snapshot:#}");
    }
    for pair in seen.windows(2) {
        for key in ["rx", "tx"] {
            assert!(
                account(&pair[0], key) <= account(&pair[1], key),
                "{key}: {pair:#?}"
            );
        }
    }
}

fn account(status: &Value, key: &str) -> u64 {
    status["report"]["account"][key].as_u64().unwrap()
}

#[test]
fn status_adds_up_and_is_what_the_report_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir);
    let mut wire = Wire::new("", &["--control", &path, "--metrics", "127.0.0.1:9100"]);
    wire.a.ping(20, B4);
    wire.a.down();
    wire.b.down();
    wire.linecard.quiet();

    let status = ctl(&path, &["status"]);
    assert_eq!(status["hello"]["command"], "fwd");
    assert_eq!(account(&status, "in_flight"), 0, "{status:#}");
    let ports = status["report"]["ports"].as_array().unwrap();
    let sum = |key: &str| ports.iter().map(|p| p[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(
        (sum("rx"), sum("tx")),
        (account(&status, "rx"), account(&status, "tx"))
    );

    let page = |accept: &str| {
        let command = format!("curl -sSi -H 'Accept: {accept}' http://127.0.0.1:9100/metrics");
        wire.lab.here.sh(&command)
    };
    let open = page("application/openmetrics-text; version=1.0.0");
    assert!(
        open.contains("Content-Type: application/openmetrics-text; version=1.0.0"),
        "{open}"
    );
    assert!(open.ends_with("# EOF\n"), "{open}");
    for port in ports {
        let (name, rx) = (port["name"].as_str().unwrap(), &port["rx"]);
        let line = format!("linecard_port_rx_packets_total{{port=\"{name}\"}} {rx}\n");
        assert!(open.contains(&line), "no {line} in {open}");
        assert!(page("*/*").contains(&line));
    }

    let report = wire.finish();
    for key in ["rx", "tx", "drops"] {
        assert_eq!(
            report.account(key),
            account(&status, key),
            "{key}: {status:#}"
        );
    }
    assert!(report.account("rx") >= 40);
    assert!(!Path::new(&path).exists());
}

#[test]
fn rules_come_and_go_while_traffic_flows() {
    if !possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir);
    let wire = talking(ports(""), &["--control", &path]);
    wire.a.ping(2, B4);
    let added = ctl(&path, &["rules", "add", "0: proto=icmp => drop"]);
    assert_eq!(added["added"], 0);
    let (status, said) = wire.a.try_sh(&format!("ping -i 0.01 -c 3 -W 0.2 {B4}"));
    assert!(
        !status.success() && said.contains("100% packet loss"),
        "{said}"
    );
    let rules = ctl(&path, &["rules", "list"]);
    assert_eq!(
        (&rules[0]["packets"], &rules[0]["text"]),
        (&3.into(), &"proto=icmp => drop".into())
    );
    ctl(&path, &["rules", "remove", "0"]);
    wire.a.ping(2, B4);
    assert_eq!(ctl(&path, &["rules", "list"]), Value::Array(Vec::new()));
    let ended = wire.linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    ended.report().assert_balanced();
}

#[test]
fn what_a_port_or_program_cannot_do_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir);
    let wire = Wire::new("", &["--control", &path]);
    for (args, says) in [
        (
            &["rules", "add", "0: proto=icmp => drop"][..],
            "uring:a: it takes no flow rules",
        ),
        (
            &["rules", "add", "7: proto=icmp => drop"],
            "the ports are 0 to 1",
        ),
        (&["rules", "add", "0: proto=icmp"], "has no action"),
        (&["rules", "remove", "3"], "there is no rule 3"),
        (&["rate", "20kpps"], "no rate to set here"),
        (&["log", "nonsense=what"], "is no filter"),
        (&["capture", "stop"], "there is no capture"),
        (
            &["capture", "start", "/nowhere/x.pcapng"],
            "cannot write /nowhere/x.pcapng",
        ),
        (&["capture", "start", "x", "--filter", "udp and and"], ""),
    ] {
        let ended = linecard(&[&["ctl", &path], args].concat());
        assert_eq!(ended.code, 3, "{args:?}: {ended:#?}");
        assert!(ended.stderr.contains(says), "{args:?}: {ended:#?}");
    }
    // What can be changed: debug is more than was said before.
    assert!(!wire.linecard.stderr().contains("DEBUG"));
    ctl(&path, &["log", "trace"]);
    wire.finish();
}

#[test]
fn a_capture_starts_and_ends_while_traffic_flows() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir);
    let file = dir.path().join("a.pcapng");
    let file = file.to_str().unwrap();
    let wire = Wire::new("", &["--control", &path]);
    wire.a.ping(1, B4);
    let started = ctl(
        &path,
        &["capture", "start", file, "--filter", "icmp", "--port", "0"],
    );
    assert_eq!(started["capture"]["running"], true, "{started:#}");
    let again = linecard(&["ctl", &path, "capture", "start", file]);
    assert!(
        again.code == 3 && again.stderr.contains("there is one already"),
        "{again:#?}"
    );
    wire.a.ping(5, B4);
    let ended = ctl(&path, &["capture", "stop"]);
    let frames = ended["capture"]["frames"].as_u64().unwrap();
    assert!(frames >= 10 && ended["capture"]["drops"] == 0, "{ended:#}");
    let listed = wire.lab.here.sh(&format!(
        "tshark -r {file} -T fields -e icmp.type 2>/dev/null"
    ));
    assert_eq!(listed.lines().count() as u64, frames, "{listed}");
    wire.finish();
}

#[test]
fn a_reader_that_hangs_disturbs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir);
    let wire = Wire::new("", &["--control", &path]);
    let mut hanging = UnixStream::connect(&path).unwrap();
    hanging
        .write_all(b"{\"do\":\"watch\",\"interval_ms\":100}\n")
        .unwrap();
    // So much is asked for that no buffer takes the answers.
    hanging
        .write_all(&b"{\"do\":\"status\"}\n".repeat(200))
        .unwrap();
    wire.a.ping(5, B4);
    wait_until("it to be sent away", || {
        ctl(&path, &["status"])["clients"]["dropped"] == 1
    });
    let once = linecard(&["top", &path, "--once", "--interval", "200ms"]);
    assert_eq!(once.code, 0, "{once:#?}");
    assert!(
        once.stdout.contains("uring:a") && once.stdout.contains("workers\n"),
        "{once:#?}"
    );
    // What it had not read is still there, and then the end.
    let mut rest = Vec::new();
    hanging.read_to_end(&mut rest).unwrap();
    assert!(rest.starts_with(b"{\"linecard\":"));
    wire.a.ping(5, B4);
    wire.finish();
}

#[test]
fn engines_are_found_and_the_dead_are_cleared() {
    let runtime = Runtime::new();
    let nobody = runtime.run(&["top"]);
    assert_eq!(nobody.code, 1);
    assert!(
        nobody
            .stderr
            .contains("start one, for example: linecard fwd"),
        "{nobody:#?}"
    );

    let killed = runtime.engine("sim:a", &["--control", "killed"]);
    let socket = runtime.socket("killed");
    let meta = fs::symlink_metadata(&socket).unwrap();
    assert!(meta.file_type().is_socket() && meta.permissions().mode() & 0o777 == 0o600);
    killed.signal(nix::sys::signal::Signal::SIGKILL);
    killed.end();
    assert!(socket.exists(), "nobody was left to remove it");
    assert!(
        runtime
            .run(&["ctl", "list"])
            .stderr
            .contains("no engine runs here")
    );

    let one = runtime.engine("sim:a", &["--control", "one"]);
    assert!(!socket.exists(), "the next one to start has");
    let alone = runtime.run(&["ctl", "status"]);
    assert!(alone.stdout.contains("linecard fwd one"), "{alone:#?}");
    let two = runtime.engine("sim:a", &[]);
    let several = runtime.run(&["ctl", "status"]);
    assert_eq!(several.code, 1);
    assert!(several.stderr.contains("one (fwd, pid "), "{several:#?}");
    let taken = runtime.run(&["fwd", "--port", "sim:a", "--control", "one"]);
    assert!(
        taken.code == 1 && taken.stderr.contains("something is there already"),
        "{taken:#?}"
    );
    let listed = runtime.run(&["ctl", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[1]["name"]),
        (2, &"one".into())
    );
    let pid = listed[0]["pid"].to_string();

    // By the number of its process, by its name.
    assert!(
        runtime
            .run(&["ctl", &pid, "stop"])
            .stdout
            .contains("stopping")
    );
    assert_eq!(two.end().code, 0);
    let lines = runtime.linecard(&["top", "one", "--json", "--interval", "200ms"]);
    wait_until("two snapshots", || lines.stdout().lines().count() >= 2);
    assert_eq!(runtime.run(&["ctl", "one", "stop"]).code, 0);
    assert_eq!(one.end().code, 0);
    assert_eq!(
        lines.end().code,
        0,
        "the end of the engine is the end of the watch"
    );
    assert!(!runtime.socket("one").exists());
}

#[test]
fn without_a_place_for_the_socket_it_runs_all_the_same() {
    let runtime = Runtime::new();
    fs::write(runtime.0.path().join("linecard"), "in the way").unwrap();
    let warned = runtime.engine("sim:a", &[]);
    wait_until("a warning", || {
        warned.stderr().contains("linecard top will not find this")
    });
    assert_eq!(warned.interrupt().code, 0);
    let quiet = runtime.engine("sim:a", &["--no-control"]).interrupt();
    assert_eq!(quiet.code, 0);
    assert!(!quiet.stderr.contains("will not find"));
    let named = runtime.run(&["fwd", "--port", "sim:a", "--control", "x"]);
    assert!(
        named.code == 1 && named.stderr.contains("cannot make the control socket"),
        "{named:#?}"
    );
    let public = runtime.run(&["fwd", "--port", "sim:a", "--metrics", "0.0.0.0:0"]);
    assert!(
        public.code == 1 && public.stderr.contains("--metrics-public"),
        "{public:#?}"
    );
}

#[test]
fn another_user_is_not_let_in() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let lab = Lab::new();
    let args = [
        "fwd",
        "--port",
        "sim:a",
        "--idle",
        "sleep",
        "--control",
        &path,
    ];
    let engine = lab.linecard(&args).ready();
    const PROGRAM: &str = r#"
import os, socket, sys
try:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
except OSError:
    print("no other user"); sys.exit()
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
    print(s.recv(1000).decode())
except PermissionError:
    print("denied")
"#;
    let ask = || {
        let mut python = lab.here.command("python3");
        String::from_utf8(python.args(["-c", PROGRAM, &path]).output().unwrap().stdout).unwrap()
    };
    let said = ask();
    if !said.contains("no other user") {
        assert_eq!(said, "denied\n");
        // Even if somebody opens the door.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(ask().contains("another user's"));
    }
    assert_eq!(engine.interrupt().code, 0);
}

/// `top` in a terminal: what it was ended by, and how it left the terminal.
fn in_terminal(path: &str, end: &str) -> Value {
    const PROGRAM: &str = include_str!("terminal.py");
    let mut python = Command::new("python3");
    python.args(["-c", PROGRAM, "L1 bit", end, LINECARD, "top", path]);
    let ended = Process::start(python).end();
    assert_eq!(ended.code, 0, "{ended:#?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn top_leaves_the_terminal_as_it_was() {
    let runtime = Runtime::new();
    let engine = runtime.engine("sim:a", &["--control", "a"]);
    let path = runtime.socket("a");
    for end in ["q", "\u{3}", "SIGTERM"] {
        let left = in_terminal(path.to_str().unwrap(), end);
        let expected = serde_json::json!({
            "drawn": true, "status": 0, "left": true, "cursor": true, "modes": true,
        });
        assert_eq!(left, expected, "ended by {end:?}");
    }
    assert_eq!(engine.interrupt().code, 0);
}

#[test]
fn a_generator_is_given_another_rate_while_it_sends() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir);
    let mut command = Command::new(LINECARD);
    let gen_args = [
        "gen", "--port", "null:0", "--rate", "1kpps", "--idle", "sleep", "--json",
    ];
    command.args(gen_args).args(["--control", &path]);
    let mut sending = Process::start(command);
    wait_until("frames of the generator's", || {
        sending.assert_running();
        let ended = linecard(&["ctl", &path, "status", "--json"]);
        let status: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
        status["streams"][0]["sent"].as_u64() > Some(0)
    });
    assert!(ctl(&path, &["rate", "2kpps"])["done"].is_string());
    let status = ctl(&path, &["status"]);
    let rate = status["streams"][0]["rate"].as_str().unwrap();
    assert!(
        rate.starts_with('2') && rate.ends_with("kpps"),
        "{status:#}"
    );
    let refused = linecard(&["ctl", &path, "rate", "fast"]);
    assert_eq!(refused.code, 3, "{refused:#?}");
    ctl(&path, &["stop"]);
    // In order, whether or not it kept its rate: 4 says that it did not.
    let ended = sending.end();
    assert!([0, 4].contains(&ended.code), "{ended:#?}");
    ended.report();
}
