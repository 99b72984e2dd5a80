//! An io_uring for batches that are complete when the call returns: one system call for many sends,
//! writes or non-blocking reads.

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, squeue};

/// A result that nothing has been written to: the operation was not tried.
pub(crate) const NOT_TRIED: i32 = -libc::EAGAIN;

/// A ring that is empty between calls.
pub(crate) struct BatchRing {
    ring: IoUring,
}

impl BatchRing {
    /// A ring for batches of up to `entries`.
    pub(crate) fn new(entries: usize) -> io::Result<Self> {
        let entries = (entries.clamp(1, 32_768) as u32).next_power_of_two();
        // The fastest set-up that the kernel knows. Operations here complete while they are submitted,
        // so deferring completions would gain nothing.
        let ring = IoUring::builder()
            .setup_coop_taskrun()
            .setup_submit_all()
            .build(entries)
            .or_else(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => IoUring::new(entries),
                _ => Err(error),
            })?;
        Ok(Self { ring })
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
        operations: impl Iterator<Item = squeue::Entry>,
        results: &mut [i32],
    ) -> io::Result<()> {
        results.fill(NOT_TRIED);
        let mut pushed = 0;
        {
            let mut queue = self.ring.submission();
            for (i, operation) in operations.take(results.len()).enumerate() {
                // SAFETY: the operation's memory is valid by the contract, and below this call waits
                // for its completion.
                if unsafe { queue.push(&operation.user_data(i as u64)) }.is_err() {
                    break;
                }
                pushed += 1;
            }
        }
        let mut reaped = 0;
        let mut refusals = 0;
        while reaped < pushed {
            // A refusal (`EAGAIN`: the kernel is short of memory for requests) leaves operations in
            // the queue; those that were submitted have completed.
            if let Err(error) = self.ring.submit_and_wait(pushed - reaped) {
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
                if let Some(result) = results.get_mut(completion.user_data() as usize) {
                    *result = completion.result();
                }
                reaped += 1;
            }
        }
        Ok(())
    }
}

impl Drop for BatchRing {
    /// The kernel takes a ring apart later; the fixed files are let go now.
    fn drop(&mut self) {
        let _ = self.ring.submitter().unregister_files();
    }
}
