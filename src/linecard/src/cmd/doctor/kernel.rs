//! The kernel: its version, its files, its io_uring.

use nix::errno::Errno;

use super::{Check, System};

pub(super) const UPGRADE: &str = "boot a newer kernel (Debian 12: apt install -t bookworm-backports \
                       linux-image-amd64; Ubuntu: apt install linux-generic-hwe-24.04)";

/// Which kernel runs.
pub(super) fn version(system: &System) -> Check {
    let name = "kernel";
    let Some(release) = system.root.text("/proc/sys/kernel/osrelease") else {
        return Check::warning(name, "unknown", "cannot tell which fast paths to expect")
            .mend("mount -t proc proc /proc");
    };
    let found = format!("Linux {release}");
    match parse(&release) {
        None => Check::warning(name, found, "cannot tell which fast paths to expect")
            .mend("uname -r should begin with two numbers, such as 6.1"),
        Some(version) if version >= (6, 1) => Check::ok(
            name,
            found,
            "new enough for every fast path of the io_uring driver",
        ),
        Some(version) if version >= (5, 4) => Check::warning(
            name,
            found,
            "older than 6.1: the mapped packet ring works, io_uring multishot does not",
        )
        .mend(UPGRADE),
        Some(_) => {
            Check::failure(name, found, "older than 5.4: Linecard is not made for it").mend(UPGRADE)
        }
    }
}

/// The first two numbers of the running kernel's release.
pub(super) fn release(system: &System) -> Option<(u32, u32)> {
    parse(&system.root.text("/proc/sys/kernel/osrelease")?)
}

fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether the files are there that everything else is read from.
pub(super) fn files(system: &System) -> Check {
    let name = "/proc and /sys";
    let missing: Vec<&str> = [
        ("proc", "/proc/self/status"),
        ("sysfs", "/sys/devices/system/cpu/online"),
    ]
    .into_iter()
    .filter(|(_, file)| !system.root.exists(file))
    .map(|(kind, _)| kind)
    .collect();
    if missing.is_empty() {
        return Check::ok(name, "mounted", "the machine can be examined");
    }
    let commands: Vec<&str> = missing
        .iter()
        .map(|kind| match *kind {
            "proc" => "mount -t proc proc /proc",
            _ => "mount -t sysfs sysfs /sys",
        })
        .collect();
    Check::failure(
        name,
        format!("{} not mounted", missing.join(" and ")),
        "neither nodes nor interfaces can be found",
    )
    .mend(format!("{}{}", system.sudo(), commands.join(" && ")))
}

/// Whether io_uring works, what it can do, and if not, who forbids it.
pub(super) fn io_uring(system: &System) -> Check {
    let name = "io_uring";
    let answer = system.probes.io_uring();
    let errno = match answer.setup {
        Ok(()) => {
            let features = [
                (answer.buffer_rings, "provided-buffer rings"),
                (answer.multishot_receive, "multishot receive"),
                (answer.defer_taskrun, "DEFER_TASKRUN"),
                (answer.minimum_wait, "minimum wait"),
            ];
            let list = |has: bool| -> Vec<&str> {
                features
                    .iter()
                    .filter(|(there, _)| *there == has)
                    .map(|(_, feature)| *feature)
                    .collect()
            };
            let (there, missing) = (list(true), list(false));
            if missing.is_empty() {
                return Check::ok(
                    name,
                    format!("works, with {}", there.join(", ")),
                    "uring: ports have both engines, rx=ring and rx=multishot",
                );
            }
            if answer.buffer_rings && answer.multishot_receive {
                return Check::ok(
                    name,
                    format!("works, without {}", missing.join(", ")),
                    "both engines work; more completions per wake-up would cost less",
                );
            }
            return Check::warning(
                name,
                format!("works, without {}", missing.join(", ")),
                "uring: ports have rx=ring alone, since rx=multishot needs Linux 6.0",
            )
            .mend(UPGRADE);
        }
        Err(errno) => errno,
    };
    let (found, remedy) = refusal(system, errno);
    Check::warning(
        name,
        found,
        "uring: ports fall back to plain system calls, which cost more for each packet",
    )
    .mend(remedy)
}

