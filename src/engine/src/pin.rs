//! Pinning a thread to a cpu.
//!
//! `nix` and not `core_affinity`: the latter answers with a `bool`, and a pin that failed is only
//! worth reporting with the kernel's reason. What is pinned can be asked back from the kernel,
//! so the caller is told the truth and not the wish.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Why a thread could not be pinned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The number is beyond what an affinity mask can hold.
    #[error(
        "cpu {cpu} is beyond the largest that a mask can name ({}); see `linecard topo` for the \
         cpus of this machine",
        CpuSet::count() - 1
    )]
    OutOfRange {
        /// The cpu that was asked for.
        cpu: u32,
    },
    /// The cpu does not exist, is offline, or is not in our cgroup's cpuset.
    #[error(
        "cannot run on cpu {cpu}: it is offline, does not exist, or the cgroup's cpuset leaves it \
         out; see `linecard topo` for the cpus that may be used, and name one with --lcores"
    )]
    NotAvailable {
        /// The cpu that was asked for.
        cpu: u32,
    },
    /// The kernel refused for another reason (seccomp, for one, answers EPERM).
    #[error(
        "the kernel refused to pin this thread to cpu {cpu}: {errno}; if this runs in a \
         container, allow sched_setaffinity in its seccomp profile"
    )]
    Refused {
        /// The cpu that was asked for.
        cpu: u32,
        /// The kernel's answer.
        errno: Errno,
    },
}

/// Binds the calling thread to one cpu, for good.
///
/// A cpu outside the mask that we inherited is fine, which is how isolated cpus are reached; one
/// outside the cgroup's cpuset is not. Threads started afterwards inherit the binding.
pub fn pin_current_thread(cpu: u32) -> Result<(), PinError> {
    let mut mask = CpuSet::new();
    mask.set(cpu as usize)
        .map_err(|_| PinError::OutOfRange { cpu })?;
    // Pid 0 is the calling thread, in spite of its name.
    let this_thread = Pid::from_raw(0);
    sched_setaffinity(this_thread, &mask).map_err(|errno| match errno {
        Errno::EINVAL => PinError::NotAvailable { cpu },
        errno => PinError::Refused { cpu, errno },
    })?;
    // The kernel intersects the mask with the cpuset: an emulation (gVisor, for one) may also
    // accept it and do nothing.
    match sched_getaffinity(this_thread) {
        Ok(actual) if actual == mask => Ok(()),
        Ok(_) => Err(PinError::NotAvailable { cpu }),
        Err(errno) => Err(PinError::Refused { cpu, errno }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own, so that the test runner's stays where it was.
    fn in_thread(cpu: u32) -> Result<(), PinError> {
        std::thread::spawn(move || pin_current_thread(cpu))
            .join()
            .expect("the thread does not panic")
    }

    #[test]
    fn pins_to_a_cpu_of_our_mask() {
        let mask = sched_getaffinity(Pid::from_raw(0)).expect("a mask");
        let cpu = (0..CpuSet::count())
            .find(|cpu| mask.is_set(*cpu).unwrap_or(false))
            .and_then(|cpu| u32::try_from(cpu).ok())
            .expect("at least one cpu");
        assert_eq!(in_thread(cpu), Ok(()));
    }

    #[test]
    fn names_the_cpu_and_the_remedy() {
        let missing = in_thread(1023).expect_err("no such cpu here");
        assert_eq!(missing, PinError::NotAvailable { cpu: 1023 });
        assert!(missing.to_string().contains("linecard topo"));
        assert_eq!(in_thread(70_000), Err(PinError::OutOfRange { cpu: 70_000 }));
    }
}
