//! The parts by themselves, against plain references, and together in networks.

mod answers;
mod clients;
mod networks;

use crate::Call;

/// A frame with this header and body, and so much padding.
fn frame(call: &Call, body: &[u8], padding: usize) -> Vec<u8> {
    let mut bytes = vec![0; crate::HEADER_LEN];
    bytes.extend(body);
    call.emit(&mut bytes, body.len()).unwrap();
    bytes.resize(bytes.len() + padding, 0);
    bytes
}
