//! What the server makes of a datagram, against a reference that was written down from the description alone.

use proptest::prelude::*;

use super::frame;
use crate::{Call, CallView, HEADER_LEN, MOST_BYTES, demonstration};

/// What a server that speaks versions 1 and 2 has to answer, byte by byte; or nothing.
fn reference(datagram: &[u8]) -> Option<Vec<u8>> {
    let [
        0xca,
        0x11,
        version_status,
        reply_type,
        l1,
        l2,
        i1,
        i2,
        i3,
        i4,
        rest @ ..,
    ] = datagram
    else {
        return None;
    };
    if reply_type & 0x80 != 0 {
        return None;
    }
    let (mut version, kind) = (version_status >> 4, reply_type & 0x7f);
    let len = usize::from(*l1) << 8 | usize::from(*l2);
    let (status, mut body) = if len > 1222 {
        (4, vec![])
    } else if len > rest.len() {
        (3, vec![])
    } else {
        let asked = &rest[..len];
        match kind {
            0 if len != 2 => (6, vec![]),
            0 if asked[0] <= 2 && asked[1] >= 1 && asked[0] <= asked[1] => {
                version = asked[1].min(2);
                (0, vec![version])
            }
            0 => (2, vec![1, 2]),
            _ if version != 1 && version != 2 => (2, vec![1, 2]),
            1 => (0, asked.to_vec()),
            2 if version == 2 && len.is_multiple_of(4) => {
                let numbers = asked.chunks(4);
                let sum = numbers.map(|n| u32::from_be_bytes([n[0], n[1], n[2], n[3]]));
                let sum = sum.fold(0, u32::wrapping_add);
                (0, sum.to_be_bytes().to_vec())
            }
            2 if version == 2 => (6, vec![]),
            _ => (1, vec![]),
        }
    };
    // A refusal leaves out what there is no room for; an answer that has none is a refusal.
    let (mut status, fits) = (status, body.len() <= rest.len());
    if !fits {
        body.clear();
        status = if status == 0 { 5 } else { status };
    }
    if status == 2 {
        version = 2;
    }
    let mut answer = vec![0xca, 0x11, version << 4 | status, 0x80 | kind];
    answer.extend((body.len() as u16).to_be_bytes());
    answer.extend([*i1, *i2, *i3, *i4]);
    answer.extend(body);
    Some(answer)
}

fn answer(datagram: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut room = [0xee; MOST_BYTES];
    let len = demonstration(1, 2).answer(datagram, &mut room)?;
    Ok(room[..len].to_vec())
}

/// Frames that are nearly right, in every way in which they can be wrong.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
    let body = prop_oneof![bytes(20), bytes(1400), proptest::collection::vec(0u8..5, 2)];
    let len = prop_oneof![6 => Just(None), 1 => any::<u16>().prop_map(Some), 1 => (0u16..40).prop_map(Some)];
    let head = (
        0u8..5,
        0u8..16,
        prop_oneof![9 => Just(false), 1 => Just(true)],
        0u8..5,
        any::<u32>(),
    );
    (
        head,
        body,
        len,
        0usize..30,
        prop_oneof![9 => Just(None), 1 => (0usize..10).prop_map(Some)],
    )
        .prop_map(
            |((version, status, reply, kind, id), body, len, padding, cut)| {
                let call = Call {
                    version,
                    status,
                    reply,
                    kind,
                    id,
                    ..Call::default()
                };
                let mut bytes = frame(&call, &body, padding);
                if let Some(len) = len {
                    bytes[4..6].copy_from_slice(&len.to_be_bytes());
                }
                bytes.truncate(cut.unwrap_or(bytes.len()));
                bytes
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn as_the_reference(datagram in nearly()) {
        let found = answer(&datagram).ok();
        prop_assert_eq!(&found, &reference(&datagram));
        if let Some(found) = found {
            prop_assert!(found.len() <= datagram.len(), "a reply is no longer than its request");
            // And is never answered itself.
            prop_assert_eq!(answer(&found), Err("a_reply"));
        }
    }

    #[test]
    fn nothing_panics(mut datagram: Vec<u8>, right: bool) {
        if right && datagram.len() > 2 {
            datagram[..2].copy_from_slice(&[0xca, 0x11]);
        }
        prop_assert_eq!(answer(&datagram).ok(), reference(&datagram));
    }
}

#[test]
fn what_is_dropped_is_dropped_by_name() {
    let echo = Call {
        version: 1,
        kind: Call::KIND_ECHO,
        ..Call::default()
    };
    let good = frame(&echo, b"hi", 0);
    assert_eq!(answer(&good[..HEADER_LEN - 1]), Err("too_short"));
    assert_eq!(
        answer(&[&[0xca, 0x12], &good[2..]].concat()),
        Err("not_a_call")
    );
    assert_eq!(answer(&answer(&good).unwrap()), Err("a_reply"));
    let refused = |bytes: &[u8]| {
        let answer = answer(bytes).unwrap();
        let view = CallView::parse(&answer).unwrap();
        (view.status(), view.payload().to_vec())
    };
    assert_eq!(refused(&good[..11]), (Call::STATUS_BAD_LENGTH, vec![]));
    let long = frame(&echo, &[0; MOST_BYTES - HEADER_LEN + 1], 0);
    assert_eq!(refused(&long), (Call::STATUS_TOO_LONG, vec![]));
    let sum = Call {
        version: 2,
        kind: Call::KIND_SUM,
        ..Call::default()
    };
    assert_eq!(
        refused(&frame(&sum, &[], 3)),
        (Call::STATUS_NO_ROOM, vec![])
    );
    assert_eq!(refused(&frame(&sum, &[], 4)), (Call::STATUS_OK, vec![0; 4]));
    let old = Call { version: 1, ..sum };
    assert_eq!(
        refused(&frame(&old, &[0; 4], 0)),
        (Call::STATUS_UNKNOWN_TYPE, vec![])
    );
}

/// The reason for this example.
#[test]
fn the_whole_of_it_is_less_than_200_lines() {
    assert!(include_str!("../server.rs").lines().count() < 200);
}
