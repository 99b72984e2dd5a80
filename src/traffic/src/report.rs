//! Reports: one page that shows what was measured and whether to believe it, with the same as JSON and CSV beside it.
//!
//! [`write()`] makes three files of [`Results`]: the page, everything as JSON, and the figures as CSV.
//!
//! The page is one file of HTML without scripts, fonts or anything else from elsewhere: it looks the same in ten years,
//! in a mail, and on a machine without a network. Pictures are SVG in the page; their colours come from its style
//! sheet, which is why they follow the reader's choice of light or dark and print well (a drawing library writes its
//! colours into the picture, so ours are drawn in [`chart`](self)). Colours are of Okabe and Ito's palette, and each
//! series has a shape of its own as well. What a mark stands for is shown when it is pointed at.
//!
//! # CSV
//!
//! One row for each figure (UTF-8, RFC 4180, a row of headings), so that every tool can filter, pivot and plot it:
//!
//! | column | what it says |
//! | --- | --- |
//! | `test` | `throughput`, `latency`, `frame_loss`, `back_to_back`, `recovery`, `reset`, `stream` or `trial` |
//! | `trial` | the trial's number; empty for results |
//! | `frame_bytes` | bytes of each frame with FCS |
//! | `at` | what else the row is for: `loss_goal=0`, `share=0.9`, `cause=overload`, the test of a trial, the name of a stream |
//! | `repetition` | from 1; empty for what is said of all repetitions |
//! | `figure` | its name, as in the JSON: `fps`, `loss_ratio`, `lost`, `quantile_0.99`, … |
//! | `value` | the figure, with all digits |
//! | `unit` | `frame/s`, `ns`, `frame`, `s`, `byte`, or `1` for shares and counts |
//! | `valid` | `true`, or `false` for trials that must not be believed |
//! | `note` | the reasons for that; what limited a throughput |

mod axis;
mod chart;
mod comparison;
mod csv;
mod escape;
mod page;
mod plots;
mod table;
mod tables;
mod tiles;
mod units;

use std::fs;
use std::path::{Path, PathBuf};

use crate::results::{FileError, Results, write_atomically};

pub use self::comparison::{NamedRun, change, comparison_html, interval, value};
pub use self::csv::csv;
pub use self::page::html;

/// The files of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The page.
    pub html: PathBuf,
    /// Everything, to be read by [`Results::read`].
    pub json: PathBuf,
    /// The figures.
    pub csv: PathBuf,
}

impl Files {
    /// The files that a report at this place has: `report.html` and so on in a directory (one that is there, or a name
    /// that ends in `/`), otherwise the name with other endings, so that `run`, `run.json` and `run.html` mean the same.
    pub fn at(place: &Path) -> Self {
        let is_dir = place.is_dir() || place.to_string_lossy().ends_with('/');
        let stem = if is_dir {
            place.join("report")
        } else {
            place.to_owned()
        };
        let known = ["html", "json", "csv"];
        let ending = stem.extension().and_then(|ending| ending.to_str());
        let has_ending = ending.is_some_and(|ending| known.contains(&ending));
        let with = |ending: &str| {
            if has_ending {
                return stem.with_extension(ending);
            }
            // Not `with_extension`, which would take a dot in `10.0.0.1` for one.
            let mut name = stem.clone().into_os_string();
            name.push(".");
            name.push(ending);
            PathBuf::from(name)
        };
        Self {
            html: with("html"),
            json: with("json"),
            csv: with("csv"),
        }
    }
}

/// Writes a report to a place as [`Files::at`] understands it. Each file is written whole or not at all, the JSON
/// first, as the others can be made of it again. Directories that are missing are made.
pub fn write(results: &Results, place: impl AsRef<Path>) -> Result<Files, FileError> {
    let files = Files::at(place.as_ref());
    make_parent(&files.json)?;
    results.write(&files.json)?;
    write_atomically(&files.csv, csv(results).as_bytes())?;
    write_atomically(&files.html, html(results).as_bytes())?;
    Ok(files)
}

/// Makes the directory that a file is to be in.
pub fn make_parent(file: &Path) -> Result<(), FileError> {
    match file.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(|error| FileError::Write {
            path: parent.to_owned(),
            error,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::FORMAT;

    #[test]
    fn places() {
        let dir = tempfile::tempdir().unwrap();
        let at = |place: &Path| Files::at(place).html;
        assert_eq!(at(dir.path()), dir.path().join("report.html"));
        assert_eq!(at(Path::new("no/such/")), Path::new("no/such/report.html"));
        assert_eq!(at(Path::new("run.json")), Path::new("run.html"));
        assert_eq!(at(Path::new("run")), Path::new("run.html"));
        assert_eq!(at(Path::new("to-10.0.0.1")), Path::new("to-10.0.0.1.html"));
    }

    #[test]
    fn three_files_and_the_results_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let results = Results {
            format: FORMAT,
            ..Results::default()
        };
        let files = write(&results, dir.path().join("new").join("run")).unwrap();
        assert_eq!(Results::read(&files.json).unwrap(), results);
        assert!(
            fs::read_to_string(&files.html)
                .unwrap()
                .starts_with("<!doctype html>")
        );
        assert!(
            fs::read_to_string(&files.csv)
                .unwrap()
                .starts_with("test,trial,")
        );
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 3);
    }
}
