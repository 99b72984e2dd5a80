//! What can be wrong with DPDK: each time our own message, which names the device and what to do, exit code 1,
//! and nothing left behind. Never an end of the process from inside of the library.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

use nix::sys::signal::Signal;

use crate::files::path;
use crate::lab::{Ended, LINECARD, Process};

const NULL: &str = "dpdk:net_null0";

fn fwd(program: &[&str], port: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Process {
    let mut command = Command::new(program[0]);
    command
        .args(&program[1..])
        .args(["fwd", "--port", port])
        .args(arguments)
        .envs(variables.iter().copied());
    Process::start(command)
}

/// Runs it with one port and these variables until 1000 frames have come.
fn tried(port: &str, variables: &[(&str, &str)]) -> Ended {
    fwd(&[LINECARD], port, variables, &["--packets", "1000"]).end()
}

#[track_caller]
fn refused(ended: &Ended, port: &str, says: &[&str]) {
    assert_eq!(ended.code, 1, "{ended:#?}");
    let line = ended
        .stderr
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap_or_else(|| panic!("no message: {ended:#?}"));
    assert!(line.starts_with(&format!("error: {port}: ")), "{line}");
    for words in says {
        assert!(line.contains(words), "no {words:?} in: {line}");
    }
    assert!(line.contains("; "), "no remedy in: {line}");
    assert!(!ended.stderr.contains("panicked"), "{ended:#?}");
}

#[test]
fn devices_that_cannot_be_opened_say_what_to_do() {
    let wrong: &[(&str, &[&str])] = &[
        (
            "dpdk:ffff:ff:1f.7",
            &["no PCI device ffff:ff:1f.7", "linecard ports"],
        ),
        ("dpdk:zz:00.0", &["zz:00.0", "dpdk:0000:3b:00.0"]),
        (
            "dpdk:net_warp0",
            &["librte_net_warp.so", "there are: ", "null"],
        ),
        ("dpdk:cable0", &["cable0", "dpdk:net_null0"]),
        (
            "dpdk:net_null0?size=banana",
            &["check its options: size=banana"],
        ),
        (
            "dpdk:net_null0?colour=red",
            &["check its options: colour=red"],
        ),
        (
            "dpdk:net_af_packet0?iface=nope0",
            &["No such device", "check its options: iface=nope0"],
        ),
        ("dpdk:net_null0?mtu=99999", &["mtu=99999", "mtu=9000"]),
        (
            "dpdk:virtio_user0?path=/nowhere/s",
            &["path=/nowhere/s", "path=/run/vhost.sock"],
        ),
        ("dpdk:net_af_packet0", &["dpdk:net_af_packet0?iface=eth1"]),
        (
            "dpdk:net_memif0?role=boss",
            &["Unknown role: boss", "role=client&socket="],
        ),
        ("dpdk:net_vhost0", &["dpdk:net_vhost0?iface=/"]),
        (
            "dpdk:net_vhost0?iface=/nowhere/s",
            &["No such file", "check its options: iface=/nowhere/s"],
        ),
        (
            "dpdk:net_pcap0?rx_pcap=/nowhere.pcap",
            &["No such file", "rx_pcap=/nowhere.pcap"],
        ),
        (
            "dpdk:net_virtio_user0?path=/nowhere/s",
            &["No such file", "check its options: path=/nowhere/s"],
        ),
    ];
    for (port, says) in wrong {
        refused(&tried(port, &[]), port, says);
    }
}

/// Drivers of virtual devices say -1 when they mean no.
#[test]
fn a_peer_that_is_not_there_is_no_lack_of_permission() {
    let port = "dpdk:net_memif0?role=client&socket=/nowhere/s&socket-abstract=no";
    let ended = tried(port, &[]);
    refused(&ended, port, &["/nowhere/s", "check its options"]);
    assert!(!ended.stderr.contains("not permitted"), "{ended:#?}");
}

#[test]
fn arguments_that_would_end_the_process_are_refused() {
    for word in [
        "-h",
        "-vh",
        "--help",
        "--hel",
        "--lcores=0",
        "-l0",
        "--proc-type=secondary",
    ] {
        let ended = tried(NULL, &[("LINECARD_DPDK_EAL_ARGS", word)]);
        refused(
            &ended,
            NULL,
            &[word, "is refused", "take it out of LINECARD_DPDK_EAL_ARGS"],
        );
    }
    for words in [
        "--no-such",
        "-d /nowhere.so",
        "--vdev=net_warp0",
        "-m 99999999",
    ] {
        let ended = tried(NULL, &[("LINECARD_DPDK_EAL_ARGS", words)]);
        refused(
            &ended,
            NULL,
            &["DPDK does not start", "check LINECARD_DPDK_EAL_ARGS", words],
        );
    }
    for (name, value) in [
        ("PAGES", "big"),
        ("MEMORY_MIB", "lots"),
        ("FILE_PREFIX", "../x"),
    ] {
        let name = format!("LINECARD_DPDK_{name}");
        let ended = tried(NULL, &[(&name, value)]);
        refused(&ended, NULL, &[&name, value, "unset it"]);
    }
    // Allowed, and more than any machine has.
    let ended = tried(NULL, &[("LINECARD_DPDK_MEMORY_MIB", "1000000")]);
    refused(&ended, NULL, &["1000000 MiB", "LINECARD_DPDK_MEMORY_MIB"]);
}

#[test]
fn a_file_sets_dpdk_up() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("linecard.toml");
    let run = |dpdk: &str, variables: &[(&str, &str)]| {
        let port = format!("[[port]]\nname = \"a\"\nopen = \"{NULL}\"\n[engine]\npackets = 1000\n");
        fs::write(&file, format!("{port}[dpdk]\n{dpdk}\n")).unwrap();
        let mut command = Command::new(LINECARD);
        command
            .args(["run", path(&file), "--json"])
            .envs(variables.iter().copied());
        Process::start(command).end()
    };
    let all = "pages = \"normal\"\nmemory_mib = 64\nfile_prefix = \"lc-file\"\neal_args = [\"--log-level=8\"]";
    let ended = run(all, &[]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    ended.report().assert_balanced();
    refused(
        &run("eal_args = [\"-h\"]", &[]),
        NULL,
        &["\"-h\" is refused", "eal_args in [dpdk]"],
    );
    // A variable takes precedence, and is not said twice.
    let ended = run("eal_args = [\"-h\"]", &[("LINECARD_DPDK_EAL_ARGS", "-v")]);
    assert_eq!(ended.code, 0, "{ended:#?}");
}

/// The number of hugepages is the whole machine's: one test at a time.
fn hugepages() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

const HUGE: (&str, &str) = ("LINECARD_DPDK_PAGES", "huge");
const SIZES: &str = "/sys/kernel/mm/hugepages";

fn free_hugepages() -> u64 {
    let sizes = fs::read_dir(SIZES).into_iter().flatten().flatten();
    sizes
        .filter_map(|size| fs::read_to_string(size.path().join("free_hugepages")).ok())
        .filter_map(|text| text.trim().parse::<u64>().ok())
        .sum()
}

#[test]
fn no_hugepages_where_they_are_asked_for() {
    let _one = hugepages();
    if free_hugepages() > 0 {
        eprintln!("NOT TESTED: this machine has free hugepages");
        return;
    }
    let says = [
        "DPDK does not start",
        "linecard doctor",
        "LINECARD_DPDK_PAGES=normal",
    ];
    refused(&tried(NULL, &[HUGE]), NULL, &says);
}

#[test]
fn without_privileges_what_needs_none_runs_and_the_rest_names_the_capability() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("linecard");
    // Where the program was built, others may not be let in.
    fs::copy(LINECARD, &program).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        path(&program),
    ];
    let program = if nix::unistd::geteuid().is_root() {
        &nobody[..]
    } else {
        &nobody[4..]
    };
    let tried = |port| fwd(program, port, &[], &["--packets", "1000"]).end();
    let ended = tried(NULL);
    assert_eq!(ended.code, 0, "{ended:#?}");
    for (port, says) in [
        ("dpdk:net_tap0?iface=lct0", "cap_net_admin+ep"),
        ("dpdk:net_af_packet0?iface=lo", "cap_net_raw+ep"),
    ] {
        refused(&tried(port), port, &[says, "run it as root"]);
    }
}

