//! A filter expression, a zero byte, and a frame: no text makes the parser panic, an error points into the text, and what
//! it makes of a frame is the same each time, never both the expression and its opposite.

use linecard_traffic::filter::Filter;

pub(crate) fn fuzz(data: &[u8]) {
    let mut halves = data.splitn(2, |byte| *byte == 0);
    let text = String::from_utf8_lossy(halves.next().unwrap_or_default());
    let frame = halves.next().unwrap_or_default();
    let filter: Filter = match text.parse() {
        Ok(filter) => filter,
        Err(error) => {
            assert!(error.at <= text.len(), "{error:?}");
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let again: Filter = filter.text().parse().expect("it was one before");
    // Two levels deeper, which may be too deep, and of the empty text there is no opposite.
    let opposite = format!("not ({text})").parse::<Filter>().ok();
    for len in 0..=frame.len() {
        let cut = &frame[..len];
        for whole in [len, frame.len()] {
            let matches = filter.matches_cut(cut, whole as u32);
            assert_eq!(matches, again.matches_cut(cut, whole as u32));
            let not = |opposite: &Filter| opposite.matches_cut(cut, whole as u32);
            assert!(!(matches && opposite.as_ref().is_some_and(not)));
        }
    }
}
