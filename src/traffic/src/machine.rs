//! The machine that measures, as far as it matters to a benchmark: who reads the figures has to know it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::results::Machine;

/// How long to look at what the processors do.
const LOOK: Duration = Duration::from_millis(200);

/// More than this share of all processors' time in use by others, and the machine is called busy.
const BUSY: f64 = 0.1;

/// Options of the kernel's command line that decide who disturbs a pinned worker.
const OPTIONS: [&str; 8] = [
    "isolcpus",
    "nohz_full",
    "rcu_nocbs",
    "idle",
    "intel_idle.max_cstate",
    "processor.max_cstate",
    "mitigations",
    "iommu",
];

/// Describes this machine. Takes a fifth of a second, to see whether it is busy: to be called before there is load.
pub fn describe() -> Machine {
    let root = Root(PathBuf::from("/"));
    let before = root.processor_time();
    thread::sleep(LOOK);
    let after = root.processor_time();
    let mut machine = root.describe();
    if let (Some(before), Some(after)) = (before, after) {
        machine.remarks.extend(usage(before, after, machine.cores));
    }
    machine
}

impl Machine {
    /// What about this machine makes figures worse, or differ from run to run: to be shown as warnings.
    pub fn cautions(&self) -> Vec<String> {
        let remark = |name: &str| self.remarks.get(name).map(String::as_str);
        let mut cautions = Vec::new();
        if let Some(busy) = remark("busy") {
            cautions.push(format!(
                "The machine was busy when the run began: {busy}. Figures may be lower than it can do, and differ from run to run."
            ));
        }
        if let Some(governor) = remark("governor").filter(|text| *text != "performance") {
            cautions.push(format!(
                "The processors' frequency governor is {governor}, not performance: clocks change during trials (cpupower frequency-set -g performance)."
            ));
        }
        if let Some(hypervisor) = remark("hypervisor") {
            cautions.push(format!(
                "This is a virtual machine (hypervisor: {hypervisor}): its host may take the processors away at any time."
            ));
        }
        cautions
    }
}

/// Time of all processors together, in ticks since the machine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProcessorTime {
    all: u64,
    idle: u64,
    stolen: u64,
}

/// How much of the processors others used between two readings.
fn usage(before: ProcessorTime, after: ProcessorTime, cores: u32) -> Option<(String, String)> {
    let all = after.all.saturating_sub(before.all);
    if all == 0 {
        return None;
    }
    let share = |ticks: u64| ticks as f64 / all as f64;
    let used = 1.0 - share(after.idle.saturating_sub(before.idle)).min(1.0);
    let stolen = share(after.stolen.saturating_sub(before.stolen));
    let mut text = format!("{:.0} % of {cores} processors in use", used * 100.0);
    if stolen > 0.01 {
        text += &format!(", {:.0} % taken by the host", stolen * 100.0);
    }
    let name = if used > BUSY { "busy" } else { "quiet" };
    Some((name.to_owned(), text))
}

/// Where `/proc`, `/sys` and `/etc` are: another place in tests.
struct Root(PathBuf);

impl Root {
    fn describe(&self) -> Machine {
        let processor = self.text("proc/cpuinfo");
        let online = list_len(&self.text("sys/devices/system/cpu/online"));
        let listed = processor.lines().filter(|l| l.starts_with("processor"));
        Machine {
            host: self.text("proc/sys/kernel/hostname"),
            processor: self.processor(&processor),
            cores: online.unwrap_or(listed.count() as u32),
            nodes: list_len(&self.text("sys/devices/system/node/online")).unwrap_or(1),
            memory_bytes: value(&self.text("proc/meminfo"), "MemTotal", ':')
                .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or(0)
                .saturating_mul(1024),
            kernel: self.text("proc/sys/kernel/osrelease"),
            system: value(&self.text("etc/os-release"), "PRETTY_NAME", '=')
                .map(|name| name.trim_matches('"').to_owned())
                .unwrap_or_default(),
            remarks: self.remarks(&processor),
        }
    }

