//! The system under examination: a tree of files, and the few questions that only a call answers.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use io_uring::{IoUring, Probe, opcode};
use linecard::{af_xdp as xdp, auto};
use linecard_engine::topology::{CpuSet, NetInterface, SysRoot};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{AccessFlags, faccessat};

/// The machine as the checks see it.
///
/// Everything that a file tells is read below [`SysRoot`]; what takes a system call goes through
/// [`Probes`]. A test replaces both, and so examines machines that are broken in any way it likes.
pub struct System {
    /// Where `/proc`, `/sys`, `/dev` and `/run` are.
    pub root: SysRoot,
    /// What takes a system call.
    pub probes: Box<dyn Probes>,
    /// Where to keep the journal if `/run` cannot be written: `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<String>,
}

/// Questions and deeds for which there is no file.
pub trait Probes {
    /// Sets up a small io_uring and asks what it can do.
    fn io_uring(&self) -> IoUringAnswer;
    /// Opens and closes an `AF_PACKET` socket.
    fn packet_socket(&self) -> Result<(), Errno>;
    /// What AF_XDP can do at an interface.
    fn xdp(&self, interface: &str) -> Result<xdp::Probe, xdp::Obstacle>;
    /// What the kernel's own stack has at an interface that it would lose.
    fn stake(&self, interface: &str, all: &[NetInterface]) -> Option<xdp::Obstacle>;
    /// Makes a user and network namespace; `None` when it could not be tried.
    fn user_namespace(&self) -> Option<Result<(), String>>;
    /// Mounts a hugetlbfs.
    fn mount_hugetlbfs(&self, at: &Path) -> Result<(), Errno>;
    /// Takes a mount away.
    fn unmount(&self, at: &Path) -> Result<(), Errno>;
    /// Whether a device file could be opened for reading and writing. It is not: a vfio group that is
    /// open, be it for a moment, is refused to whoever comes for it.
    fn may_open(&self, path: &Path) -> Result<(), Errno>;
}

/// What io_uring answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoUringAnswer {
    /// Whether a ring can be set up at all.
    pub setup: Result<(), Errno>,
    /// Provided-buffer rings (Linux 5.19).
    pub buffer_rings: bool,
    /// Multishot receive (Linux 6.0).
    pub multishot_receive: bool,
    /// `DEFER_TASKRUN` (Linux 6.1): completions are processed when we ask and not when it suits.
    pub defer_taskrun: bool,
    /// Minimum-wait batching (Linux 6.12): sleep until enough has arrived, but not for too long.
    pub minimum_wait: bool,
}

impl System {
    /// The running system.
    pub fn live() -> Self {
        Self {
            root: SysRoot::default(),
            probes: Box::new(LiveProbes),
            runtime_dir: std::env::var("XDG_RUNTIME_DIR").ok(),
        }
    }

    /// True if we hold this capability effectively, in our user namespace.
    pub fn has_capability(&self, name: &str) -> bool {
        CAPABILITIES
            .iter()
            .position(|known| *known == name)
            .is_some_and(|bit| self.effective_capabilities() >> bit & 1 == 1)
    }

    /// The effective capabilities of this process, a bit each.
    pub fn effective_capabilities(&self) -> u64 {
        self.status_field("CapEff")
            .and_then(|text| u64::from_str_radix(&text, 16).ok())
            .unwrap_or(0)
    }

    /// A field of `/proc/self/status`.
    pub fn status_field(&self, name: &str) -> Option<String> {
        let status = self.root.text("/proc/self/status")?;
        status.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(':')?;
            Some(value.trim().to_owned())
        })
    }

    /// The effective user id.
    pub fn effective_uid(&self) -> Option<u32> {
        // Real, effective, saved, file system.
        self.status_field("Uid")?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    }

    /// True if we are in a user namespace that is not the machine's first.
    ///
    /// Capabilities held there say nothing about files of the machine, such as hugepages.
    pub fn in_user_namespace(&self) -> bool {
        // The first namespace maps every id to itself: "0 0 4294967295".
        self.root
            .text("/proc/self/uid_map")
            .is_some_and(|map| map.split_whitespace().ne(["0", "0", "4294967295"]))
    }

    /// The processors that are online.
    pub fn online_cpus(&self) -> CpuSet {
        self.root.cpus("/sys/devices/system/cpu/online")
    }

    /// `sudo ` unless we are root already: what a remedy has to begin with.
    ///
    /// The root of a user namespace is none to the settings of the machine.
    pub fn sudo(&self) -> &'static str {
        if self.effective_uid() == Some(0) && !self.in_user_namespace() {
            ""
        } else {
            "sudo "
        }
    }

    /// The shell command that writes a value into a file of the kernel's.
    pub fn write_command(&self, value: impl std::fmt::Display, file: &str) -> String {
        match self.sudo() {
            "" => format!("echo {value} > {file}"),
            sudo => format!("echo {value} | {sudo}tee {file}"),
        }
    }
}

