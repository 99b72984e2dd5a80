//! The kinds of protocols that the command knows: in `linecard sim`, `linecard script` and `linecard run` the same.

use linecard::simnet::Kinds;

/// All of them, with the headers that scripts can name.
pub fn known() -> Kinds {
    let kinds = Kinds::new().with_headers(super::headers::known());
    linecard_calls::kinds(linecard_ferry::kinds(kinds))
}