    fn processor(&self, cpuinfo: &str) -> String {
        // ARM has no model name there; the device tree names the board.
        let board = || self.text("proc/device-tree/model").replace('\0', "");
        ["model name", "Processor", "cpu model", "cpu"]
            .into_iter()
            .find_map(|name| value(cpuinfo, name, ':'))
            .map_or_else(board, str::to_owned)
    }

    fn remarks(&self, cpuinfo: &str) -> BTreeMap<String, String> {
        let said = [
            ("governor", self.governors()),
            (
                "isolated cores",
                self.text("sys/devices/system/cpu/isolated"),
            ),
            ("hugepages", self.hugepages()),
            ("hypervisor", self.hypervisor(cpuinfo)),
            ("SMT", self.smt()),
            ("boost", self.boost()),
            (
                "clock source",
                self.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            ),
            ("kernel options", self.options()),
        ];
        said.into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| (name.to_owned(), text))
            .collect()
    }

    /// All that are in use, as cores may differ.
    fn governors(&self) -> String {
        let different: BTreeSet<String> = self
            .names("sys/devices/system/cpu")
            .into_iter()
            .filter(|name| name.starts_with("cpu"))
            .map(|cpu| {
                self.text(&format!(
                    "sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor"
                ))
            })
            .filter(|governor| !governor.is_empty())
            .collect();
        different.into_iter().collect::<Vec<_>>().join(", ")
    }

    fn hugepages(&self) -> String {
        let pools = self.names("sys/kernel/mm/hugepages").into_iter();
        let pools = pools.filter_map(|name| {
            let kib: u64 = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            let count = |file: &str| -> Option<u64> {
                self.text(&format!("sys/kernel/mm/hugepages/{name}/{file}"))
                    .parse()
                    .ok()
            };
            let (pages, free) = (count("nr_hugepages")?, count("free_hugepages")?);
            let size = match kib {
                1_048_576.. => format!("{} GiB", kib >> 20),
                _ => format!("{} MiB", kib >> 10),
            };
            (pages > 0).then(|| format!("{pages} of {size}, {free} free"))
        });
        let pools: Vec<_> = pools.collect();
        if pools.is_empty() {
            "none".to_owned()
        } else {
            pools.join("; ")
        }
    }

    fn hypervisor(&self, cpuinfo: &str) -> String {
        let flags = value(cpuinfo, "flags", ':').unwrap_or_default();
        let kind = self.text("sys/hypervisor/type");
        if kind.is_empty() && !flags.split_whitespace().any(|flag| flag == "hypervisor") {
            return String::new();
        }
        let maker = self.text("sys/class/dmi/id/sys_vendor");
        let product = self.text("sys/class/dmi/id/product_name");
        let all = [kind, maker, product].join(" ");
        let name = all.split_whitespace().collect::<Vec<_>>().join(" ");
        if name.is_empty() {
            "unnamed".to_owned()
        } else {
            name
        }
    }

    fn smt(&self) -> String {
        match self.text("sys/devices/system/cpu/smt/active").as_str() {
            "1" => "on".to_owned(),
            "0" => "off".to_owned(),
            _ => String::new(),
        }
    }

    fn boost(&self) -> String {
        let boost = self.text("sys/devices/system/cpu/cpufreq/boost");
        let no_turbo = self.text("sys/devices/system/cpu/intel_pstate/no_turbo");
        match (boost.as_str(), no_turbo.as_str()) {
            ("1", _) | (_, "0") => "on".to_owned(),
            ("0", _) | (_, "1") => "off".to_owned(),
            _ => String::new(),
        }
    }

    fn options(&self) -> String {
        let line = self.text("proc/cmdline");
        let ours = line
            .split_whitespace()
            .filter(|option| OPTIONS.contains(&option.split('=').next().unwrap_or_default()));
        ours.collect::<Vec<_>>().join(" ")
    }

    fn processor_time(&self) -> Option<ProcessorTime> {
        let text = self.text("proc/stat");
        let ticks: Vec<u64> = text
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        // user nice system idle iowait irq softirq steal; what guests used is within user and nice.
        let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
        Some(ProcessorTime {
            all: ticks.iter().take(8).sum(),
            idle: at(3) + at(4),
            stolen: at(7),
        })
    }

    /// A file's text without white space around it; nothing if it cannot be read.
    fn text(&self, path: &str) -> String {
        let bytes = fs::read(self.0.join(path)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }

    fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(path)).into_iter().flatten();
        let mut names: Vec<_> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}

