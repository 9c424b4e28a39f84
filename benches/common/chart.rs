//! Charts of lines over logarithmic axes as SVG, each for a light and for a dark background.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Pixels.
const SIZE: (u32, u32) = (720, 400);
/// Pixels between the names of lines.
const LINE: i32 = 16;

/// A line of a chart.
pub struct Line {
    pub name: &'static str,
    pub colour: Colour,
    /// In the order of x.
    pub points: Vec<(f64, f64)>,
}

/// Colours that both themes have.
#[derive(Clone, Copy)]
pub enum Colour {
    Red,
    Orange,
    Blue,
    Violet,
    Grey,
    Pale,
}

/// What a chart shows.
pub struct Chart<'a> {
    pub title: &'a str,
    /// What y counts.
    pub y: &'a str,
    /// How a number of the x axis is written.
    pub x_label: fn(f64) -> String,
    pub lines: Vec<Line>,
}

/// Colours that are read on one background.
struct Theme {
    name: &'static str,
    text: RGBColor,
    grid: RGBColor,
    /// In the order of [`Colour`].
    lines: [RGBColor; 6],
}

const fn rgb(colour: u32) -> RGBColor {
    RGBColor((colour >> 16) as u8, (colour >> 8) as u8, colour as u8)
}

const THEMES: [Theme; 2] = [
    Theme {
        name: "light",
        text: rgb(0x24292f),
        grid: rgb(0xd8dee4),
        lines: [rgb(0xcf222e), rgb(0xbc6400), rgb(0x0550ae), rgb(0x6639ba), rgb(0x57606a), rgb(0x8c959f)],
    },
    Theme {
        name: "dark",
        text: rgb(0xe6edf3),
        grid: rgb(0x30363d),
        lines: [rgb(0xff7b72), rgb(0xf0a04b), rgb(0x79c0ff), rgb(0xd2a8ff), rgb(0xadbac7), rgb(0x768390)],
    },
];

impl Chart<'_> {
    /// Writes `<stem>-light.svg` and `<stem>-dark.svg`; nothing unless there is a line to draw.
    pub fn write(&self, dir: &Path, stem: &str) {
        if self.lines.iter().any(|line| line.points.len() > 1) {
            for theme in &THEMES {
                self.draw(&dir.join(format!("{stem}-{}.svg", theme.name)), theme).unwrap();
            }
        }
    }

    fn draw(&self, path: &Path, theme: &Theme) -> Result<(), Box<dyn std::error::Error>> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (left, right) = range(points().map(|(x, _)| *x));
        let (low, high) = range(points().map(|(_, y)| *y));
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        let text = |pixels: u32| TextStyle::from(("sans-serif", pixels).into_font()).color(&theme.text);
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(150)
            .caption(self.title, text(18))
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d((left..right).log_scale(), (low / 1.3..high * 1.3).log_scale())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_label_formatter(&|_| String::new())
            .light_line_style(TRANSPARENT)
            .bold_line_style(theme.grid)
            .axis_style(theme.grid)
            .y_desc(self.y)
            .y_label_formatter(&|y| if *y < 1.0 { format!("{y}") } else { format!("{y:.0}") })
            .label_style(text(13))
            .axis_desc_style(text(13))
            .draw()?;
        for line in &self.lines {
            let colour = theme.lines[line.colour as usize];
            chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?;
            chart.draw_series(line.points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
        let plane = chart.plotting_area();
        let (_, rows) = plane.get_pixel_range();
        // Each number that was measured, where it is, instead of round ones.
        let mut numbers: Vec<f64> = points().map(|(x, _)| *x).collect();
        numbers.sort_by(f64::total_cmp);
        numbers.dedup();
        for x in numbers {
            let style = text(13).pos(Pos::new(HPos::Center, VPos::Top));
            let place = (plane.map_coordinate(&(x, low)).0, rows.end + 8);
            area.draw(&Text::new((self.x_label)(x), place, style))?;
        }
        // The name of a line stands beside its end, and below that of another if they would meet.
        let mut ends: Vec<((i32, i32), &Line)> = self
            .lines
            .iter()
            .filter_map(|line| Some((plane.map_coordinate(line.points.last()?), line)))
            .collect();
        ends.sort_by_key(|((_, y), _)| *y);
        let mut above = i32::MIN;
        for ((x, y), line) in ends {
            above = y.max(above.saturating_add(LINE));
            let colour = theme.lines[line.colour as usize];
            let style = text(13).color(&colour).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(line.name, (x + 10, above), style))?;
        }
        area.present()?;
        Ok(())
    }
}

/// The least and the most.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)))
}
