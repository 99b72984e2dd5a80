//! The change of hands itself.

use std::io;

use super::address::PciAddress;
use super::device::PciDevice;
use super::machine::Machine;
use super::obstacles::advice;
use super::plan::{BindPlan, Step, UnbindPlan, restore_steps};
use super::record::{Record, RecordError};

/// A change that did not happen, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It was refused before anything was changed.
    #[error("{address}: {reason}; try: {remedy}")]
    Refused {
        /// The device.
        address: PciAddress,
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The record could not be written, and nothing was changed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It failed half way.
    #[error("{address}: {what}; {aftermath}")]
    Failed {
        /// The device.
        address: PciAddress,
        /// What failed, and what to do about it.
        what: String,
        /// What became of the device.
        aftermath: String,
    },
}

/// Binds a device as planned, and returns it as it then is.
///
/// If that fails half way, the driver that had it before gets it back at once.
pub fn bind(machine: &Machine, plan: &BindPlan) -> Result<PciDevice, ChangeError> {
    let address = plan.device.address;
    if let Some(obstacle) = plan.obstacles.first() {
        return Err(ChangeError::Refused {
            address,
            reason: obstacle.reason.clone(),
            remedy: obstacle.remedy.clone(),
        });
    }
    if plan.already {
        return Ok(plan.device.clone());
    }
    // Before the change: nothing is changed that could not be taken back.
    plan.record.save(&machine.root)?;
    let failure = match write_all(machine, &plan.steps) {
        Err((step, error)) => format!(
            "cannot write {}: {error} ({})",
            step.path,
            advice(&error, address, "bind")
        ),
        Ok(()) => match PciDevice::read(&machine.root, address) {
            Some(now) if now.driver.as_deref() == Some(&plan.driver) => return Ok(now),
            // The kernel says why in its log, and nowhere else.
            Some(_) => format!(
                "{} did not take it (see dmesg | tail, and linecard doctor)",
                plan.driver
            ),
            None => "the device is gone".to_owned(),
        },
    };
    Err(ChangeError::Failed {
        address,
        what: failure,
        aftermath: take_back(machine, plan),
    })
}

/// Gives a device back after a failed bind, and says in words what came of it.
fn take_back(machine: &Machine, plan: &BindPlan) -> String {
    let address = plan.device.address;
    let before = &plan.device;
    let former = before.driver.as_deref();
    if let Some(now) = PciDevice::read(&machine.root, address) {
        let steps = restore_steps(&now, former, before.driver_override.as_deref());
        // Each of them, whatever became of the others: the most that can be put back.
        for step in &steps {
            let _ = machine.write(&step.path, &step.value);
        }
    }
    let restored = PciDevice::read(&machine.root, address).is_some_and(|now| {
        now.driver == before.driver && now.driver_override == before.driver_override
    });
    let driver = former.unwrap_or("no driver");
    if !restored {
        return format!(
            "and {driver}, which had it before, did not take it back: linecard unbind {address}"
        );
    }
    // What an earlier bind wrote down is still to be given back.
    let record = &plan.record;
    if record.driver_before == before.driver && record.override_before == before.driver_override {
        let _ = Record::delete(&machine.root, address);
    } else if let Some(driver) = former {
        let _ = record.rebound(driver).save(&machine.root);
    }
    format!("{driver} has it again, as before")
}

/// Gives a device back as planned, and returns it as it then is.
pub fn unbind(machine: &Machine, plan: &UnbindPlan) -> Result<PciDevice, ChangeError> {
    let address = plan.device.address;
    if let Some(obstacle) = plan.obstacles.first() {
        return Err(ChangeError::Refused {
            address,
            reason: obstacle.reason.clone(),
            remedy: obstacle.remedy.clone(),
        });
    }
    if plan.already {
        return Ok(plan.device.clone());
    }
    let failed = |what: String| ChangeError::Failed {
        address,
        what,
        // The record, if there is one, stays until it has been carried out.
        aftermath: format!("mend that, then again: linecard unbind {address}"),
    };
    write_all(machine, &plan.steps).map_err(|(step, error)| {
        failed(format!(
            "cannot write {}: {error} ({})",
            step.path,
            advice(&error, address, "unbind")
        ))
    })?;
    let now = PciDevice::read(&machine.root, address)
        .ok_or_else(|| failed("the device is gone".to_owned()))?;
    if plan.exact && now.driver != plan.driver {
        let driver = plan.driver.as_deref().unwrap_or("no driver");
        return Err(failed(format!(
            "{driver} did not take it back (see dmesg | tail)"
        )));
    }
    Record::delete(&machine.root, address)?;
    Ok(now)
}

fn write_all<'a>(machine: &Machine, steps: &'a [Step]) -> Result<(), (&'a Step, io::Error)> {
    steps.iter().try_for_each(|step| {
        machine
            .write(&step.path, &step.value)
            .map_err(|e| (step, e))
    })
}
