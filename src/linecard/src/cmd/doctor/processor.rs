//! Isolation and frequency scaling.

use super::{Check, System};

/// Whether some cpus are kept free of everything else.
pub(super) fn isolation(system: &System) -> Check {
    let name = "isolated cpus";
    let online = system.online_cpus();
    let isolated = system.root.isolated_cpus();
    if !isolated.is_empty() {
        let ticking = isolated.difference(&system.root.nohz_full_cpus());
        let meaning = if ticking.is_empty() {
            "workers there are interrupted by almost nothing"
        } else {
            "workers go there first; with nohz_full their timer tick would stop too"
        };
        return Check::ok(name, isolated.to_string(), meaning);
    }
    if online.len() < 4 {
        return Check::ok(
            name,
            format!("none of {}", online.len()),
            "too few cpus to set any aside; workers share them with everything else",
        );
    }
    // The first half stays with the kernel and other programs.
    let list: Vec<u32> = online.iter().collect();
    let (first, last) = (list[list.len() / 2], list[list.len() - 1]);
    Check::warning(
        name,
        "none",
        "other threads and interrupts break into workers: latency has a long tail",
    )
    .mend(format!(
        "add to GRUB_CMDLINE_LINUX in /etc/default/grub: isolcpus=managed_irq,domain,{first}-{last} \
         nohz_full={first}-{last} rcu_nocbs={first}-{last}; then {0}update-grub && {0}reboot",
        system.sudo()
    ))
}

/// Whether the clock frequency is held up.
pub(super) fn governor(system: &System) -> Check {
    let name = "cpu governor";
    let folder = "/sys/devices/system/cpu/cpufreq";
    let mut governors: Vec<String> = system
        .root
        .entries(folder)
        .iter()
        .filter(|entry| entry.starts_with("policy"))
        .filter_map(|policy| {
            system
                .root
                .text(format!("{folder}/{policy}/scaling_governor"))
        })
        .collect();
    governors.sort();
    governors.dedup();
    if governors.is_empty() {
        return Check::ok(
            name,
            "no frequency scaling",
            "the firmware or the hypervisor decides",
        );
    }
    let found = governors.join(", ");
    if governors == ["performance"] {
        return Check::ok(name, found, "cpus keep their frequency");
    }
    Check::warning(
        name,
        found,
        "cpus slow down between bursts: the first packets after a pause wait longer",
    )
    .mend(
        system
            .write_command("performance", &format!("{folder}/policy*/scaling_governor"))
            .replace(
                "echo performance > ",
                // A redirection does not expand to several files.
                "echo performance | tee ",
            ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::fake::FakeMachine;
    use super::*;

    #[test]
    fn isolation_is_recommended_only_where_there_are_cpus_to_spare() {
        let machine = FakeMachine::healthy();
        assert_eq!(isolation(&machine.system()).found, "2-7");
        machine.write("/sys/devices/system/cpu/nohz_full", "(null)");
        assert!(isolation(&machine.system()).meaning.contains("nohz_full"));
        machine.write("/sys/devices/system/cpu/isolated", "");
        let check = isolation(&machine.system());
        assert_eq!(check.status, Status::Warning);
        assert!(
            check
                .remedy
                .expect("a remedy")
                .contains("isolcpus=managed_irq,domain,4-7")
        );
        machine.write("/sys/devices/system/cpu/online", "0-1");
        assert_eq!(isolation(&machine.system()).status, Status::Ok);
    }

    #[test]
    fn one_slow_policy_is_enough_for_a_warning() {
        let machine = FakeMachine::healthy();
        assert_eq!(governor(&machine.system()).status, Status::Ok);
        let policy = "/sys/devices/system/cpu/cpufreq/policy4/scaling_governor";
        machine.write(policy, "powersave");
        let check = governor(&machine.system());
        assert_eq!(check.status, Status::Warning);
        assert_eq!(check.found, "performance, powersave");
        assert_eq!(
            check.remedy.as_deref(),
            Some("echo performance | tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor")
        );
        machine.remove("/sys/devices/system/cpu/cpufreq");
        assert_eq!(governor(&machine.system()).status, Status::Ok);
    }
}
