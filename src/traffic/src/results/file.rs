//! Results as files: written whole or not at all, and read with an error that says what is wrong.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{FORMAT, Results};

/// No file of results is anywhere near as long; what is longer is something else and is not read into memory.
const MAX_BYTES: u64 = 256 << 20;

/// Why a file of results could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file cannot be written; what was there before is as it was.
    #[error("{path}: {error}; nothing was changed there")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file ends in the middle.
    #[error(
        "{path}: ends in the middle, at line {line}; it was cut short when it was copied, or its disk was full"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where it ends.
        line: usize,
    },
    /// The file is something else, or broken.
    #[error(
        "{path}: no results of linecard: {reason}; such a file is written by `linecard bench … --output`"
    )]
    NotResults {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by a newer version.
    #[error(
        "{path}: has format {format}, and this linecard reads up to {FORMAT}; it was written by linecard {version}, which reads it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The number of its format.
        format: u64,
        /// What wrote it.
        version: String,
    },
}

impl Results {
    /// Reads a file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let fail = |error| FileError::Read {
            path: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(fail)?;
        let mut text = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(fail)?;
        if text.len() as u64 > MAX_BYTES {
            let reason = format!("longer than {} MiB", MAX_BYTES >> 20);
            return Err(not_results(path, reason));
        }
        parse(path, &text)
    }

    /// Writes a file: whole, or, if that fails, not at all.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        write_atomically(path.as_ref(), self.to_json().as_bytes())
    }

    /// The text of a file.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists with names that are strings: there is nothing that JSON could refuse.
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        text
    }
}

/// Reads the format first, so that a newer file is not called broken.
fn parse(path: &Path, text: &[u8]) -> Result<Results, FileError> {
    let broken = |error: serde_json::Error| match error.is_eof() {
        true => FileError::Truncated {
            path: path.to_owned(),
            line: error.line(),
        },
        false => not_results(path, error.to_string()),
    };
    let mut value: Value = serde_json::from_slice(text).map_err(broken)?;
    match value.get("format").map(Value::as_u64) {
        Some(Some(format)) if format > u64::from(FORMAT) => {
            return Err(FileError::Newer {
                path: path.to_owned(),
                format,
                version: value["version"].as_str().unwrap_or("unknown").to_owned(),
            });
        }
        Some(Some(1..)) => (),
        _ => {
            return Err(not_results(
                path,
                "it does not say \"format\" as they do".to_owned(),
            ));
        }
    }
    drop_nulls(&mut value);
    Results::deserialize(value).map_err(|error| {
        // Once more from the text, as that knows the line.
        let error = serde_json::from_slice::<Results>(text)
            .err()
            .unwrap_or(error);
        not_results(path, error.to_string())
    })
}

fn not_results(path: &Path, reason: String) -> FileError {
    FileError::NotResults {
        path: path.to_owned(),
        reason,
    }
}

/// JSON has no word for a figure that is not a number: it is written as null, and read as if it had been left out.
/// So one division by zero does not make an hour's results unreadable. A list with one such figure is left out whole,
/// as it may be a pair of which one alone is nothing.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(drop_nulls);
            fields.retain(|_, field| !field.is_null());
        }
        Value::Array(items) => {
            if items.iter().any(Value::is_null) {
                *value = Value::Null;
                return;
            }
            items.iter_mut().for_each(drop_nulls);
            items.retain(|item| !item.is_null());
        }
        _ => (),
    }
}

/// Writes a file beside its name and then gives it that name, so that a reader sees all of it or what was there
/// before, also if the disk is full or the machine stops. A device or a pipe is simply written to.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let fail = |error| FileError::Write {
        path: path.to_owned(),
        error,
    };
    // Through a symbolic link, so that the link stays and what it names is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&target).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return fs::OpenOptions::new()
            .write(true)
            .open(&target)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(fail);
    }
    let Some(name) = target.file_name() else {
        return Err(fail(io::ErrorKind::InvalidInput.into()));
    };
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.part", std::process::id()));
    let beside = target.with_file_name(beside);
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, &target));
    written.map_err(|error| {
        // It may never have been made; and there is nothing else to do about it.
        let _ = fs::remove_file(&beside);
        fail(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{LossAt, Throughput, Trial};

    fn some() -> Results {
        Results {
            format: FORMAT,
            version: "0.1.0".to_owned(),
            trials: vec![Trial {
                asked_fps: Some(1e6),
                ..Trial::default()
            }],
            ..Results::default()
        }
    }

    #[test]
    fn comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        some().write(&path).unwrap();
        some().write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), some());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_cut_is_said_to_be_one() {
        let text = some().to_json();
        let end = text.trim_end().len();
        for at in 0..end {
            let error = parse(Path::new("run.json"), &text.as_bytes()[..at]).unwrap_err();
            assert!(
                matches!(error, FileError::Truncated { .. }),
                "{at}: {error}"
            );
        }
        assert!(parse(Path::new("run.json"), &text.as_bytes()[..end]).is_ok());
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let error = |text: &str| {
            let error = parse(Path::new("run.json"), text.as_bytes()).unwrap_err();
            error.to_string()
        };
        assert!(error(r#"{"format": 2, "version": "9.9"}"#).contains("format 2"));
        assert!(error(r#"{"format": 2, "version": "9.9"}"#).contains("linecard 9.9"));
        for text in ["{}", "[]", "7", r#"{"format": 0}"#, r#"{"format": "1"}"#] {
            assert!(error(text).contains("does not say \"format\""), "{text}");
        }
        assert!(error("hello").contains("no results"));
        assert!(error("{\"format\": 1,\n\"trials\": 7}").contains("at line 2"));
        let missing = Results::read("/nonexistent/run.json")
            .unwrap_err()
            .to_string();
        assert!(missing.contains("/nonexistent/run.json"), "{missing}");
    }

    #[test]
    fn what_is_not_a_number_does_not_make_a_file_unreadable() {
        let mut results = some();
        results.frame_loss.push(LossAt {
            fps: f64::NAN,
            share: 0.5,
            ..LossAt::default()
        });
        results.throughput.push(Throughput {
            fps: Some(7.0),
            between: Some((f64::NAN, 8.0)),
            repetitions: vec![6.0, f64::NAN],
            ..Throughput::default()
        });
        let read = parse(Path::new("run.json"), results.to_json().as_bytes()).unwrap();
        let found = &read.throughput[0];
        assert_eq!((found.fps, found.between), (Some(7.0), None));
        assert_eq!(found.repetitions, [0.0; 0]);
        assert_eq!(read.frame_loss[0].fps, 0.0);
        assert_eq!(read.frame_loss[0].share, 0.5);
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let error = some().write(dir.path()).unwrap_err().to_string();
        assert!(error.contains("nothing was changed"), "{error}");
        let path = dir.path().join("no such directory").join("run.json");
        assert!(some().write(&path).is_err());
        some().write("/dev/null").unwrap();
        assert!(
            !fs::metadata("/dev/null").unwrap().is_file(),
            "still a device"
        );
    }
}
