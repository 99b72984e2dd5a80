//! `linecard doctor`: what this machine can do for Linecard, and how to make it do more.

mod devices;
#[cfg(test)]
pub mod fake;
mod fix;
mod journal;
mod kernel;
mod memory;
mod network;
mod privileges;
mod processor;
mod software;
mod system;
mod xdp;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

pub use self::fix::Outcome;
pub use self::network::SETCAP;
pub use self::system::{IoUringAnswer, System};
use super::table::{Paint, Tone};

/// Examines this machine and says what to change.
#[derive(Args, Debug, Default)]
#[command(
    about = "Examine this machine: kernel, io_uring, memory, cpus, vfio, privileges, tools, XDP",
    long_about = "Examine this machine: kernel, io_uring, memory, cpus, vfio, privileges, tools, XDP.\n\n\
        Every finding says what it means for Linecard and, if something can be better, the exact \
        command that mends it. Nothing is changed unless --fix is given.",
    after_help = "Exit status: 0 if there is no failure (warnings are allowed), 1 if there is one, \
        or if a --fix or --undo could not be carried out.\n\n\
        Examples:\n  \
        linecard doctor                    what works here, and what would work better\n  \
        linecard doctor --fix --dry-run    what --fix would change\n  \
        sudo linecard doctor --fix         reserve hugepages, mount hugetlbfs, raise rmem_max\n  \
        sudo linecard doctor --undo        put everything back as it was\n  \
        linecard doctor --json | jq '.checks[] | select(.status != \"ok\")'"
)]
pub struct DoctorArgs {
    /// Apply the remedies that are safe and can be taken back
    ///
    /// Reserves 2 MiB hugepages on nodes that have none (at most 256 MiB and an eighth of the free
    /// memory of each), mounts hugetlbfs if it is mounted nowhere, and raises net.core.rmem_max.
    /// What was there before is kept in /run/linecard/doctor-undo.json, or below
    /// $XDG_RUNTIME_DIR if /run is not writable. All of it is gone after a reboot.
    #[arg(long, conflicts_with = "undo")]
    pub fix: bool,
    /// Take back what --fix did, and only that
    ///
    /// A setting that somebody else has changed since is left alone, and said.
    #[arg(long)]
    pub undo: bool,
    /// With --fix or --undo: say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// Works, but something costs speed or is not available.
    Warning,
    /// Ports of this machine cannot be used.
    Failure,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was examined.
    pub name: String,
    /// How the finding is to be taken.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What that means for Linecard.
    pub meaning: String,
    /// The command that mends it; with [`Status::Ok`], one that would add something.
    pub remedy: Option<String>,
}

impl Check {
    fn new(
        status: Status,
        name: &str,
        found: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            status,
            found: found.into(),
            meaning: meaning.into(),
            remedy: None,
        }
    }

    fn ok(name: &str, found: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self::new(Status::Ok, name, found, meaning)
    }

    fn warning(name: &str, found: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self::new(Status::Warning, name, found, meaning)
    }

    fn failure(name: &str, found: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self::new(Status::Failure, name, found, meaning)
    }

    fn mend(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Everything that was found and done.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The findings.
    pub checks: Vec<Check>,
    /// How many of each there are.
    pub summary: Summary,
    /// What `--fix` or `--undo` did.
    pub changes: Vec<Outcome>,
    /// The file that `--undo` will read, if there is anything to undo.
    pub journal: Option<String>,
}

/// How many findings of each kind there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Nothing to do.
    pub ok: usize,
    /// Works, but.
    pub warnings: usize,
    /// Does not work.
    pub failures: usize,
}

/// Runs the command on this machine.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let system = System::live();
    let (report, code) = execute(&system, args)?;
    let text = if args.json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        render(&report, args, Paint::for_stdout())
    };
    super::print(&text)?;
    Ok(ExitCode::from(code))
}

/// Runs the command on any machine; the number is the exit status.
pub fn execute(system: &System, args: &DoctorArgs) -> anyhow::Result<(Report, u8)> {
    if args.dry_run && !args.fix && !args.undo {
        anyhow::bail!("--dry-run says what a change would do; give it with --fix or --undo");
    }
    let (changes, journal) = if args.fix {
        fix::fix(system, args.dry_run)?
    } else if args.undo {
        fix::undo(system, args.dry_run)?
    } else {
        (Vec::new(), fix::journal(system))
    };
    // After the changes, so that what is printed is what is true now.
    let checks = examine(system);
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let summary = Summary {
        ok: count(Status::Ok),
        warnings: count(Status::Warning),
        failures: count(Status::Failure),
    };
    let failed = summary.failures > 0 || changes.iter().any(Outcome::failed);
    let report = Report {
        checks,
        summary,
        changes,
        journal,
    };
    Ok((report, u8::from(failed)))
}

/// Every check, in the order in which a newcomer wants to read them.
pub fn examine(system: &System) -> Vec<Check> {
    let mut checks = vec![
        kernel::version(system),
        kernel::files(system),
        kernel::io_uring(system),
        network::packet_socket(system),
        privileges::capabilities(system),
        privileges::user_namespaces(system),
        network::receive_buffer(system),
    ];
    checks.extend(memory::hugepages(system));
    checks.extend([
        memory::hugetlbfs(system),
        memory::transparent(system),
        memory::lock_limit(system),
        memory::numa(system),
        processor::isolation(system),
        processor::governor(system),
        devices::iommu(system),
        devices::vfio(system),
        devices::lockdown(system),
        software::libdpdk(system),
    ]);
    checks.extend(software::tools(system));
    checks.extend(xdp::checks(system));
    checks
}

