//! Whoever ends a port: its owner, or the last of its queues.

use std::fmt;
use std::sync::{Mutex, PoisonError, Weak};

use super::DpdkPort;

/// Held by every queue of a port; takes over the port itself if that is dropped before its queues, and stops it
/// when the last of them is gone.
#[derive(Default)]
pub(crate) struct Estate(Mutex<Option<DpdkPort>>);

impl fmt::Debug for Estate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Estate")
    }
}

impl Drop for DpdkPort {
    fn drop(&mut self) {
        let lent = self.device.as_ref().is_some_and(|d| d.lent() > 0);
        if lent && let Some(queues) = self.queues.upgrade() {
            let mut estate = queues.0.lock().unwrap_or_else(PoisonError::into_inner);
            *estate = Some(Self {
                target: self.target.clone(),
                device: self.device.take(),
                info: self.info,
                config: self.config.take(),
                can_wait: false,
                descriptors: self.descriptors,
                pools: core::mem::take(&mut self.pools),
                queues: Weak::new(),
            });
            return;
        }
        self.end();
    }
}
