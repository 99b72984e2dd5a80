//! Flow rules: flat structures in, the driver's own words out.

use core::ptr::NonNull;
use std::ffi::c_char;
use std::io;
use std::sync::Arc;

use linecard_dpdk_sys as dpdk;
use linecard_hal::flow::FlowCount;

use super::answer;
use super::events::Events;
use super::port::Device;

pub(crate) use dpdk::{lc_flow_ports as Ports, lc_flow_rule as Flat};

/// One way to say a rule to a driver.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form {
    /// Everything but the lists below.
    pub(crate) flat: Flat,
    pub(crate) queues: Vec<u16>,
    pub(crate) key: Vec<u8>,
}

impl Form {
    /// With pointers to the lists, which `self` keeps.
    fn raw(&self) -> Flat {
        Flat {
            queues: self.queues.as_ptr(),
            queue_count: self.queues.len() as u32,
            key: self.key.as_ptr(),
            key_len: self.key.len() as u32,
            ..self.flat
        }
    }

    /// The items and actions that DPDK is given, byte by byte.
    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        let mut room = [0 as c_char; 1024];
        let raw = self.raw();
        // SAFETY: a rule whose lists live as long as `self`, and room for `len` bytes.
        let result =
            unsafe { dpdk::lc_flow_describe(&raw const raw, room.as_mut_ptr(), room.len()) };
        answer(result).unwrap();
        text(&room)
    }
}

/// A rule that the device has. Ends with the device if nobody destroys it.
#[derive(Debug)]
pub(crate) struct Flow(NonNull<dpdk::rte_flow>);

// SAFETY: a handle; all calls with it go through the port's control plane, `&mut` or locked.
unsafe impl Send for Flow {}

#[cfg(test)]
impl Flow {
    /// A handle of no driver's, for a [`Table`] that is made up.
    pub(crate) fn made_up() -> Self {
        Self(NonNull::dangling())
    }
}

/// Why a device does not do it.
#[derive(Debug)]
pub(crate) struct Refused {
    /// In the driver's words; may be empty.
    pub(crate) message: String,
    /// The item, action or attribute that they are about, if it says so.
    pub(crate) about: String,
    pub(crate) error: io::Error,
}

fn text(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars
        .iter()
        .map(|c| *c as u8)
        .take_while(|b| *b != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Calls with room for the driver's words.
fn call(shim: impl FnOnce(*mut dpdk::lc_flow_error) -> i32) -> Result<u32, Refused> {
    let mut said = dpdk::lc_flow_error {
        message: [0; 192],
        about: [0; 16],
    };
    answer(shim(&raw mut said)).map_err(|error| Refused {
        message: text(&said.message),
        about: text(&said.about),
        error,
    })
}

/// What keeps a port's flow rules: its driver, or in tests one that is made up.
pub(crate) trait Table: core::fmt::Debug + Send {
    /// Whether it would take the rule.
    fn validate(&mut self, form: &Form) -> Result<(), Refused>;

    /// Takes it.
    fn create(&mut self, form: &Form) -> Result<Flow, Refused>;

    /// Destroys a rule of its own. If that fails, it is the device's until it is closed.
    fn destroy(&mut self, flow: Flow) -> Result<(), Refused>;

    /// What a rule of its own has counted, if the driver says.
    fn query(&mut self, flow: &Flow) -> Result<Option<FlowCount>, Refused>;
}

/// A port's driver.
#[derive(Debug)]
pub(crate) struct Driver {
    port: u16,
    events: Arc<Events>,
}

impl Driver {
    pub(crate) fn new(device: &Device) -> Self {
        Self {
            port: device.id(),
            events: device.events().clone(),
        }
    }
}

impl Table for Driver {
    fn validate(&mut self, form: &Form) -> Result<(), Refused> {
        let raw = form.raw();
        // SAFETY: DPDK checks the port's number; the rule's lists live as long as `form`.
        call(|error| unsafe { dpdk::lc_flow_validate(self.port, &raw const raw, error) }).map(drop)
    }

    fn create(&mut self, form: &Form) -> Result<Flow, Refused> {
        let (raw, mut flow) = (form.raw(), core::ptr::null_mut());
        // SAFETY: as above; room for the handle.
        call(|error| unsafe {
            dpdk::lc_flow_create(self.port, &raw const raw, &raw mut flow, error)
        })?;
        NonNull::new(flow).map(Flow).ok_or_else(|| Refused {
            message: "no handle".into(),
            about: String::new(),
            error: io::Error::from_raw_os_error(libc::EINVAL),
        })
    }

    fn destroy(&mut self, flow: Flow) -> Result<(), Refused> {
        if self.events.is_destroyed() {
            return Ok(());
        }
        // SAFETY: the handle is of this port, whose number is not another's, and ends here.
        call(|error| unsafe { dpdk::lc_flow_destroy(self.port, flow.0.as_ptr(), error) }).map(drop)
    }

    fn query(&mut self, flow: &Flow) -> Result<Option<FlowCount>, Refused> {
        let mut count = FlowCount::default();
        let (packets, bytes) = (&raw mut count.packets, &raw mut count.bytes);
        // SAFETY: the handle is of this port and was not destroyed, nor lost by a reset, after which the
        // rules have new ones (`Rules::lost`); room for both numbers.
        let says = call(|error| unsafe {
            dpdk::lc_flow_query(self.port, flow.0.as_ptr(), packets, bytes, error)
        })?;
        Ok((says == 1).then_some(count))
    }
}
