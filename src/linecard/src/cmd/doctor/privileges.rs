//! What this process may do, and what an ordinary user may.

use super::network::SETCAP;
use super::system::CAPABILITIES;
use super::{Check, System};

/// Capabilities that some part of Linecard makes use of, and what for.
const USEFUL: [(&str, &str); 6] = [
    ("net_raw", "open interfaces"),
    ("net_admin", "promiscuous mode, large buffers"),
    ("ipc_lock", "lock memory"),
    ("sys_nice", "real-time priority"),
    ("bpf", "XDP programs"),
    ("sys_admin", "mounts, older kernels' XDP"),
];

/// Which capabilities we hold.
pub(super) fn capabilities(system: &System) -> Check {
    let name = "privileges";
    let held: Vec<&str> = CAPABILITIES
        .iter()
        .copied()
        .filter(|capability| system.has_capability(capability))
        .collect();
    let user = match system.effective_uid() {
        Some(0) if system.in_user_namespace() => "root of a user namespace".to_owned(),
        Some(0) => "root".to_owned(),
        Some(uid) => format!("uid {uid}"),
        None => "unknown user".to_owned(),
    };
    let found = match held.len() {
        0 => format!("{user}, no capabilities"),
        count if count >= CAPABILITIES.len() - 1 => format!("{user}, all capabilities"),
        _ => format!("{user}, capabilities {}", held.join(" ")),
    };
    let missing: Vec<String> = USEFUL
        .iter()
        .filter(|(capability, _)| !system.has_capability(capability))
        .map(|(capability, purpose)| format!("{capability} ({purpose})"))
        .collect();
    if system.has_capability("net_raw") {
        let meaning = if missing.is_empty() {
            "nothing is withheld".to_owned()
        } else {
            format!("interfaces can be opened; without {}", missing.join(", "))
        };
        return Check::ok(name, found, meaning);
    }
    Check::warning(name, found, format!("without {}", missing.join(", "))).mend(SETCAP)
}

/// Whether an ordinary user can have a network of their own, as the demo and the tests do.
pub(super) fn user_namespaces(system: &System) -> Check {
    let name = "user namespaces";
    let works = "scripts/demo and the tests run without root";
    let answer = system.probes.user_namespace();
    // The settings bind everyone but root, who would not notice them.
    let root = system.effective_uid() == Some(0);
    if let (true, Some(Ok(())), Some((found, remedy))) = (root, &answer, denial(system)) {
        return Check::ok(
            name,
            format!("allowed to root; to others {found}"),
            "scripts/demo and the tests run as root",
        )
        .mend(remedy);
    }
    let (found, remedy) = match (answer, denial(system)) {
        (Some(Ok(())), _) => return Check::ok(name, "allowed", works),
        (None, None) => {
            return Check::ok(name, "allowed, as far as the settings say", works);
        }
        (Some(Err(_)) | None, Some(denial)) => denial,
        (Some(Err(message)), None) => (
            format!("denied ({message})"),
            "outside a container, or with --security-opt seccomp=unconfined in docker".to_owned(),
        ),
    };
    Check::warning(name, found, "scripts/demo and the tests need root").mend(remedy)
}

/// The setting that denies namespaces, and how to change it.
fn denial(system: &System) -> Option<(String, String)> {
    let sudo = system.sudo();
    [
        ("kernel.unprivileged_userns_clone", 0, 1),
        ("kernel.apparmor_restrict_unprivileged_userns", 1, 0),
        ("user.max_user_namespaces", 0, 10_000),
    ]
    .into_iter()
    .find_map(|(sysctl, denies, allows)| {
        let file = format!("/proc/sys/{}", sysctl.replace('.', "/"));
        (system.root.number::<u64>(file) == Some(denies)).then(|| {
            (
                format!("denied by {sysctl}={denies}"),
                format!("{sudo}sysctl -w {sysctl}={allows}"),
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::fake::FakeMachine;
    use super::*;

    #[test]
    fn names_what_is_held_and_what_is_withheld() {
        let machine = FakeMachine::healthy();
        assert_eq!(
            capabilities(&machine.system()).found,
            "root, all capabilities"
        );
        // net_admin and net_raw.
        machine.write(
            "/proc/self/status",
            "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t3000",
        );
        let check = capabilities(&machine.system());
        assert_eq!(check.status, Status::Ok);
        assert_eq!(check.found, "uid 1000, capabilities net_admin net_raw");
        assert!(
            check.meaning.contains("ipc_lock (lock memory)"),
            "{check:?}"
        );
        let check = capabilities(&machine.unprivileged().system());
        assert_eq!(check.status, Status::Warning);
        assert_eq!(check.found, "uid 1000, no capabilities");
        assert!(check.remedy.expect("a remedy").contains("setcap"));
    }

    #[test]
    fn namespaces_are_tried_and_the_denying_setting_is_named() {
        let mut machine = FakeMachine::healthy();
        assert_eq!(user_namespaces(&machine.system()).status, Status::Ok);
        machine.probes.user_namespace = Some(Err("unshare failed: Operation not permitted".into()));
        let check = user_namespaces(&machine.system());
        assert_eq!(check.status, Status::Warning);
        assert!(check.found.contains("Operation not permitted"));
        for (file, value, text) in [
            ("user/max_user_namespaces", "0", "max_user_namespaces=10000"),
            (
                "kernel/apparmor_restrict_unprivileged_userns",
                "1",
                "userns=0",
            ),
            ("kernel/unprivileged_userns_clone", "0", "userns_clone=1"),
        ] {
            machine.write(&format!("/proc/sys/{file}"), value);
            let remedy = user_namespaces(&machine.system()).remedy.expect("a remedy");
            assert!(remedy.contains(text), "{remedy}");
        }
        // A setting alone is believed only when nothing could be tried; root passes it.
        machine.probes.user_namespace = Some(Ok(()));
        let check = user_namespaces(&machine.system());
        assert_eq!(check.status, Status::Ok);
        assert!(
            check
                .found
                .starts_with("allowed to root; to others denied by"),
            "{check:?}"
        );
        machine.probes.user_namespace = None;
        let machine = machine.unprivileged();
        assert_eq!(user_namespaces(&machine.system()).status, Status::Warning);
    }
}
