//! Aligned tables of text, with colour where a person is looking.

use std::io::IsTerminal;

/// What a piece of text says, which a terminal shows as a colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Works, with a cost.
    Caution,
    /// Does not work.
    Bad,
    /// Less important than the rest.
    Faint,
}

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Plain text.
    Never,
    /// ANSI colours.
    Ansi,
}

impl Paint {
    /// Colours if standard output is a terminal that takes them and `NO_COLOR` does not forbid it.
    pub fn for_stdout() -> Self {
        Self::choose(
            std::io::stdout().is_terminal(),
            std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
        )
    }

    fn choose(terminal: bool, no_color: bool, dumb: bool) -> Self {
        if terminal && !no_color && !dumb {
            Self::Ansi
        } else {
            Self::Never
        }
    }

    /// The text in its tone.
    pub fn tone(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Caution => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
        };
        match self {
            Self::Never => text.to_owned(),
            Self::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// One field of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A field in a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Rows under a header, in columns as wide as their widest field.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table. A name that begins with `>` makes its column align to the right.
    pub fn new(header: &[&str]) -> Self {
        Self {
            header: header
                .iter()
                .map(|name| name.trim_start_matches('>').to_owned())
                .collect(),
            right: header.iter().map(|name| name.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; a missing field is empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = cells.into_iter().collect();
        row.resize(self.header.len(), Cell::default());
        self.rows.push(row);
    }

    /// The table as text, each line ending in a newline and none in blanks.
    pub fn render(&self, paint: Paint) -> String {
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                self.rows
                    .iter()
                    .map(|row| row[column].text.chars().count())
                    .chain([self.header[column].len()])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let header: Vec<Cell> = self
            .header
            .iter()
            .map(|name| Cell::toned(name.as_str(), Tone::Faint))
            .collect();
        let mut text = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            // Blanks wait until something follows them, so that no line ends in any.
            let mut blanks = 0;
            for (column, cell) in row.iter().enumerate() {
                let missing = widths[column] - cell.text.chars().count();
                let (before, after) = if self.right[column] {
                    (missing, 0)
                } else {
                    (0, missing)
                };
                if !cell.text.is_empty() {
                    text.push_str(&" ".repeat(blanks + before));
                    text.push_str(&paint.tone(&cell.text, cell.tone));
                    blanks = after + 2;
                } else {
                    blanks += missing + 2;
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_to_the_widest_field_and_leaves_no_blanks_at_the_end() {
        let mut table = Table::new(&["name", ">queues", "driver"]);
        table.row(["eth0".into(), "16".into(), "ice".into()]);
        table.row(["enp59s0f1".into(), Cell::default(), "virtio_net".into()]);
        table.row(["lo".into(), "1".into()]);
        assert_eq!(
            table.render(Paint::Never),
            "name       queues  driver\n\
             eth0           16  ice\n\
             enp59s0f1          virtio_net\n\
             lo              1\n"
        );
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let mut table = Table::new(&["state", "name"]);
        table.row([Cell::toned("ok", Tone::Good), "a".into()]);
        let text = table.render(Paint::Ansi);
        assert!(text.contains("\x1b[32mok\x1b[0m     a"), "{text:?}");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert_eq!(Paint::choose(true, false, false), Paint::Ansi);
        assert_eq!(Paint::choose(false, false, false), Paint::Never);
        assert_eq!(Paint::choose(true, true, false), Paint::Never);
        assert_eq!(Paint::choose(true, false, true), Paint::Never);
    }
}
