//! The machine as a person reads it.

use std::fmt;

use super::{Core, NumaNode, Topology};

/// A size in the unit that is shortest to read: `32 KiB`, `1.5 GiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 1023.95 and above would print as 1024.0 of the smaller unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if (value - value.round()).abs() < 0.05 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = if self.synthetic {
            "described machine (nothing will be bound)"
        } else {
            "this machine"
        };
        writeln!(
            f,
            "{machine}: {}, {}, {}, {}",
            count(self.packages.len(), "package"),
            count(self.nodes.len(), "NUMA node"),
            count(self.cores.len(), "core"),
            count(self.cpus().len(), "cpu"),
        )?;
        if let Some(model) = self.packages.iter().find_map(|p| p.model.as_deref()) {
            writeln!(f, "  processor  {model}")?;
        }
        writeln!(f, "  workers may use cpus {}", self.placeable_cpus())?;
        let denied = self.cpus().difference(&self.cpuset_cpus);
        if !denied.is_empty() {
            writeln!(f, "  denied by the cgroup's cpuset: {denied}")?;
        }
        writeln!(f, "  isolated   {}", self.isolated_cpus)?;
        if !self.nohz_full_cpus.is_empty() {
            writeln!(f, "  nohz_full  {}", self.nohz_full_cpus)?;
        }
        for node in &self.nodes {
            writeln!(f)?;
            self.fmt_node(node, f)?;
        }
        if !self.interfaces.is_empty() {
            writeln!(f)?;
            self.fmt_interfaces(f)?;
        }
        Ok(())
    }
}

impl Topology {
    fn fmt_node(&self, node: &NumaNode, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}: cpus {}", node.id, node.cpus)?;
        // A description need not say how much memory there is.
        if node.memory_bytes > 0 || !self.synthetic {
            write!(f, ", {}", format_bytes(node.memory_bytes))?;
        }
        if let Some(free) = node.free_bytes {
            write!(f, " ({} free)", format_bytes(free))?;
        }
        writeln!(f)?;
        for pool in &node.hugepages {
            writeln!(
                f,
                "  hugepages {:>7}  {} reserved, {} free",
                format_bytes(pool.size_bytes),
                pool.total,
                pool.free
            )?;
        }
        if self.nodes.len() > 1 && !node.distances.is_empty() {
            write!(f, "  distance")?;
            for entry in node.distances.iter().filter(|entry| entry.to != node.id) {
                write!(f, "  to node {} {}", entry.to, entry.distance)?;
            }
            writeln!(f)?;
        }
        let cores: Vec<&Core> = self.cores.iter().filter(|c| c.node == node.id).collect();
        let mut previous = None;
        for (position, core) in cores.iter().enumerate() {
            if position == 0 || previous != core.l3 {
                if let Some(cache) = self.l3_caches.iter().find(|c| Some(c.id) == core.l3) {
                    let size = match cache.size_bytes {
                        0 => String::new(),
                        size => format!(" ({})", format_bytes(size)),
                    };
                    writeln!(
                        f,
                        "  L3 cache {}{size} shared by {}",
                        cache.id,
                        count(cache.cores.len(), "core")
                    )?;
                }
                previous = core.l3;
            }
            self.fmt_core(core, f)?;
        }
        Ok(())
    }

    fn fmt_core(&self, core: &Core, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus: Vec<String> = core.cpus.iter().map(u32::to_string).collect();
        let what = if cpus.len() > 1 {
            "SMT siblings"
        } else {
            "cpu"
        };
        let mut line = format!("    core {:<4} {what} {:<9}", core.id, cpus.join(", "));
        for (name, size) in [("L1d", core.l1d_bytes), ("L2", core.l2_bytes)] {
            if let Some(size) = size.filter(|size| *size > 0) {
                line.push_str(&format!("  {name} {}", format_bytes(size)));
            }
        }
        if core
            .cpus
            .iter()
            .any(|cpu| self.isolated_cpus.contains(*cpu))
        {
            line.push_str("  isolated");
        }
        let kinds = self.cores.iter().any(|other| other.performance_rank > 0);
        if kinds {
            line.push_str(&format!("  speed class {}", core.performance_rank));
        }
        writeln!(f, "{}", line.trim_end())
    }

    fn fmt_interfaces(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .interfaces
            .iter()
            .map(|i| i.name.len())
            .max()
            .unwrap_or(0);
        writeln!(f, "network interfaces")?;
        for interface in &self.interfaces {
            let place = match interface.node {
                Some(node) => format!("node {node}"),
                None => "no node".to_owned(),
            };
            write!(
                f,
                "  {:<width$}  {place:<8}  {:<9}",
                interface.name,
                count(interface.combined_queues().into(), "queue"),
            )?;
            let driver = interface.driver.as_deref().unwrap_or(&interface.kind);
            write!(f, "  {driver}")?;
            if let Some(address) = &interface.pci_address {
                write!(f, "  {address}")?;
            }
            if let Some(speed) = interface.speed_mbps {
                write!(f, "  {speed} Mbit/s")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_right() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (2 << 20, "2 MiB"),
            ((1 << 30) - 1, "1 GiB"),
            (1 << 30, "1 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    #[test]
    fn shows_nodes_siblings_caches_and_interfaces() {
        let text = Topology::synthetic("pack:2 [numa] l3:1(size=1048576) core:2 pu:2")
            .expect("a machine")
            .with_interface("eth1", Some(1), 4)
            .to_string();
        assert!(text.starts_with("described machine (nothing will be bound): 2 packages"));
        assert!(
            text.contains("L3 cache 1 (1 MiB) shared by 2 cores"),
            "{text}"
        );
        assert!(text.contains("core 3    SMT siblings 6, 7"), "{text}");
        assert!(text.contains("eth1  node 1    4 queues"), "{text}");
        assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
    }
}
