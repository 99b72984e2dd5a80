//! Pictures as SVG. What is drawn has classes, not colours: those are in the style sheet, for light, dark and paper.

use super::axis::Axis;
use super::escape::Escaped;

/// The palette of the style sheet has so many colours; then they come again, with other shapes.
const COLOURS: usize = 7;

const WIDTH: f64 = 620.0;
const TOP: f64 = 26.0;
const RIGHT: f64 = 28.0;
const BOTTOM: f64 = 44.0;

/// A picture as high as two others has their place.
const TALL: f64 = 500.0;

/// How wide a character of the axes is, about: text is set by the browser, which knows it exactly.
const CHARACTER: f64 = 6.4;

/// A picture.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    /// What can be seen in it, for those who cannot.
    pub(super) description: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Names of the series, which have the styles 0, 1, …; the legend.
    pub(super) series: Vec<String>,
    pub(super) marks: Vec<Mark>,
    pub(super) height: f64,
}

/// Something in a picture. Styles are numbers of series.
#[derive(Debug)]
pub(super) enum Mark {
    /// A line through points.
    Line {
        style: usize,
        points: Vec<(f64, f64)>,
    },
    /// A point with the shape of its series.
    Point {
        style: usize,
        at: (f64, f64),
        tip: String,
    },
    /// A bar from 0 up.
    Bar {
        style: usize,
        /// Its left and right side.
        sides: (f64, f64),
        y: f64,
        /// Written above it.
        label: String,
        tip: String,
    },
    /// A confidence interval of a bar or a point, up or across.
    Interval { from: (f64, f64), to: (f64, f64) },
    /// A limit: a dashed line.
    Limit {
        from: (f64, f64),
        to: (f64, f64),
        tip: String,
    },
    /// An area to be within.
    Band { low: f64, high: f64, tip: String },
    /// A trial that does not count.
    Refused { at: (f64, f64), tip: String },
    /// A point whose class says how to take it, with its interval across.
    Judged {
        class: &'static str,
        at: (f64, f64),
        between: Option<(f64, f64)>,
        tip: String,
    },
}

impl Chart {
    pub(super) fn new(title: &str, description: &str, x: Axis, y: Axis) -> Self {
        Self {
            title: title.to_owned(),
            description: description.to_owned(),
            x,
            y,
            series: Vec::new(),
            marks: Vec::new(),
            height: 330.0,
        }
    }

    /// The picture with its heading and legend. The name has to be different for each picture of a page.
    pub(super) fn html(&self, name: &str) -> String {
        let left = self.left();
        let frame = Frame {
            left,
            width: WIDTH - left - RIGHT,
            height: self.height - TOP - BOTTOM,
            chart: self,
        };
        let mut svg = frame.axes();
        // What is behind comes first: areas and bars, then limits and lines, then what can be pointed at.
        for layer in 0..3 {
            for mark in self.marks.iter().filter(|mark| mark.layer() == layer) {
                svg += &frame.mark(mark);
            }
        }
        format!(
            "<figure{}>\n<figcaption id={name}-t>{}</figcaption>\n{}<svg viewBox=\"0 0 {WIDTH} {}\" role=img aria-labelledby={name}-t aria-describedby={name}-d>\
            <desc id={name}-d>{}</desc>\n{svg}</svg>\n</figure>\n",
            if self.height > TALL {
                " class=tall"
            } else {
                ""
            },
            Escaped(&self.title),
            self.legend(),
            self.height,
            Escaped(&self.description),
        )
    }

    /// Room for the values beside the axis.
    fn left(&self) -> f64 {
        let longest = self
            .y
            .ticks
            .iter()
            .map(|(_, text)| text.chars().count())
            .max();
        (longest.unwrap_or(0) as f64 * CHARACTER + 18.0).clamp(40.0, WIDTH / 2.0)
    }

    fn legend(&self) -> String {
        if self.series.len() < 2 {
            return String::new();
        }
        let items = self.series.iter().enumerate().map(|(style, name)| {
            format!(
                "<li><svg viewBox=\"0 0 14 14\" aria-hidden=true>{}</svg>{}",
                shape(style, 7.0, 7.0, 5.0, ""),
                Escaped(name)
            )
        });
        format!("<ul class=legend>{}</ul>\n", items.collect::<String>())
    }
}