fn render(report: &Report, args: &DoctorArgs, paint: Paint) -> String {
    let mut text = String::new();
    if args.fix || args.undo {
        for change in &report.changes {
            text.push_str(&change.line(paint));
            text.push('\n');
        }
        if report.changes.is_empty() {
            text.push_str(if args.fix {
                "nothing to fix: no safe change would make a difference\n"
            } else {
                "nothing to undo: there is no journal of an earlier --fix\n"
            });
        }
    }
    if let Some(journal) = &report.journal {
        text.push_str(&format!(
            "earlier values are kept in {journal}; linecard doctor --undo puts them back\n"
        ));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let width = report
        .checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    for check in &report.checks {
        render_check(check, width, paint, &mut text);
    }
    let Summary {
        ok,
        warnings,
        failures,
    } = report.summary;
    let plural = |number: usize| if number == 1 { "" } else { "s" };
    text.push_str(&format!(
        "\n{ok} ok, {warnings} warning{}, {failures} failure{}\n",
        plural(warnings),
        plural(failures)
    ));
    text
}

fn render_check(check: &Check, width: usize, paint: Paint, text: &mut String) {
    /// Finding and meaning share a line if it is not longer than this.
    const LINE: usize = 100;
    let (word, tone) = match check.status {
        Status::Ok => ("ok     ", Tone::Good),
        Status::Warning => ("warning", Tone::Caution),
        Status::Failure => ("failure", Tone::Bad),
    };
    let indent = word.len() + 2 + width + 2;
    let Check {
        name,
        found,
        meaning,
        ..
    } = check;
    text.push_str(&format!(
        "{}  {name:<width$}  {found}",
        paint.tone(word, tone)
    ));
    if indent + found.len() + 2 + meaning.len() <= LINE {
        text.push_str(&format!("; {meaning}\n"));
    } else {
        text.push_str(&format!("\n{:indent$}{meaning}\n", ""));
    }
    if let Some(remedy) = &check.remedy {
        let label = match check.status {
            Status::Ok => "option",
            _ => "mend",
        };
        text.push_str(&format!("{:indent$}{label}: {remedy}\n", ""));
    }
}

#[cfg(test)]
mod tests {
    use super::fake::FakeMachine;
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn a_healthy_machine_has_no_complaint() {
        let machine = FakeMachine::healthy();
        let (report, code) = execute(&machine.system(), &DoctorArgs::default()).expect("a report");
        let bad: Vec<&Check> = report
            .checks
            .iter()
            .filter(|c| c.status != Status::Ok)
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert_eq!(code, 0);
        assert!(report.checks.len() >= 17);
    }

    #[test]
    fn an_empty_machine_is_described_without_a_panic() {
        let machine = FakeMachine::bare();
        let (report, code) = execute(&machine.system(), &DoctorArgs::default()).expect("a report");
        assert_eq!(code, 1, "no /proc is a failure");
        assert!(report.summary.failures > 0);
    }

    #[test]
    fn every_complaint_has_a_remedy_and_all_words() {
        let mut machine = FakeMachine::bare();
        machine.probes.io_uring.setup = Err(Errno::ENOSYS);
        machine.probes.packet_socket = Err(Errno::EPERM);
        machine.probes.user_namespace = Some(Err("unshare failed: Operation not permitted".into()));
        for check in examine(&machine.unprivileged().system()) {
            assert!(
                !check.found.is_empty() && !check.meaning.is_empty(),
                "{check:?}"
            );
            assert!(
                check.status == Status::Ok || check.remedy.is_some(),
                "{check:?}"
            );
        }
    }

    #[test]
    fn a_failure_is_the_exit_status_and_a_warning_is_not() {
        let mut machine = FakeMachine::healthy();
        machine.write(
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "always madvise [never]",
        );
        let (report, code) = execute(&machine.system(), &DoctorArgs::default()).expect("a report");
        assert_eq!((report.summary.warnings, code), (1, 0));
        machine.probes.packet_socket = Err(Errno::EAFNOSUPPORT);
        let (_, code) = execute(&machine.system(), &DoctorArgs::default()).expect("a report");
        assert_eq!(code, 1);
    }

    #[test]
    fn the_text_shows_status_meaning_and_remedy() {
        let machine = FakeMachine::healthy();
        machine.write(
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "always madvise [never]",
        );
        let args = DoctorArgs::default();
        let (report, _) = execute(&machine.system(), &args).expect("a report");
        let text = render(&report, &args, Paint::Never);
        assert!(text.contains("warning  transparent hugepages"), "{text}");
        assert!(
            text.contains("mend: echo madvise > /sys/kernel/mm"),
            "{text}"
        );
        assert!(text.ends_with("1 warning, 0 failures\n"), "{text}");
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["summary"]["warnings"], 1);
        assert_eq!(json["checks"][0]["status"], "ok");
    }

    #[test]
    fn a_dry_run_of_nothing_is_an_error_that_says_so() {
        let args = DoctorArgs {
            dry_run: true,
            ..DoctorArgs::default()
        };
        let error = execute(&FakeMachine::bare().system(), &args).expect_err("refused");
        assert!(error.to_string().contains("--fix or --undo"));
    }
}