/// Who refuses, and what to do about it.
fn refusal(system: &System, errno: Errno) -> (String, String) {
    let sysctl = "/proc/sys/kernel/io_uring_disabled";
    let sudo = system.sudo();
    let allow = format!("{sudo}sysctl -w kernel.io_uring_disabled=0");
    match (errno, system.root.number::<u8>(sysctl)) {
        (Errno::EPERM, Some(2)) => ("switched off by kernel.io_uring_disabled=2".into(), allow),
        (Errno::EPERM, Some(1)) => {
            let group = system
                .root
                .number::<i64>("/proc/sys/kernel/io_uring_group")
                .filter(|group| *group >= 0);
            let who = match group {
                Some(group) => format!("to group {group} (kernel.io_uring_group)"),
                None => "to CAP_SYS_ADMIN".to_owned(),
            };
            let found = format!("kernel.io_uring_disabled=1 leaves it {who}");
            let or_join = match group {
                Some(group) => format!("{allow}, or start with: {sudo}setpriv --groups {group} …"),
                None => allow,
            };
            (found, or_join)
        }
        (Errno::EPERM | Errno::EACCES, _) => (
            match system.status_field("Seccomp").as_deref() {
                Some("2") => "denied by a seccomp filter".to_owned(),
                _ => format!("denied ({errno}) by a security module or a sandbox"),
            },
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's \
             profile (docker run --security-opt seccomp=PROFILE.json …)"
                .to_owned(),
        ),
        (Errno::ENOSYS, _) => (
            "not in this kernel (CONFIG_IO_URING is off, or a sandbox hides it)".to_owned(),
            "boot a distribution's kernel of 5.19 or later, or leave the sandbox".to_owned(),
        ),
        (Errno::ENOMEM, _) => (
            "no memory may be locked for it".to_owned(),
            "ulimit -l unlimited".to_owned(),
        ),
        (errno, _) => (
            format!("does not start ({errno})"),
            "look for the reason in dmesg".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::fake::FakeMachine;
    use super::*;

    #[test]
    fn kernels_are_told_apart_by_their_numbers() {
        let machine = FakeMachine::healthy();
        for (release, status) in [
            ("6.18.44-cloud", Status::Ok),
            ("6.1.0-18-amd64", Status::Ok),
            ("5.15.0-105-generic", Status::Warning),
            ("4.19.0", Status::Failure),
            ("strange", Status::Warning),
        ] {
            machine.write("/proc/sys/kernel/osrelease", release);
            assert_eq!(version(&machine.system()).status, status, "{release}");
        }
        assert_eq!(
            version(&FakeMachine::bare().system()).status,
            Status::Warning
        );
    }

    #[test]
    fn missing_mounts_are_named() {
        assert_eq!(files(&FakeMachine::healthy().system()).status, Status::Ok);
        let machine = FakeMachine::healthy();
        machine.remove("/sys");
        let check = files(&machine.system());
        assert_eq!(check.status, Status::Failure);
        assert_eq!(check.remedy.as_deref(), Some("mount -t sysfs sysfs /sys"));
    }

    #[test]
    fn features_are_listed_and_their_absence_weighed() {
        let mut machine = FakeMachine::healthy();
        let check = io_uring(&machine.system());
        assert_eq!(check.status, Status::Ok);
        assert!(check.found.contains("DEFER_TASKRUN"));
        machine.probes.io_uring.minimum_wait = false;
        assert_eq!(io_uring(&machine.system()).status, Status::Ok);
        machine.probes.io_uring.multishot_receive = false;
        let check = io_uring(&machine.system());
        assert_eq!(check.status, Status::Warning);
        assert!(
            check.found.contains("without multishot receive"),
            "{check:?}"
        );
    }

    #[test]
    fn a_refusal_names_who_refuses() {
        let mut machine = FakeMachine::healthy().unprivileged();
        machine.probes.io_uring.setup = Err(Errno::EPERM);
        let found = |machine: &FakeMachine| {
            let check = io_uring(&machine.system());
            assert_eq!(check.status, Status::Warning);
            format!("{} | {}", check.found, check.remedy.expect("a remedy"))
        };
        machine.write("/proc/sys/kernel/io_uring_disabled", "2");
        let text = found(&machine);
        assert!(text.contains("io_uring_disabled=2"), "{text}");
        assert!(
            text.contains("sudo sysctl -w kernel.io_uring_disabled=0"),
            "{text}"
        );
        machine.write("/proc/sys/kernel/io_uring_disabled", "1");
        machine.write("/proc/sys/kernel/io_uring_group", "-1");
        assert!(found(&machine).contains("CAP_SYS_ADMIN"));
        machine.write("/proc/sys/kernel/io_uring_group", "990");
        assert!(found(&machine).contains("group 990"));
        machine.write("/proc/sys/kernel/io_uring_disabled", "0");
        assert!(found(&machine).contains("security module"));
        machine.write("/proc/self/status", "Uid:\t1\t1\t1\t1\nSeccomp:\t2");
        let text = found(&machine);
        assert!(
            text.contains("seccomp filter") && text.contains("io_uring_enter"),
            "{text}"
        );
        machine.probes.io_uring.setup = Err(Errno::ENOSYS);
        assert!(found(&machine).contains("CONFIG_IO_URING"));
        machine.probes.io_uring.setup = Err(Errno::ENOMEM);
        assert!(found(&machine).contains("ulimit -l"));
        machine.probes.io_uring.setup = Err(Errno::EMFILE);
        assert!(found(&machine).contains("EMFILE"));
    }
}