impl Mark {
    fn layer(&self) -> u8 {
        match self {
            Self::Bar { .. } | Self::Band { .. } => 0,
            Self::Line { .. } | Self::Limit { .. } | Self::Interval { .. } => 1,
            Self::Point { .. } | Self::Refused { .. } | Self::Judged { .. } => 2,
        }
    }
}

/// A chart and where its axes are.
struct Frame<'a> {
    left: f64,
    width: f64,
    height: f64,
    chart: &'a Chart,
}

impl Frame<'_> {
    fn x(&self, value: f64) -> f64 {
        self.left + self.width * self.chart.x.place(value)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + self.height * (1.0 - self.chart.y.place(value))
    }

    fn axes(&self) -> String {
        let (left, right) = (self.left, self.left + self.width);
        let (top, bottom) = (TOP, TOP + self.height);
        let mut svg = "<g class=grid>".to_owned();
        for (value, _) in &self.chart.y.ticks {
            let y = self.y(*value);
            svg += &format!("<path d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
        }
        for (value, _) in &self.chart.x.ticks {
            let x = self.x(*value);
            svg += &format!("<path d=\"M{x:.1} {bottom:.1}v4\"/>");
        }
        svg += &format!(
            "<path class=axis d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\"/></g>\n<g class=ticks>"
        );
        let mut free = f64::INFINITY;
        for (value, text) in &self.chart.y.ticks {
            let y = self.y(*value);
            // Those of the axis with decades get narrow; a value without room is left out.
            if free - y < 12.0 && free - y > -12.0 {
                continue;
            }
            free = y;
            svg += &format!(
                "<text class=e x={:.1} y={:.1}>{}</text>",
                left - 8.0,
                y + 4.0,
                Escaped(text)
            );
        }
        let mut used: Vec<(f64, f64)> = Vec::new();
        for (value, text) in &self.chart.x.ticks {
            let x = self.x(*value);
            let half = text.chars().count() as f64 * CHARACTER / 2.0 + 3.0;
            if used.iter().any(|(a, b)| x - half < *b && x + half > *a) {
                continue;
            }
            used.push((x - half, x + half));
            svg += &format!(
                "<text class=m x={x:.1} y={:.1}>{}</text>",
                bottom + 18.0,
                Escaped(text)
            );
        }
        svg += &format!(
            "</g>\n<g class=labels><text x={:.1} y=14>{}</text><text class=e x={right:.1} y={:.1}>{}</text></g>\n",
            if left > 100.0 { left } else { 4.0 },
            Escaped(&self.chart.y.label),
            self.chart.height - 6.0,
            Escaped(&self.chart.x.label),
        );
        svg
    }

    fn mark(&self, mark: &Mark) -> String {
        let place = |(x, y): (f64, f64)| (self.x(x), self.y(y));
        match mark {
            Mark::Line { style, points } => {
                let points = points.iter().map(|point| {
                    let (x, y) = place(*point);
                    format!("{x:.1},{y:.1}")
                });
                let points: Vec<_> = points.collect();
                format!(
                    "<polyline class=\"line {}\" points=\"{}\"/>\n",
                    colour(*style),
                    points.join(" ")
                )
            }
            Mark::Point { style, at, tip } => {
                let (x, y) = place(*at);
                shape(*style, x, y, 4.2, tip)
            }
            Mark::Bar {
                style,
                sides,
                y,
                label,
                tip,
            } => self.bar(*style, *sides, *y, label, tip),
            Mark::Interval { from, to } => {
                let ((x, y), (to_x, to_y)) = (place(*from), place(*to));
                let cap = if (x - to_x).abs() < 0.1 {
                    "h8m-8 0"
                } else {
                    "v8m0 -8"
                };
                let back = if (x - to_x).abs() < 0.1 {
                    "m-4 0"
                } else {
                    "m0 -4"
                };
                format!(
                    "<path class=interval d=\"M{x:.1} {y:.1}{back}{cap}M{x:.1} {y:.1}L{to_x:.1} {to_y:.1}{back}{cap}\"/>\n"
                )
            }
            Mark::Limit { from, to, tip } => {
                let ((x, y), (to_x, to_y)) = (place(*from), place(*to));
                format!(
                    "<path class=limit d=\"M{x:.1} {y:.1}L{to_x:.1} {to_y:.1}\">{}</path>\n",
                    title(tip)
                )
            }
            Mark::Band { low, high, tip } => {
                let (top, bottom) = (self.y(*high), self.y(*low));
                format!(
                    "<rect class=band x={:.1} y={top:.1} width={:.1} height={:.1}>{}</rect>\n",
                    self.left,
                    self.width,
                    bottom - top,
                    title(tip)
                )
            }
            Mark::Refused { at, tip } => {
                let (x, y) = place(*at);
                format!(
                    "<path class=refused d=\"M{x:.1} {y:.1}m-5 -5l10 10m0 -10l-10 10\">{}</path>\n",
                    title(tip)
                )
            }
            Mark::Judged {
                class,
                at,
                between,
                tip,
            } => {
                let (x, y) = place(*at);
                // The worse ones are square, for those who do not see the colours.
                let dot = match *class {
                    "bad" => format!(
                        "<rect x={:.1} y={:.1} width=10 height=10 />",
                        x - 5.0,
                        y - 5.0
                    ),
                    _ => format!("<circle cx={x:.1} cy={y:.1} r=5 />"),
                };
                let across = between.map_or(String::new(), |(low, high)| {
                    format!(
                        "<path d=\"M{:.1} {y:.1}H{:.1}\"/>",
                        self.x(low),
                        self.x(high)
                    )
                });
                format!(
                    "<g class=\"judged {class}\">{}{across}{dot}</g>\n",
                    title(tip)
                )
            }
        }
    }

    fn bar(&self, style: usize, sides: (f64, f64), y: f64, label: &str, tip: &str) -> String {
        let (left, right) = (self.x(sides.0) + 1.0, self.x(sides.1) - 1.0);
        let (top, bottom) = (self.y(y), TOP + self.height);
        let label = match label {
            "" => String::new(),
            label => format!(
                "<text class=\"m value\" x={:.1} y={:.1}>{}</text>",
                (left + right) / 2.0,
                top - 7.0,
                Escaped(label)
            ),
        };
        format!(
            "<rect class=\"bar {}\" x={left:.1} y={top:.1} width={:.1} height={:.1} rx=2>{}</rect>{label}\n",
            colour(style),
            (right - left).max(1.0),
            (bottom - top).max(0.5),
            title(tip),
        )
    }
}

