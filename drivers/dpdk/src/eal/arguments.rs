//! EAL's command line, from our configuration.

use std::fs;
use std::path::Path;

/// The memory that DPDK keeps its own data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// Hugepages if enough are free, else ordinary ones.
    #[default]
    Auto,
    /// Hugepages.
    Huge,
    /// Ordinary pages.
    Normal,
}

/// How EAL is to be started. The default fits nearly always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalConfig {
    /// Hugepages or not.
    pub pages: Pages,
    /// How much memory on ordinary pages, where it cannot grow; on hugepages it grows as needed.
    pub memory_mib: u32,
    /// The name under which other processes could find this one; one of our own if not set.
    pub file_prefix: Option<String>,
    /// Further arguments, behind ours.
    pub eal_args: Vec<String>,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            pages: Pages::Auto,
            memory_mib: 256,
            file_prefix: None,
            eal_args: Vec::new(),
        }
    }
}

/// Below this much free memory in hugepages there is no use in trying them.
const LEAST_HUGE_KIB: u64 = 64 << 10;

/// What ends the process from inside of EAL, or makes it attach to another one, or contradicts what Linecard
/// says: long options, and short ones of one letter.
const REFUSED: [(&str, &[char], &str); 4] = [
    ("--help", &['h'], "it would end the process"),
    ("--proc-type", &[], "Linecard is always the primary process"),
    (
        "--lcores",
        &['l', 'c', 's', 'S'],
        "workers are placed by Linecard",
    ),
    ("--iova-mode", &[], "mbufs carry virtual addresses"),
];

/// Why an argument is refused, if it is. EAL takes the beginning of a long option for the whole, and several
/// short ones in one word.
fn refused(word: &str) -> Option<&'static str> {
    let (option, value) = word.split_once('=').unwrap_or((word, ""));
    // It lists what could be logged, and ends. The value may be a word of its own.
    if word == "help" || value == "help" && option.len() > 2 && "--log-level".starts_with(option) {
        return Some("it would end the process");
    }
    let found = REFUSED.iter().find(|(long, short, _)| {
        if option.starts_with("--") {
            option.len() > 2 && long.starts_with(option)
        } else {
            // The only other one without a value, which so may stand before them.
            option
                .strip_prefix('-')
                .and_then(|letters| letters.trim_start_matches('v').chars().next())
                .is_some_and(|letter| short.contains(&letter))
        }
    });
    found.map(|(_, _, why)| *why)
}

impl EalConfig {
    /// What the environment says. An error says what, and what to do about it.
    pub(super) fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, (String, String)> {
        let mut config = Self::default();
        let wrong = |name: &str, value: &str, usual: &str| {
            Err((
                format!("{name} is {value:?}"),
                format!("set it to {usual}, or unset it"),
            ))
        };
        if let Some(text) = variable(super::PAGES_VARIABLE) {
            config.pages = match text.as_str() {
                "auto" | "" => Pages::Auto,
                "huge" => Pages::Huge,
                "normal" => Pages::Normal,
                _ => return wrong(super::PAGES_VARIABLE, &text, "auto, huge or normal"),
            };
        }
        if let Some(text) = variable(super::MEMORY_VARIABLE) {
            config.memory_mib = match text.parse() {
                Ok(mib @ 32..=1_048_576) => mib,
                _ => return wrong(super::MEMORY_VARIABLE, &text, "32 or more, 256 is usual"),
            };
        }
        config.file_prefix = variable(super::PREFIX_VARIABLE).filter(|text| !text.is_empty());
        if let Some(prefix) = &config.file_prefix
            && (prefix.contains(['/', ' ']) || prefix.starts_with(['-', '.']) || prefix.len() > 32)
        {
            return wrong(super::PREFIX_VARIABLE, prefix, "letters and digits");
        }
        if let Some(text) = variable(super::ARGUMENTS_VARIABLE) {
            config.eal_args = text.split_whitespace().map(str::to_owned).collect();
        }
        Ok(config)
    }

    /// The pages to use on this machine: never [`Pages::Auto`].
    pub(super) fn pages_here(&self, hugepages: &Path) -> Pages {
        match self.pages {
            Pages::Auto if free_kib(hugepages) >= LEAST_HUGE_KIB => Pages::Huge,
            Pages::Auto => Pages::Normal,
            chosen => chosen,
        }
    }

    /// The command line. An error says what, and what to do about it.
    pub(super) fn words(&self, pci: bool, pages: Pages) -> Result<Vec<String>, (String, String)> {
        let prefix = self
            .file_prefix
            .clone()
            .unwrap_or_else(|| format!("linecard-{}", std::process::id()));
        let mut words: Vec<String> = vec![
            "linecard".into(),
            // One lcore, which polls nothing and may run wherever this process may.
            format!("--lcores=0@({})", cpus()),
            format!("--file-prefix={prefix}"),
            "--iova-mode=va".into(),
            "--no-telemetry".into(),
        ];
        if pages == Pages::Normal {
            words.extend([
                "--no-huge".into(),
                format!("-m={}", self.memory_mib.max(32)).replace("=", ""),
                "--no-shconf".into(),
            ]);
        } else {
            // No file is left behind, whatever becomes of the process.
            words.push("--in-memory".into());
            // One descriptor for all of them: a vhost back end maps eight files at most.
            if !self.eal_args.iter().any(|word| word == "--legacy-mem") {
                words.push("--single-file-segments".into());
            }
        }
        if pci {
            // A device is probed when it is opened, and no other is: this address has none.
            words.push("--allow=ffff:ff:1f.7".into());
        } else {
            words.push("--no-pci".into());
        }
        for word in &self.eal_args {
            if let Some(why) = refused(word) {
                return Err((
                    format!("the EAL argument {word:?} is refused: {why}"),
                    format!(
                        "take it out of {} or of eal_args in [dpdk]",
                        super::ARGUMENTS_VARIABLE
                    ),
                ));
            }
            words.push(word.clone());
        }
        Ok(words)
    }
}

