//! The picture of a matrix: throughput over buffer size, one line per method, as SVG.
//!
//! Draws the first matrix of a document and says so where there are more. Readable in 800 pixels of width, without
//! telling colours apart: each method has its own marker as well.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thiserror::Error;

use super::advice::{interval, median, streams};
use super::format::{escape, size};
use super::grid::{Grid, Grids};
use super::schema::Document;

/// Width and height, in pixels.
const SIZE_PX: (u32, u32) = (800, 480);
/// Height of the title with its caption, and of the legend, in pixels.
const TITLE_PX: u32 = 66;
const LEGEND_PX: i32 = 38;
/// Lines that can be told apart in one picture.
const METHODS_MAX: usize = 8;
/// Labels that fit on the axis of sizes.
const SIZE_LABELS_MAX: usize = 12;
/// Longest foreign text in a picture, in characters.
const TEXT_CHARS_MAX: usize = 48;
/// One Gbit/s in bytes per second.
const GBIT: f64 = 1.25e8;

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(34, 34, 34);
const SUBDUED: RGBColor = RGBColor(96, 96, 96);
const GRID: RGBColor = RGBColor(228, 228, 228);

/// Okabe and Ito's colours, which the common kinds of colour blindness tell apart.
const PALETTE: [RGBColor; METHODS_MAX] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(120, 120, 120),
];

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// Why there is no picture.
#[derive(Debug, Error)]
pub enum ChartError {
    /// No cell of the document has a number.
    #[error("nothing to draw: no setting of this run has a number")]
    Empty,
    /// The drawing library refused.
    #[error("cannot draw the picture: {0}")]
    Draw(String),
}

/// The first matrix of the document that has a number, as an SVG document of 800 × 480 pixels.
pub fn svg(doc: &Document) -> Result<String, ChartError> {
    let grids = Grids::of(&doc.cells);
    let drawable = |grid: &&Grid| grid.methods.iter().any(|method| !Line::of(grid, method).points.is_empty());
    let grid = grids.grids.iter().find(drawable).ok_or(ChartError::Empty)?;
    let mut lines: Vec<Line> = grid.methods.iter().map(|method| Line::of(grid, method)).collect();
    lines.retain(|line| !line.points.is_empty());
    let left_out = lines.len().saturating_sub(METHODS_MAX);
    lines.truncate(METHODS_MAX);
    let caption = caption(doc, grid, grids.grids.len(), left_out);
    let mut text = String::new();
    draw(&mut text, &title(doc, grid), &caption, &lines).map_err(ChartError::Draw)?;
    Ok(text)
}

/// One method.
struct Line {
    method: String,
    points: Vec<Point>,
}

/// One cell: where it stands and its whisker, in Gbit/s over the logarithm of the size in bytes.
#[derive(Clone, Copy)]
struct Point {
    log2_size: f64,
    gbit: f64,
    low: f64,
    high: f64,
}

impl Line {
    fn of(grid: &Grid, method: &str) -> Self {
        let point = |bytes: &u64| {
            let (_, cell) = grid.cell(method, *bytes)?;
            let gbit = median(cell).filter(|median| *median >= 0.0)? / GBIT;
            let interval = interval(cell.throughput.as_ref()?);
            let end = |end: f64| {
                if end.is_finite() && end >= 0.0 { end / GBIT } else { gbit }
            };
            Some(Point {
                log2_size: (*bytes).max(1).ilog2() as f64 + fraction(*bytes),
                gbit,
                low: end(interval.low),
                high: end(interval.high),
            })
        };
        Self { method: short(method), points: grid.sizes.iter().filter_map(point).collect() }
    }
}

/// What the logarithm of a size has beyond its whole part: exactly 0 for powers of two.
fn fraction(bytes: u64) -> f64 {
    let bytes = bytes.max(1);
    (bytes as f64 / (1u64 << bytes.ilog2()) as f64).log2()
}

fn title(doc: &Document, grid: &Grid) -> String {
    let peer = match doc.settings.peer.as_str() {
        "" => String::new(),
        peer => format!(" · {}", short(peer)),
    };
    let tls = if grid.tls { ", in TLS" } else { "" };
    let (direction, receive) = (short(grid.direction), short(grid.receive));
    format!("linerate{peer} · {direction}, {}, taken by {receive}{tls}", streams(grid.streams))
}

