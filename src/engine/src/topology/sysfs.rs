//! The kernel's own account of the machine, read from `/proc` and `/sys` under a root.
//!
//! Everything here takes its root from [`SysRoot`], so that a test can lay out a machine in a
//! temporary directory: four nodes, a broken file, a driver that this computer does not have.
//! A file that is missing or unreadable is an ordinary answer (`None`, an empty list), because
//! what a kernel shows depends on how it was built and on who asks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::cpuset::CpuSet;
use super::{HugepagePool, NodeDistance};

/// Where `/proc`, `/sys` and `/dev` are found: `/`, or a made-up tree in a test.
#[derive(Clone, Debug)]
pub struct SysRoot {
    root: PathBuf,
}

impl Default for SysRoot {
    fn default() -> Self {
        Self::new("/")
    }
}

impl SysRoot {
    /// A view of the tree under `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// True if this is the running system, so that system calls and files speak of the same one.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The real path of an absolute path such as `/sys/devices/system/cpu`.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.root
            .join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// The text of a file without the blanks around it.
    pub fn read(&self, absolute: impl AsRef<Path>) -> io::Result<String> {
        fs::read_to_string(self.path(absolute)).map(|text| text.trim().to_owned())
    }

    /// The text of a file, if it can be read and is not empty.
    pub fn text(&self, absolute: impl AsRef<Path>) -> Option<String> {
        self.read(absolute).ok().filter(|text| !text.is_empty())
    }

    /// The number in a file, if there is one.
    pub fn number<T: std::str::FromStr>(&self, absolute: impl AsRef<Path>) -> Option<T> {
        self.text(absolute)?.parse().ok()
    }

    /// The cpus listed in a file; empty if it cannot be read.
    pub fn cpus(&self, absolute: impl AsRef<Path>) -> CpuSet {
        self.text(absolute)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }

    /// The names in a folder in ascending order; empty if it cannot be read.
    pub fn entries(&self, absolute: impl AsRef<Path>) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(absolute))
            .map(|entries| {
                entries
                    .flatten()
                    .filter_map(|entry| entry.file_name().into_string().ok())
                    .collect()
            })
            .unwrap_or_default();
        names.sort();
        names
    }

    /// True if the path exists.
    pub fn exists(&self, absolute: impl AsRef<Path>) -> bool {
        self.path(absolute).exists()
    }

    /// The cpus that the kernel's scheduler leaves alone (`isolcpus=`).
    pub fn isolated_cpus(&self) -> CpuSet {
        self.cpus("/sys/devices/system/cpu/isolated")
    }

    /// The cpus whose timer tick stops while one thread runs on them (`nohz_full=`).
    ///
    /// The file reads `(null)` when the kernel can do it but was not asked to.
    pub fn nohz_full_cpus(&self) -> CpuSet {
        self.cpus("/sys/devices/system/cpu/nohz_full")
    }

    /// The numbers of the NUMA nodes; `[0]` on a kernel without NUMA.
    pub fn node_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .entries(NODES)
            .iter()
            .filter_map(|name| name.strip_prefix("node")?.parse().ok())
            .collect();
        ids.sort_unstable();
        if ids.is_empty() { vec![0] } else { ids }
    }

    /// The cpus of a node; empty for a node of memory alone, and on a kernel without NUMA.
    pub fn node_cpus(&self, node: u32) -> CpuSet {
        self.cpus(format!("{NODES}/node{node}/cpulist"))
    }

    /// Total and free bytes of a node's memory.
    pub fn node_memory(&self, node: u32) -> Option<(u64, u64)> {
        match self.text(format!("{NODES}/node{node}/meminfo")) {
            Some(text) => meminfo(&text),
            // Without NUMA there is no such folder and the machine is node 0.
            None if node == 0 && !self.exists(format!("{NODES}/node0")) => {
                meminfo(&self.text("/proc/meminfo")?)
            }
            None => None,
        }
    }

    /// The hugepages of a node by size, smallest first.
    pub fn node_hugepages(&self, node: u32) -> Vec<HugepagePool> {
        let folder = self.hugepage_folder(node);
        let mut pools: Vec<HugepagePool> = self
            .entries(&folder)
            .iter()
            .filter_map(|name| {
                let kib: u64 = name
                    .strip_prefix("hugepages-")?
                    .strip_suffix("kB")?
                    .parse()
                    .ok()?;
                let count = |file: &str| self.number::<u64>(format!("{folder}/{name}/{file}"));
                Some(HugepagePool {
                    size_bytes: kib.checked_mul(1024)?,
                    total: count("nr_hugepages")?,
                    free: count("free_hugepages")?,
                })
            })
            .collect();
        pools.sort_by_key(|pool| pool.size_bytes);
        pools
    }

    /// The folder that holds a node's `hugepages-*` folders.
    ///
    /// Writing to `nr_hugepages` below it reserves on that node alone, which the machine-wide
    /// `/proc/sys/vm/nr_hugepages` cannot promise.
    pub fn hugepage_folder(&self, node: u32) -> String {
        let per_node = format!("{NODES}/node{node}/hugepages");
        if self.exists(&per_node) || node != 0 {
            per_node
        } else {
            "/sys/kernel/mm/hugepages".to_owned()
        }
    }

    /// How far every node is from this one, in the firmware's unit (10 is local).
    pub fn node_distances(&self, node: u32) -> Vec<NodeDistance> {
        let Some(text) = self.text(format!("{NODES}/node{node}/distance")) else {
            return Vec::new();
        };
        // The kernel prints one number for every online node, in ascending order of nodes.
        self.node_ids()
            .into_iter()
            .zip(text.split_whitespace())
            .filter_map(|(to, distance)| {
                Some(NodeDistance {
                    to,
                    distance: distance.parse().ok()?,
                })
            })
            .collect()
    }
}