fn colour(style: usize) -> String {
    format!("c{}", style % COLOURS)
}

fn title(tip: &str) -> String {
    if tip.is_empty() {
        String::new()
    } else {
        format!("<title>{}</title>", Escaped(tip))
    }
}

/// The mark of a series: told from the others without colours, too.
fn shape(style: usize, x: f64, y: f64, r: f64, tip: &str) -> String {
    let path = match (style + style / COLOURS) % 7 {
        0 => {
            return format!(
                "<circle class=\"point {}\" cx={x:.1} cy={y:.1} r={r}>{}</circle>\n",
                colour(style),
                title(tip)
            );
        }
        1 => format!("m-{r} -{r}h{w}v{w}h-{w}z", w = 2.0 * r),
        2 => format!("m0 -{r}l{r} {w:.1}h-{t}z", w = 1.8 * r, t = 2.0 * r),
        3 => format!(
            "m0 -{d:.1}l{d:.1} {d:.1}l-{d:.1} {d:.1}l-{d:.1} -{d:.1}z",
            d = 1.3 * r
        ),
        4 => format!("m0 {r}l{r} -{w:.1}h-{t}z", w = 1.8 * r, t = 2.0 * r),
        5 => format!(
            "m-1.5 -{r}h3v{a:.1}h{a:.1}v3h-{a:.1}v{a:.1}h-3v-{a:.1}h-{a:.1}v-3h{a:.1}z",
            a = r - 1.5
        ),
        _ => format!("m-{r} -{h:.1}h{w}v{r}h-{w}z", h = r / 2.0, w = 2.0 * r),
    };
    format!(
        "<path class=\"point {}\" d=\"M{x:.1} {y:.1}{path}\">{}</path>\n",
        colour(style),
        title(tip)
    )
}
