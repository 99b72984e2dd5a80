//! Libraries and tools beside Linecard.

use super::{Check, System};

/// Whether DPDK is installed: what `dpdk:` ports run on, in a build that has them.
pub(super) fn libdpdk(system: &System) -> Check {
    let name = "libdpdk";
    let meaning = match cfg!(feature = "dpdk") {
        true => "dpdk: ports run on it",
        false => "not used: in this build the cargo feature dpdk is off",
    };
    if let Some(version) = library_folders(system).iter().find_map(|folder| {
        let file = system.root.text(format!("{folder}/pkgconfig/libdpdk.pc"))?;
        file.lines()
            .find_map(|line| line.strip_prefix("Version:"))
            .map(|version| version.trim().to_owned())
    }) {
        return option(
            Check::ok(name, format!("{version} with headers"), meaning),
            "cargo build --release --features dpdk adds dpdk: ports",
        );
    }
    let library = library_folders(system).iter().find_map(|folder| {
        system
            .root
            .entries(folder)
            .into_iter()
            .find(|file| file.starts_with("librte_eal.so"))
    });
    match library {
        Some(file) => option(
            Check::ok(name, format!("{file} without headers"), meaning),
            WITH_DPDK,
        ),
        None => option(Check::ok(name, "not installed", meaning), WITH_DPDK),
    }
}

/// From nothing to a build with `dpdk:` ports.
const WITH_DPDK: &str =
    "scripts/setup --dpdk && cargo build --release --features dpdk adds dpdk: ports";

/// What would add `dpdk:` ports, to a build that has none.
fn option(check: Check, remedy: &str) -> Check {
    match cfg!(feature = "dpdk") {
        true => check,
        false => check.mend(remedy),
    }
}

/// Where libraries are: Debian puts them below the name of the architecture.
fn library_folders(system: &System) -> Vec<String> {
    let mut folders: Vec<String> = [
        "/usr/local/lib",
        "/usr/local/lib64",
        "/usr/lib",
        "/usr/lib64",
    ]
    .map(str::to_owned)
    .to_vec();
    for base in ["/usr/local/lib", "/usr/lib"] {
        let triplets = system
            .root
            .entries(base)
            .into_iter()
            .filter(|entry| entry.contains("-linux-gnu"));
        folders.extend(triplets.map(|entry| format!("{base}/{entry}")));
    }
    folders
}

/// Whether the tools are there that the scripts and our own advice make use of.
pub(super) fn tools(system: &System) -> Vec<Check> {
    [
        (
            "ip",
            "iproute2",
            "makes the demo's namespaces and interfaces",
        ),
        (
            "ethtool",
            "ethtool",
            "changes a card's queues, rings and offloads",
        ),
    ]
    .into_iter()
    .map(|(tool, package, purpose)| {
        let found = [
            "/usr/local/sbin",
            "/usr/local/bin",
            "/usr/sbin",
            "/usr/bin",
            "/sbin",
            "/bin",
        ]
        .into_iter()
        .map(|folder| format!("{folder}/{tool}"))
        .find(|path| system.root.exists(path));
        match found {
            Some(path) => Check::ok(tool, path, purpose),
            None => Check::warning(tool, "not installed", format!("needed: it {purpose}"))
                .mend(install(system, package)),
        }
    })
    .collect()
}

/// The command that installs a package on this distribution.
fn install(system: &System, package: &str) -> String {
    let release = system.root.text("/etc/os-release").unwrap_or_default();
    let is = |family: &str| {
        release
            .lines()
            .filter(|line| line.starts_with("ID=") || line.starts_with("ID_LIKE="))
            .any(|line| line.contains(family))
    };
    let (command, package) = match package {
        "iproute2" if is("fedora") || is("rhel") => ("dnf install", "iproute"),
        package if is("fedora") || is("rhel") => ("dnf install", package),
        package if is("suse") => ("zypper install", package),
        package if is("arch") => ("pacman -S", package),
        package if is("alpine") => ("apk add", package),
        package => ("apt-get install", package),
    };
    format!("{}{command} {package}", system.sudo())
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::fake::FakeMachine;
    use super::*;

    #[test]
    fn dpdk_is_found_with_and_without_headers() {
        let machine = FakeMachine::healthy();
        assert_eq!(libdpdk(&machine.system()).found, "22.11.11 with headers");
        machine.remove("/usr/lib/x86_64-linux-gnu/pkgconfig");
        machine.write("/usr/lib/x86_64-linux-gnu/librte_eal.so.23", "");
        assert_eq!(
            libdpdk(&machine.system()).found,
            "librte_eal.so.23 without headers"
        );
        machine.remove("/usr/lib");
        let check = libdpdk(&machine.system());
        assert_eq!(
            (check.found.as_str(), check.status),
            ("not installed", Status::Ok)
        );
    }

    #[test]
    fn missing_tools_come_with_this_distributions_command() {
        let machine = FakeMachine::healthy();
        assert!(
            tools(&machine.system())
                .iter()
                .all(|check| check.status == Status::Ok)
        );
        machine.remove("/usr/sbin");
        let remedy = |machine: &FakeMachine| {
            let check = tools(&machine.system()).remove(0);
            assert_eq!(check.status, Status::Warning);
            check.remedy.expect("a remedy")
        };
        assert_eq!(remedy(&machine), "apt-get install iproute2");
        machine.write(
            "/etc/os-release",
            "NAME=Rocky\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"",
        );
        assert_eq!(remedy(&machine), "dnf install iproute");
        machine.write("/etc/os-release", "ID=alpine");
        assert_eq!(remedy(&machine.unprivileged()), "sudo apk add iproute2");
    }
}
