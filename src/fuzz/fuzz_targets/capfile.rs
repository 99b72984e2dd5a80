//! A capture file: whatever is in it, the reader ends, stays within the file, and gives frames of possible lengths.

use std::io::Cursor;

use linecard_capfile::read::{MAX_FRAME_LEN, Reader, Step};

pub(crate) fn fuzz(data: &[u8]) {
    let mut reader = match Reader::new(Box::new(Cursor::new(data.to_vec()))) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    loop {
        let before = reader.offset();
        let step = reader.next(|record| {
            assert!((14..=MAX_FRAME_LEN).contains(&record.data.len()));
            record.data.iter().fold(0_u8, |sum, byte| sum ^ byte)
        });
        match step {
            Step::Frame(_) | Step::Skipped => {
                // Each has a header at least, so there is an end.
                assert!(reader.offset() >= before + 12, "{reader:?} after {before}");
                assert!(reader.offset() <= data.len() as u64, "{reader:?}");
            }
            Step::End => return,
            Step::Broken(broken) => {
                assert!(broken.offset >= before && !broken.what.is_empty(), "{broken}");
                return;
            }
        }
    }
}
