//! XDP and AF_XDP: the kernel, the compiler of its programs, privileges, memory, and each interface.

use linecard::af_xdp::Probe;
use linecard_engine::topology::{NetInterface, format_bytes, interfaces};

use super::network::SETCAP;
use super::{Check, System, kernel};

const JIT: &str = "net.core.bpf_jit_enable";
const HARDEN: &str = "net.core.bpf_jit_harden";

/// Everything about XDP, in the order in which it is needed.
pub(super) fn checks(system: &System) -> Vec<Check> {
    let mut checks = vec![
        kernel(system),
        compiler(system),
        privileges(system),
        memory(system),
    ];
    let all = interfaces(&system.root);
    checks.extend(
        all.iter()
            .filter(|one| one.ethernet)
            .map(|one| interface(system, one, &all)),
    );
    checks
}

/// What this kernel's AF_XDP has.
fn kernel(system: &System) -> Check {
    /// First release, what came with it, what is so without.
    const NEWS: [((u32, u32), &str); 4] = [
        ((5, 9), "programs end with their process"),
        ((6, 3), "drivers say what they can"),
        ((6, 6), "frames longer than a buffer"),
        ((6, 11), "checksums finished on the way out"),
    ];
    let name = "AF_XDP";
    // What it answers for the loopback is so for every interface.
    if let Err(obstacle) = system.probes.xdp("lo")
        && obstacle.reason.contains("CONFIG_XDP_SOCKETS")
    {
        return Check::warning(
            name,
            "not in this kernel (CONFIG_XDP_SOCKETS is off)",
            "xdp: ports cannot be opened; uring: ports can",
        )
        .mend("boot a distribution's kernel");
    }
    let Some(version) = kernel::release(system) else {
        return Check::warning(name, "unknown kernel", "cannot tell what xdp: ports can do")
            .mend("uname -r should begin with two numbers, such as 6.1");
    };
    let found = format!("Linux {}.{}", version.0, version.1);
    let (has, lacks): (Vec<_>, Vec<_>) = NEWS.iter().partition(|(first, _)| version >= *first);
    let list = |news: &[&((u32, u32), &str)]| {
        let each: Vec<String> = news
            .iter()
            .map(|((major, minor), what)| format!("{what} ({major}.{minor})"))
            .collect();
        each.join(", ")
    };
    if lacks.is_empty() {
        return Check::ok(name, found, format!("has {}", list(&has)));
    }
    let meaning = format!("without {}", list(&lacks));
    if version < NEWS[0].0 {
        return Check::warning(name, found, "older than 5.9: xdp: ports cannot be opened")
            .mend(kernel::UPGRADE);
    }
    Check::ok(name, found, meaning).mend(kernel::UPGRADE)
}

/// Whether programs are compiled.
fn compiler(system: &System) -> Check {
    let name = "BPF JIT";
    let read = |sysctl: &str| {
        let file = format!("/proc/sys/{}", sysctl.replace('.', "/"));
        system.root.number::<u32>(file)
    };
    let sudo = system.sudo();
    match (read(JIT), read(HARDEN)) {
        (Some(0), _) => Check::warning(
            name,
            format!("{JIT}=0"),
            "XDP programs are interpreted, at several times the cost of a frame",
        )
        .mend(format!("{sudo}sysctl -w {JIT}=1")),
        (_, Some(2)) => Check::warning(
            name,
            format!("{HARDEN}=2"),
            "root's programs are hardened as well, which costs some of each frame's time",
        )
        .mend(format!("{sudo}sysctl -w {HARDEN}=1")),
        (Some(_), harden) => {
            let hardened = harden.map_or(String::new(), |level| format!(", {HARDEN}={level}"));
            Check::ok(
                name,
                format!("{JIT}=1{hardened}"),
                "XDP programs are compiled",
            )
        }
        (None, _) => Check::ok(
            name,
            format!("{JIT} is not visible in this network namespace"),
            "the setting of the machine's first namespace applies",
        ),
    }
}

/// Whether an XDP program and its sockets may be had.
fn privileges(system: &System) -> Check {
    let name = "XDP privileges";
    let unprivileged = system
        .root
        .number::<u32>("/proc/sys/kernel/unprivileged_bpf_disabled");
    let setting = match unprivileged {
        Some(value) => format!(", kernel.unprivileged_bpf_disabled={value}"),
        None => String::new(),
    };
    if system.in_user_namespace() {
        return Check::warning(
            name,
            format!("in a user namespace{setting}"),
            "capabilities held here load no XDP program: auto: takes uring: instead",
        )
        .mend("run it as root of the machine, outside the namespace");
    }
    let bpf = system.has_capability("bpf") || system.has_capability("sys_admin");
    let missing: Vec<&str> = [
        ("cap_net_raw", system.has_capability("net_raw")),
        ("cap_net_admin", system.has_capability("net_admin")),
        ("cap_bpf", bpf),
    ]
    .into_iter()
    .filter(|(_, held)| !held)
    .map(|(capability, _)| capability)
    .collect();
    if missing.is_empty() {
        return Check::ok(
            name,
            format!("cap_net_raw, cap_net_admin, cap_bpf{setting}"),
            "xdp: ports can be opened",
        );
    }
    Check::warning(
        name,
        format!("without {}{setting}", missing.join(", ")),
        "xdp: ports cannot be opened: auto: takes uring: instead",
    )
    .mend(format!("{SETCAP}, or run as root"))
}