/// The processors that this process may use, as `0,1`.
fn cpus() -> String {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0));
    let all: Vec<String> = set
        .iter()
        .flat_map(|set| {
            (0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false))
        })
        .map(|cpu| cpu.to_string())
        .collect();
    if all.is_empty() {
        "0".into()
    } else {
        all.join(",")
    }
}

/// Free memory in hugepages of all sizes.
fn free_kib(hugepages: &Path) -> u64 {
    let sizes = fs::read_dir(hugepages).into_iter().flatten().flatten();
    sizes
        .filter_map(|size| {
            let name = size.file_name().into_string().ok()?;
            let kib: u64 = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            let free = fs::read_to_string(size.path().join("free_hugepages")).ok()?;
            Some(kib * free.trim().parse::<u64>().ok()?)
        })
        .sum()
}

/// Whether a PCI device is bound to a driver for DPDK.
pub(super) fn any_bound(bus: &Path) -> bool {
    crate::pci::DRIVERS.iter().any(|driver| {
        fs::read_dir(bus.join("drivers").join(driver))
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains(':'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_hugepages_memory_is_fixed_and_nothing_is_shared() {
        let config = EalConfig {
            eal_args: vec!["--log-level=8".into()],
            ..EalConfig::default()
        };
        let words = config.words(false, Pages::Normal).unwrap();
        for word in [
            "--no-huge",
            "-m256",
            "--no-shconf",
            "--no-pci",
            "--iova-mode=va",
            "--log-level=8",
        ] {
            assert!(words.iter().any(|w| w == word), "{word}: {words:?}");
        }
        let words = config.words(true, Pages::Huge).unwrap();
        assert!(words.iter().any(|w| w == "--in-memory"), "{words:?}");
        assert!(!words.iter().any(|w| w == "--no-pci"), "{words:?}");
    }

    #[test]
    fn what_would_end_the_process_is_refused() {
        for word in [
            "-h",
            "-vh",
            "--help",
            "--hel",
            "--proc-type=secondary",
            "--proc=auto",
            "--p=secondary",
            "--log-level=help",
            "--log-l=help",
            "help",
            "--lcores=0",
            "-l0",
            "-c",
            "--iova-mode=pa",
        ] {
            let config = EalConfig {
                eal_args: vec![word.into()],
                ..EalConfig::default()
            };
            let (what, remedy) = config.words(false, Pages::Normal).unwrap_err();
            assert!(
                what.contains(word) && remedy.contains("LINECARD_DPDK_EAL_ARGS"),
                "{what}; {remedy}"
            );
        }
        for word in [
            "--huge-unlink",
            "--log-level=8",
            "-v",
            "-n",
            "--legacy-mem",
            "-m64",
        ] {
            assert_eq!(refused(word), None, "{word}");
        }
    }

    #[test]
    fn the_environment_says_how() {
        let from = |name: &'static str, text: &'static str| {
            EalConfig::from_environment(|asked| (asked == name).then(|| text.to_owned()))
        };
        for (text, pages) in [
            ("huge", Pages::Huge),
            ("normal", Pages::Normal),
            ("auto", Pages::Auto),
            ("", Pages::Auto),
        ] {
            assert_eq!(from("LINECARD_DPDK_PAGES", text).unwrap().pages, pages);
        }
        let memory = from("LINECARD_DPDK_MEMORY_MIB", "64").unwrap().memory_mib;
        let prefix = from("LINECARD_DPDK_FILE_PREFIX", "x").unwrap().file_prefix;
        let words = from("LINECARD_DPDK_EAL_ARGS", " --a  -v ")
            .unwrap()
            .eal_args;
        assert_eq!((memory, prefix.as_deref()), (64, Some("x")));
        assert_eq!(words, ["--a", "-v"]);
        for (name, text) in [
            ("LINECARD_DPDK_PAGES", "big"),
            ("LINECARD_DPDK_MEMORY_MIB", "lots"),
            ("LINECARD_DPDK_FILE_PREFIX", "../x"),
        ] {
            let (what, remedy) = from(name, text).unwrap_err();
            assert!(what.contains(name) && what.contains(text), "{what}");
            assert!(remedy.contains("unset"), "{remedy}");
        }
    }

    #[test]
    fn hugepages_are_used_when_enough_are_free() {
        let dir = tempfile::tempdir().unwrap();
        let config = EalConfig::default();
        let size = dir.path().join("hugepages-2048kB");
        fs::create_dir(&size).unwrap();
        for (free, pages) in [
            ("0", Pages::Normal),
            ("31", Pages::Normal),
            ("32", Pages::Huge),
        ] {
            fs::write(size.join("free_hugepages"), free).unwrap();
            assert_eq!(config.pages_here(dir.path()), pages);
        }
        assert_eq!(config.pages_here(Path::new("/nonexistent")), Pages::Normal);
    }
}