/// Capability names by bit (`include/uapi/linux/capability.h`).
pub const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Asks the kernel.
struct LiveProbes;

impl Probes for LiveProbes {
    fn io_uring(&self) -> IoUringAnswer {
        let mut answer = IoUringAnswer {
            setup: Ok(()),
            buffer_rings: false,
            multishot_receive: false,
            defer_taskrun: false,
            minimum_wait: false,
        };
        let ring = match IoUring::new(8) {
            Ok(ring) => ring,
            Err(error) => {
                answer.setup = Err(errno(&error));
                return answer;
            }
        };
        answer.minimum_wait = ring.params().is_feature_min_timeout();
        // Taking away a group that was never there: a kernel that knows buffer rings looks for it
        // and finds none (ENOENT), an older one does not know the request (EINVAL).
        answer.buffer_rings = ring
            .submitter()
            .unregister_buf_ring(u16::MAX)
            .is_err_and(|error| errno(&error) == Errno::ENOENT);
        // Multishot receive is a flag, which no probe shows; zero-copy send came with it in 6.0.
        let mut probe = Probe::new();
        answer.multishot_receive = ring.submitter().register_probe(&mut probe).is_ok()
            && probe.is_supported(opcode::SendZc::CODE);
        answer.defer_taskrun = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(8)
            .is_ok_and(|_: IoUring| true);
        answer
    }

    fn packet_socket(&self) -> Result<(), Errno> {
        // Protocol 0 receives nothing, so that the attempt disturbs nobody.
        socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .map(drop)
    }

    fn xdp(&self, interface: &str) -> Result<xdp::Probe, xdp::Obstacle> {
        xdp::probe(interface).map_err(|error| auto::obstacle(&error))
    }

    fn stake(&self, interface: &str, all: &[NetInterface]) -> Option<xdp::Obstacle> {
        auto::stake(interface, all)
    }

    fn user_namespace(&self) -> Option<Result<(), String>> {
        // A process of its own: a thread of this one may not change its user namespace.
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "true"])
            .stdin(Stdio::null())
            .output()
            .ok()?;
        if output.status.success() {
            return Some(Ok(()));
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Some(Err(text.lines().next().unwrap_or("refused").to_owned()))
    }

    fn mount_hugetlbfs(&self, at: &Path) -> Result<(), Errno> {
        mount(
            Some("hugetlbfs"),
            at,
            Some("hugetlbfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            None::<&str>,
        )
    }

    fn unmount(&self, at: &Path) -> Result<(), Errno> {
        umount(at)
    }

    fn may_open(&self, path: &Path) -> Result<(), Errno> {
        // By the effective ids and capabilities, with which it would be opened.
        faccessat(
            AT_FDCWD,
            path,
            AccessFlags::R_OK | AccessFlags::W_OK,
            AtFlags::AT_EACCESS,
        )
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeMachine;
    use super::*;

    #[test]
    fn reads_capabilities_by_name() {
        let machine = FakeMachine::bare();
        machine.write(
            "/proc/self/status",
            "Uid:\t1\t2\t3\t4\nCapEff:\t0000000000003000",
        );
        let system = machine.system();
        assert!(system.has_capability("net_raw") && system.has_capability("net_admin"));
        assert!(!system.has_capability("sys_admin") && !system.has_capability("no_such"));
        assert_eq!(system.effective_uid(), Some(2));
        assert_eq!(system.sudo(), "sudo ");
    }

    #[test]
    fn tells_a_user_namespace_by_its_map() {
        let machine = FakeMachine::bare();
        machine.write("/proc/self/uid_map", "         0          0 4294967295");
        assert!(!machine.system().in_user_namespace());
        machine.write("/proc/self/uid_map", "0 1000 1");
        assert!(machine.system().in_user_namespace());
    }

    /// Whatever this machine answers, asking must not fail in other ways.
    #[test]
    fn the_live_probes_answer() {
        let system = System::live();
        let ring = system.probes.io_uring();
        assert!(ring.setup.is_ok() || !ring.multishot_receive);
        let _ = system.probes.packet_socket();
    }
}
