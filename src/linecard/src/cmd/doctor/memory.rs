//! Hugepages, locked memory and NUMA nodes.

use linecard_engine::topology::format_bytes;

use super::{Check, System};

/// The size that every x86-64 has, and that can be reserved without a reboot.
pub(super) const SMALL_HUGEPAGE: u64 = 2 << 20;

/// Hugepages that `--fix` reserves on a node: 256 MiB, a pool of a hundred thousand mbufs.
pub(super) const PAGES_TO_RESERVE: u64 = 128;

/// The file that reserves 2 MiB pages on a node.
pub(super) fn reserve_file(system: &System, node: u32) -> String {
    format!(
        "{}/hugepages-{}kB/nr_hugepages",
        system.root.hugepage_folder(node),
        SMALL_HUGEPAGE / 1024
    )
}

/// Nodes whose cpus could run workers.
pub(super) fn worker_nodes(system: &System) -> Vec<u32> {
    let nodes = system.root.node_ids();
    let alone = nodes.len() == 1;
    nodes
        .into_iter()
        .filter(|node| alone || !system.root.node_cpus(*node).is_empty())
        .collect()
}

/// One check for each size of hugepage.
pub(super) fn hugepages(system: &System) -> Vec<Check> {
    let mut sizes: Vec<u64> = system
        .root
        .node_ids()
        .iter()
        .flat_map(|node| system.root.node_hugepages(*node))
        .map(|pool| pool.size_bytes)
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.is_empty() {
        return vec![
            Check::warning(
                "hugepages",
                "not in this kernel (CONFIG_HUGETLBFS is off)",
                "pools use ordinary pages: more TLB misses for each packet",
            )
            .mend("boot a distribution's kernel"),
        ];
    }
    sizes
        .into_iter()
        .map(|size| hugepages_of(system, size))
        .collect()
}

fn hugepages_of(system: &System, size: u64) -> Check {
    let name = format!("hugepages {}", format_bytes(size));
    let nodes = worker_nodes(system);
    let pools: Vec<(u32, u64, u64)> = nodes
        .iter()
        .map(|node| {
            let pools = system.root.node_hugepages(*node);
            let pool = pools.iter().find(|pool| pool.size_bytes == size);
            (
                *node,
                pool.map_or(0, |p| p.total),
                pool.map_or(0, |p| p.free),
            )
        })
        .collect();
    let found: Vec<String> = pools
        .iter()
        .map(|(node, total, free)| format!("node {node} has {total} reserved, {free} free"))
        .collect();
    let found = found.join("; ");
    if size != SMALL_HUGEPAGE {
        // Optional: large pages must be reserved at boot, and 2 MiB pages do nearly as well.
        let free: u64 = pools.iter().map(|(_, _, free)| free).sum();
        let meaning = if free > 0 {
            "preferred for pools that fill them"
        } else {
            "optional: 2 MiB pages do nearly as well"
        };
        return Check::ok(&name, found, meaning);
    }
    let reserve = |nodes: &[u32]| -> String {
        let commands: Vec<String> = nodes
            .iter()
            .map(|node| system.write_command(PAGES_TO_RESERVE, &reserve_file(system, *node)))
            .collect();
        commands.join(" && ")
    };
    let without: Vec<u32> = pools.iter().filter(|p| p.1 == 0).map(|p| p.0).collect();
    if !without.is_empty() {
        return Check::warning(
            &name,
            found,
            "pools on a node without any use transparent or ordinary pages, with more TLB misses",
        )
        .mend(format!(
            "{}, or {}linecard doctor --fix",
            reserve(&without),
            system.sudo()
        ));
    }
    let used_up: Vec<u32> = pools.iter().filter(|p| p.2 == 0).map(|p| p.0).collect();
    if !used_up.is_empty() {
        let more: Vec<String> = pools
            .iter()
            .filter(|pool| pool.2 == 0)
            .map(|(node, total, _)| {
                system.write_command(total + PAGES_TO_RESERVE, &reserve_file(system, *node))
            })
            .collect();
        return Check::warning(
            &name,
            found,
            "all are in use; a program that crashed may have left files in /dev/hugepages",
        )
        .mend(format!("ls -l /dev/hugepages, or {}", more.join(" && ")));
    }
    Check::ok(&name, found, "pools get them")
}

/// Where hugetlbfs is mounted, if it is.
pub(super) fn hugetlbfs_mounts(system: &System) -> Vec<String> {
    let mounts = system.root.text("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (_, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "hugetlbfs").then(|| at.to_owned())
        })
        .collect()
}