/// Whose limit the sockets' memory counts against.
fn memory(system: &System) -> Check {
    /// A pool for two ports with a queue each, and some.
    const ENOUGH: u64 = 64 << 20;
    let name = "XDP memory";
    let limits = system.root.text("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    // Linux 5.11 moved programs and maps from the limit to the memory cgroup; a socket's UMEM stayed.
    let by_group = kernel::release(system).is_some_and(|version| version >= (5, 11));
    let maps = if by_group {
        "programs and maps count against the memory cgroup"
    } else {
        "programs and maps count against it as well"
    };
    let limit = match soft.map(str::parse::<u64>) {
        Some(Ok(bytes)) => format_bytes(bytes),
        _ => soft.unwrap_or("unknown").to_owned(),
    };
    let found = format!("memlock limit {limit}");
    if system.has_capability("ipc_lock") && !system.in_user_namespace() {
        return Check::ok(name, found, format!("CAP_IPC_LOCK passes it; {maps}"));
    }
    match soft.map(str::parse::<u64>) {
        Some(Ok(bytes)) if bytes < ENOUGH => Check::warning(
            name,
            found,
            format!(
                "a pool under an xdp: port counts against it, and a larger one is refused; {maps}"
            ),
        )
        .mend(format!("ulimit -l {}, or {SETCAP}", ENOUGH >> 10)),
        _ => Check::ok(
            name,
            found,
            format!("pools of xdp: ports count against it; {maps}"),
        ),
    }
}

/// One interface: who has it, what its driver can do, how many queues that means.
fn interface(system: &System, interface: &NetInterface, all: &[NetInterface]) -> Check {
    let name = format!("XDP {}", interface.name);
    let probe = match system.probes.xdp(&interface.name) {
        Ok(probe) => probe,
        Err(why) => {
            return Check::ok(&name, why.reason, "xdp: cannot be opened here").mend(why.remedy);
        }
    };
    let queues = match probe.queues {
        1 => "1 queue".to_owned(),
        n => format!("{n} queues"),
    };
    let found = format!("{}; {queues}; {}", modes(&probe), attached(&probe));
    if !probe.programs.is_empty() {
        let remedy = probe.obstacle.map_or_else(
            || format!("ip link set dev {} xdp off", interface.name),
            |obstacle| obstacle.remedy,
        );
        return Check::warning(&name, found, "an xdp: port needs the place of that program")
            .mend(remedy);
    }
    if interface.kind == "veth"
        && let Some((meaning, remedy)) = veth(system, interface, probe.queues, all)
    {
        return Check::warning(&name, found, meaning).mend(remedy);
    }
    let meaning = match probe.queues {
        1 => "one worker serves it".to_owned(),
        n => format!("1 to {n} workers serve it"),
    };
    Check::ok(&name, found, meaning)
}

fn modes(probe: &Probe) -> String {
    let fit = probe.modes.iter().filter(|fit| fit.obstacle.is_none());
    let names: Vec<&str> = fit.map(|fit| fit.mode.as_str()).collect();
    if names.is_empty() {
        return "no mode".to_owned();
    }
    format!("mode={}", names.join(", "))
}

fn attached(probe: &Probe) -> String {
    let each = probe.programs.iter().map(|program| {
        let name = program.name.as_deref();
        let name = name.map_or(String::new(), |name| format!(" {name:?}"));
        format!("{} program {}{name} attached", program.mode, program.id)
    });
    let all: Vec<String> = each.collect();
    if all.is_empty() {
        return "nothing attached".to_owned();
    }
    all.join(", ")
}

/// What keeps a veth from running programs itself: its other end may not have more transmit queues than it has
/// receive queues (`veth_xdp_set` in the kernel's drivers/net/veth.c).
fn veth(
    system: &System,
    this: &NetInterface,
    queues: u16,
    all: &[NetInterface],
) -> Option<(String, String)> {
    // One in another namespace cannot be asked.
    let peer = all
        .iter()
        .find(|other| Some(&other.name) == this.lower.as_ref())?;
    let sends = system.probes.xdp(&peer.name).ok()?.tx_queues;
    (sends > queues).then(|| {
        (
            format!(
                "mode=copy will be refused: its other end {} has {sends} transmit queues",
                peer.name
            ),
            format!("ethtool -L {} tx {queues}", peer.name),
        )
    })
}

#[cfg(test)]
mod tests {
    use linecard::af_xdp::{Obstacle, Program};

    use super::super::Status;
    use super::super::fake::{FakeMachine, native_xdp};
    use super::*;

    #[test]
    fn the_kernel_decides_what_there_is() {
        let mut machine = FakeMachine::healthy();
        for (release, status, says) in [
            ("6.12.9", Status::Ok, "frames longer than a buffer (6.6)"),
            ("6.1.0", Status::Ok, "without drivers say"),
            ("5.4.0", Status::Warning, "older than 5.9"),
        ] {
            machine.write("/proc/sys/kernel/osrelease", release);
            let check = kernel(&machine.system());
            assert_eq!(check.status, status, "{check:?}");
            assert!(check.meaning.contains(says), "{check:?}");
        }
        machine.probes.xdp = Err(Obstacle {
            reason: "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)".to_owned(),
            remedy: String::new(),
        });
        assert_eq!(kernel(&machine.system()).status, Status::Warning);
    }

    #[test]
    fn an_interpreter_and_hardening_are_named() {
        let machine = FakeMachine::healthy();
        assert!(compiler(&machine.system()).found.contains("not visible"));
        machine.write("/proc/sys/net/core/bpf_jit_enable", "1");
        machine.write("/proc/sys/net/core/bpf_jit_harden", "0");
        assert_eq!(compiler(&machine.system()).status, Status::Ok);
        machine.write("/proc/sys/net/core/bpf_jit_harden", "2");
        let check = compiler(&machine.system());
        assert_eq!(
            check.remedy.as_deref(),
            Some("sysctl -w net.core.bpf_jit_harden=1")
        );
        machine.write("/proc/sys/net/core/bpf_jit_enable", "0");
        let check = compiler(&machine.system());
        assert_eq!(
            check.remedy.as_deref(),
            Some("sysctl -w net.core.bpf_jit_enable=1")
        );
    }

    #[test]
    fn capabilities_of_a_namespace_do_not_count() {
        let machine = FakeMachine::healthy();
        machine.write("/proc/sys/kernel/unprivileged_bpf_disabled", "2");
        let check = privileges(&machine.system());
        assert_eq!(check.status, Status::Ok);
        assert!(
            check.found.ends_with("unprivileged_bpf_disabled=2"),
            "{check:?}"
        );
        machine.write("/proc/self/uid_map", "0 1000 1");
        let check = privileges(&machine.system());
        assert!(check.found.starts_with("in a user namespace"), "{check:?}");
        machine.write("/proc/self/uid_map", "0 0 4294967295");
        // net_admin and net_raw.
        machine.write(
            "/proc/self/status",
            "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t3000",
        );
        let check = privileges(&machine.system());
        assert!(check.found.starts_with("without cap_bpf"), "{check:?}");
        assert!(check.remedy.expect("a remedy").contains("cap_bpf"));
    }

    #[test]
    fn the_limit_counts_for_those_whom_it_binds() {
        let machine = FakeMachine::healthy();
        let limits = "Limit  Soft  Hard  Units\nMax locked memory  8388608  8388608  bytes";
        machine.write("/proc/self/limits", limits);
        let check = memory(&machine.system());
        assert_eq!(check.status, Status::Ok);
        assert!(check.meaning.contains("memory cgroup"), "{check:?}");
        let machine = machine.unprivileged();
        let check = memory(&machine.system());
        assert_eq!(check.status, Status::Warning);
        assert!(
            check
                .remedy
                .expect("a remedy")
                .starts_with("ulimit -l 65536")
        );
        machine.write("/proc/sys/kernel/osrelease", "5.10.0");
        assert!(memory(&machine.system()).meaning.contains("as well"));
    }

    #[test]
    fn each_interface_has_its_modes_queues_and_programs() {
        let mut machine = FakeMachine::bare();
        let one = NetInterface {
            name: "eth1".to_owned(),
            ..NetInterface::default()
        };
        let check = interface(&machine.system(), &one, &[]);
        assert_eq!(check.found, "mode=copy, skb; 2 queues; nothing attached");
        assert_eq!(check.meaning, "1 to 2 workers serve it");
        machine.probes.xdp = Ok(Probe {
            programs: vec![Program {
                id: 7,
                mode: "xdpdrv".to_owned(),
                name: Some("guard".to_owned()),
            }],
            ..native_xdp()
        });
        let check = interface(&machine.system(), &one, &[]);
        assert_eq!(check.status, Status::Warning);
        assert!(
            check.found.ends_with("xdpdrv program 7 \"guard\" attached"),
            "{check:?}"
        );
        assert_eq!(
            check.remedy.as_deref(),
            Some("ip link set dev eth1 xdp off")
        );
    }

    #[test]
    fn a_veth_whose_other_end_has_more_queues_is_told() {
        let end = |name: &str, other: &str| NetInterface {
            name: name.to_owned(),
            kind: "veth".to_owned(),
            lower: Some(other.to_owned()),
            ..NetInterface::default()
        };
        let all = [end("va", "vb"), end("vb", "va")];
        let machine = FakeMachine::bare(); // Two transmit queues everywhere.
        let system = machine.system();
        let (meaning, remedy) = veth(&system, &all[0], 1, &all).expect("a complaint");
        assert!(meaning.contains("vb has 2 transmit queues"), "{meaning}");
        assert_eq!(remedy, "ethtool -L vb tx 1");
        assert_eq!(veth(&system, &all[1], 2, &all), None);
        assert_eq!(veth(&system, &all[0], 1, &all[..1]), None, "elsewhere");
    }
}
