//! What is on the screen, and what keys do to it.

use std::collections::VecDeque;

use linecard::control::Status;
use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Sparkline, Table};

use super::figures::{Between, Sheets, headline};
use super::sheet::{Figure, Sheet, short};
use crate::cmd::table::Tone;

/// How long the sparklines look back.
const MINUTE_S: f64 = 60.0;

const TABS: [&str; 6] = [
    "overview",
    "queues",
    "drops",
    "rules",
    "protocols",
    "streams",
];

const HELP: &str = "\
tab, left, right, 1-6   choose a page
s                       sort by the next column
r                       the other way round
p or blank              pause, and go on
h or ?                  this
q, Esc or Ctrl-C        leave

L1 bit: with preamble and gap, as of link speed
L2 bit: with FCS           cycles: for a frame
busy: time in turns that found frames
awake: time not asleep     mail: handoff ring
wait: frames that a transmit queue had no room for";

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Then {
    Stay,
    Leave,
}

/// Everything that is shown.
#[derive(Debug, Default)]
pub struct Screen {
    last: Option<Status>,
    sheets: Sheets,
    head: String,
    /// Time, frames received and sent each second, for a minute.
    history: VecDeque<(f64, f64, f64)>,
    tab: usize,
    /// The column to sort by, if not as they come.
    sort: Option<usize>,
    reverse: bool,
    paused: bool,
    help: bool,
    /// Why there is nothing more to see.
    ended: Option<String>,
}

impl Screen {
    /// Takes a new status; while it is paused, only the sparklines go on.
    pub fn update(&mut self, status: Status) {
        let between = Between {
            before: self.last.as_ref(),
            now: &status,
        };
        if between.before.is_some() {
            let (rx, tx) = between.total_pps();
            let now = status.report.duration_s;
            self.history.push_back((now, rx, tx));
            while self.history.front().is_some_and(|h| now - h.0 > MINUTE_S) {
                self.history.pop_front();
            }
        }
        if !self.paused {
            self.sheets = Sheets::new(between);
            self.head = headline(&status);
            self.sort_sheets();
        }
        self.last = Some(status);
    }

    /// The engine is gone: what was last is still shown.
    pub fn end(&mut self, why: String) {
        self.ended = Some(why);
    }