/// Nothing is shared with other processes, so that their names may be equal.
#[test]
fn a_second_process_with_the_same_prefix_runs_beside_the_first() {
    let prefix = [("LINECARD_DPDK_FILE_PREFIX", "lc-twice")];
    let first = fwd(&[LINECARD], NULL, &prefix, &["--json"]).ready();
    let ended = tried(NULL, &prefix);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let ended = first.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    ended.report().assert_balanced();
    assert_nothing_left("lc-twice");
}

/// No directory of EAL's with this prefix, and no file in any mount of hugepages.
#[track_caller]
fn assert_nothing_left(prefix: &str) {
    let runtime = [
        "/var/run/dpdk".to_owned(),
        "/tmp/dpdk".to_owned(),
        std::env::var("XDG_RUNTIME_DIR").unwrap_or_default() + "/dpdk",
    ];
    for dir in runtime {
        let dir = Path::new(&dir).join(prefix);
        assert!(!dir.exists(), "{} is left", dir.display());
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    for mount in mounts.lines().filter(|line| line.contains(" hugetlbfs ")) {
        let dir = mount.split_whitespace().nth(1).unwrap();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(!name.starts_with(prefix), "{dir}/{name} is left");
        }
    }
}

/// Starts, is killed in the middle, leaves nothing, starts again.
fn killed_and_started_again(prefix: &str, pages: &str) {
    let variables = [
        ("LINECARD_DPDK_FILE_PREFIX", prefix),
        ("LINECARD_DPDK_PAGES", pages),
    ];
    let first = fwd(&[LINECARD], NULL, &variables, &["--json"]).ready();
    first.signal(Signal::SIGKILL);
    let ended = first.end();
    assert_eq!(ended.code, 128 + 9, "{ended:#?}");
    assert_nothing_left(prefix);
    let ended = tried(NULL, &variables);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let on_hugepages = ended.stdout.contains("DPDK's own data is in hugepages");
    assert_eq!(on_hugepages, pages == "huge", "{ended:#?}");
    assert_nothing_left(prefix);
}