fn caption(doc: &Document, grid: &Grid, matrices: usize, methods_left_out: usize) -> String {
    let rounds = grid.all().filter_map(|(_, cell)| cell.throughput.as_ref());
    let rounds = rounds.map(|throughput| throughput.rounds_bytes_per_s.len()).max().unwrap_or(0);
    let mut parts = vec![match rounds {
        0 | 1 => "one round: not ranked".into(),
        rounds => format!("median of {rounds} rounds with its interval"),
    }];
    let mut labels: Vec<String> = Vec::new();
    for name in grid.all().flat_map(|(_, cell)| &cell.labels).map(|name| short(name)) {
        if labels.len() < 5 && !labels.contains(&name) {
            labels.push(name);
        }
    }
    parts.extend((!labels.is_empty()).then(|| labels.join(", ")));
    parts.extend((!doc.complete).then(|| "INCOMPLETE run".into()));
    parts.extend((matrices > 1).then(|| format!("one of {matrices} matrices of the run")));
    parts.extend((methods_left_out > 0).then(|| format!("{methods_left_out} methods left out")));
    parts.join(" · ")
}

fn draw(text: &mut String, title: &str, caption: &str, lines: &[Line]) -> Result<(), String> {
    let root = SVGBackend::with_string(text, SIZE_PX).into_drawing_area();
    let inner = || -> Result<(), DrawingAreaErrorKind<_>> {
        root.fill(&WHITE)?;
        let (head, below) = root.split_vertically(TITLE_PX);
        let (body, legend) = below.split_vertically(SIZE_PX.1 as i32 - TITLE_PX as i32 - LEGEND_PX);
        head.draw(&Text::new(title.to_owned(), (24, 16), (FONT, 20).into_font().color(&INK)))?;
        head.draw(&Text::new(caption.to_owned(), (24, 44), (FONT, 13).into_font().color(&SUBDUED)))?;
        draw_plot(&body, lines)?;
        draw_legend(&legend, lines)?;
        root.present()
    };
    inner().map_err(|error| error.to_string())
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_plot<'a>(area: &Canvas<'a>, lines: &[Line]) -> Drawn<'a> {
    let (x, y) = (x_axis(lines), y_axis(lines));
    let mut chart = ChartBuilder::on(area)
        .margin_left(8)
        .margin_right(24)
        .x_label_area_size(42)
        .y_label_area_size(58)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(SUBDUED)
        .label_style((FONT, 13).into_font().color(&INK))
        .axis_desc_style((FONT, 13).into_font().color(&SUBDUED))
        .x_desc("bytes asked of one system call")
        .y_desc("Gbit/s")
        .x_label_formatter(&|log2_size| size(log2_size.exp2().round() as u64))
        .y_label_formatter(&|gbit| tick(*gbit))
        .draw()?;
    for (index, line) in lines.iter().enumerate() {
        draw_line(&mut chart, index, line)?;
    }
    Ok(())
}

fn draw_line<'a>(chart: &mut Plot<'_, 'a>, index: usize, line: &Line) -> Drawn<'a> {
    let colour = PALETTE[index % PALETTE.len()];
    let path: Vec<(f64, f64)> = line.points.iter().map(|point| (point.log2_size, point.gbit)).collect();
    let area = chart.plotting_area();
    area.draw(&PathElement::new(path, colour.stroke_width(2)))?;
    for point in &line.points {
        let at = |gbit: f64| (point.log2_size, gbit);
        area.draw(&PathElement::new(vec![at(point.low), at(point.high)], colour.stroke_width(1)))?;
        for end in [point.low, point.high] {
            let cap = EmptyElement::at(at(end)) + PathElement::new(vec![(-4, 0), (4, 0)], colour.stroke_width(1));
            area.draw(&cap)?;
        }
        area.draw(&(EmptyElement::at(at(point.gbit)) + marker(index)))?;
    }
    Ok(())
}

fn draw_legend<'a>(area: &Canvas<'a>, lines: &[Line]) -> Drawn<'a> {
    let text = (FONT, 14).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    let each = ((SIZE_PX.0 as i32 - 90) / lines.len().max(1) as i32).min(130);
    for (index, line) in lines.iter().enumerate() {
        let left = 66 + each * index as i32;
        let colour = PALETTE[index % PALETTE.len()];
        area.draw(&PathElement::new(vec![(left, 16), (left + 26, 16)], colour.stroke_width(2)))?;
        area.draw(&(EmptyElement::at((left + 13, 16)) + marker(index)))?;
        area.draw(&Text::new(line.method.clone(), (left + 32, 16), text.clone()))?;
    }
    Ok(())
}