/// Whether programs can share hugepages by a file.
pub(super) fn hugetlbfs(system: &System) -> Check {
    let name = "hugetlbfs";
    match hugetlbfs_mounts(system).as_slice() {
        [] => Check::ok(
            name,
            "mounted nowhere",
            "not needed, for dpdk: ports either; other DPDK programs may want it",
        )
        .mend(match system.sudo() {
            "" => "mkdir -p /dev/hugepages && mount -t hugetlbfs hugetlbfs /dev/hugepages".into(),
            sudo => format!(
                "{sudo}mkdir -p /dev/hugepages && {sudo}mount -t hugetlbfs hugetlbfs /dev/hugepages"
            ),
        }),
        mounts => Check::ok(
            name,
            format!("mounted at {}", mounts.join(", ")),
            "DPDK programs can share hugepages",
        ),
    }
}

/// Whether a large mapping may get large pages by itself.
pub(super) fn transparent(system: &System) -> Check {
    let name = "transparent hugepages";
    let file = "/sys/kernel/mm/transparent_hugepage/enabled";
    let text = system.root.text(file).unwrap_or_default();
    let chosen = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(word, _)| word);
    match chosen {
        Some("always" | "madvise") => Check::ok(
            name,
            chosen.unwrap_or_default(),
            "pools may get large pages when none are reserved",
        ),
        Some(other) => Check::warning(
            name,
            other,
            "without reserved hugepages, pools use 4 KiB pages: more TLB misses for each packet",
        )
        .mend(system.write_command("madvise", file)),
        None => Check::warning(
            name,
            "not in this kernel",
            "without reserved hugepages, pools use 4 KiB pages: more TLB misses for each packet",
        )
        .mend("reserve hugepages: linecard doctor --fix"),
    }
}

/// How much memory may be locked, which is how pools keep from being swapped out.
pub(super) fn lock_limit(system: &System) -> Check {
    const ENOUGH: u64 = 256 << 20;
    let name = "locked memory";
    let limits = system.root.text("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"));
    let mut words = line.unwrap_or_default().split_whitespace();
    let (soft, hard) = (words.next(), words.next());
    let Some(soft) = soft else {
        return Check::warning(name, "unknown", "cannot tell whether pools can be locked")
            .mend("ulimit -l");
    };
    let bytes = soft.parse::<u64>();
    let found = match bytes {
        Ok(bytes) => format!("limit {}", format_bytes(bytes)),
        Err(_) => format!("limit {soft}"),
    };
    if system.has_capability("ipc_lock") && !system.in_user_namespace() {
        return Check::ok(name, found, "CAP_IPC_LOCK passes this limit");
    }
    if bytes.is_err() || bytes.is_ok_and(|bytes| bytes >= ENOUGH) {
        return Check::ok(name, found, "pools can be locked into memory");
    }
    let remedy = if hard == Some("unlimited") {
        "ulimit -l unlimited".to_owned()
    } else {
        format!(
            "echo \"$USER - memlock unlimited\" | {}tee /etc/security/limits.d/linecard.conf, then \
             log in again (in a service: LimitMEMLOCK=infinity; in docker: --ulimit memlock=-1)",
            system.sudo()
        )
    };
    Check::warning(
        name,
        found,
        "large pools cannot be locked and may be swapped out",
    )
    .mend(remedy)
}

