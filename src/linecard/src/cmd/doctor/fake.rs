//! A machine made of files in a temporary directory.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::rc::Rc;

use std::path::Path;

use linecard::af_xdp as xdp;
use linecard_engine::topology::{NetInterface, SysRoot};
use nix::errno::Errno;

use super::system::{IoUringAnswer, Probes, System};

/// Answers that a test sets, and a log of deeds.
#[derive(Clone)]
pub struct FakeProbes {
    pub io_uring: IoUringAnswer,
    pub packet_socket: Result<(), Errno>,
    /// Of every interface; the name is put in.
    pub xdp: Result<xdp::Probe, xdp::Obstacle>,
    pub stake: Option<xdp::Obstacle>,
    pub user_namespace: Option<Result<(), String>>,
    pub mount: Result<(), Errno>,
    pub open: Result<(), Errno>,
    pub deeds: Rc<RefCell<Vec<String>>>,
}

impl Probes for FakeProbes {
    fn io_uring(&self) -> IoUringAnswer {
        self.io_uring
    }

    fn packet_socket(&self) -> Result<(), Errno> {
        self.packet_socket
    }

    fn xdp(&self, interface: &str) -> Result<xdp::Probe, xdp::Obstacle> {
        let mut probe = self.xdp.clone()?;
        interface.clone_into(&mut probe.interface);
        for fit in &mut probe.modes {
            fit.port = format!("xdp:{interface}?mode={}", fit.mode);
        }
        Ok(probe)
    }

    fn stake(&self, _interface: &str, _all: &[NetInterface]) -> Option<xdp::Obstacle> {
        self.stake.clone()
    }

    fn user_namespace(&self) -> Option<Result<(), String>> {
        self.user_namespace.clone()
    }

    fn mount_hugetlbfs(&self, at: &Path) -> Result<(), Errno> {
        self.mount?;
        self.deeds
            .borrow_mut()
            .push(format!("mount {}", at.display()));
        Ok(())
    }

    fn unmount(&self, at: &Path) -> Result<(), Errno> {
        self.mount?;
        self.deeds
            .borrow_mut()
            .push(format!("unmount {}", at.display()));
        Ok(())
    }

    fn may_open(&self, _path: &Path) -> Result<(), Errno> {
        self.open
    }
}

/// A card whose driver runs programs but knows no zero-copy.
pub fn native_xdp() -> xdp::Probe {
    let fit = |mode: &str| xdp::ModeFit {
        mode: mode.to_owned(),
        port: String::new(),
        obstacle: (mode == "zerocopy").then(|| xdp::Obstacle {
            reason: "its driver has no zero-copy AF_XDP".to_owned(),
            remedy: String::new(),
        }),
    };
    xdp::Probe {
        interface: String::new(),
        modes: ["zerocopy", "copy", "skb"].map(fit).into(),
        queues: 2,
        tx_queues: 2,
        physical: true,
        programs: Vec::new(),
        obstacle: None,
    }
}

/// A healthy server, until a test changes it.
pub struct FakeMachine {
    pub dir: tempfile::TempDir,
    pub probes: FakeProbes,
}

