//! The tutorial, as a person follows it: what the page shows is this crate, and it runs on a cable to a kernel. Its test in
//! the simulator is the page's own, in `src/main.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// The files that the page shows: blocks of one name are one behind the other, an empty line between them.
fn files() -> BTreeMap<String, String> {
    let page = fs::read_to_string("README.md").unwrap();
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
fn the_page_is_this_crate_in_less_than_80_lines() {
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
        let there = fs::read_to_string(name).unwrap();
        assert_eq!(files[*name], there, "{name} is not what the page shows");
    }
    // Whoever follows the page has a crate beside the checkout; this one is inside of it.
    let shown: toml::Table = files["Cargo.toml"].parse().unwrap();
    let mut own: toml::Table = fs::read_to_string("Cargo.toml").unwrap().parse().unwrap();
    let path = &mut own["dependencies"]["linecard"]["path"];
    assert!(Path::new(path.as_str().unwrap()).is_dir());
    *path = "../linecard/src/linecard".into();
    assert_eq!(shown["dependencies"], own["dependencies"]);
    assert_eq!(shown["package"]["name"], own["bin"][0]["name"]);
}

/// Runs a shell script in namespaces of its own, which end with it and take along what was started there.
fn in_a_namespace(folder: &Path, script: &str) -> Output {
    let mut command = Command::new("unshare");
    let may = Command::new("unshare").args(["--net", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        command.args(["--user", "--map-root-user"]);
    }
    // With a /proc that knows the process ids which the script sees.
    command.args(["--net", "--pid", "--mount-proc", "--fork", "--kill-child"]);
    command.args(["sh", "-e", "-c", script]);
    command.current_dir(folder);
    command.env("CLOCK", env!("CARGO_BIN_EXE_clock"));
    command.output().unwrap()
}

/// What the page says to do with a cable. The peer is another namespace, so that its kernel is another host's. Its end is not
/// called `eth0`: a mistake in this script may never find an interface of the machine's own.
const CABLE: &str = r#"
unshare --net sleep 60 &
peer=$!
own=$(readlink /proc/self/ns/net)
until [ "$(readlink /proc/$peer/ns/net)" != "$own" ]; do kill -0 $peer; sleep 0.01; done
there() { nsenter --target $peer --net "$@"; }
ip link set lo up
ip link add clock0 type veth peer name clock1 netns $peer
ip link set clock0 arp off addrgenmode none up
there ip address add 10.9.0.1/24 dev clock1
there ip link set clock1 up

mkfifo keyboard
"$CLOCK" uring:clock0 <keyboard >said 2>&1 &
clock=$!
exec 3>keyboard
until grep -q 'press Enter' said; do kill -0 $clock; sleep 0.01; done
# It asks first whether the address is anybody else's.
until there ping -q -c 1 -W 0.1 10.9.0.2 >/dev/null; do kill -0 $clock; kill -0 $peer; done
there python3 ask.py
there python3 ask.py
there ping -q -c 3 -i 0.1 10.9.0.2 | grep ' 0% packet loss' >&2
echo >&3
wait $clock
cat said >&2
kill $peer
"#;

#[test]
fn a_clock_answers_on_a_cable() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ask.py"), &files()["ask.py"]).unwrap();
    let output = in_a_namespace(folder.path(), CABLE);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{output:#?}");
    let answers = String::from_utf8_lossy(&output.stdout);
    let times: Vec<u64> = answers
        .lines()
        .map(|line| line.strip_prefix("0xc10c 2 ").expect(line))
        .map(|time| time.parse().expect(time))
        .collect();
    assert!(times.len() == 2 && times[0] < times[1], "{answers}");
    assert!(said.contains("unaccounted: 0"), "{said}");
}
