//! Tables of a page: what they say is in `tables`, how they look is here.

use super::escape::Escaped;

/// A table.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) caption: String,
    /// Of each column: its heading, and whether it has figures, which are set right.
    pub(super) columns: Vec<(String, bool)>,
    pub(super) rows: Vec<Row>,
    /// What has to be known to read it.
    pub(super) note: String,
}

/// A row.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    pub(super) tone: Tone,
    /// What has to be said about it, below it.
    pub(super) remark: String,
}

/// How a row is to be taken, which also stands in a cell of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
    Doubtful,
}

impl Tone {
    /// The class in the style sheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Doubtful => "doubtful",
        }
    }
}

impl Table {
    /// Headings that end in `#` are of columns with figures.
    pub(super) fn new(caption: &str, headings: &[&str]) -> Self {
        let column = |heading: &&str| match heading.strip_suffix('#') {
            Some(heading) => (heading.to_owned(), true),
            None => ((*heading).to_owned(), false),
        };
        Self {
            caption: caption.to_owned(),
            columns: headings.iter().map(column).collect(),
            ..Self::default()
        }
    }

    pub(super) fn note(mut self, note: &str) -> Self {
        self.note = note.to_owned();
        self
    }

    pub(super) fn row(&mut self, tone: Tone, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().collect();
        self.rows.push(Row {
            cells,
            tone,
            remark: String::new(),
        });
    }

    /// Nothing if it has no rows.
    pub(super) fn html(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let class = |figures: bool| if figures { " class=n" } else { "" };
        // The region can be scrolled by keyboard, too, which needs a name and a place in the order of focus.
        let mut html = format!(
            "<div class=scroll role=region tabindex=0 aria-label=\"{0}\"><table><caption>{0}</caption><thead><tr>",
            Escaped(&self.caption)
        );
        for (heading, figures) in &self.columns {
            html += &format!("<th scope=col{}>{}", class(*figures), Escaped(heading));
        }
        html += "<tbody>";
        for row in &self.rows {
            let start = match row.tone {
                Tone::Plain => "\n<tr>".to_owned(),
                tone => format!("\n<tr class={}>", tone.class()),
            };
            html += &start;
            for (cell, (_, figures)) in row.cells.iter().zip(&self.columns) {
                html += &format!("<td{}>{}", class(*figures), Escaped(cell));
            }
            if !row.remark.is_empty() {
                let width = self.columns.len();
                html += &format!(
                    "{start}<td class=why colspan={width}>{}",
                    Escaped(&row.remark)
                );
            }
        }
        html += "</table></div>\n";
        if !self.note.is_empty() {
            html += &format!("<p class=note>{}</p>\n", Escaped(&self.note));
        }
        html
    }
}