impl FakeMachine {
    /// Nothing but an empty tree.
    pub fn bare() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            probes: FakeProbes {
                io_uring: IoUringAnswer {
                    setup: Ok(()),
                    buffer_rings: true,
                    multishot_receive: true,
                    defer_taskrun: true,
                    minimum_wait: true,
                },
                packet_socket: Ok(()),
                xdp: Ok(native_xdp()),
                stake: None,
                user_namespace: Some(Ok(())),
                mount: Ok(()),
                open: Ok(()),
                deeds: Rc::default(),
            },
        }
    }

    /// Two nodes, hugepages on both, an IOMMU, isolated cpus, root: nothing to complain of.
    pub fn healthy() -> Self {
        let machine = Self::bare();
        for (path, text) in [
            ("/proc/sys/kernel/osrelease", "6.12.9"),
            ("/proc/sys/kernel/random/boot_id", "boot-1"),
            ("/proc/sys/kernel/io_uring_disabled", "0"),
            ("/proc/sys/net/core/rmem_max", "67108864"),
            ("/proc/sys/user/max_user_namespaces", "96365"),
            (
                "/proc/self/status",
                "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nSeccomp:\t0",
            ),
            ("/proc/self/uid_map", "0 0 4294967295"),
            (
                "/proc/self/limits",
                "Limit  Soft  Hard  Units\nMax locked memory  unlimited  unlimited  bytes",
            ),
            (
                "/proc/mounts",
                "hugetlbfs /dev/hugepages hugetlbfs rw,pagesize=2M 0 0",
            ),
            (
                "/sys/kernel/mm/transparent_hugepage/enabled",
                "always [madvise] never",
            ),
            ("/sys/bus/pci/drivers/vfio-pci/new_id", ""),
            ("/sys/class/iommu/dmar0/name", "dmar0"),
            ("/sys/kernel/iommu_groups/0/type", "DMA"),
            ("/sys/devices/system/cpu/online", "0-7"),
            ("/sys/devices/system/cpu/isolated", "2-7"),
            ("/sys/devices/system/cpu/nohz_full", "2-7"),
            (
                "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor",
                "performance",
            ),
            ("/sys/class/net/lo/ifindex", "1"),
            ("/usr/sbin/ip", ""),
            ("/usr/sbin/ethtool", ""),
            (
                "/usr/lib/x86_64-linux-gnu/pkgconfig/libdpdk.pc",
                "Name: DPDK\nVersion: 22.11.11",
            ),
        ] {
            machine.write(path, text);
        }
        for (node, cpus) in [(0, "0-3"), (1, "4-7")] {
            let folder = format!("/sys/devices/system/node/node{node}");
            machine.write(&format!("{folder}/cpulist"), cpus);
            machine.write(
                &format!("{folder}/meminfo"),
                &format!("Node {node} MemTotal: 8388608 kB\nNode {node} MemFree: 4194304 kB"),
            );
            for (size, pages) in [(2048, 512), (1_048_576, 0)] {
                let pool = format!("{folder}/hugepages/hugepages-{size}kB");
                machine.write(&format!("{pool}/nr_hugepages"), &pages.to_string());
                machine.write(&format!("{pool}/free_hugepages"), &pages.to_string());
            }
        }
        machine
    }

    /// Writes a file of the machine.
    pub fn write(&self, path: &str, text: &str) {
        let path = SysRoot::new(self.dir.path()).path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, format!("{text}\n")).expect("a file");
    }

    /// Plugs in a network card on node 1, or changes who has it; no driver and no interface if empty.
    pub fn card(&self, address: &str, driver: &str, group: Option<u32>, interface: &str) {
        let folder = format!("/sys/bus/pci/devices/{address}");
        let real = |path: &str| SysRoot::new(self.dir.path()).path(path);
        let _ = fs::remove_dir_all(real(&folder));
        for (file, text) in [
            ("vendor", "0x8086"),
            ("device", "0x1592"),
            ("class", "0x020000"),
            ("numa_node", "1"),
            ("driver_override", "(null)"),
        ] {
            self.write(&format!("{folder}/{file}"), text);
        }
        let link = |name: &str, target: &str| {
            symlink(real(target), real(&format!("{folder}/{name}"))).expect("a link");
        };
        if !driver.is_empty() {
            link("driver", &format!("/sys/bus/pci/drivers/{driver}"));
        }
        if let Some(group) = group {
            let group = format!("/sys/kernel/iommu_groups/{group}");
            self.write(&format!("{group}/devices/{address}"), "");
            link("iommu_group", &group);
        }
        if !interface.is_empty() {
            self.write(&format!("{folder}/net/{interface}/ifindex"), "2");
        }
    }

    /// Removes a file or a folder of the machine.
    pub fn remove(&self, path: &str) {
        let path = SysRoot::new(self.dir.path()).path(path);
        if path.is_dir() {
            fs::remove_dir_all(path).expect("a folder");
        } else {
            fs::remove_file(path).expect("a file");
        }
    }

    /// Reads a file of the machine.
    pub fn read(&self, path: &str) -> Option<String> {
        SysRoot::new(self.dir.path()).text(path)
    }

    /// An ordinary user without capabilities.
    pub fn unprivileged(self) -> Self {
        self.write(
            "/proc/self/status",
            "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\nSeccomp:\t0",
        );
        self
    }

    /// The machine as the checks take it.
    pub fn system(&self) -> System {
        System {
            root: SysRoot::new(self.dir.path()),
            probes: Box::new(self.probes.clone()),
            runtime_dir: None,
        }
    }
}
