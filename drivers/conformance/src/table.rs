//! The table, driver by case, as Markdown. Each driver's lines depend on that driver alone, so that part of a
//! table can be compared with the whole.

use crate::{Case, Verdict};

/// One driver's verdicts, in the order of the cases.
pub struct Line {
    /// The driver.
    pub name: String,
    /// The verdicts.
    pub verdicts: Vec<Verdict>,
}

/// The whole table, its footnotes and what the columns are.
pub fn markdown(cases: &[&Case], lines: &[Line]) -> String {
    let names: Vec<_> = cases.iter().map(|case| case.name).collect();
    let mut out = format!("| driver | {} |\n", names.join(" | "));
    out += &format!("| --- |{}\n", " :---: |".repeat(names.len()));
    for line in lines {
        out += &row(line).0;
    }
    out += "\n✓ passed; a letter alone: cannot be, for the reason below; ✓ with a letter: passed, as narrowed below.\n\n";
    for line in lines {
        let notes = row(line).1;
        if !notes.is_empty() {
            out += &notes;
        }
    }
    out += "\n| case | what a port has to do |\n| --- | --- |\n";
    for case in cases {
        out += &format!("| {} | {} |\n", case.name, case.about);
    }
    out
}

/// A driver's line, and its footnotes.
fn row(line: &Line) -> (String, String) {
    let mut notes: Vec<&str> = Vec::new();
    let mut cells = Vec::new();
    for verdict in &line.verdicts {
        let mut letter = |text| {
            let at = notes.iter().position(|n| *n == text).unwrap_or_else(|| {
                notes.push(text);
                notes.len() - 1
            });
            char::from(b'a' + (at % 26) as u8)
        };
        cells.push(match verdict {
            Verdict::Passed(remarks) => {
                let letters: String = remarks.iter().map(|r| letter(r)).collect();
                format!("✓{letters}")
            }
            Verdict::NotApplicable(reason) => letter(reason).to_string(),
            Verdict::Failed(_) => "**✗**".into(),
        });
    }
    let texts: Vec<_> = (b'a'..)
        .zip(&notes)
        .map(|(letter, text)| format!("({}) {text}", char::from(letter)))
        .collect();
    let cells = format!("| `{}` | {} |\n", line.name, cells.join(" | "));
    let notes = if texts.is_empty() {
        String::new()
    } else {
        format!("- `{}`: {}\n", line.name, texts.join("; "))
    };
    (cells, notes)
}