#[test]
fn a_killed_process_leaves_nothing_on_ordinary_pages() {
    killed_and_started_again("lc-killed", "normal");
}

#[test]
fn a_socket_that_a_killed_process_has_left_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    for port in [
        format!("dpdk:net_vhost0?iface={}", path(&socket)),
        format!(
            "dpdk:net_memif0?role=server&socket={}&socket-abstract=no",
            path(&socket)
        ),
    ] {
        let first = fwd(&[LINECARD], &port, &[], &["--json"]).ready();
        first.signal(Signal::SIGKILL);
        first.end();
        assert!(socket.exists(), "{port}");
        let second = fwd(&[LINECARD], &port, &[], &["--json"]).ready();
        let ended = second.interrupt();
        assert_eq!(ended.code, 0, "{ended:#?}");
        assert!(!socket.exists(), "{port}");
    }
}

/// Hugepages that are given back, however the test ends.
struct Reserved(String);

impl Reserved {
    const PAGES: u64 = 64;

    fn new() -> Result<Self, String> {
        let file = format!("{SIZES}/hugepages-2048kB/nr_hugepages");
        let read = || fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"));
        let before = read()?.trim().to_owned();
        let number: u64 = before.parse().map_err(|e| format!("{file}: {e}"))?;
        let wanted = (number + Self::PAGES).to_string();
        fs::write(&file, &wanted).map_err(|e| format!("{file}: {e}"))?;
        let reserved = Self(before);
        let have = read()?;
        if have.trim() != wanted {
            return Err(format!(
                "{wanted} hugepages are not to be had, only {}",
                have.trim()
            ));
        }
        Ok(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _: std::io::Result<()> =
            fs::write(format!("{SIZES}/hugepages-2048kB/nr_hugepages"), &self.0);
    }
}

#[test]
fn a_killed_process_leaves_nothing_on_hugepages() {
    let _one = hugepages();
    match Reserved::new() {
        Ok(_reserved) => killed_and_started_again("lc-killed-huge", "huge"),
        Err(why) => eprintln!("NOT TESTED: a kill with hugepages in use: {why}"),
    }
}
