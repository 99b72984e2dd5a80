//! Raw sockets and how much they may buffer.

use linecard_engine::topology::format_bytes;
use nix::errno::Errno;

use super::{Check, System};

/// What the receive buffer of a raw socket should be allowed to grow to: at 1.5 million packets a
/// second this holds about five milliseconds of small packets, with the kernel's overhead.
pub(super) const RECEIVE_BUFFER_BYTES: u64 = 16 << 20;

/// Where the limit is written down.
pub(super) const RMEM_MAX: &str = "/proc/sys/net/core/rmem_max";

/// Grants what the drivers need to one program file.
pub const SETCAP: &str =
    "sudo setcap cap_net_raw,cap_net_admin,cap_bpf,cap_ipc_lock+ep \"$(command -v linecard)\"";

/// Whether interfaces can be opened at all.
pub(super) fn packet_socket(system: &System) -> Check {
    let name = "packet socket";
    match system.probes.packet_socket() {
        Ok(()) => Check::ok(
            name,
            "can be opened",
            "uring: ports can be opened on any interface",
        ),
        Err(Errno::EPERM | Errno::EACCES) => {
            // Without privileges there is still a namespace of one's own, unless that is denied too.
            let alone = matches!(system.probes.user_namespace(), Some(Ok(())));
            let found = "denied: needs CAP_NET_RAW in the user namespace of the network";
            let remedy = format!("{SETCAP}, or run as root");
            if alone {
                Check::warning(
                    name,
                    found,
                    "uring: ports work only on interfaces inside `unshare -Urn`, as in scripts/demo",
                )
                .mend(remedy)
            } else {
                Check::failure(
                    name,
                    found,
                    "no interface can be opened; sim:, pcap: and null: can",
                )
                .mend(remedy)
            }
        }
        Err(Errno::EAFNOSUPPORT) => Check::failure(
            name,
            "not in this kernel (CONFIG_PACKET is off)",
            "no interface can be opened; sim:, pcap: and null: can",
        )
        .mend("modprobe af_packet, or boot a distribution's kernel"),
        Err(errno) => Check::failure(
            name,
            format!("cannot be opened ({errno})"),
            "no interface can be opened; sim:, pcap: and null: can",
        )
        .mend("look for the reason in dmesg and in the sandbox's settings"),
    }
}

/// Whether a socket's receive buffer can be made large enough.
pub(super) fn receive_buffer(system: &System) -> Check {
    let name = "receive buffer";
    let Some(limit) = system.root.number::<u64>(RMEM_MAX) else {
        return Check::ok(
            name,
            "net.core.rmem_max is not visible in this network namespace",
            "the limit of the machine's first namespace applies",
        );
    };
    let found = format!("net.core.rmem_max is {}", format_bytes(limit));
    // SO_RCVBUFFORCE passes the limit, but asks for the capability in the first user namespace.
    if system.has_capability("net_admin") && !system.in_user_namespace() {
        return Check::ok(name, found, "CAP_NET_ADMIN passes this limit");
    }
    if limit >= RECEIVE_BUFFER_BYTES {
        return Check::ok(name, found, "bursts are buffered while a worker is busy");
    }
    Check::warning(
        name,
        found,
        "rx=multishot loses packets in bursts longer than this; rx=ring has its own memory",
    )
    .mend(format!(
        "{}sysctl -w net.core.rmem_max={RECEIVE_BUFFER_BYTES}",
        system.sudo()
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::fake::FakeMachine;
    use super::*;

    #[test]
    fn a_denied_socket_is_worse_without_namespaces() {
        let mut machine = FakeMachine::healthy();
        assert_eq!(packet_socket(&machine.system()).status, Status::Ok);
        machine.probes.packet_socket = Err(Errno::EPERM);
        let check = packet_socket(&machine.system());
        assert_eq!(check.status, Status::Warning);
        assert!(check.meaning.contains("unshare -Urn"));
        machine.probes.user_namespace = Some(Err("no".into()));
        let check = packet_socket(&machine.system());
        assert_eq!(check.status, Status::Failure);
        assert!(
            check
                .remedy
                .expect("a remedy")
                .contains("setcap cap_net_raw")
        );
        machine.probes.packet_socket = Err(Errno::EAFNOSUPPORT);
        assert!(
            packet_socket(&machine.system())
                .found
                .contains("CONFIG_PACKET")
        );
        machine.probes.packet_socket = Err(Errno::EMFILE);
        assert_eq!(packet_socket(&machine.system()).status, Status::Failure);
    }

    #[test]
    fn the_buffer_limit_counts_only_for_those_it_binds() {
        let machine = FakeMachine::healthy();
        machine.write(RMEM_MAX, "212992");
        assert_eq!(receive_buffer(&machine.system()).status, Status::Ok, "root");
        machine.write("/proc/self/uid_map", "0 1000 1");
        assert_eq!(
            receive_buffer(&machine.system()).status,
            Status::Warning,
            "own namespace"
        );
        let machine = machine.unprivileged();
        let check = receive_buffer(&machine.system());
        assert_eq!(check.status, Status::Warning);
        assert_eq!(
            check.remedy.as_deref(),
            Some("sudo sysctl -w net.core.rmem_max=16777216")
        );
        machine.write(RMEM_MAX, "33554432");
        assert_eq!(receive_buffer(&machine.system()).status, Status::Ok);
        machine.remove(RMEM_MAX);
        assert_eq!(receive_buffer(&machine.system()).status, Status::Ok);
    }
}