    /// Carries out a key.
    pub fn press(&mut self, key: KeyEvent) -> Then {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => return Then::Leave,
            KeyCode::Char('h' | '?') => self.help = !self.help,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Char('q') | KeyCode::Esc => return Then::Leave,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Tab | KeyCode::Right => self.turn_to((self.tab + 1) % TABS.len()),
            KeyCode::BackTab | KeyCode::Left => {
                self.turn_to((self.tab + TABS.len() - 1) % TABS.len())
            }
            KeyCode::Char(digit @ '1'..='6') => self.turn_to(digit as usize - '1' as usize),
            KeyCode::Char('s') => {
                let columns = self.main_sheet().columns.len();
                let next = self.sort.map_or(0, |column| column + 1);
                self.sort = (next < columns).then_some(next);
                self.sort_sheets();
            }
            KeyCode::Char('r') => {
                self.reverse = !self.reverse;
                self.sort_sheets();
            }
            _ => {}
        }
        Then::Stay
    }

    fn turn_to(&mut self, tab: usize) {
        (self.tab, self.sort, self.reverse) = (tab, None, false);
    }

    /// The one that is sorted.
    fn main_sheet(&self) -> &Sheet {
        let s = &self.sheets;
        [
            &s.ports,
            &s.queues,
            &s.drops,
            &s.rules,
            &s.protocols,
            &s.streams,
        ][self.tab]
    }

    fn sort_sheets(&mut self) {
        let Some(column) = self.sort else { return };
        let (s, reverse) = (&mut self.sheets, self.reverse);
        let sheets = [
            &mut s.ports,
            &mut s.queues,
            &mut s.drops,
            &mut s.rules,
            &mut s.protocols,
            &mut s.streams,
        ];
        sheets[self.tab].sort(column, reverse);
    }

    /// Draws it, however large the terminal is by now.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let [head, tabs, body, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Min(0),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Line::from(self.head.as_str()).bold(), head);
        frame.render_widget(self.tabs(), tabs);
        if self.last.is_none() {
            frame.render_widget(Paragraph::new("waiting for figures"), body);
        } else if self.tab == 0 {
            self.draw_overview(frame, body);
        } else {
            draw_sheet(frame, body, self.main_sheet(), self.sort);
        }
        frame.render_widget(self.foot(), foot);
        if self.help {
            let area = middle(frame.area(), 58, HELP.lines().count() as u16 + 2);
            frame.render_widget(Clear, area);
            let help = Paragraph::new(HELP).block(Block::bordered().title(" keys and words "));
            frame.render_widget(help, area);
        }
    }

    fn tabs(&self) -> Line<'static> {
        let mut spans = Vec::new();
        for (index, name) in TABS.into_iter().enumerate() {
            let style = match index == self.tab {
                true => Style::new().add_modifier(Modifier::REVERSED),
                false => Style::new(),
            };
            spans.push(Span::styled(format!(" {} {name} ", index + 1), style));
        }
        Line::from(spans)
    }

    fn foot(&self) -> Line<'_> {
        if let Some(why) = &self.ended {
            return Line::styled(format!("{why}; q leaves"), Color::Red);
        }
        let keys = "q quit  tab page  s sort  r reverse  p pause  h help";
        match self.paused {
            true => Line::styled(format!("PAUSED  {keys}"), Color::Yellow),
            false => Line::styled(keys, Modifier::DIM),
        }
    }

    fn draw_overview(&self, frame: &mut Frame<'_>, area: Rect) {
        let s = &self.sheets;
        let height = |sheet: &Sheet| sheet.rows.len() as u16 + 2;
        let [rx, tx, ports, workers, pools] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(2),
            Constraint::Length(height(&s.ports)),
            Constraint::Length(height(&s.workers)),
            Constraint::Length(height(&s.pools)),
        ])
        .areas(area);
        self.draw_minute(frame, rx, "rx", |h| h.1);
        self.draw_minute(frame, tx, "tx", |h| h.2);
        draw_sheet(frame, ports, &s.ports, self.sort);
        draw_sheet(frame, workers, &s.workers, None);
        draw_sheet(frame, pools, &s.pools, None);
    }

    /// The last minute, as wide as there is room: the present is at the right.
    fn draw_minute(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        name: &str,
        of: fn(&(f64, f64, f64)) -> f64,
    ) {
        let [label, line] =
            Layout::horizontal([Constraint::Length(14), Constraint::Min(0)]).areas(area);
        let now = self.history.back().map_or(0.0, of);
        let peak = self.history.iter().map(of).fold(0.0, f64::max);
        let text = format!("{name} {:>6} pps\npeak {}", short(now), short(peak));
        frame.render_widget(Paragraph::new(text), label);
        let bars = self.minute(usize::from(line.width), of);
        // Parts of the peak, so that no rate is too large to be drawn.
        let bars = bars.iter().map(|pps| (pps / peak.max(1.0) * 1000.0) as u64);
        let sparkline = Sparkline::default().data(bars).max(1000);
        frame.render_widget(sparkline.style(Color::Cyan), line);
    }

    /// A bar for each equal part of the last minute: the largest rate in it.
    fn minute(&self, width: usize, of: fn(&(f64, f64, f64)) -> f64) -> Vec<f64> {
        let mut bars = vec![0.0; width];
        let Some(last) = self.history.back().filter(|_| width > 0) else {
            return bars;
        };
        // A snapshot stands for the time since the one before.
        let mut until = width;
        for entry in self.history.iter().rev() {
            let age = (last.0 - entry.0) / MINUTE_S;
            let place = width.saturating_sub(1 + (age * width as f64) as usize);
            for bar in &mut bars[place..until.max(place + 1).min(width)] {
                *bar = f64::max(*bar, of(entry));
            }
            until = place;
        }
        bars
    }
}

/// A title, the columns' names, the rows; as many columns as there is room for.
fn draw_sheet(frame: &mut Frame<'_>, area: Rect, sheet: &Sheet, sorted: Option<usize>) {
    if sheet.columns.is_empty() || area.height == 0 {
        return;
    }
    let head = sheet.columns.iter().enumerate().map(|(index, column)| {
        let style = match sorted == Some(index) {
            true => Style::new().add_modifier(Modifier::UNDERLINED),
            false => Style::new().add_modifier(Modifier::DIM),
        };
        let line = Line::styled(column.name, style);
        Cell::from(line.alignment(side(column.right)))
    });
    let rows = sheet.rows.iter().map(|row| {
        let cells = row.iter().zip(&sheet.columns);
        Row::new(cells.map(|(figure, column)| {
            let line = Line::styled(figure.text.as_str(), style(figure));
            Cell::from(line.alignment(side(column.right)))
        }))
    });
    let title = match sheet.rows.len() {
        0 => format!("{}: none", sheet.title),
        n if n + 2 > usize::from(area.height) => format!("{} ({n})", sheet.title),
        _ => sheet.title.to_owned(),
    };
    let widths = sheet.columns.iter().map(|c| Constraint::Length(c.width));
    let table = Table::new(rows, widths)
        .header(Row::new(head))
        .column_spacing(1)
        .block(Block::new().title(Line::from(title).bold()));
    frame.render_widget(table, area);
}

fn side(right: bool) -> Alignment {
    if right {
        Alignment::Right
    } else {
        Alignment::Left
    }
}

fn style(figure: &Figure) -> Style {
    match figure.tone {
        Tone::Plain => Style::new(),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Caution => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Tone::Faint => Style::new().add_modifier(Modifier::DIM),
    }
}

fn middle(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    }
}

#[cfg(test)]
mod tests;
