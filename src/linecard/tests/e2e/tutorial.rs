//! The tutorial, as a person follows it: every block of its page goes into an empty crate, which is built, tested and
//! run on a cable to a kernel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lab::{Lab, Process, wait_until};

/// This repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("../..").canonicalize().unwrap()
}

/// The files that the page shows: blocks of one name are one behind the other, an empty line between them.
fn files() -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(root().join("examples/tutorial/README.md")).unwrap();
    let mut files = BTreeMap::<String, String>::new();
    let mut inside: Option<&mut String> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut inside) {
            (Some(_), Some(_)) => inside = None,
            (Some(what), None) => {
                let name = what.split_once(' ').map_or("", |(_, name)| name);
                let file = files.entry(name.to_owned()).or_default();
                if !file.is_empty() {
                    file.push('\n');
                }
                inside = Some(file);
            }
            (None, Some(file)) => {
                file.push_str(line);
                file.push('\n');
            }
            (None, None) => {}
        }
    }
    // What is only shown: commands.
    files.remove("");
    files
}

#[test]
fn the_page_is_the_crate_in_less_than_80_lines() {
    let files = files();
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let wanted = [
        "Cargo.toml",
        "ask.py",
        "clock.pkt",
        "clock.toml",
        "src/main.rs",
    ];
    assert_eq!(names, wanted);
    let lines = files["src/main.rs"].lines().count();
    assert!(lines < 80, "{lines} lines");
    for name in &wanted[2..] {
        let file = root().join("examples/tutorial").join(name);
        let there = std::fs::read_to_string(file).unwrap();
        assert_eq!(files[*name], there, "{name} is not what the page shows");
    }
}

/// Where this test was built, so that nothing but Linecard itself and the clock is built again.
fn target_dir() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let deps = this.parent().unwrap();
    deps.parent().unwrap().parent().unwrap().to_owned()
}

/// Cargo in a crate outside of this workspace, with the workspace's profile and versions, and without a network.
fn cargo(dir: &Path, words: &[&str]) {
    let mut command = Command::new(env!("CARGO"));
    command.args(words).args(["--offline", "--quiet"]);
    command.current_dir(dir);
    command.env("CARGO_TARGET_DIR", target_dir());
    command.env("CARGO_INCREMENTAL", "0");
    command.env("CARGO_PROFILE_TEST_OPT_LEVEL", "1");
    command.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    // Linecard's own crates are built again here, as cheaply as can be.
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let names = lock
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"linecard"));
    for rest in names.filter_map(|name| name.strip_suffix('"')) {
        for how in ["opt-level=0", "debug=false"] {
            let setting = format!("profile.test.package.linecard{rest}.{how}");
            command.args(["--config", &setting]);
        }
    }
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {words:?}: {error}");
}

#[test]
fn from_an_empty_crate_to_an_answer_on_a_cable() {
    let dir = tempfile::tempdir().unwrap();
    cargo(dir.path(), &["new", "clock", "--vcs", "none"]);
    let dir = dir.path().join("clock");
    let linecard = root().join("src/linecard");
    for (name, text) in files() {
        let text = text.replace("../linecard/src/linecard", linecard.to_str().unwrap());
        std::fs::write(dir.join(name), text).unwrap();
    }
    std::fs::copy(root().join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    // In the simulator, and on a cable.
    cargo(&dir, &["test"]);
    cargo(&dir, &["build", "--profile", "test"]);

    let lab = Lab::new();
    let peer = lab.host("clock0");
    peer.up(&["10.9.0.1/24"]);
    let program = target_dir().join("debug/clock");
    let mut command = lab.here.command(program.to_str().unwrap());
    command.arg("uring:clock0").stdin(Stdio::piped());
    let mut clock = Process::start(command);
    wait_until("the clock", || {
        clock.assert_running();
        clock.stdout().contains("press Enter")
    });
    let ask = format!("python3 {}", dir.join("ask.py").display());
    wait_until("the first answer", || peer.try_sh(&ask).0.success());
    let time = || {
        let said = peer.sh(&ask);
        let time = said.trim().strip_prefix("0xc10c 2 ");
        time.and_then(|time| time.parse::<u64>().ok())
            .unwrap_or_else(|| panic!("{said}"))
    };
    let (first, second) = (time(), time());
    assert!(first < second, "{first} {second}");
    peer.ping(3, "10.9.0.2");
    clock.hang_up();
    let ended = clock.end();
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(ended.stdout.contains("unaccounted: 0"), "{ended:#?}");
    lab.assert_left(&["clock0"]);
}