const NODES: &str = "/sys/devices/system/node";

/// Total and free bytes in the text of a `meminfo` file, of a node or of the machine.
fn meminfo(text: &str) -> Option<(u64, u64)> {
    let bytes = |key: &str| {
        text.lines().find_map(|line| {
            let mut words = line.split_whitespace().skip_while(|word| *word != key);
            words.next()?;
            words.next()?.parse::<u64>().ok()?.checked_mul(1024)
        })
    };
    Some((bytes("MemTotal:")?, bytes("MemFree:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, SysRoot) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = SysRoot::new(dir.path());
        for (path, text) in files {
            let path = root.path(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        (dir, root)
    }

    #[test]
    fn reads_memory_hugepages_and_distances_of_two_nodes() {
        let node1 = "/sys/devices/system/node/node1";
        let (_dir, root) = tree(&[
            ("/sys/devices/system/node/node0/distance", "10 21\n"),
            (&format!("{node1}/distance"), "21 10\n"),
            (&format!("{node1}/cpulist"), "4-7\n"),
            (
                &format!("{node1}/meminfo"),
                "Node 1 MemTotal:       1024 kB\nNode 1 MemFree:         512 kB\n",
            ),
            (
                &format!("{node1}/hugepages/hugepages-1048576kB/nr_hugepages"),
                "0\n",
            ),
            (
                &format!("{node1}/hugepages/hugepages-1048576kB/free_hugepages"),
                "0\n",
            ),
            (
                &format!("{node1}/hugepages/hugepages-2048kB/nr_hugepages"),
                "8\n",
            ),
            (
                &format!("{node1}/hugepages/hugepages-2048kB/free_hugepages"),
                "5\n",
            ),
        ]);
        assert_eq!(root.node_ids(), [0, 1]);
        assert_eq!(root.node_cpus(1).to_string(), "4-7");
        assert_eq!(root.node_memory(1), Some((1024 * 1024, 512 * 1024)));
        assert_eq!(root.node_memory(0), None);
        let pools = root.node_hugepages(1);
        assert_eq!(pools.len(), 2);
        assert_eq!(
            pools[0],
            HugepagePool {
                size_bytes: 2 << 20,
                total: 8,
                free: 5
            }
        );
        let distances = root.node_distances(1);
        assert_eq!(
            distances[0],
            NodeDistance {
                to: 0,
                distance: 21
            }
        );
    }

    #[test]
    fn a_kernel_without_numa_is_one_node() {
        let (_dir, root) = tree(&[
            (
                "/proc/meminfo",
                "MemTotal:  2048 kB\nMemFree:  1024 kB\nMemAvailable: 9 kB\n",
            ),
            (
                "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
                "3",
            ),
            (
                "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
                "1",
            ),
        ]);
        assert_eq!(root.node_ids(), [0]);
        assert_eq!(root.node_memory(0), Some((2 << 20, 1 << 20)));
        assert_eq!(root.node_hugepages(0)[0].total, 3);
        assert!(root.node_distances(0).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_absent_and_not_an_error() {
        let (_dir, root) = tree(&[("/sys/devices/system/cpu/nohz_full", "(null)\n")]);
        assert!(root.isolated_cpus().is_empty());
        assert!(root.nohz_full_cpus().is_empty());
        assert_eq!(root.number::<u32>("/proc/sys/nothing"), None);
        assert!(root.node_hugepages(7).is_empty());
    }
}