/// How memory is spread over the nodes.
pub(super) fn numa(system: &System) -> Check {
    let name = "NUMA";
    let nodes = system.root.node_ids();
    let bare: Vec<String> = worker_nodes(system)
        .iter()
        .filter(|node| {
            system
                .root
                .node_memory(**node)
                .is_some_and(|(total, _)| total == 0)
        })
        .map(u32::to_string)
        .collect();
    let found = match nodes.len() {
        1 => "1 node".to_owned(),
        count => format!("{count} nodes"),
    };
    if !bare.is_empty() {
        return Check::warning(
            name,
            format!(
                "{found}, but node {} has cpus and no memory",
                bare.join(", ")
            ),
            "workers there read every packet from another node",
        )
        .mend("fit memory modules to that socket, or keep workers off it with --lcores");
    }
    let meaning = match nodes.len() {
        1 => "every cpu is as near to every port as any other",
        _ => "workers and pools go to the node of their port; see `linecard topo --plan`",
    };
    Check::ok(name, found, meaning)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::fake::FakeMachine;
    use super::*;

    const NODE1: &str = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB";

    #[test]
    fn hugepages_are_judged_by_node() {
        let machine = FakeMachine::healthy();
        let checks = hugepages(&machine.system());
        assert_eq!(checks.len(), 2);
        assert!(
            checks.iter().all(|check| check.status == Status::Ok),
            "{checks:?}"
        );
        machine.write(&format!("{NODE1}/free_hugepages"), "0");
        let check = hugepages_of(&machine.system(), SMALL_HUGEPAGE);
        assert_eq!(check.status, Status::Warning);
        assert!(check.meaning.contains("in use"));
        assert!(check.remedy.expect("a remedy").contains("echo 640 >"));
        machine.write(&format!("{NODE1}/nr_hugepages"), "0");
        let check = hugepages_of(&machine.system(), SMALL_HUGEPAGE);
        assert!(check.found.contains("node 1 has 0 reserved"), "{check:?}");
        let remedy = check.remedy.expect("a remedy");
        assert!(
            remedy.contains(&format!("echo 128 > {NODE1}/nr_hugepages")),
            "{remedy}"
        );
        assert!(!remedy.contains("node0"), "{remedy}");
    }

    #[test]
    fn a_kernel_without_hugepages_is_a_warning() {
        let checks = hugepages(&FakeMachine::bare().system());
        assert_eq!(checks.len(), 1);
        assert_eq!(checks[0].status, Status::Warning);
    }

    #[test]
    fn a_missing_mount_is_no_complaint_and_comes_with_the_command() {
        let machine = FakeMachine::healthy();
        assert_eq!(hugetlbfs(&machine.system()).status, Status::Ok);
        machine.write("/proc/mounts", "proc /proc proc rw 0 0");
        let check = hugetlbfs(&machine.unprivileged().system());
        assert_eq!(check.status, Status::Ok);
        assert!(check.meaning.contains("not needed"), "{check:?}");
        assert!(
            check
                .remedy
                .expect("a remedy")
                .contains("sudo mount -t hugetlbfs")
        );
    }

    #[test]
    fn transparent_hugepages_need_only_be_allowed() {
        let machine = FakeMachine::healthy();
        let file = "/sys/kernel/mm/transparent_hugepage/enabled";
        assert_eq!(transparent(&machine.system()).status, Status::Ok);
        machine.write(file, "[always] madvise never");
        assert_eq!(transparent(&machine.system()).found, "always");
        machine.write(file, "always madvise [never]");
        assert_eq!(transparent(&machine.system()).status, Status::Warning);
        machine.remove(file);
        assert_eq!(transparent(&machine.system()).status, Status::Warning);
    }

    #[test]
    fn the_lock_limit_counts_only_for_those_it_binds() {
        let machine = FakeMachine::healthy();
        let limit = |soft: &str, hard: &str| {
            let line = format!("Max locked memory         {soft}   {hard}   bytes");
            machine.write("/proc/self/limits", &line);
        };
        limit("8388608", "8388608");
        assert_eq!(lock_limit(&machine.system()).status, Status::Ok, "root");
        machine.write("/proc/self/status", "Uid:\t1000\t1000\t1000\t1000");
        let check = lock_limit(&machine.system());
        assert_eq!(check.status, Status::Warning);
        assert!(check.remedy.expect("a remedy").contains("limits.d"));
        limit("8388608", "unlimited");
        assert_eq!(
            lock_limit(&machine.system()).remedy.as_deref(),
            Some("ulimit -l unlimited")
        );
        limit("unlimited", "unlimited");
        assert_eq!(lock_limit(&machine.system()).status, Status::Ok);
        limit("1073741824", "1073741824");
        assert_eq!(lock_limit(&machine.system()).status, Status::Ok);
        machine.remove("/proc/self/limits");
        assert_eq!(lock_limit(&machine.system()).status, Status::Warning);
    }

    #[test]
    fn a_socket_without_memory_is_found() {
        let machine = FakeMachine::healthy();
        let check = numa(&machine.system());
        assert_eq!(
            (check.status, check.found.as_str()),
            (Status::Ok, "2 nodes")
        );
        machine.write(
            "/sys/devices/system/node/node1/meminfo",
            "Node 1 MemTotal: 0 kB\nNode 1 MemFree: 0 kB",
        );
        let check = numa(&machine.system());
        assert_eq!(check.status, Status::Warning);
        assert!(check.found.contains("node 1 has cpus and no memory"));
        // Memory without cpus is ordinary: it is how CXL and HBM appear.
        machine.write("/sys/devices/system/node/node1/cpulist", "");
        assert_eq!(numa(&machine.system()).status, Status::Ok);
    }
}
