//! Tables of figures that can be sorted, and shown by a terminal or as text.

use std::cmp::Ordering;

use crate::cmd::table::{Cell as TextCell, Paint, Table, Tone};

/// A table: what it is about, its columns, its rows.
#[derive(Debug, Clone, Default)]
pub struct Sheet {
    pub title: &'static str,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Figure>>,
}

/// A column and how wide it is, at most.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    pub width: u16,
    /// Whether its figures are aligned to the right.
    pub right: bool,
}

/// One field: what is shown and what it is sorted by.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    pub text: String,
    pub value: Option<f64>,
    pub tone: Tone,
}

impl Sheet {
    /// An empty sheet. A column whose name begins with `>` is aligned to the right.
    pub fn new(title: &'static str, columns: &[(&'static str, u16)]) -> Self {
        let columns = columns.iter().map(|(name, width)| Column {
            name: name.trim_start_matches('>'),
            width: *width,
            right: name.starts_with('>'),
        });
        Self {
            title,
            columns: columns.collect(),
            rows: Vec::new(),
        }
    }

    pub fn row<const N: usize>(&mut self, figures: [Figure; N]) {
        self.rows.push(figures.into());
    }

    /// Puts the rows in order of a column: figures from the largest down, text from A on, or the other way round.
    pub fn sort(&mut self, column: usize, reverse: bool) {
        let of = |row: &Vec<Figure>| row.get(column).cloned().unwrap_or_default();
        self.rows.sort_by(|a, b| {
            let (a, b) = (of(a), of(b));
            let order = match (a.value, b.value) {
                (Some(a), Some(b)) => b.total_cmp(&a),
                (None, None) => a.text.cmp(&b.text),
                (a, _) => a.map_or(Ordering::Greater, |_| Ordering::Less),
            };
            if reverse { order.reverse() } else { order }
        });
    }

    /// As text under its title; nothing if there are no rows.
    pub fn render(&self, paint: Paint) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let names = self.columns.iter().map(|c| match c.right {
            true => format!(">{}", c.name),
            false => c.name.to_owned(),
        });
        let names: Vec<String> = names.collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut table = Table::new(&names);
        for row in &self.rows {
            table.row(row.iter().map(|f| TextCell::toned(&f.text, f.tone)));
        }
        format!("{}\n{}\n", self.title, table.render(paint))
    }
}

impl Figure {
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// A number, shown in short.
    pub fn number(value: f64) -> Self {
        Self {
            text: short(value),
            value: Some(value),
            tone: Tone::Plain,
        }
    }

    /// A count, to the last digit.
    pub fn count(n: u64) -> Self {
        Self {
            text: n.to_string(),
            value: Some(n as f64),
            tone: Tone::Plain,
        }
    }

    pub fn percent(share: f64) -> Self {
        Self {
            text: format!("{:.0}%", share * 100.0),
            value: Some(share),
            tone: Tone::Plain,
        }
    }

    /// What ought to be nothing.
    pub fn alarming(self, tone: Tone) -> Self {
        match self.value {
            Some(value) if value > 0.0 => self.toned(tone),
            _ => self,
        }
    }

    pub fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// A number in at most six characters: `0`, `7.25`, `812`, `14.88M`, `1.3T`.
pub fn short(value: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")];
    let unit = UNITS.iter().find(|(from, _)| value >= *from * 0.9995);
    let (scaled, letter) = match unit {
        Some((1e4, letter)) => (value / 1e3, *letter),
        Some((by, letter)) => (value / by, *letter),
        None => (value, ""),
    };
    let digits = match scaled {
        s if s < 0.005 => 0,
        s if letter.is_empty() && s >= 99.5 => 0,
        s if s >= 99.95 => 1,
        s if letter.is_empty() && s >= 9.95 => 1,
        _ => 2,
    };
    // A whole number below a thousand is most likely a count.
    if letter.is_empty() && scaled.fract() == 0.0 {
        return format!("{scaled:.0}");
    }
    format!("{scaled:.digits$}{letter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.001, "0"),
            (7.25, "7.25"),
            (42.0, "42"),
            (42.26, "42.3"),
            (812.4, "812"),
            (9_990.0, "9990"),
            (9_999.0, "10.00k"),
            (14_880_952.0, "14.88M"),
            (148_809_524.0, "148.8M"),
            (12_345.0, "12.35k"),
            (999_990.0, "1.00M"),
            (1.3e12, "1.30T"),
        ] {
            assert_eq!(short(value), text, "{value}");
            assert!(text.len() <= 6);
        }
    }

    #[test]
    fn sorts_figures_down_and_text_up() {
        let mut sheet = Sheet::new("x", &[("name", 4), (">n", 4)]);
        for (name, n) in [("b", 1), ("c", 3), ("a", 2)] {
            sheet.row([Figure::text(name), Figure::count(n)]);
        }
        let names = |sheet: &Sheet| -> String {
            sheet.rows.iter().map(|row| row[0].text.as_str()).collect()
        };
        sheet.sort(1, false);
        assert_eq!(names(&sheet), "cab");
        sheet.sort(0, false);
        assert_eq!(names(&sheet), "abc");
        sheet.sort(0, true);
        assert_eq!(names(&sheet), "cba");
    }
}