/// The value of the first line `name<separator>value`.
fn value<'a>(text: &'a str, name: &str, separator: char) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(separator)?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// How many numbers a list such as `0-3,8` has.
fn list_len(list: &str) -> Option<u32> {
    let mut len = 0u32;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u32 = first.trim().parse().ok()?;
        let last: u32 = last.trim().parse().ok()?;
        len = len.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root(dir.path().to_owned());
        (dir, root)
    }

    #[test]
    fn a_server_is_described() {
        let (_dir, root) = tree(&[
            ("proc/sys/kernel/hostname", "bench1\n"),
            (
                "proc/cpuinfo",
                "processor\t: 0\nmodel name\t: Fast CPU\nflags\t\t: fpu sse hypervisor\n",
            ),
            ("sys/devices/system/cpu/online", "0-3,8-11\n"),
            ("sys/devices/system/cpu/isolated", "2-3\n"),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "performance\n",
            ),
            (
                "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                "powersave\n",
            ),
            ("sys/devices/system/node/online", "0-1\n"),
            ("proc/meminfo", "MemTotal:       16 kB\n"),
            ("proc/sys/kernel/osrelease", "6.18.0\n"),
            ("etc/os-release", "NAME=\"D\"\nPRETTY_NAME=\"Debian 12\"\n"),
            (
                "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
                "4\n",
            ),
            (
                "sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages",
                "3\n",
            ),
            (
                "proc/cmdline",
                "root=/dev/secret isolcpus=2-3 quiet nohz_full=2-3\n",
            ),
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
        ]);
        let machine = root.describe();
        assert_eq!(machine.host, "bench1");
        assert_eq!(machine.processor, "Fast CPU");
        assert_eq!((machine.cores, machine.nodes), (8, 2));
        assert_eq!(machine.memory_bytes, 16384);
        assert_eq!(machine.system, "Debian 12");
        let remark = |name: &str| machine.remarks[name].as_str();
        assert_eq!(remark("governor"), "performance, powersave");
        assert_eq!(remark("isolated cores"), "2-3");
        assert_eq!(remark("hugepages"), "4 of 1 GiB, 3 free");
        assert_eq!(remark("hypervisor"), "QEMU");
        assert_eq!(remark("kernel options"), "isolcpus=2-3 nohz_full=2-3");
        assert_eq!(machine.cautions().len(), 2, "{:?}", machine.cautions());
    }

    #[test]
    fn nothing_there_is_no_panic() {
        let (_dir, root) = tree(&[("proc/stat", "cpu  x\n")]);
        let machine = root.describe();
        assert_eq!((machine.cores, machine.nodes), (0, 1));
        assert!(machine.cautions().is_empty());
        assert_eq!(list_len("3-1"), None);
        assert_eq!(list_len("0-4294967295"), None);
    }

    #[test]
    fn busy_is_what_others_use() {
        let at = |all, idle, stolen| ProcessorTime { all, idle, stolen };
        let (name, text) = usage(at(100, 50, 0), at(140, 88, 0), 2).unwrap();
        assert_eq!(
            (name.as_str(), text.as_str()),
            ("quiet", "5 % of 2 processors in use")
        );
        let (name, text) = usage(at(100, 50, 0), at(140, 70, 4), 2).unwrap();
        assert_eq!(name, "busy");
        assert!(text.contains("50 %") && text.contains("10 % taken by the host"));
        assert_eq!(usage(at(1, 1, 0), at(1, 1, 0), 2), None);
        let (_dir, root) = tree(&[("proc/stat", "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1\n")]);
        assert_eq!(root.processor_time(), Some(at(36, 9, 8)));
    }

    #[test]
    fn this_machine_can_be_described() {
        let machine = describe();
        assert!(machine.cores > 0 && machine.memory_bytes > 0, "{machine:?}");
        assert!(!machine.kernel.is_empty(), "{machine:?}");
    }
}
