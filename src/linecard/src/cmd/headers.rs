//! The headers that the command knows: those of `linecard-wire`, and those of the examples.

use linecard::wire::describe::Headers;

#[path = "../../../../examples/sensor/header.rs"]
mod sensor;

/// All of them.
pub fn known() -> Headers {
    linecard_ferry::headers::add(Headers::standard()).with::<sensor::Sensor<'_>>()
}
