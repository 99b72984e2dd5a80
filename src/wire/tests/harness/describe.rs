//! Headers described as data: packets to text and back.

use linecard_wire::describe::{Diff, Headers, standard};

/// What was printed reads as the same bytes; what reads as a packet at all is written without a panic. The first
/// byte says which header comes first.
pub(crate) fn describe(data: &[u8]) {
    let Some((which, packet)) = data.split_first() else {
        return;
    };
    let headers = Headers::standard();
    let first = standard::ALL[usize::from(*which) % standard::ALL.len()].name;
    let found = headers.dissect(first, packet);
    let text = found.to_string();
    let again = headers
        .expression(&text)
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(again.to_bytes().unwrap(), packet, "{text}");
    assert!(Diff::between(&found, &headers.dissect(first, packet)).is_empty());
    let _ = found.pretty().to_string();

    let Ok(text) = core::str::from_utf8(packet) else {
        return;
    };
    if let Ok(expression) = headers.expression(text)
        && let Ok(bytes) = expression.to_bytes()
    {
        assert!(expression.mismatches(&headers, packet).is_ok());
        assert_eq!(headers.dissect(first, &bytes).bytes(), bytes);
    }
}