/// The marker of a line around its point: circle, square, triangles, diamond, bar.
fn marker(index: usize) -> Polygon<(i32, i32)> {
    let colour = PALETTE[index % PALETTE.len()].filled();
    let corners: &[(i32, i32)] = match index % METHODS_MAX {
        0 => {
            &[(-5, 0), (-4, -3), (-3, -4), (0, -5), (3, -4), (4, -3), (5, 0), (4, 3), (3, 4), (0, 5), (-3, 4), (-4, 3)]
        }
        1 => &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
        2 => &[(-5, 4), (0, -5), (5, 4)],
        3 => &[(-6, 0), (0, -6), (6, 0), (0, 6)],
        4 => &[(-5, -4), (5, -4), (0, 5)],
        5 => &[(-4, -5), (5, 0), (-4, 5)],
        6 => &[(4, -5), (4, 5), (-5, 0)],
        _ => &[(-6, -2), (6, -2), (6, 2), (-6, 2)],
    };
    Polygon::new(corners.to_vec(), colour)
}

/// An axis whose ticks are given: they stand where something was measured, not where a rule puts them.
struct Axis {
    scale: RangedCoordf64,
    ticks: Vec<f64>,
}

impl Axis {
    fn new(range: Range<f64>, ticks: Vec<f64>) -> Self {
        Self { scale: range.into(), ticks }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.scale.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.scale.range()
    }
}

/// Sizes on a logarithmic axis: those measured are labelled, as long as the labels keep apart.
fn x_axis(lines: &[Line]) -> Axis {
    let mut sizes: Vec<f64> = lines.iter().flat_map(|line| &line.points).map(|point| point.log2_size).collect();
    sizes.sort_by(f64::total_cmp);
    let (first, last) = (sizes.first().copied().unwrap_or(0.0), sizes.last().copied().unwrap_or(0.0));
    let apart = (last - first) / SIZE_LABELS_MAX as f64;
    let mut labelled: Vec<f64> = Vec::new();
    for size in sizes {
        if labelled.last().is_none_or(|before| size - before > apart) {
            labelled.push(size);
        }
    }
    let margin = ((last - first) * 0.04).max(0.25);
    Axis::new(first - margin..last + margin, labelled)
}

/// From zero to somewhat above the highest whisker, with round figures at the ticks.
fn y_axis(lines: &[Line]) -> Axis {
    let ends = lines.iter().flat_map(|line| &line.points).map(|point| point.high.max(point.gbit));
    let top = ends.fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.06 } else { 1.0 };
    let step = round_step(top / 8.0);
    let ticks = (0..=12).map(|index| f64::from(index) * step).take_while(|tick| *tick <= top);
    Axis::new(0.0..top, ticks.collect())
}

/// The least of 1, 2, 5, 10, … (times any power of ten) that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= least).unwrap_or(least)
}

fn tick(gbit: f64) -> String {
    if gbit == 0.0 || (0.001..1e6).contains(&gbit) {
        // Twelve steps of a round figure: more digits are rounding.
        format!("{}", (gbit * 1e6).round() / 1e6)
    } else {
        format!("{gbit:.0e}")
    }
}

fn short(text: &str) -> String {
    escape(text).chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{cell, document, not_read};
    use super::*;

    #[test]
    fn draws_every_method_that_has_a_number() {
        let picture = svg(&document()).unwrap();
        assert!(picture.starts_with("<svg width=\"800\" height=\"480\""));
        for text in [
            "linerate · 192.0.2.7:5290 · send, 1 stream, taken by read",
            "loopback, hot-source",
            "\nwrite\n",
            "\nsendfile\n",
            "\n64KiB\n",
        ] {
            assert!(picture.contains(text), "no {text:?} in the picture");
        }
        assert!(!picture.contains("splice"));
    }

    #[test]
    fn says_that_there_are_more_matrices() {
        let mut doc = document();
        doc.cells.push(not_read(cell("write", 1 << 20, 9.0, 0.1, 1.0)));
        assert!(svg(&doc).unwrap().contains("one of 2 matrices of the run"));
    }

    #[test]
    fn nothing_measured_is_nothing_to_draw() {
        let mut doc = document();
        doc.cells.retain(|cell| cell.throughput.is_none());
        assert!(matches!(svg(&doc), Err(ChartError::Empty)));
    }

    #[test]
    fn hostile_figures_and_names_are_drawn_or_left_out() {
        for rate in [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN_POSITIVE, 0.0, -1.0, 1.0] {
            let mut doc = document();
            for cell in &mut doc.cells {
                cell.method = "</text><script>\x1b".into();
                cell.size_bytes = u64::MAX;
                if let Some(throughput) = &mut cell.throughput {
                    throughput.median_bytes_per_s = rate;
                    throughput.high_bytes_per_s = f64::NAN;
                }
            }
            if let Ok(picture) = svg(&doc) {
                assert!(!picture.contains("<script>") && !picture.contains('\x1b'));
            }
        }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!([0.3, 1.0, 11.5, 40.0].map(round_step), [0.5, 1.0, 20.0, 50.0]);
        assert_eq!([0.0, 0.1 + 0.2, 60.0, 1e9].map(tick), ["0", "0.3", "60", "1e9"]);
    }
}
