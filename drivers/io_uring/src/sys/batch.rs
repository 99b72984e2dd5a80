//! An io_uring for batches that are complete when the call returns: one system call for many sends,
//! writes or non-blocking reads.

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, squeue};

/// A result that nothing has been written to: the operation was not tried.
pub(crate) const NOT_TRIED: i32 = -libc::EAGAIN;

/// An operation of a batch.
pub(crate) struct Operation {
    pub(crate) entry: squeue::Entry,
    /// What its result is if it succeeds, where that is known beforehand: then only a failure is
    /// reported by the kernel, which costs less. `NOT_TRIED` if it is not known.
    pub(crate) expected: i32,
}

/// A ring that is empty between calls.
pub(crate) struct BatchRing {
    ring: IoUring,
    /// Whether the kernel can leave out the completions of operations that succeed (Linux 5.17).
    quiet: bool,
}

impl BatchRing {
    /// A ring for batches of up to `entries`.
    pub(crate) fn new(entries: usize) -> io::Result<Self> {
        let entries = (entries.clamp(1, 32_768) as u32).next_power_of_two();
        // The fastest set-up that the kernel knows. Operations here complete while they are submitted,
        // so deferring completions would gain nothing.
        let builders: [fn(&mut io_uring::Builder) -> &mut io_uring::Builder; 3] = [
            |b| b.setup_coop_taskrun().setup_submit_all().setup_no_sqarray(),
            |b| b.setup_coop_taskrun().setup_submit_all(),
            |b| b,
        ];
        let mut refused = io::Error::from(io::ErrorKind::Unsupported);
        for set_up in builders {
            match set_up(&mut IoUring::builder()).build(entries) {
                Ok(ring) => {
                    let quiet = ring.params().is_feature_skip_cqe_on_success();
                    return Ok(Self { ring, quiet });
                }
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    /// Registers files that operations may then name by their place here as fixed files, which saves
    /// counting a file's users for each of them. Until the next registration, or the ring's end, they
    /// stay open. `false` if the kernel refuses.
    pub(crate) fn fix(&mut self, files: &[RawFd]) -> bool {
        let submitter = self.ring.submitter();
        let _ = submitter.unregister_files();
        submitter.register_files(files).is_ok()
    }

    /// Runs the operations, `results.len()` at most, and writes each one's result to its place.
    /// An error means that the ring can no longer be used; `results` says what was done before.
    ///
    /// # Safety
    ///
    /// What the operations refer to stays valid during the call, and each of them completes without
    /// waiting for anything: its file is non-blocking or it says so itself.
    pub(crate) unsafe fn run(
        &mut self,
        operations: impl Iterator<Item = Operation>,
        results: &mut [i32],
    ) -> io::Result<()> {
        let quiet = self.quiet;
        let (mut pushed, mut reported) = (0, 0);
        {
            let mut queue = self.ring.submission();
            for (operation, result) in operations.zip(results.iter_mut()) {
                let mut entry = operation.entry.user_data(pushed as u64);
                let known = quiet && operation.expected != NOT_TRIED;
                if known {
                    entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
                }
                // SAFETY: the operation's memory is valid by the contract, and below this call waits
                // until it was executed.
                if unsafe { queue.push(&entry) }.is_err() {
                    break;
                }
                *result = if known { operation.expected } else { NOT_TRIED };
                reported += usize::from(!known);
                pushed += 1;
            }
        }
        results[pushed..].fill(NOT_TRIED);
        let outcome = self.finish(reported, results);
        // Of those that the kernel never took, no failure was reported either.
        let left = self.ring.submission().len();
        results[pushed - left.min(pushed)..pushed].fill(NOT_TRIED);
        outcome
    }

    /// Submits what is in the queue and waits for `reported` completions. What is not reported was
    /// executed when it was taken.
    fn finish(&mut self, reported: usize, results: &mut [i32]) -> io::Result<()> {
        let (mut reaped, mut refusals) = (0, 0);
        loop {
            let missing = reported.saturating_sub(reaped);
            if missing == 0 && self.ring.submission().is_empty() {
                return Ok(());
            }
            // A refusal (`EAGAIN`: the kernel is short of memory for requests) leaves operations in
            // the queue; those that were submitted have completed.
            if let Err(error) = self.ring.submit_and_wait(missing) {
                let passing = matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
                );
                refusals += 1;
                if !passing || refusals > 1000 {
                    return Err(error);
                }
            }
            for completion in self.ring.completion() {
                // The kernel gives back the number that was put in; bounded all the same.
                let Some(result) = results.get_mut(completion.user_data() as usize) else {
                    continue;
                };
                // A failure of those that are not reported otherwise does not count as reported.
                reaped += usize::from(*result == NOT_TRIED);
                *result = completion.result();
            }
        }
    }
}

impl Drop for BatchRing {
    /// The kernel takes a ring apart later; the fixed files are let go now.
    fn drop(&mut self) {
        let _ = self.ring.submitter().unregister_files();
    }
}
